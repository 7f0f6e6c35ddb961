"""How far two right gradients may be apart.

It follows from the dtype and from the length of the sums, never from how many entries an array has.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend import core

DOUBLE = float(np.finfo(np.float64).eps)


def longest_sum(jaxpr: core.Jaxpr) -> int:
    """How many terms the longest sum in a jaxpr has, from the shapes of its equations."""
    longest = 1
    for equation in jaxpr.eqns:
        inner = max(map(longest_sum, core.jaxprs_in_params(equation.params)), default=1)
        longest = max(longest, inner * equation.params.get("length", 1), _terms(equation))
    return longest


def _terms(equation: Any) -> int:
    """How many terms each output of an equation has."""
    name, shapes = equation.primitive.name, [getattr(atom.aval, "shape", ()) for atom in equation.invars]
    if name == "dot_general":
        (axes, _), _ = equation.params["dimension_numbers"]
        return math.prod(shapes[0][axis] for axis in axes)
    if name == "conv_general_dilated":
        filters = shapes[1][equation.params["dimension_numbers"].rhs_spec[0]]
        return math.prod(shapes[1]) // max(filters, 1)
    if name.startswith("reduce_window"):
        return math.prod(equation.params.get("window_dimensions", ()))
    if name.startswith("reduce_"):
        return math.prod(shapes[0]) // max(math.prod(equation.outvars[0].aval.shape), 1)
    if name.startswith("cum"):
        return shapes[0][equation.params["axis"]]
    if name.startswith(("scatter", "select_and_scatter")):
        return math.prod(shapes[-1]) // max(shapes[-1][0] if shapes[-1] else 1, 1)
    return 1


def coarsest_eps(jaxpr: core.Jaxpr) -> float:
    """The spacing at 1 of the lowest precision in which a jaxpr computes what depends on its arguments."""
    depends, eps = set(jaxpr.invars), DOUBLE
    for equation in jaxpr.eqns:
        if depends.intersection(atom for atom in equation.invars if not isinstance(atom, core.Literal)):
            depends.update(equation.outvars)
            types = [var.aval.dtype for var in equation.outvars if hasattr(var.aval, "dtype")]
            eps = max([eps, *(float(jnp.finfo(t).eps) for t in types if jnp.issubdtype(t, jnp.floating))])
            eps = max([eps, *map(coarsest_eps, core.jaxprs_in_params(equation.params))])
    return eps


def rounding(eps: float, length: int, arrays: Sequence[Any]) -> float:
    """What is left where the terms of a sum cancel: each addition rounds to the size of dy, or of the largest gradient,
    and the errors of n additions, of either sign, add up to √n of them."""
    return 45 * eps * math.sqrt(length) * largest(arrays)


def in_double(expected: np.ndarray, rtol: float, eps: float, rounding: float) -> np.ndarray:
    """rtol of each entry, rtol / 100 of the largest, and what rounding leaves of sums that cancel.

    Where the function itself computes in less than float64, eps is of that precision, and relative to a usual entry.
    """
    if eps > DOUBLE:
        return max(rtol, 32 * eps) * (np.abs(expected) + usual(expected))
    return rtol * np.abs(expected) + 1e-2 * rtol * largest([expected]) + rounding


def in_own_dtype(
    expected: np.ndarray, derived: np.ndarray, eps: float, length: int, arrays: Sequence[Any]
) -> np.ndarray:
    """A few units in the last place of each entry and of a usual one, and some of what JAX's own gradient is off by.

    `derived` is the gradient that JAX derives, computed in this dtype, and `expected` the same in float64: how far
    they are apart is what rounding does here, intermediate results included. A sum of n terms may besides be added one
    after the other, in float32: off by eps √n of a usual entry. In 16 bits that is what a right rule avoids. What is
    zero but for rounding in float64 is so in this dtype.
    """
    expected, derived = np.asarray(expected, np.float64), np.asarray(derived, np.float64)
    adding = float(np.finfo(np.float32).eps) if eps > 1e-5 else eps
    with np.errstate(invalid="ignore"):
        apart = usual(derived - expected)
    zero = usual(expected) <= rounding(DOUBLE, length, arrays)
    return (
        4 * eps * np.abs(expected)
        + (8 * eps + 4 * adding * math.sqrt(length)) * usual(expected)
        + 8 * apart
        + (rounding(eps, length, arrays) if zero else 0.0)
    )


def usual(a: np.ndarray) -> float:
    """The root mean square of the finite entries."""
    finite = np.asarray(a, np.float64)[np.isfinite(a)]
    return float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 0.0


def largest(arrays: Sequence[Any]) -> float:
    """The largest finite magnitude in the arrays."""
    finite = [np.abs(np.asarray(a)[np.isfinite(a)]) for a in arrays]
    return max((float(np.max(a, initial=0.0)) for a in finite), default=0.0)
