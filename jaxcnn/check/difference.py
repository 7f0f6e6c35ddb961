"""An array next to what was expected."""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcnn.check.location import factor_in_words, locate
from jaxcnn.check.report import Comparison
from jaxcnn.check.tolerance import common_factor, usual
from jaxcnn.check.wording import count

# Two arrays are alike, as one flipped or scaled, if they differ by at most a share of their largest entry. The share is
# _CLOSE, or _CLOSE_IN_EPS eps of the dtype if that is more. It bounds the rounding of a product or of a few sums. It
# decides about words only, not about the verdict. Both numbers are chosen, not measured.
_CLOSE, _CLOSE_IN_EPS = 1e-9, 16
# A common factor is told beside the error of an entry where the latter is larger than this.
_COARSE = 1e-3


@dataclass(frozen=True)
class Difference:
    """An array next to what was expected, and which of its entries are wrong.

    Attributes:
        got, expected: the two, in float64.
        tolerance: how far apart they may be, entry by entry.
        wrong: which entries are further apart.
        dtype: in whose units in the last place the error is told.
        floor: how far from 1 the common factor of all entries may be at least.
    """

    got: np.ndarray
    expected: np.ndarray
    tolerance: np.ndarray
    wrong: np.ndarray
    dtype: np.dtype
    floor: float = 0.0

    def excused(self, right: np.ndarray) -> "Difference":
        """The same with some of the wrong entries taken for right."""
        right = right & self.wrong
        if not right.any():
            return self
        return replace(self, got=np.where(right, self.expected, self.got), wrong=self.wrong & ~right)

    @property
    def is_wrong(self) -> bool:
        return bool(self.wrong.any()) or self.factor_excess > 1

    @property
    def relative_error(self) -> float:
        """The largest error of a wrong entry, relative to the sum of itself and a usual entry."""
        return self.error_beyond(0.0)

    def error_beyond(self, absolute: float) -> float:
        """The same for what an error is larger than a number."""
        if self.got.shape != self.expected.shape or not self.is_wrong:
            return 0.0 if not self.is_wrong else np.inf
        wrong = self.wrong if self.wrong.any() else np.ones(self.wrong.shape, bool)
        with np.errstate(all="ignore"):
            errors = np.abs(self.got - self.expected) - absolute
            errors = np.maximum(errors, 0) / (np.abs(self.expected) + usual(self.expected))
        return float(np.max(np.where(np.isfinite(errors), errors, np.inf)[wrong]))

    @property
    def factor(self) -> float:
        """The common factor of all entries, 1 where they are right."""
        return 1.0 if self.got.shape != self.expected.shape else common_factor(self.got, self.expected)

    @property
    def factor_tolerance(self) -> float:
        """How far from 1 the factor may be: errors of the entries that are independent of each other average out."""
        e = np.where(np.isfinite(self.expected), self.expected, 0.0)
        e = e / (np.max(np.abs(e), initial=0.0) or 1.0)
        squares = float(np.sum(np.square(e)))
        scale = np.max(np.abs(self.expected[np.isfinite(self.expected)]), initial=0.0)
        if not squares or not self.floor:
            return np.inf
        return max(self.floor, float(np.sqrt(np.sum(np.square(e * self.tolerance)))) / (squares * float(scale)))

    @property
    def factor_excess(self) -> float:
        """How far the common factor is from 1, in units of how far it may be."""
        with np.errstate(all="ignore"):
            excess = abs(self.factor - 1) / self.factor_tolerance
        return excess if np.isfinite(excess) else 0.0

    def largest_excess(self) -> float:
        """The largest error of a wrong entry, in units of its tolerance; 1 where none is wrong."""
        excess = _excess(self.got, self.expected, self.tolerance)
        return max(float(np.max(np.where(self.wrong, excess, 1.0), initial=1.0)), self.factor_excess)

    @property
    def seen(self) -> float:
        """The error that would have been seen in a usual entry, relative to it; infinite if all entries are zero."""
        size = usual(self.expected)
        return self._usual_tolerance() / size if size else np.inf

    def _usual_tolerance(self) -> float:
        near = np.abs(np.abs(self.expected) - usual(self.expected))
        return float(self.tolerance.flat[np.argmin(np.where(np.isfinite(near), near, np.inf))])

    def comparison(self, name: str, batch: int | None = None, dtype: Any = None) -> Comparison:
        """The difference in words; `dtype` replaces the dtype in whose units in the last place the error is told."""
        if self.got.shape != self.expected.shape:
            shapes = f"shape {list(self.got.shape)}, expected {list(self.expected.shape)}"
            return Comparison(name, shapes, "not compared")
        if self.expected.size == 0:
            return Comparison(name, None, "no entries", reason="it has no entries", optional=True)
        problem, where = None, ""
        if self.wrong.any():
            problem = f"{np.count_nonzero(self.wrong)} of {self.wrong.size} entries"
            close = max(_CLOSE, _CLOSE_IN_EPS * float(jnp.finfo(self.dtype).eps))
            where = locate(self.got, self.expected, self.wrong, close, batch)
        elif self.is_wrong:
            problem = f"all entries by the common factor {factor_in_words(self.factor, self.factor_tolerance)}"
        errors = self._errors() if problem else None
        return Comparison(name, problem, self._worst(dtype or self.dtype), where, self._seen_in_words(), errors=errors)

    def _errors(self) -> np.ndarray:
        size = usual(self.expected) or usual(self.got) or 1.0
        with np.errstate(all="ignore"):
            return np.where(self.wrong | (not self.wrong.any()), (self.got - self.expected) / size, 0.0)

    def _worst(self, dtype: Any) -> str:
        """The entry that is furthest beyond its tolerance."""
        excess = _excess(self.got, self.expected, self.tolerance)
        index = np.unravel_index(np.argmax(excess), excess.shape)
        got, expected = float(self.got[index]), float(self.expected[index])
        with np.errstate(all="ignore"):
            error = np.abs(got - expected)
            relative = error / abs(expected) if expected else error
            ulp = error / float(np.asarray(np.spacing(np.abs(np.asarray(expected).astype(dtype)))))
        place = f" at {[int(i) for i in index]}" if excess.ndim else ""
        if not error:
            return "equal to the last bit"
        digits, off = 9 if relative > 1e-6 else 16, []
        if np.isfinite(error):
            off = [f"relative error {relative:.1e}, {count(ulp)} ulp"] if expected else [f"error {error:.1e}"]
        size = usual(self.expected)
        off += [f"a usual entry is {size:.2g}"] if excess.size > 1 and size and self.wrong.any() else []
        aside = f" ({', '.join(off)})" if off else ""
        return f"worst{place}: got {got:.{digits}g}, expected {expected:.{digits}g}{aside}"

    def _seen_in_words(self) -> str:
        """The error that would have been seen in a usual entry, relative to it, and the factor of all entries."""
        if not np.isfinite(self.seen):
            return f"{self._usual_tolerance():.0e} absolute"
        finer = self.seen > _COARSE and self.factor_tolerance < self.seen
        return f"{self.seen:.0e}{f' ({self.factor_tolerance:.0e} of a common factor)' if finer else ''}"


def difference(
    got: Any, expected: Any, tolerance: Any, also: Any = None, dtype: Any = np.float64, floor: float = 0.0
) -> Difference:
    """An array next to what was expected. An entry is right where |got - expected| <= tolerance.

    NaN and Inf only equal themselves.

    Args:
        got: what the rule gives.
        expected: what is right.
        tolerance: one number, or one for each entry.
        also: another array whose entries are right as well, within the same tolerance.
        dtype: in whose units in the last place the error is told.
        floor: how far from 1 the common factor of all entries may be at least; 0 if it is not looked at.
    """
    dtype = np.dtype(dtype)
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    tolerance = np.broadcast_to(np.asarray(tolerance, np.float64), expected.shape)
    if got.shape != expected.shape:
        return Difference(got, expected, tolerance, np.ones(expected.shape, bool), dtype)
    wrong = _excess(got, expected, tolerance) > 1
    if also is not None:
        wrong &= _excess(got, np.asarray(also, np.float64), tolerance) > 1
    return Difference(got, expected, tolerance, wrong, dtype, floor)


def _excess(got: np.ndarray, expected: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """The error of each entry, in units of its tolerance."""
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    with np.errstate(all="ignore"):
        excess = np.abs(got - expected) / tolerance
    return np.where(same, 0.0, np.where(np.isfinite(excess), excess, np.inf))
