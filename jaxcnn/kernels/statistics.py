"""Mean, deviation and x̂ of a norm, where sums or squares may lie beyond the dtype, over devices as well.

`normalization.py` says what a norm and its backward pass are.
"""

import math

import jax.numpy as jnp
from jax import lax

from jaxcnn.contract.precision import sum_dtype
from jaxcnn.kernels.squares import (
    difference,
    limits,
    present,
    square_sums,
    sum_along,
    sum_devices,
    sum_of_parts,
)


def entry_count(x, where, axes, named):
    """M: how many entries there are along the axes, on all devices; 1 where there is none."""
    lengths = [x.shape[axis] for axis in axes]
    devices = math.prod(size for _, size in named)
    if where is None:
        return max(math.prod(lengths) * devices, 1)
    shared = math.prod(x.shape[axis] for axis in axes if where.shape[axis] == 1)
    count = sum_along(where.astype(sum_dtype(x.dtype)), axes) * shared
    return jnp.maximum(sum_devices(count, named), 1)


def mean_of_entries(x, count, axes, named):
    """The sum of x along the axes, divided by the count. The sum itself may be too large for the dtype."""
    entries = math.prod(x.shape[axis] for axis in axes)
    bits = entries.bit_length() if isinstance(entries, int) else 32
    devices = math.prod(size for _, size in named)
    part = 2.0 ** -(bits + devices.bit_length())
    return sum_devices(sum_of_parts(x, axes, part), named) / (count * part)


def inverse_deviation(x, mean, where, count, axes, eps, named):
    """r = 1/sqrt(var + eps), and var.

    Where the squares of x - mean are too large or too small for the dtype, r is not: it comes from a multiple of x.
    """
    smallest, largest, shrink = limits(sum_dtype(x.dtype))
    factors = (shrink, 1 / shrink) if eps < smallest else (shrink,)
    total, *others = square_sums(x, None if mean is None else recomputed(mean), where, axes, factors, named)
    square, factor, added = total, jnp.ones_like(total), jnp.full_like(total, eps)
    for multiple_sum, multiple in zip(others, factors, strict=True):
        is_beyond = total < smallest if multiple > 1 else total > largest
        square, factor = jnp.where(is_beyond, multiple_sum, square), jnp.where(is_beyond, multiple, factor)
        added = jnp.where(is_beyond, eps * multiple * multiple, added)
    # JAX derives 1/sqrt in steps that stay within the dtype, while the r³ of `lax.rsqrt` is 0 for entries of 1e15.
    return factor / jnp.sqrt(square / count + added), total / count


def standardised(x, mean, r, where=None):
    """x̂ = (x - mean) r, in the dtype of r; 0 for what `where` leaves out."""
    return present(difference(x.astype(r.dtype), mean) * r, where)


# Two passes over x both need x - mean. XLA sees that they do if they take it from the same statistics, computes it once
# and stores it for the second pass, which takes longer than to compute it twice. It does not see it through a barrier.
# Each use needs a barrier of its own: two passes behind one barrier have the same statistics again.
def recomputed(statistics):
    """The same statistics behind a barrier: what is computed with them is not shared with any other pass."""
    return lax.optimization_barrier(statistics)
