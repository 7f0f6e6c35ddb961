"""How far two right gradients may be apart.

A tolerance follows from the dtype and from the length of the sums. The number of entries of an array has no part in it.

The constants below are margins: each multiplies a unit of error. `python experiments/tolerances.py` prints the largest
error, in that unit, which the right rules of experiments/rules/ make; experiments/README.md has its table.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxcnn.check.equations import CALLS

DOUBLE = float(np.finfo(np.float64).eps)
SINGLE = float(np.finfo(np.float32).eps)
# Where the arguments are in float32, an error below this share of an entry and of a usual one is no fault: constants in
# f and in its rule are rounded to float32, and special functions are as good as that.
BELOW_SINGLE = 4 * SINGLE

# A sum of n terms that cancel is right within CANCELLED · eps √n · (the largest number in dy and in the gradients). The
# largest error seen was 10 of these units. The rest of the margin is chosen, not measured: the rules that were tried
# are few, and other right rules may make larger errors.
CANCELLED = 45
# An entry in float64 is right within rtol of itself and LARGEST_SHARE · rtol of the largest entry of its array. This is
# no margin over rounding: it says how small an error beside large entries is looked for.
LARGEST_SHARE = 1e-2
# Where f or its rule computes in less than float64 on the way, an entry is right within
# REDUCED_PRECISION · eps · (|entry| + a usual entry).
REDUCED_PRECISION = 32
# In the dtype of the arguments, JAX's gradient counts as right within DERIVED_ERROR times what rounding does to a usual
# entry (`RoundingEffect.derived_unit`).
DERIVED_ERROR = 8
# In the dtype of the arguments, an entry is right within the sum of NARROW_ENTRY · eps · |entry|, NARROW_USUAL · eps ·
# (a usual entry), NARROW_SUM · (the error of a sum in float32) and NARROW_ROUNDING · (what the rounding of the
# arguments and of the intermediate results does to the gradient). The last one is for functions that magnify the
# rounding of their arguments, as sin(1000 x) and attention do. The largest errors seen are 4.2, 1.1, 3.4 and 4.3 of
# these units, and 0.4 of the sum.
NARROW_ENTRY, NARROW_USUAL, NARROW_SUM, NARROW_ROUNDING = 4, 8, 4, 8
# All entries are right within a common factor. Its error may be the eps of the dtype, or FACTOR times that of JAX's
# gradient.
FACTOR = 4
# A rule may lose more digits on the way than what JAX derives, up to LOST_BY_RULE eps of a usual entry: flash attention
# does, as it takes the sum of dy and the output for that of dp and p.
LOST_BY_RULE = 16
# The 0.9 quantile of |x|, for a normal x of standard deviation 1. A measured quantile over it is a standard deviation.
NORMAL_QUANTILE = 1.645


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


def eps_of_results(jaxpr: core.Jaxpr, eps_of_inputs: Sequence[float] | None = None) -> list[float]:
    """For each result of a jaxpr, the eps of the lowest precision that it is computed in, from the inputs on.

    What does not depend on the inputs is exact, and so is an input, unless `eps_of_inputs` says otherwise.
    """
    inputs = [DOUBLE] * len(jaxpr.invars) if eps_of_inputs is None else eps_of_inputs
    known = dict(zip(jaxpr.invars, inputs, strict=True))
    for equation in jaxpr.eqns:
        ins = [known.get(atom, 0.0) if not isinstance(atom, core.Literal) else 0.0 for atom in equation.invars]
        if not any(ins):
            continue
        inner = list(core.jaxprs_in_params(equation.params))
        if equation.primitive.name in CALLS and len(inner[0].invars) == len(ins):
            results = eps_of_results(inner[0], ins)
        else:
            results = [max([*ins, *(max(eps_of_results(j), default=0.0) for j in inner)])] * len(equation.outvars)
        known.update({var: max(e, _eps(var)) if e else 0.0 for var, e in zip(equation.outvars, results, strict=True)})
    return [known.get(atom, 0.0) or DOUBLE if not isinstance(atom, core.Literal) else DOUBLE for atom in jaxpr.outvars]


def _eps(var: Any) -> float:
    """The eps of a floating-point variable; that of float64 for any other."""
    dtype = getattr(var.aval, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
        return DOUBLE
    return max(DOUBLE, float(jnp.finfo(dtype).eps))


def rounding_unit(eps: float, length: int, arrays: Sequence[Any]) -> float:
    """The usual error of a sum of `length` terms that cancel: eps √length of the largest number in the arrays.

    Each addition rounds to the size of dy, or of the largest gradient. The errors of n additions have either sign and
    add up to √n of one.
    """
    return eps * math.sqrt(length) * largest(arrays)


def rounding(eps: float, length: int, arrays: Sequence[Any]) -> float:
    """The largest error that rounding may leave of a sum of `length` terms that cancel."""
    return CANCELLED * rounding_unit(eps, length, arrays)


def is_zero(expected: np.ndarray, length: int, arrays: Sequence[Any]) -> bool:
    """Whether an array holds nothing but what rounding leaves in float64."""
    return usual(expected) <= rounding(DOUBLE, length, arrays)


def float64_tolerance(expected: np.ndarray, rtol: float, eps: float, length: int, arrays: Sequence[Any]) -> np.ndarray:
    """The error that each entry may have in a program of float64 arrays.

    It is rtol of the entry, a hundredth of rtol of the largest entry, and what rounding leaves of sums that cancel.
    `eps` is that of the lowest precision in the program. Where this is less than float64, the error is relative to the
    entry and to a usual one.
    """
    left = rounding(eps, length, arrays)
    if eps > DOUBLE:
        size = usual(expected)
        if not is_zero(expected, length, arrays):
            left = min(left, math.sqrt(length) * eps * size)
        return max(rtol, REDUCED_PRECISION * eps) * (np.abs(expected) + size) + left
    return rtol * np.abs(expected) + LARGEST_SHARE * rtol * largest([expected]) + left


@dataclass(frozen=True)
class RoundingEffect:
    """What rounding does to one output or gradient in the dtype of the arguments.

    `input_error` is how far the result moves when each argument and each dy is rounded anew. No rule can avoid it.

    `derived_error` is how far the gradient that JAX derives is off in this dtype. The rounding of intermediate results
    is part of it. JAX adds up in 16 bits where a right rule does not. So `derived_error` counts only where it is at
    most DERIVED_ERROR times `derived_unit`.

    `sum_eps` is the relative error of a sum of n terms, eps √n. A rule may add up the terms one after the other in
    float32, whatever their dtype. So eps is that of float32, or of the dtype if that is finer.
    """

    expected: np.ndarray  # in float64
    derived: np.ndarray | None  # by JAX, in the dtype of the arguments
    dtype: np.dtype
    eps: float  # of this dtype, or of a lower precision that the function computes in
    sum_eps: float
    # The standard deviation of the moves, taken from their 0.9 quantile. The tenth of the entries that moves most has
    # no part in it: an entry whose tie is broken moves far.
    input_error: float
    input_error_of_all: float  # the root mean square over all entries
    derived_error: float
    factor_error: float  # the common factor by which rounding may put all entries off
    entry_error: Any = 0.0  # how far the rounding of intermediate results puts each entry off; 0 where not measured

    @classmethod
    def measure(
        cls, expected: Any, derived: Any, rounded_anew: Any, dtype: Any, eps: float, length: int
    ) -> "RoundingEffect":
        """The effect on one result.

        Args:
            expected: the result in float64.
            derived: the result by JAX in the dtype of the arguments, or None.
            rounded_anew: the result in float64 for arguments that are rounded anew.
            dtype: of the result.
            eps: of the lowest precision that the function computes in.
            length: of the longest sum.
        """
        eps, expected = max(eps, float(jnp.finfo(dtype).eps)), np.asarray(expected, np.float64)
        derived = None if derived is None else np.asarray(derived, np.float64)
        sum_eps = min(eps, SINGLE) * math.sqrt(length)
        with np.errstate(invalid="ignore"):
            moves = np.abs(rounded_anew - expected)
            finite = moves[np.isfinite(moves)]
            deviation = float(np.quantile(finite, 0.9)) / NORMAL_QUANTILE if finite.size else 0.0
            error = 0.0 if derived is None else usual(derived - expected)
        others = [a for a in (derived, rounded_anew) if a is not None]
        factor_error = max(eps, *(FACTOR * abs(common_factor(a, expected) - 1) for a in others))
        return cls(expected, derived, dtype, eps, sum_eps, deviation, usual(moves), error, factor_error)

    def completed(self, expected: np.ndarray) -> "RoundingEffect":
        """The same with numbers for entries that have none."""
        return replace(self, expected=np.where(np.isfinite(self.expected), self.expected, expected))

    def measured_by_derived(self) -> "RoundingEffect":
        """The same with the gradient that JAX derives in this dtype as what is right."""
        return self if self.derived is None else replace(self, expected=self.derived, derived_error=0.0)

    @property
    def derived_unit(self) -> float:
        """What rounding does to a usual entry: the arguments, the result and its sums are rounded."""
        return self.input_error_of_all + (self.eps + self.sum_eps) * usual(self.expected)

    @property
    def derived_is_right(self) -> bool:
        """Whether the gradient that JAX derives is as precise as can be expected."""
        return self.derived_error <= DERIVED_ERROR * self.derived_unit

    @property
    def units(self) -> tuple[np.ndarray, float, float, float]:
        """The units of `NARROW_ENTRY`, `NARROW_USUAL`, `NARROW_SUM` and `NARROW_ROUNDING`."""
        size = usual(self.expected)
        rounding = max(self.input_error, self.derived_error if self.derived_is_right else 0.0)
        return self.eps * np.abs(self.expected), self.eps * size, self.sum_eps * size, rounding

    def tolerance(self, left: float) -> np.ndarray:
        """The error that each entry may have; `left` is what rounding leaves of a result that is zero otherwise."""
        entry, usual_entry, sums, rounding = self.units
        rounding = rounding + self.entry_error
        return NARROW_ENTRY * entry + NARROW_USUAL * usual_entry + NARROW_SUM * sums + NARROW_ROUNDING * rounding + left


def common_factor(a: np.ndarray, expected: np.ndarray) -> float:
    """The factor by which an array is nearest to another one, ⟨a, e⟩ / ⟨e, e⟩, from the finite entries; 1 for zeros."""
    finite = np.isfinite(a) & np.isfinite(expected)
    a, e = np.asarray(a, np.float64)[finite], np.asarray(expected, np.float64)[finite]
    scale = float(np.max(np.abs(e), initial=0.0))
    if not scale:
        return 1.0
    e = e / scale
    return 1 + float(np.vdot(e, a / scale - e) / np.vdot(e, e))


def usual(a: np.ndarray) -> float:
    """The root mean square of the finite entries."""
    finite = np.asarray(a, np.float64)[np.isfinite(a)]
    return float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 0.0


def largest(arrays: Sequence[Any]) -> float:
    """The largest finite magnitude in the arrays."""
    finite = [np.abs(np.asarray(a)[np.isfinite(a)]) for a in arrays]
    return max((float(np.max(a, initial=0.0)) for a in finite), default=0.0)
