"""How far two right gradients may be apart.

It follows from the dtype and from the length of the sums, never from how many entries an array has.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    name = equation.primitive.name
    shapes: list[tuple[int, ...]] = [tuple(getattr(atom.aval, "shape", ())) for atom in equation.invars]
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
            types = [getattr(var.aval, "dtype", None) for var in equation.outvars]
            floats = [t for t in types if t is not None and jnp.issubdtype(t, jnp.floating)]
            eps = max([eps, *(float(jnp.finfo(t).eps) for t in floats)])
            eps = max([eps, *map(coarsest_eps, core.jaxprs_in_params(equation.params))])
    return eps


def rounding(eps: float, length: int, arrays: Sequence[Any]) -> float:
    """What is left where the terms of a sum cancel: each addition rounds to the size of dy, or of the largest gradient,
    and the errors of n additions, of either sign, add up to √n of them."""
    return 45 * eps * math.sqrt(length) * largest(arrays)


def is_zero(expected: np.ndarray, length: int, arrays: Sequence[Any]) -> bool:
    """Whether there is nothing in an array but what rounding leaves in float64."""
    return usual(expected) <= rounding(DOUBLE, length, arrays)


def in_double(expected: np.ndarray, rtol: float, eps: float, length: int, arrays: Sequence[Any]) -> np.ndarray:
    """rtol of each entry, rtol / 100 of the largest, and what rounding leaves of sums that cancel.

    Where something computes in less than float64, eps is of that precision, and relative to a usual entry.
    """
    left = rounding(eps, length, arrays)
    if eps > DOUBLE:
        size = usual(expected)
        if not is_zero(expected, length, arrays):
            left = min(left, math.sqrt(length) * eps * size)
        return max(rtol, 32 * eps) * (np.abs(expected) + size) + left
    return rtol * np.abs(expected) + 1e-2 * rtol * largest([expected]) + left


@dataclass(frozen=True)
class OwnDtype:
    """What rounding does in the dtype of the arguments, of one output or gradient.

    How far it moves when each argument and each dy is rounded anew is what no rule can avoid, `moved`. How far the
    gradient that JAX derives is off in this dtype has intermediate results in it as well, `apart`; but JAX adds up in
    16 bits where a right rule does not, so that is believed only up to a few times the first. And a sum of n terms may
    be added one after the other in float32, even if the terms have 16 bits: off by eps √n, `adding`.
    """

    expected: np.ndarray  # in float64
    derived: np.ndarray  # by JAX in this dtype
    dtype: np.dtype
    eps: float
    adding: float
    moved: float  # of all but the tenth that moves most, as a tie that is broken moves far
    moved_all: float
    apart: float

    @classmethod
    def of(cls, expected: Any, derived: Any, moved: Any, eps: float, length: int) -> "OwnDtype":
        """`moved` is the gradient in float64 of the arguments rounded anew, eps that of the function itself."""
        dtype, eps = derived.dtype, max(eps, float(jnp.finfo(derived.dtype).eps))
        expected, derived = np.asarray(expected, np.float64), np.asarray(derived, np.float64)
        adding = min(eps, float(np.finfo(np.float32).eps)) * math.sqrt(length)
        with np.errstate(invalid="ignore"):
            moves = np.abs(moved - expected)
            most = float(np.nanquantile(moves, 0.9)) / 1.645 if moves.size else 0.0
            return cls(expected, derived, dtype, eps, adding, most, usual(moves), usual(derived - expected))

    def by_itself(self) -> "OwnDtype":
        """With the gradient that JAX derives in this dtype as what is right."""
        return replace(self, expected=self.derived, apart=0.0)

    @property
    def derived_is_right(self) -> bool:
        """Whether the gradient that JAX derives is as precise as can be expected."""
        return self.apart <= 8 * (self.moved_all + (self.eps + self.adding) * usual(self.expected))

    def tolerance(self, zero: float) -> np.ndarray:
        """Some units in the last place of each entry and of a usual one; `zero` for what is zero but for rounding."""
        rounding = max(self.moved, self.apart if self.derived_is_right else 0.0)
        size = usual(self.expected)
        return 4 * self.eps * np.abs(self.expected) + (8 * self.eps + 4 * self.adding) * size + 8 * rounding + zero


def usual(a: np.ndarray) -> float:
    """The root mean square of the finite entries."""
    finite = np.asarray(a, np.float64)[np.isfinite(a)]
    return float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 0.0


def largest(arrays: Sequence[Any]) -> float:
    """The largest finite magnitude in the arrays."""
    finite = [np.abs(np.asarray(a)[np.isfinite(a)]) for a in arrays]
    return max((float(np.max(a, initial=0.0)) for a in finite), default=0.0)
