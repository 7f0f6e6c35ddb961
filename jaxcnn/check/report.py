"""What the checker found, argument by argument."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from jaxcnn.check.annotations import annotation
from jaxcnn.check.picture import picture
from jaxcnn.check.rules import Rule
from jaxcnn.check.table import Table

RIGHT, WRONG, NOT_CHECKED = "right", "wrong", "not checked"


@dataclass(frozen=True)
class Comparison:
    """One gradient, or one output, against what was expected.

    Attributes:
        name: what is compared.
        problem: what is wrong, or None.
        worst: the entry with the largest error.
        where: where the errors lie, and what they have in common.
        seen: what size of error would have been seen.
        kink: what was found out of a kink, and of entries that were not compared.
        reason: why it was not checked; empty if it was.
        optional: whether the verdict of the report can do without this one: there is nothing to compare in it.
        rules: the custom rules that it goes through.
        is_gradient: whether it compares a gradient; a report is right only if one of these is.
        errors: the error of each entry, relative to a usual entry, where something is wrong.
    """

    name: str
    problem: str | None
    worst: str = ""
    where: str = ""
    seen: str = ""
    kink: str = ""
    reason: str = ""
    optional: bool = False
    rules: tuple[Rule, ...] = ()
    is_gradient: bool = False
    errors: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def verdict(self) -> str:
        """ "right", "wrong" or "not checked"."""
        return WRONG if self.problem is not None else NOT_CHECKED if self.reason else RIGHT

    @property
    def said(self) -> str:
        """The verdict in words."""
        if self.problem is not None:
            return f"WRONG: {self.problem}"
        return f"not checked: {self.reason}" if self.reason else RIGHT

    @property
    def seen_if_checked(self) -> str:
        return "" if self.reason else self.seen

    def to_json(self) -> dict[str, Any]:
        """What `Report.to_json` has for it."""
        names = ("name", "verdict", "problem", "reason", "worst", "where", "seen", "kink", "optional")
        return {**{name: getattr(self, name) for name in names}, "rules": [asdict(rule) for rule in self.rules]}

    def __str__(self) -> str:
        seen = self.seen_if_checked and f"would have seen {self.seen}"
        parts = [self.said, self.worst, self.where and f"where: {self.where}", self.kink, seen]
        return f"{self.name}: {'; '.join(filter(None, parts))}"


@dataclass(frozen=True)
class Report:
    """The verdict of a check: `bool(report)` is True if everything is right, `print(report)` says what is not.

    Attributes:
        comparisons: one `Comparison` for each output and argument, and one for each further thing that was looked at.
        notes: how it was looked at, and what was not.
        rules: the custom rules in the function that a gradient goes through.
        not_reached: the custom rules in it that none goes through.
    """

    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    not_reached: tuple[Rule, ...] = ()

    @property
    def verdict(self) -> str:
        """ "wrong" if one comparison is; "right" if a gradient is and nothing is left open; else "not checked"."""
        verdicts = {c.verdict for c in self.comparisons if not c.optional}
        if WRONG in verdicts:
            return WRONG
        gradients = [c for c in self.comparisons if c.verdict == RIGHT and c.is_gradient]
        return RIGHT if gradients and NOT_CHECKED not in verdicts else NOT_CHECKED

    def __bool__(self) -> bool:
        return self.verdict == RIGHT

    @property
    def _remarks(self) -> tuple[str, ...]:
        """Which rules were reached, and the notes."""
        rules = [f"rules reached: {', '.join(map(str, self.rules))}"] if self.rules else []
        rules += [f"rules not reached: {', '.join(map(str, self.not_reached))}"] if self.not_reached else []
        return (*rules, *self.notes)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.comparisons), *(f"({note})" for note in self._remarks)])

    def __repr__(self) -> str:
        """One line with what is wrong: a failed assert in pytest shows no more."""
        if self.verdict == RIGHT:
            return f"right: {', '.join(c.name for c in self.comparisons if c.verdict == RIGHT)}"
        if self.verdict == NOT_CHECKED:
            return f"not checked {'; '.join(f'{c.name}: {c.reason}' for c in self.comparisons if c.reason)}"
        wrong = [f"{c.name}: {c.problem}, {c.where or c.worst}" for c in self.comparisons if c.problem]
        worst = next((f" ({c.worst})" for c in self.comparisons if c.problem and c.where and c.worst), "")
        return f"WRONG {'; '.join(wrong)}{worst}"

    def raise_if_wrong(self) -> None:
        """AssertionError with the report as its message, unless everything is right."""
        if not self:
            found = "found wrong gradients" if self.verdict == WRONG else "could not check the gradients"
            raise AssertionError(f"check.gradients {found}\n{self}")

    def table(self) -> Table:
        """The report as a table: a notebook shows it, with pictures of the errors, and `str` of it is Markdown."""
        columns = ("", "verdict", "where", "worst", "would have seen")
        rows = [
            (c.name, c.said, ", ".join(filter(None, (c.where, c.kink))), c.worst, c.seen_if_checked)
            for c in self.comparisons
        ]
        pictures = [picture(c.errors) if c.problem and c.errors is not None else "" for c in self.comparisons]
        return Table(columns, tuple(rows), self._remarks, tuple(pictures))

    def _repr_html_(self) -> str:
        """The table below the verdict, for a notebook."""
        verdict = "WRONG" if self.verdict == WRONG else self.verdict
        return f"<p><b>{verdict}</b></p>{self.table()._repr_html_()}"

    def to_json(self) -> dict[str, Any]:
        """The report as a dict for `json.dumps`: text, numbers, lists and dicts.

        Its keys are `verdict`, `comparisons`, `notes`, `rules` and `not_reached`. A comparison has the keys `name`,
        `verdict`, `rules`, and those attributes of a `Comparison` that are text, or None, or True or False; a rule has
        `name`, `file`, `line` and `kind`.
        """
        return {
            "verdict": self.verdict,
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "notes": list(self.notes),
            "rules": [asdict(rule) for rule in self.rules],
            "not_reached": [asdict(rule) for rule in self.not_reached],
        }

    def annotations(self) -> list[str]:
        """A line for each rule that a wrong comparison goes through, for the log of a workflow of GitHub.

        GitHub shows what is wrong beside the rule. Paths are relative to `GITHUB_WORKSPACE`, or else to the working
        directory.
        """
        found: dict[Rule | None, list[Comparison]] = {}
        for comparison in self.comparisons:
            if comparison.verdict == WRONG:
                for rule in comparison.rules or self.rules or (None,):
                    found.setdefault(rule, []).append(comparison)
        return [
            annotation("\n".join(map(str, wrong)), f"{rule.kind} of {rule.name} is wrong", rule.file, rule.line)
            if rule
            else annotation("\n".join(map(str, wrong)), "a gradient is wrong")
            for rule, wrong in found.items()
        ]
