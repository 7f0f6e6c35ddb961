"""Several sums in one pass over memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def sums(arrays: tuple[jax.Array, ...], axes: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """The sum of each array along these axes. XLA computes them together, and fuses nothing that follows with them."""
    zeros = tuple(np.zeros((), a.dtype) for a in arrays)
    return tuple(lax.reduce(arrays, zeros, _add, axes))


def _add(a, b):  # one function, which JAX traces once for each number of arrays
    return tuple(map(lax.add, a, b))


@sums.defjvp
def _sums_jvp(axes, primals, tangents):
    """Linear; XLA's reduction of many operands has no derivative worth its cost."""
    (arrays,), (darrays,) = primals, tangents
    return sums(arrays, axes), tuple(jnp.sum(a, axis=axes) for a in darrays)
