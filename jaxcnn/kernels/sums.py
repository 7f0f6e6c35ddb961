"""Several sums in one pass over memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def sums(arrays: tuple[jax.Array, ...], axes: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """The sum of each array along these axes. XLA computes all of them in one loop and fuses no later operation with
    it."""
    zeros = tuple(np.zeros((), a.dtype) for a in arrays)
    return tuple(lax.reduce(arrays, zeros, _add, axes))


def _add(a, b):  # one function, which JAX traces once for each number of arrays
    return tuple(map(lax.add, a, b))


@sums.defjvp
def _sums_jvp(axes, primals, tangents):
    """The sums of the tangents, one by one: JAX derives a costly program of a reduction of many operands."""
    (arrays,), (darrays,) = primals, tangents
    return sums(arrays, axes), tuple(jnp.sum(a, axis=axes) for a in darrays)
