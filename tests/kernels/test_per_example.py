"""Filter gradients per example against JAX's gradient of lax's convolution, one example after the other."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import quick
from jax import lax

import jaxcnn as jc

# Images [N, *S, C] of an example, filters [*K, C, O], and the options of `conv`.
SETTINGS = {
    "one axis": ((2, 9, 3), (3, 3, 2), {"stride": 2}),
    "two axes": ((1, 7, 8, 2), (2, 3, 2, 5), {"stride": (2, 1), "padding": ((1, 0), (0, 2))}),
    "dilated": ((1, 9, 7, 3), (2, 3, 3, 2), {"stride": (1, 2), "dilation": (3, 2), "padding": 2}),
    "cropped": ((1, 8, 7, 1), (3, 2, 1, 4), {"stride": 2, "padding": ((-2, 0), (1, -1))}),
    "volumes": ((3, 4, 5, 6, 2), (2, 1, 3, 2, 3), {"stride": (1, 2, 1)}),
}
settings = pytest.mark.parametrize(("image", "size", "options"), SETTINGS.values(), ids=SETTINGS)


def conv_of_lax(x, w, stride=1, padding="SAME", dilation=1):
    rank = x.ndim - 2
    per_axis = [(n,) * rank if isinstance(n, int) else n for n in (stride, dilation)]
    padding = [(padding, padding)] * rank if isinstance(padding, int) else padding
    spatial = "HWD"[:rank]
    layout = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    return lax.conv_general_dilated(x, w, per_axis[0], padding, rhs_dilation=per_axis[1], dimension_numbers=layout)


def filter_gradient(conv, size, options):
    """dw of x and dz."""

    def gradient(x, dz):
        return jax.vjp(lambda w: conv(x, w, **options), jnp.zeros(size, x.dtype))[1](dz)[0]

    return gradient


def drawn(image, size, options, *examples):
    rng = np.random.default_rng(0)
    z = jax.eval_shape(partial(conv_of_lax, **options), np.zeros(image), np.zeros(size))
    return [jnp.asarray(rng.standard_normal((*examples, *shape))) for shape in (image, z.shape)]


def in_turn(f):
    """vmap of f, as a loop in Python."""
    return lambda *args: jax.tree.map(
        lambda *parts: jnp.stack(parts), *[f(*example) for example in zip(*args, strict=True)]
    )


def assert_same(f, expected, *args):
    for got, right in zip(jax.tree.leaves(quick(f)(*args)), jax.tree.leaves(quick(expected)(*args)), strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-10, atol=1e-12)


def is_loop(f, *args):
    return "stablehlo.while" in jax.jit(f).trace(*args).lower(lowering_platforms=("cpu",)).as_text()


@settings
def test_examples_come_one_by_one(image, size, options):
    ours, theirs = (filter_gradient(conv, size, options) for conv in (jc.conv, conv_of_lax))
    args = drawn(image, size, options, 3)
    assert is_loop(jax.vmap(ours), *args)
    assert not is_loop(ours, *(a[0] for a in args))
    assert_same(jax.vmap(ours), in_turn(theirs), *args)


def test_derivatives_of_examples():
    """Forward and reverse mode, inside and outside of `vmap`, and by one array alone."""
    case = SETTINGS["two axes"]
    ours, theirs = (filter_gradient(conv, *case[1:]) for conv in (jc.conv, conv_of_lax))
    args = drawn(*case, 3)
    along = jax.tree.map(jnp.sin, args)

    def results(f, vmap):
        def loss(x, dz):
            return jnp.sum(f(x, dz) ** 3)

        def derivatives(x, dz, *along):
            return jax.grad(loss, (0, 1))(x, dz), jax.jvp(jax.grad(loss, (0, 1)), (x, dz), along)[1]

        def loss_of_all(x, dz):
            return jnp.sum(vmap(f)(x, dz) ** 3)

        def by_one(x, dz, *along):
            return [
                jax.vjp(partial(f, x[0]), dz[0])[1](f(x[1], dz[1])),
                jax.vjp(lambda x: f(x, dz[0]), x[0])[1](f(x[1], dz[1])),
            ]

        def all_of_them(*args):
            return vmap(derivatives)(*args), jax.grad(loss_of_all, (0, 1))(*args[:2]), by_one(*args)

        return all_of_them

    assert_same(results(ours, jax.vmap), results(theirs, in_turn), *args, *along)


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)], ids=["both", "x", "dz"])
def test_nested_vmap(axes):
    """As in the Jacobian for each example."""
    case = SETTINGS["two axes"]
    ours, theirs = (filter_gradient(conv, *case[1:]) for conv in (jc.conv, conv_of_lax))
    x, dz = drawn(*case, 3, 2)
    x, dz = (a if axis == 0 else a[:, 0] for a, axis in zip((x, dz), axes, strict=True))

    def in_two(x, dz):
        pairs = [(x if axes[0] is None else x[i], dz if axes[1] is None else dz[i]) for i in range(2)]
        return jnp.stack([theirs(*pair) for pair in pairs])

    outer, expected = jax.vmap(jax.vmap(ours, axes)), in_turn(in_two)
    assert is_loop(outer, x, dz)
    assert_same(outer, expected, x, dz)


def test_other_platforms_have_no_loop():
    case = SETTINGS["two axes"]
    args = drawn(*case, 3)
    traced = jax.jit(jax.vmap(filter_gradient(jc.conv, *case[1:]))).trace(*args)
    for platform in ("cuda", "tpu"):
        assert "stablehlo.while" not in traced.lower(lowering_platforms=(platform,)).as_text()
