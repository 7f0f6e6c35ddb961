"""`conv_general_dilated` against lax's own, and in the models of others that take a convolution as an argument."""

import equinox
import flax.linen
import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import QUICK_TO_COMPILE
from jax import lax

from jaxcnn import conv_general_dilated


def call(convolution, options, dtype):
    """The result and both gradients, of a loss that weighs every entry differently."""

    def loss(lhs, rhs):
        z = convolution(lhs, rhs, **options)
        weights = jnp.cos(jnp.arange(z.size, dtype=z.dtype)).reshape(z.shape)
        return jnp.sum(weights * z), z

    def value_and_gradients(lhs, rhs):
        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(lhs.astype(dtype), rhs.astype(dtype))

    return value_and_gradients


def assert_same(lhs_shape, rhs_shape, dtype=jnp.float64, **options):
    rng = np.random.default_rng(len(str(options)))
    lhs, rhs = rng.normal(size=lhs_shape), rng.normal(size=rhs_shape)

    @jax.jit
    def both(lhs, rhs):
        ours = call(conv_general_dilated, options, dtype)(lhs, rhs)
        return ours, call(lax.conv_general_dilated, options, dtype)(lhs, rhs)

    ours, theirs = both.lower(lhs, rhs).compile(compiler_options=QUICK_TO_COMPILE)(lhs, rhs)
    for got, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert got.dtype == expected.dtype
        got, expected = (np.asarray(a, np.float64) for a in (got, expected))
        tolerance = 16 * float(jnp.finfo(dtype).eps) * np.max(np.abs(expected), initial=0)
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("lhs", "rhs", "options"),
    [
        ((2, 3, 7, 6), (4, 3, 3, 2), {"window_strides": (2, 1), "padding": "SAME"}),
        ((2, 3, 7), (4, 3, 3), {"window_strides": (2,), "padding": "VALID", "lhs_dilation": (1,)}),
        (
            (3, 7, 6, 2),
            (3, 2, 1, 4),
            {
                "window_strides": (1, 2),
                "padding": [(1, -1), (0, 2)],
                "rhs_dilation": (1, 2),
                "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
                "feature_group_count": 2,
            },
        ),
        (
            (5, 2, 4, 3),
            (3, 2, 4, 3),
            {
                "window_strides": (2, 1),
                "padding": [(2, 1), (1, 1)],
                "lhs_dilation": (3, 2),
                "rhs_dilation": (1, 2),
                "dimension_numbers": ("HNCW", "OWIH", "WCNH"),
            },
        ),
        (
            (6, 5, 4),
            (3, 4, 6),
            {
                "window_strides": (2,),
                "padding": "SAME_LOWER",
                "dimension_numbers": ("NHC", "HIO", "NHC"),
                "batch_group_count": 3,
            },
        ),
        (
            (4, 6, 3),
            (6, 1, 2),
            {"window_strides": (1,), "padding": [(3, 0)], "lhs_dilation": (2,), "feature_group_count": 6},
        ),
        ((2, 3, 3, 4, 2), (2, 3, 2, 2, 2), {"window_strides": (1, 2, 1), "padding": "SAME"}),
        ((2, 3), (4, 3), {"window_strides": (), "padding": []}),
        ((2, 3, 2), (4, 3, 5), {"window_strides": (1,), "padding": "VALID"}),
        ((0, 3, 6), (4, 3, 5), {"window_strides": (1,), "padding": "VALID"}),
    ],
    ids=lambda value: "" if isinstance(value, dict) else str(value),
)
def test_result_and_gradients_are_those_of_lax(lhs, rhs, options):
    assert_same(lhs, rhs, **options)


@pytest.mark.parametrize("precision", [None, "highest", lax.Precision.HIGH, ("default", "highest")])
def test_precision_and_preferred_element_type(precision):
    options = {"window_strides": (1, 1), "padding": "SAME", "precision": precision}
    assert_same((2, 3, 5, 4), (2, 3, 3, 3), jnp.bfloat16, preferred_element_type=jnp.float32, **options)


def test_precision_is_that_of_both_gradients_too():
    def gradients(lhs, rhs):
        return jax.grad(lambda *args: jnp.sum(conv_general_dilated(*args, (1,), "SAME", precision="highest")), (0, 1))(
            lhs, rhs
        )

    text = str(jax.make_jaxpr(gradients)(jnp.ones((1, 2, 5)), jnp.ones((3, 2, 3))))
    sums = text.count("conv_general_dilated[") + text.count("dot_general[")
    assert sums == text.count("precision=(Precision.HIGHEST") >= 3


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"window_strides": (1, 1)}, ValueError),
        ({"padding": "SOME"}, Exception),
        ({"padding": [(1.5, 0)]}, ValueError),
        ({"feature_group_count": 2}, ValueError),
        ({"lhs_dilation": (2,)}, ValueError),
        ({"dimension_numbers": ("NC", "OI", "NC")}, Exception),
    ],
)
def test_errors_are_those_of_lax(options, error):
    options = {"window_strides": (1,), "padding": "SAME", **options}
    lhs, rhs = jnp.ones((2, 3, 5)), jnp.ones((4, 3, 2))
    with pytest.raises(error) as theirs:
        lax.conv_general_dilated(lhs, rhs, **options)
    with pytest.raises(type(theirs.value)) as ours:
        conv_general_dilated(lhs, rhs, **options)
    assert str(ours.value) == str(theirs.value)


def assert_same_layer(layer, reference, x):
    """Result and gradients of a layer, a function of its parameters and x, with our convolution and with lax's."""
    both = jax.jit(lambda x: (layer(x), reference(x)))
    for got, expected in zip(*map(jax.tree.leaves, both(x)), strict=True):
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


OPTIONS = {"strides": (2, 1), "kernel_dilation": (1, 2), "feature_group_count": 2, "padding": "CIRCULAR"}


def test_drop_in_for_flax_linen():
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 4)).astype(np.float32)

    def gradients(convolution):
        layer = flax.linen.Conv(6, (3, 2), conv_general_dilated=convolution, **OPTIONS)
        params = flax.linen.Conv(6, (3, 2), **OPTIONS).init(jax.random.key(0), x)
        return lambda x: jax.value_and_grad(lambda p, x: jnp.sum(jnp.sin(layer.apply(p, x))), (0, 1))(params, x)

    assert_same_layer(gradients(conv_general_dilated), gradients(lax.conv_general_dilated), x)


def test_drop_in_for_flax_nnx():
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 4)).astype(np.float32)

    def gradients(convolution):
        layer = flax.nnx.Conv(4, 6, (3, 2), rngs=flax.nnx.Rngs(0), conv_general_dilated=convolution, **OPTIONS)
        graph, params = flax.nnx.split(layer)

        def loss(params, x):
            return jnp.sum(jnp.sin(flax.nnx.merge(graph, params)(x)))

        return lambda x: jax.value_and_grad(loss, (0, 1))(params, x)

    assert_same_layer(gradients(conv_general_dilated), gradients(lax.conv_general_dilated), x)


def test_drop_in_for_equinox():
    """Equinox takes no convolution: a layer of its own calls ours instead, one image at a time."""
    x = np.random.default_rng(0).normal(size=(2, 4, 7, 6)).astype(np.float32)

    class Conv(equinox.nn.Conv2d):
        def __call__(self, x, *, key=None):
            padding = self.padding
            z = conv_general_dilated(
                x[None], self.weight, self.stride, padding, rhs_dilation=self.dilation, feature_group_count=self.groups
            )
            return z[0] + self.bias

    def gradients(layer):
        options = {"stride": (2, 1), "padding": 1, "dilation": (1, 2), "groups": 2, "dtype": jnp.float32}
        module = layer(4, 6, (3, 2), **options, key=jax.random.key(0))

        def loss(module, x):
            return jnp.sum(jnp.sin(jax.vmap(module)(x)))

        return lambda x: equinox.filter_value_and_grad(loss)(module, x)

    assert_same_layer(gradients(Conv), gradients(equinox.nn.Conv2d), x)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("dtype", "of_sums"), [(np.int8, np.int32), (np.int32, None), (np.float32, np.float64)])
def test_sums_of_few_products_are_of_the_dtype_asked_for(dtype, of_sums, groups):
    rng = np.random.default_rng(0)
    x, w = rng.integers(-9, 9, (2, 5, 4, 3)).astype(dtype), rng.integers(-9, 9, (3, 3, 3 // groups, 6)).astype(dtype)
    x, w = (x / dtype(7), w / dtype(7)) if dtype == np.float32 else (x, w)
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "preferred_element_type": of_sums}
    ours = jax.jit(lambda x, w: conv_general_dilated(x, w, (1, 1), "SAME", feature_group_count=groups, **options))
    y = lax.conv_general_dilated(x, w, (1, 1), "SAME", feature_group_count=groups, **options)
    assert ours(x, w).dtype == y.dtype
    np.testing.assert_allclose(ours(x, w), y, rtol=0, atol=1e-14 if dtype == np.float32 else 0)
