"""What the checker says about the rules that a program reached: a table, a file."""

import html
import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jaxcnn.check.annotations import annotation
from jaxcnn.check.gradients import gradients
from jaxcnn.check.recording import Record, Recorder
from jaxcnn.check.report import NOT_CHECKED, RIGHT, WRONG
from jaxcnn.check.wording import one_line

_ORDER = (WRONG, NOT_CHECKED, RIGHT)
_LONGEST_SIGNATURE = 60  # in the terminal


@dataclass(frozen=True)
class Row:
    """The verdict on a rule at one signature.

    Attributes:
        rule, file, line, kind: the name of the rule, where it is, and "custom_vjp" or "custom_jvp".
        identity: what tells it from other rules of the same function.
        signature: dtypes, shapes and static values of its arguments.
        verdict: "right", "wrong" or "not checked".
        said: what is wrong, or why it was not checked, line by line.
        calls: how often it was called or traced.
        test: the first test that did so.
    """

    rule: str
    file: str
    line: int
    kind: str
    identity: str
    signature: str
    verdict: str
    said: tuple[str, ...]
    calls: int
    test: str


@dataclass
class Outcome:
    """What was checked, and what was not.

    Attributes:
        rows: a row for each rule and signature.
        left_out: rule and signature of what is beyond the limit for a rule.
        passed_over: the rules that were not asked for, as those of JAX.
        failures: the rules that could not be recorded, and why.
        run_again: how many tests ran once more, for the values of traced arguments.
        seconds: what the runs and the checks took.
    """

    rows: list[Row] = field(default_factory=list)
    left_out: list[list[str]] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    run_again: int = 0
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """The worst of the rows; "not checked" where there is none."""
        return min((row.verdict for row in self.rows), key=_ORDER.index, default=NOT_CHECKED)

    def to_json(self) -> dict[str, Any]:
        return {"verdict": self.verdict, "totals": self.totals(), **asdict(self)}

    @classmethod
    def from_json(cls, text: str) -> "Outcome":
        fields = json.loads(text)
        rows = [Row(**{**row, "said": tuple(row["said"])}) for row in fields.pop("rows")]
        return cls(rows, **{name: value for name, value in fields.items() if name not in ("verdict", "totals")})

    def totals(self) -> list[str]:
        """The numbers, line by line."""
        count = Counter(row.verdict for row in self.rows)
        rules = len({row.identity for row in self.rows})
        verdicts = ", ".join(f"{count[verdict]} {verdict}" for verdict in _ORDER if count[verdict])
        lines = [f"{_count(rules, 'custom rule')} at {_count(len(self.rows), 'signature')}: {verdicts or 'none'}"]
        lines[0] += f"; {_count(self.run_again, 'test')} ran once more for values of traced arguments"
        lines[0] += f"; {self.seconds:.1f} s"
        limit = f"{_count(len(self.left_out), 'signature')} beyond --vjp-limit" if self.left_out else ""
        others = f"{_count(len(self.passed_over), 'rule')} that --vjp does not ask for" if self.passed_over else ""
        return lines + ([f"left out: {', '.join(filter(None, (limit, others)))}"] if limit or others else [])

    def lines(self, folder: Path, every: bool = True) -> list[str]:
        """The table of the terminal, with what is wrong below; without `every`, the right rows are left out."""
        rows = [row for row in self._sorted() if every or row.verdict != RIGHT]
        cells = [self._cells(row, folder) for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        table = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells]
        failures = [f"not recorded: {name}: {why}" for name, why in sorted(self.failures.items())]
        return [*table, *self._problems(rows, folder), *failures, *self.totals()]

    def html(self, folder: Path) -> str:
        """A page with the same."""
        columns = ("verdict", "rule", "signature", "calls", "first test", "what was found")
        body = [(*self._cells(row, folder, short=False), "\n".join(row.said)) for row in self._sorted()]
        lines = [_html_row(columns, "th"), *(_html_row(cells, "td", cells[0].lower()) for cells in body)]
        return _PAGE.format(totals="<br>".join(map(html.escape, self.totals())), rows="\n".join(lines))

    def annotations(self) -> list[str]:
        """A line for each rule that is wrong, as `Report.annotations` has them."""
        found: dict[tuple[str, str, int], list[str]] = {}
        for row in self._sorted():
            if row.verdict == WRONG:
                place = (f"{row.kind} of {row.rule} is wrong", row.file, row.line)
                found.setdefault(place, []).extend((f"for {row.signature}", *row.said))
        return [annotation("\n".join(lines), *place) for place, lines in found.items()]

    def write(self, path: Path, folder: Path) -> None:
        """A file, .json or .html."""
        text = json.dumps(self.to_json(), indent=1) if path.suffix == ".json" else self.html(folder)
        path.write_text(text, encoding="utf-8")

    def _sorted(self) -> list[Row]:
        return sorted(self.rows, key=lambda r: (_ORDER.index(r.verdict), r.file, r.line, r.signature))

    def _cells(self, row: Row, folder: Path, short: bool = True) -> tuple[str, ...]:
        verdict = "WRONG" if row.verdict == WRONG else row.verdict
        signature = row.signature
        if short and len(signature) > _LONGEST_SIGNATURE:
            signature = f"{signature[: _LONGEST_SIGNATURE - 3]}..."
        return verdict, f"{row.rule} ({_place(row, folder)})", signature, str(row.calls), row.test

    def _problems(self, rows: Iterable[Row], folder: Path) -> list[str]:
        lines = []
        for row in rows:
            if row.verdict == WRONG:
                lines += ["", f"{_place(row, folder)}: {row.kind} of {row.rule} is WRONG for {row.signature}"]
                lines += [f"    {line}" for line in row.said]
        reasons: dict[str, list[str]] = {}
        for row in rows:
            if row.verdict == NOT_CHECKED:
                reasons.setdefault("; ".join(row.said), []).append(f"{row.rule} ({_place(row, folder)})")
        lines += [""] if reasons else []
        return lines + [f"not checked: {', '.join(dict.fromkeys(of))}: {why}" for why, of in reasons.items()]


def outcome(recorder: Recorder, run_again: int, since: float) -> Outcome:
    """Checks every call that was recorded."""
    rows = [_row(record) for record in recorder.chosen()]
    return Outcome(
        rows,
        [list(key) for key in sorted(recorder.left_out)],
        sorted(recorder.passed_over),
        recorder.failures,
        run_again,
        time.perf_counter() - since,
    )


def merged(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcomes of several processes as one: of two rows on the same, the worse stays, and calls are added up."""
    rows: dict[tuple[str, str], Row] = {}
    total, passed_over, left_out = Outcome(), set(), set()
    for part in outcomes:
        for row in part.rows:
            key = (row.identity, row.signature)
            rows[key] = _joined(rows[key], row) if key in rows else row
        left_out |= {tuple(key) for key in part.left_out}
        passed_over |= set(part.passed_over)
        total.failures |= part.failures
        total.run_again += part.run_again
        total.seconds = max(total.seconds, part.seconds)
    total.rows, total.passed_over = list(rows.values()), sorted(passed_over)
    total.left_out = [list(key) for key in sorted(left_out) if key not in rows]
    return total


def _joined(one: Row, other: Row) -> Row:
    known = [row for row in (one, other) if row.verdict != NOT_CHECKED] or [one]
    chosen = min(known, key=lambda row: _ORDER.index(row.verdict))
    return Row(**{**asdict(chosen), "calls": one.calls + other.calls, "test": one.test})


def _row(record: Record) -> Row:
    found, said = _checked(record)
    rule = record.rule
    place = (rule.name, rule.file, rule.line, rule.kind, rule.identity)
    return Row(*place, record.signature, found, said, record.count, record.test)


def _checked(record: Record) -> tuple[str, tuple[str, ...]]:
    """The verdict on a record, and what is to be said about it."""
    if record.call is None:
        return NOT_CHECKED, (
            record.missing or "it was traced only, outside the tests or in tests that could not run once more",
        )
    call = record.call
    try:
        with warnings.catch_warnings(), call.settings_restored():
            warnings.simplefilter("ignore")
            if not call.argnums():
                return NOT_CHECKED, ("no argument has a gradient",)
            report = gradients(call.rule, *call.args(), argnums=call.argnums(), static_argnums=call.static_argnums())
    except Exception as error:
        return NOT_CHECKED, (one_line(error),)
    lines = [str(row) for row in report.comparisons if row.verdict == report.verdict]
    return report.verdict, () if report else tuple(lines or str(report).splitlines())


def _place(row: Row, folder: Path) -> str:
    """File and line, as short as they can be."""
    file = row.file.partition(f"{os.sep}site-packages{os.sep}")[2] or row.file
    path = Path(file)
    return f"{path.relative_to(folder) if path.is_relative_to(folder) else path}:{row.line}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _html_row(cells: Iterable[str], tag: str, kind: str = "") -> str:
    inside = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
    return f'<tr class="{html.escape(kind)}">{inside}</tr>'


_PAGE = """<!DOCTYPE html>
<meta charset="utf-8"><title>Custom rules</title>
<style>
body {{ font: 14px sans-serif; margin: 2em }}
td, th {{ text-align: left; vertical-align: top; padding: 3px 10px; white-space: pre-wrap }}
td {{ border-bottom: 1px solid #ddd }}
.wrong td:first-child {{ color: #b00020; font-weight: bold }}
.not td:first-child {{ color: #8a6d00 }}
</style>
<h1>Custom rules</h1>
<p>{totals}</p>
<table>
{rows}
</table>
"""
