"""What lives in memory from the forward to the backward pass of many layers on a CPU: what lax keeps, and no copies."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jaxcnn as jc

CHAINS = {
    "slabs of images": (8, 32, 32, 24),
    "slabs of volumes": (2, 16, 16, 16, 16),
    "shifts and columns": (2, 16, 16, 16, 4),
}
FORMATS = {4: ("NHWC", "HWIO", "NHWC"), 5: ("NDHWC", "DHWIO", "NDHWC")}


def memory(shape, layer):
    """The temporary bytes of the gradient of 12 layers with filters of 3."""
    rank, channels = len(shape) - 2, shape[-1]
    filters = [jax.ShapeDtypeStruct((*(3,) * rank, channels, channels), jnp.float32)] * 12

    def loss(filters, x):
        for w in filters:
            x = layer(x, w)
        return jnp.sum(x * x)

    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.jit(jax.grad(loss)).lower(filters, x).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("shape", CHAINS.values(), ids=CHAINS)
def test_a_chain_keeps_no_more_than_with_lax(shape):
    ones, numbers = (1,) * (len(shape) - 2), FORMATS[len(shape)]

    def of_lax(x, w):
        return jax.nn.relu(lax.conv_general_dilated(x, w, ones, "SAME", dimension_numbers=numbers))

    def of_ours(x, w):
        return jc.relu(jc.conv(x, w), keeps="output")

    assert memory(shape, of_ours) <= 1.1 * memory(shape, of_lax)
