"""Sums of squares that the dtype cannot hold, and sums along axes and over devices.

In float32 the square of 1e20 is infinite and the square of 1e-25 is 0, but a norm made of them is neither. So the
entries are multiplied by a power of 2 first. On a CPU that costs nothing where no such squares occur."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.contract.precision import widen


def limits(dtype):
    """(smallest, largest, factor) for sums of squares.

    A sum below `smallest` has lost digits. A sum above `largest`, or its derivatives, may be infinite. The sum of 2^32
    squares of entries times `factor` is not infinite. The sum of squares of entries divided by `factor` has lost no
    digits.
    """
    finfo = jnp.finfo(dtype)
    return float(finfo.tiny / finfo.eps), float(finfo.max) * 2.0**-20, 2.0 ** -(finfo.maxexp // 2 + 16)


def square_sums(x, mean, where, axes, factors, named):
    """The sum of the squares of x - mean along the axes, and for each factor that of the squares of factor (x - mean).

    A GPU makes all sums while it reads x once. A CPU would read x once more for each factor. It does so only if the
    first sum is too large or too small for the dtype. Otherwise it returns the first sum in the place of the others.
    """

    def total(factor, x, mean, where):
        squares = jnp.square(present(difference(widen(x), mean) * factor, where))
        return sum_devices(sum_along(squares, axes), named)

    def scaled_totals(*arrays):
        return tuple(total(factor, *arrays) for factor in factors)

    first = total(1.0, x, mean, where)
    smallest, largest, _ = limits(first.dtype)
    fine = first <= largest if len(factors) == 1 else (smallest <= first) & (first <= largest)
    return first, *compute_unless(fine, (first,) * len(factors), scaled_totals, x, mean, where)


def sum_of_parts(x, axes, part):
    """The sum of part x along the axes, which is finite where the sum of x is not."""
    total = sum_along(widen(x), axes)
    return compute_unless(jnp.isfinite(total), total * part, lambda x: sum_along(widen(x) * part, axes), x)


def compute_unless(fine, instead, f, *arrays):
    """f(*arrays). On a CPU `instead`, without reading the arrays, if all entries of `fine` are true."""

    def conditional(fine, instead, *arrays):
        return lax.cond(jnp.all(fine), lambda instead, *_: instead, lambda _, *arrays: f(*arrays), instead, *arrays)

    def unconditional(fine, instead, *arrays):
        return f(*arrays)

    return lax.platform_dependent(fine, instead, *arrays, cpu=conditional, default=unconditional)


def difference(wide, mean):
    """wide - mean, where a mean of None is 0."""
    return wide if mean is None else wide - mean


def present(a, where):
    """a, and 0 where `where` is false."""
    return a if where is None else jnp.where(where, a, np.zeros((), a.dtype))


def sum_along(a, axes):
    """The sum along the axes, which stay with length 1."""
    longer = tuple(axis for axis in axes if a.shape[axis] != 1)
    return jnp.sum(a, axis=longer, keepdims=True) if longer else a


def sum_devices(total, named):
    """The sum over the devices along the named axes of the mesh."""
    return lax.psum(total, tuple(name for name, _ in named)) if named else total
