"""What XLA stores, and when: a result of its own, and no copy before it is needed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from jaxcnn.contract.sharding import mesh_axes


def unfused(f: Callable[..., Any], *args: jax.Array) -> Any:
    """f(*args), computed once and stored: XLA fuses no operation of f with one outside.

    On a CPU `lax.optimization_barrier` does not have this effect: XLA removes it before it fuses. f must hold no
    convolution: XLA computes one in such a function by its own loops, the slowest of its kernels.
    """
    with set_xla_metadata(inlineable="false"):
        return jax.jit(f)(*args)


# XLA (jaxlib 0.10.2 and 0.12.0) makes a copy on a CPU as soon as it can. A copy that the backward pass needs would lie
# in memory from the forward pass on. A barrier would not change that. LLVM knows that the condition is always true.
def after(first: jax.Array, x: jax.Array) -> jax.Array:
    """x, of which XLA makes no copy before it knows `first`: it takes x or 0 by the bits of a number of `first`."""
    if 0 in first.shape or mesh_axes(first, x):  # the number would be sent to all devices
        return x
    number = lax.slice(first, (0,) * first.ndim, (1,) * first.ndim)
    bits = lax.bitcast_convert_type(number, np.dtype(f"uint{8 * first.dtype.itemsize}"))
    without_sign = bits.dtype.type(2 ** (8 * first.dtype.itemsize - 1) - 1)
    return jnp.where((bits & without_sign) <= without_sign, x, np.zeros((), x.dtype))
