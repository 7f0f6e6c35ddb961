"""Ops exported for a batch of any size, for several platforms at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxcnn as jc


@pytest.mark.parametrize(
    ("image", "filters"),
    [((8, 16), (1, 16, 16)), ((30, 2), (1, 2, 4))],
    ids=["many channels", "few channels"],
)
def test_1x1_convolution_of_a_batch_of_any_size(image, filters):
    def value_and_gradients(x, w):
        z, backward = jax.vjp(jc.conv, x, w)
        return z, *backward(z)

    (batch,) = export.symbolic_shape("batch")
    shapes = (jax.ShapeDtypeStruct(shape, jnp.float64) for shape in ((batch, *image), filters))
    exported = export.export(jax.jit(value_and_gradients), platforms=("cpu", "cuda", "tpu"))(*shapes)
    rng = np.random.default_rng(0)
    for size in (1, 5):
        x, w = rng.standard_normal((size, *image)), rng.standard_normal(filters)
        for got, expected in zip(exported.call(x, w), value_and_gradients(x, w), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_sums_of_few_products_for_a_batch_of_any_size():
    (batch,) = export.symbolic_shape("batch")
    shapes = (jax.ShapeDtypeStruct(shape, jnp.float64) for shape in ((batch, 30, 2), (3, 2, 4)))
    exported = export.export(jax.jit(jc.conv), platforms=("cpu", "cuda"))(*shapes)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((5, 30, 2)), rng.standard_normal((3, 2, 4))
    np.testing.assert_allclose(exported.call(x, w), jc.conv(x, w), rtol=1e-10, atol=1e-12)
