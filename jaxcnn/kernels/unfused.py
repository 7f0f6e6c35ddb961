"""What XLA stores, and when: a result of its own, and no copy before it is needed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap
from jax.experimental.xla_metadata import set_xla_metadata

from jaxcnn.contract.sharding import mesh_axes


def unfused(f: Callable[..., Any], *args: jax.Array) -> Any:
    """f(*args), computed once and stored: XLA fuses no operation of f with one outside.

    On a CPU `lax.optimization_barrier` does not have this effect: XLA removes it before it fuses. f must hold no
    convolution: XLA computes one in such a function by its own loops, the slowest of its kernels.
    """
    with set_xla_metadata(inlineable="false"):
        return jax.jit(f)(*args)


def after(first: jax.Array, x: jax.Array) -> jax.Array:
    """x, of which XLA makes no copy before it knows `first`.

    XLA (jaxlib 0.10.2 and 0.12.0) makes a copy on a CPU as soon as it can. A copy that the backward pass needs would
    lie in memory from the forward pass on, and a barrier would not change that.
    """
    # On a mesh the number would be sent to all devices. Complex numbers have no order.
    if 0 in first.shape or mesh_axes(first, x) or jnp.iscomplexobj(first):
        return x
    return _after(lax.slice(first, (0,) * first.ndim, (1,) * first.ndim).reshape(()), x)


@jax.custom_jvp
def _after(number, x):
    return _chosen(number, x)


@_after.defjvp
def _after_jvp(primals, tangents):
    return _after(*primals), tangents[1]


# No number is above infinity, and the choice is always x. XLA does not see that, and waits for the number. LLVM, which
# compiles what XLA has put in order, sees it and makes no choice.
@custom_vmap
def _chosen(number, x):
    return jnp.where(number > np.inf, np.zeros((), x.dtype), x)


@_chosen.def_vmap
def _chosen_of_many(size, batched, number, x):
    """One number of many is enough: x stays one array if only `first` is batched."""
    return _chosen(number[0] if batched[0] else number, x), batched[1]
