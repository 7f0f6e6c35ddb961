"""What the checker found, argument by argument."""

import html
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcnn.check.location import locate
from jaxcnn.check.tolerance import usual


@dataclass(frozen=True)
class Comparison:
    """One gradient, or one output, against what was expected.

    Attributes:
        name: what is compared.
        problem: what is wrong, or None.
        worst: the entry with the largest error.
        where: where the errors lie, and what they have in common.
        seen: what size of error would have been seen.
        kink: what was found out of a kink.
    """

    name: str
    problem: str | None
    worst: str = ""
    where: str = ""
    seen: str = ""
    kink: str = ""

    def __str__(self) -> str:
        verdict = "right" if self.problem is None else f"WRONG: {self.problem}"
        seen = self.seen and f"would have seen {self.seen}"
        said = [verdict, self.worst, self.where and f"where: {self.where}", self.kink, seen]
        return f"{self.name}: {'; '.join(filter(None, said))}"


@dataclass(frozen=True)
class Report:
    """The verdict of a check: `bool(report)` is True if everything is right, `print(report)` says what is not.

    `comparisons` holds one `Comparison` for each output and argument, and one for each further thing that was looked
    at. `notes` says how it was looked at, and what was not.
    """

    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return all(comparison.problem is None for comparison in self.comparisons)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.comparisons), *(f"({note})" for note in self.notes)])

    def __repr__(self) -> str:
        """One line with what is wrong: a failed assert in pytest shows no more."""
        wrong = [f"{c.name}: {c.problem}, {c.where or c.worst}" for c in self.comparisons if c.problem]
        worst = next((f" ({c.worst})" for c in self.comparisons if c.problem and c.where and c.worst), "")
        return f"WRONG {'; '.join(wrong)}{worst}" if wrong else f"right: {', '.join(c.name for c in self.comparisons)}"

    def raise_if_wrong(self) -> None:
        """AssertionError with the report as its message, unless everything is right."""
        if not self:
            raise AssertionError(f"check.gradients found wrong gradients\n{self}")

    def table(self) -> "Table":
        """The report as a table: a notebook shows it, and `str` of it is Markdown."""
        columns = ("", "verdict", "where", "worst", "would have seen")
        rows = [
            (c.name, f"WRONG: {c.problem}" if c.problem else "right", c.where or c.kink, c.worst, c.seen)
            for c in self.comparisons
        ]
        return Table(columns, tuple(rows), self.notes)


@dataclass(frozen=True)
class Table:
    """Rows of text, as HTML in a notebook and as Markdown elsewhere."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        cells = [[cell.replace("|", r"\|") for cell in line] for line in lines]
        return "\n".join([*(f"| {' | '.join(line)} |" for line in cells), *(f"\n{note}" for note in self.notes)])

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        def row(cells: tuple[str, ...], tag: str) -> str:
            return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

        body = "".join(row(cells, "td") for cells in self.rows)
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<table><thead>{row(self.columns, 'th')}</thead><tbody>{body}</tbody></table>{notes}"


# Two arrays are alike, as one flipped or scaled, if they differ by at most a share of their largest entry. The share is
# _CLOSE, or _CLOSE_IN_EPS eps of the dtype if that is more. It bounds the rounding of a product or of a few sums. It
# decides about words only, not about the verdict. Both numbers are chosen, not measured.
_CLOSE, _CLOSE_IN_EPS = 1e-9, 16


@dataclass(frozen=True)
class Difference:
    """An array next to what was expected, and which of its entries are wrong.

    Attributes:
        got, expected: the two, in float64.
        tolerance: how far apart they may be, entry by entry.
        wrong: which entries are further apart.
        dtype: in whose units in the last place the error is told.
        got_dtype: the dtype that the array had.
    """

    got: np.ndarray
    expected: np.ndarray
    tolerance: np.ndarray
    wrong: np.ndarray
    dtype: np.dtype
    got_dtype: np.dtype

    def excused(self, right: np.ndarray) -> "Difference":
        """The same with some of the wrong entries taken for right."""
        right = right & self.wrong
        if not right.any():
            return self
        return replace(self, got=np.where(right, self.expected, self.got), wrong=self.wrong & ~right)

    def largest_excess(self) -> float:
        """The largest error of a wrong entry, in units of its tolerance; 1 where none is wrong."""
        excess = _excess(self.got, self.expected, self.tolerance)
        return float(np.max(np.where(self.wrong, excess, 1.0), initial=1.0))

    def comparison(self, name: str, batch: int | None = None, dtype: Any = None) -> Comparison:
        """The difference in words; `dtype` replaces the dtype in whose units in the last place the error is told."""
        if self.got.shape != self.expected.shape:
            shapes = f"shape {list(self.got.shape)}, expected {list(self.expected.shape)}"
            return Comparison(name, shapes, "not compared")
        if self.expected.size == 0:
            return Comparison(name, None, "no entries")
        problem, where = None, ""
        if self.wrong.any():
            problem = f"{np.count_nonzero(self.wrong)} of {self.wrong.size} entries"
            close = max(_CLOSE, _CLOSE_IN_EPS * float(jnp.finfo(self.dtype).eps))
            where = locate(self.got, self.expected, self.wrong, close, batch)
        return Comparison(name, problem, self._worst(dtype or self.dtype), where, self._seen())

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
        digits = 9 if relative > 1e-6 else 16
        off = f"relative error {relative:.1e}, {_count(ulp)} ulp"
        return f"worst{place}: got {got:.{digits}g}, expected {expected:.{digits}g} ({off})"

    def _seen(self) -> str:
        """The error that would have been seen in a usual entry, relative to it."""
        size = usual(self.expected)
        near = np.abs(np.abs(self.expected) - size)
        tolerance = float(self.tolerance.flat[np.argmin(np.where(np.isfinite(near), near, np.inf))])
        return f"{tolerance / size:.0e}" if size else f"{tolerance:.0e} absolute"


def difference(got: Any, expected: Any, tolerance: Any, also: Any = None, dtype: Any = np.float64) -> Difference:
    """An array next to what was expected. An entry is right where |got - expected| <= tolerance.

    NaN and Inf only equal themselves.

    Args:
        got: what the rule gives.
        expected: what is right.
        tolerance: one number, or one for each entry.
        also: another array whose entries are right as well, within the same tolerance.
        dtype: in whose units in the last place the error is told.
    """
    got_dtype, dtype = np.asarray(got).dtype, np.dtype(dtype)
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    tolerance = np.broadcast_to(np.asarray(tolerance, np.float64), expected.shape)
    if got.shape != expected.shape:
        return Difference(got, expected, tolerance, np.ones(expected.shape, bool), dtype, got_dtype)
    wrong = _excess(got, expected, tolerance) > 1
    if also is not None:
        wrong &= _excess(got, np.asarray(also, np.float64), tolerance) > 1
    return Difference(got, expected, tolerance, wrong, dtype, got_dtype)


def one_line(error: BaseException) -> str:
    """The kind of an error and the beginning of what it says."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:200]}{'...' if len(said) > 200 else ''}"


def _excess(got: np.ndarray, expected: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """The error of each entry, in units of its tolerance."""
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    with np.errstate(all="ignore"):
        excess = np.abs(got - expected) / tolerance
    return np.where(same, 0.0, np.where(np.isfinite(excess), excess, np.inf))


def _count(number: float) -> str:
    return f"{number:.0f}" if number < 1e4 else f"{number:.0e}"
