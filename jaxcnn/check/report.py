"""What the checker found, argument by argument."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Comparison:
    """One gradient, or one output, against what was expected of it."""

    name: str
    problem: str | None  # None where it is right
    worst: str

    def __str__(self) -> str:
        verdict = "right" if self.problem is None else f"WRONG: {self.problem}"
        return f"{self.name}: {verdict}; {self.worst}"


@dataclass(frozen=True)
class Report:
    """The verdict of a check: `bool(report)` is True if everything is right, `print(report)` says what is not."""

    comparisons: tuple[Comparison, ...]

    def __bool__(self) -> bool:
        return all(comparison.problem is None for comparison in self.comparisons)

    def __str__(self) -> str:
        return "\n".join(map(str, self.comparisons))

    __repr__ = __str__

    def raise_if_wrong(self) -> None:
        """AssertionError with the report as its message, unless everything is right."""
        if not self:
            raise AssertionError(f"check.gradients found wrong gradients\n{self}")


def compare(name: str, got: Any, expected: Any, *, rtol: float, atol: float) -> Comparison:
    """Right where |got - expected| <= rtol |expected| + atol, entry by entry; NaN and Inf only equal themselves."""
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape:
        return Comparison(name, f"shape {list(got.shape)}, expected {list(expected.shape)}", "not compared")
    if expected.size == 0:
        return Comparison(name, None, "no entries")
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(got - expected))
        tolerance = rtol * np.abs(expected) + atol
        wrong = ~same & ~(error <= tolerance)
        excess = np.where(same, 0.0, np.where(np.isfinite(error / tolerance), error / tolerance, np.inf))
    index = np.unravel_index(np.argmax(excess), error.shape)
    relative = error[index] / abs(expected[index]) if expected[index] else error[index]
    place = "" if got.ndim == 0 else f" at {[int(i) for i in index]}"
    worst = f"worst{place}: got {got[index]:.12g}, expected {expected[index]:.12g} (relative error {relative:.1e})"
    problem = f"{np.count_nonzero(wrong)} of {wrong.size} entries" if wrong.any() else None
    return Comparison(name, problem, worst)
