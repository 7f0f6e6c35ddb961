"""What lives in memory from the forward to the backward pass of many layers on a CPU: what lax keeps, and no copies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcnn as jc
from jaxcnn.kernels.unfused import after

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


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, -0.0, 3.0, 1j])
def test_what_is_copied_late_is_the_same_whatever_the_other_holds(number):
    """One array stays one if only the other is one of many: `out_axes` says so."""
    x, numbers = jnp.arange(6.0).reshape(2, 3), jnp.full((4, 5), number)
    np.testing.assert_array_equal(jax.vmap(after, in_axes=(0, None), out_axes=None)(numbers, x), x)
    np.testing.assert_array_equal(jax.jit(jax.vmap(after))(numbers[:2], x), x)
    np.testing.assert_array_equal(jax.jacrev(lambda x: after(numbers, x)[0])(x)[:, 0], np.eye(3))
    np.testing.assert_array_equal(jax.jvp(after, (numbers, x), (numbers, 2 * x))[1], 2 * x)
