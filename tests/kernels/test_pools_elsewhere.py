"""The ways of pools on GPUs and TPUs: called here, and within programs that are lowered for them and run here."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import quick
from jax import export

import jaxcnn as jc
from jaxcnn.contract.geometry import Window
from jaxcnn.kernels.winners import add_by_search
from jaxcnn.kernels.winning_places import add_by_candidate, windows_of_places

IMAGE = (18, 17)
# The places of these are in one window, in a few, and in more than are written out.
LARGE = [
    Window(IMAGE, (9, 8), (9, 8), ((0, 0), (0, 0)), (1, 1), (1, 1)),
    Window(IMAGE, (9, 8), (3, 2), ((4, 3), (-1, 6)), (1, 1), (1, 1)),
    Window(IMAGE, (9, 8), (1, 1), ((8, 2), (3, 4)), (1, 1), (1, 1)),
    Window(IMAGE, (8, 9), (2, 1), ((3, 0), (0, 9)), (2, 2), (1, 1)),
    Window(IMAGE, (70, 2), (1, 40), ((60, 53), (0, 0)), (1, 1), (1, 1)),
]
OTHERS = [
    Window(IMAGE, (2, 3), (2, 3), ((0, 0), (0, 0)), (1, 1), (1, 1)),
    Window(IMAGE, (3, 2), (2, 1), ((1, 1), (1, 0)), (1, 1), (1, 1)),
    Window(IMAGE, (3, 4), (1, 5), ((2, -1), (-2, 3)), (1, 1), (1, 1)),
]


def places_inside(window, i):
    """The places that window i covers, in order."""
    axes = zip(i, window.size, window.stride, window.padding, window.dilation, strict=True)
    lines = [[s * a - low + d * k for k in range(size)] for a, size, s, (low, _), d in axes]
    pairs = [(h, w) for h in lines[0] for w in lines[1]]
    return [(h, w) for h, w in pairs if 0 <= h < IMAGE[0] and 0 <= w < IMAGE[1]]


def drawn(window):
    """Images with ties, and dy."""
    rng = np.random.default_rng(0)
    return rng.integers(-1, 2, (2, *IMAGE, 2)).astype(float), rng.standard_normal((2, *window.output, 2))


@pytest.mark.parametrize("window", LARGE, ids=str)
def test_each_place_adds_up_what_it_has_won(window):
    """Winners need not be maxima: `stochastic_pool` draws them."""
    rng, (_, dy) = np.random.default_rng(0), drawn(window)
    winner, expected = np.zeros(dy.shape, np.int32), np.zeros((2, *IMAGE, 2))
    for n, h, w, c in np.ndindex(dy.shape):
        place = tuple(rng.permutation(places_inside(window, (h, w)))[0])
        winner[n, h, w, c] = np.ravel_multi_index(place, IMAGE)
        expected[(n, *place, c)] += dy[n, h, w, c]
    way = quick(lambda dy, place: add_by_candidate(dy, place, IMAGE, windows_of_places(window)))
    for dtype in ("uint16", "int32"):
        np.testing.assert_allclose(way(dy, winner.astype(dtype)), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("window", LARGE[:3] + OTHERS, ids=str)
def test_the_first_of_the_ties_is_found_again(window):
    x, dy = drawn(window)
    expected = np.zeros(x.shape)
    for n, h, w, c in np.ndindex(dy.shape):
        first = max(places_inside(window, (h, w)), key=lambda place, n=n, c=c: x[(n, *place, c)])
        expected[(n, *first, c)] += dy[n, h, w, c]
    got = quick(lambda dy, x: add_by_search(dy, x, window))(dy, x)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


def value_and_gradient(f, x):
    y, back = jax.vjp(f, x)
    return y, back(jnp.cos(y))[0]


def elsewhere(platform, f, x):
    """f(x) by the program of another platform, and the text of the program."""
    anywhere = [export.DisabledSafetyCheck.platform()]
    exported = export.export(jax.jit(f), platforms=(platform,), disabled_checks=anywhere)(x)
    return exported.call(x), exported.mlir_module()


def test_padding_of_a_tpu_is_no_entry():
    """In windows of -inf as well, where the first entry inside the image wins."""
    dy = 1 + jnp.arange(9.0).reshape(1, 3, 3, 1)
    dx, text = elsewhere(
        "tpu",
        lambda x: jax.vjp(partial(jc.max_pool, window=3, stride=2, padding=1), x)[1](dy)[0],
        jnp.full((1, 5, 5, 1), -jnp.inf),
    )
    assert "select_and_scatter" in text
    rows = [1, 2, 0, 3, 0], [4, 5, 0, 6, 0], [0] * 5, [7, 8, 0, 9, 0], [0] * 5
    np.testing.assert_array_equal(dx[0, :, :, 0], rows)


# Max-pools without padding: with it XLA's select-and-scatter of a CPU may be wrong, and JAX pads the image first there.
HALF = jnp.array(0.5)
POOLS = [
    partial(jc.max_pool, window=3, stride=2),
    partial(jc.mean_pool, window=3, stride=2, padding=1, count_include_pad=False),
    partial(jc.mean_pool, window=(3, 2)),
    partial(jc.lp_pool, window=2, p=3),
    lambda x: jc.mixed_pool(x, HALF, 3, stride=(1, 2)),
    lambda x: jc.softmax_pool(x, jnp.exp(x[0, 0, 0]), (3, 4), stride=(2, 1), padding=1),  # of a temperature per channel
    partial(jc.stochastic_pool_inference, window=3, stride=2, padding=1),
    lambda x: jc.stochastic_pool_inference(x - 0.5, 2),  # of windows without weight
    partial(jc.adaptive_max_pool, shape=(4, 11)),
]


def all_of(x):
    return [value_and_gradient(f, x) for f in POOLS]


def image():
    return np.random.default_rng(0).standard_normal((2, 8, 11, 2))


@functools.cache
def _here():
    return quick(all_of)(image())


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_programs_of_other_platforms(platform):
    got, _ = elsewhere(platform, all_of, image())
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(_here()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_a_gpu_leaves_the_dtype_where_a_cpu_does():
    """Where y is infinite while the entries are not, and where powers are too large or too small."""
    x = jnp.float32([3e38, 3e38, 3e20, 4e20, 3e-25, 4e-25, 0, 0, np.inf, 1, np.nan, 1]).reshape(1, 12, 1)

    def gradients(x):
        _, back = jax.vjp(partial(jc.lp_pool, window=2, p=2), x)
        _, soft_back = jax.vjp(lambda x, t: jc.softmax_pool(x, t, 2), x[:, 2:8], jnp.float32(1e20))
        return back(jnp.ones((1, 6, 1), x.dtype)), soft_back(jnp.ones((1, 3, 1), x.dtype))

    got, _ = elsewhere("cuda", gradients, x)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(jax.jit(gradients)(x)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    half = np.sqrt(np.float32(0.5))
    np.testing.assert_allclose(got[0][0][0, :8, 0], [half, half, 0.6, 0.8, 0.6, 0.8, 0, 0], rtol=1e-6)
