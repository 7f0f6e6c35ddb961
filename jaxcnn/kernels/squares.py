"""Sums of squares where squares may be beyond the dtype, and sums of what is left of an array.

In float32 the square of 1e20 is infinite and that of 1e-25 is 0, while their roots, and what is divided by them, are
not. Such squares are taken of a multiple of the entries by a power of 2, which costs nothing where they do not occur.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.contract.precision import widen


def limits(dtype):
    """A sum of squares below the first number has lost digits; above the second it or its derivatives are infinite;
    and a factor.

    Entries times the factor have a sum of 2^32 squares that is not infinite. Entries divided by the factor have one
    that has lost no digits.
    """
    finfo = jnp.finfo(dtype)
    return float(finfo.tiny / finfo.eps), float(finfo.max) * 2.0**-20, 2.0 ** -(finfo.maxexp // 2 + 16)


def square_sums(x, mean, where, axes, factors, named):
    """The sum of the squares of x - mean along the axes, and of its multiples by each of the factors.

    A GPU sums them all while it reads x once. A CPU would read it once more for each: it does so only where the first
    sum is too large or too small for the dtype, and the others are no such sums otherwise.
    """

    def total(factor, x, mean, where):
        squares = jnp.square(present(difference(widen(x), mean) * factor, where))
        return over_devices(sum_along(squares, axes), named)

    def others(*arrays):
        return tuple(total(factor, *arrays) for factor in factors)

    first = total(1.0, x, mean, where)
    smallest, largest, _ = limits(first.dtype)
    fine = first <= largest if len(factors) == 1 else (smallest <= first) & (first <= largest)
    return first, *unless(fine, (first,) * len(factors), others, x, mean, where)


def sum_of_parts(x, axes, part):
    """The sum of part x along the axes, where that of x may be beyond the dtype."""
    total = sum_along(widen(x), axes)
    return unless(jnp.isfinite(total), total * part, lambda x: sum_along(widen(x) * part, axes), x)


def unless(fine, instead, f, *arrays):
    """f(*arrays), or on a CPU `instead` where all entries of `fine` are true: it need not read the arrays again."""

    def on_cpu(fine, instead, *arrays):
        return lax.cond(jnp.all(fine), lambda instead, *_: instead, lambda _, *arrays: f(*arrays), instead, *arrays)

    def elsewhere(fine, instead, *arrays):
        return f(*arrays)

    return lax.platform_dependent(fine, instead, *arrays, cpu=on_cpu, default=elsewhere)


def difference(wide, mean):
    return wide if mean is None else wide - mean


def present(a, where):
    """a, and 0 for what is left out."""
    return a if where is None else jnp.where(where, a, np.zeros((), a.dtype))


def sum_along(a, axes):
    """The sums along the axes, with length 1 there; an axis of length 1 is its own sum."""
    longer = tuple(axis for axis in axes if a.shape[axis] != 1)
    return jnp.sum(a, axis=longer, keepdims=True) if longer else a


def over_devices(total, named):
    """The sum over the devices along an axis of the mesh."""
    return lax.psum(total, tuple(name for name, _ in named)) if named else total
