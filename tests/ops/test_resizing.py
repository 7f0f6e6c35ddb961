"""pixel_shuffle, pixel_unshuffle and resize: index by index, as the way back, and against jax.image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcnn as jc
from jaxcnn import check

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "factor"), [((2, 3, 8), (4,)), ((2, 3, 1, 12), (2, 3)), ((1, 2, 3, 2, 24), (2, 3, 2))]
)
def test_pixel_shuffle_entry_by_entry(shape, factor):
    x = RNG.normal(size=shape)
    y = np.asarray(jc.pixel_shuffle(x, factor))
    for n, *place, c in np.ndindex(*y.shape):
        i, j = zip(*map(divmod, place, factor), strict=True)
        assert y[n, *place, c] == x[n, *i, c * np.prod(factor) + np.ravel_multi_index(j, factor)]
    np.testing.assert_array_equal(jc.pixel_unshuffle(y, factor), x)


def test_a_factor_of_one_changes_nothing():
    x = RNG.normal(size=(2, 3, 5, 4))
    for f in (jc.pixel_shuffle, jc.pixel_unshuffle):
        np.testing.assert_array_equal(f(x, 1), x)
    for method in ("nearest", "linear"):
        np.testing.assert_array_equal(jc.resize(x, (3, 5), method), x)


@pytest.mark.parametrize("shape", [(7, 9), (8, 10), (2, 3), (1, 1), (5, 4), (40, 2)])
def test_linear_is_that_of_jax_without_antialias(shape):
    x = RNG.normal(size=(2, 4, 5, 3))
    expected = jax.image.resize(x, (2, *shape, 3), "linear", antialias=False)
    np.testing.assert_allclose(jc.resize(x, shape, "linear"), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(7, 9), (8, 10), (2, 3), (1, 1), (40, 2)])
def test_nearest_takes_entries_and_nothing_else(shape):
    x = np.where(RNG.random(size=(2, 4, 5, 3)) < 0.3, np.inf, RNG.normal(size=(2, 4, 5, 3)))
    rows, columns = (np.arange(m) * n // m for n, m in zip((4, 5), shape, strict=True))
    np.testing.assert_array_equal(jc.resize(x, shape), x[:, rows][:, :, columns])


@pytest.mark.parametrize("method", ["nearest", "linear"])
@pytest.mark.parametrize("shape", [(1, 300), (90, 1), (2, 2)])
def test_gradient_where_many_places_come_from_one(method, shape):
    report = check.gradients(lambda x: jc.resize(x, shape, method), RNG.normal(size=(2, 5, 3, 2)))
    assert report, report


@pytest.mark.parametrize("method", ["nearest", "linear"])
def test_the_backward_pass_is_the_transpose(method):
    x, dy = RNG.normal(size=(2, 4, 5, 3)), RNG.normal(size=(2, 7, 3, 3))
    y, vjp = jax.vjp(lambda x: jc.resize(x, (7, 3), method), x)
    np.testing.assert_allclose(np.vdot(y, dy), np.vdot(x, vjp(jnp.asarray(dy))[0]), rtol=1e-12)
