"""What the runs of a rule say, output by output and argument by argument."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from jaxcnn.check import tolerance
from jaxcnn.check.case import Case
from jaxcnn.check.difference import Difference, difference
from jaxcnn.check.points import OTHER_DY, SHRINKING
from jaxcnn.check.programs import compile_program
from jaxcnn.check.report import Comparison
from jaxcnn.check.rules import Rule, equations_with_rules, rules_between, rules_in_branches, taken_at
from jaxcnn.check.runs import Runs
from jaxcnn.check.tolerance import usual
from jaxcnn.check.traces import Traces, traced_alike
from jaxcnn.check.wording import share

# Both points have a largest error, in tolerances; that of a right row counts as 1. _WORSE_ELSEWHERE bounds how many
# times larger than the error at the first point the error at the other point is, if both have one cause. If it is
# larger still, the rule has another fault at the other point. The number bounds the smallest fault that shows at the
# other point only: with 1e3 that is an error of 1e-7 of an entry, at the default tolerance.
_WORSE_ELSEWHERE = 1e3
# A row is not checked if an error of this share of a usual entry would not have been seen.
LARGEST_SEEN = 1 / 3
_NO_RULE = "no custom rule is on its way"
ZERO = "it is zero, but for rounding: a wrong factor would not show"
_ASSUMES = "it may close over the arguments, or does the function assume something of them?"


class Examination(Runs):
    """The rule of f next to its reference, in words."""

    @cached_property
    def rules(self) -> list[tuple[Rule, ...]]:
        """The rules that each output and gradient goes through."""
        jaxpr, floats, count = self.traces.function.jaxpr, self.case.floats, self.output_count
        taken = taken_at(self.traces.function, floats)

        def between(inputs: Sequence[bool], outputs: Sequence[bool]) -> tuple[Rule, ...]:
            return tuple(sorted(rules_between(jaxpr, inputs, outputs, taken)))

        floating = [between([k == i for k in range(len(floats))], self._kept) for i in range(len(floats))]
        uncertain = set(rules_in_branches(jaxpr, taken))
        if uncertain.intersection(rule for rules in floating for rule in rules):
            reached = self._rows_through_rules()
            floating = [rules if r else () for rules, r in zip(floating, reached, strict=True)]
        of_outputs = [between([True] * len(floats), [k == i for k in range(count)]) for i in range(count)]
        return [*of_outputs, *floating]

    @property
    def _kept(self) -> list[bool]:
        """Which outputs have a cotangent that counts."""
        return [k not in self.case.ignores for k in range(self.output_count)]

    def _rows_through_rules(self) -> list[bool]:
        """Which gradients change if none goes through a rule: so it is seen whether a branch is taken in a loop."""
        run, stopped = self.double_run, self.traces.stopped()
        without = compile_program(stopped, wide=True, rule=False)(run.args, run.dy)[1][self.output_count :]
        here = run.expected[self.output_count :]
        return [bool(difference(w, e, 1e-9 * usual(e)).wrong.any()) for w, e in zip(without, here, strict=True)]

    def rules_reached(self) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
        """The rules that some gradient goes through, and the others in f."""
        reached = {rule for rules in self.rules for rule in rules}
        others = {rule for rule, _ in equations_with_rules(self.traces.function.jaxpr)} - reached
        return tuple(sorted(reached)), tuple(sorted(others))

    def comparisons(self) -> list[Comparison]:
        """One for each output and argument, and more where something else is wrong."""
        rows = [self._row(i) for i in range(len(self.names))]
        if self.traces.keeps_state:
            rows.append(Comparison("two calls", "what the rule gives for one depends on the other"))
        if any(row.problem for row in rows):
            rows += self._not_repeated()
        return self._corrected_elsewhere(rows)

    @cached_property
    def _here(self) -> list[Difference]:
        return self.differences(self.double_run, self.double_run.got)

    @cached_property
    def _own(self) -> list[Difference]:
        return self.differences(self.own_run, self.own_run.got) if self.own_run else []

    def _row(self, i: int) -> Comparison:
        """What the runs at the point say about one output or argument."""
        double, own = self.double_run, self.own_run
        dtype = own.got[i].dtype if own else None
        row = self._here[i].comparison(self.names[i], self.batch, dtype)
        kinks, unknown, seen = np.count_nonzero(double.kinks[i]), double.unknown[i], self._here[i].seen
        if own is not None:
            low = self._own[i]
            row = _joined(row, low.comparison(self.names[i], self.batch), low.dtype, formula=self._has_formula)
            kinks = max(kinks, np.count_nonzero(own.kinks[i]))
            seen = min(seen, low.seen) if self._has_formula else low.seen
        wrong_dtype = self._wrong_dtype(i)
        if wrong_dtype:
            row = replace(row, problem=" and ".join(filter(None, (wrong_dtype, row.problem))))
        if row.problem and i >= self.output_count and self.output_count > 1:
            row = replace(row, where=", ".join(filter(None, (row.where, self._blamed_outputs(i)))))
        slight = self._slight(self._here[i], i)
        if slight and row.problem:
            row = replace(row, problem=None, where="", worst="")
        said = [f"{kinks} entries at a kink, where JAX takes another side" if kinks else "", self._left_out(i), slight]
        reason, optional = self._reason(i, seen) if not row.reason else (row.reason, row.optional)
        if reason and row.problem is None:
            row = replace(row, reason=reason, optional=optional, worst="" if unknown.all() else row.worst)
        return replace(row, kink=", ".join(filter(None, said)), rules=self.rules[i], is_gradient=i >= self.output_count)

    def _slight(self, row: Difference, i: int) -> str:
        """In words, by how little a row is wrong in float64 that is right in a lower precision; empty if not so."""
        if not (self.own_run and self._has_formula) or self._own[i].is_wrong or self._wrong_dtype(i):
            return ""
        if not row.is_wrong or not self.is_below_single(i, row):
            return ""
        return f"off by up to {row.relative_error:.0e} of an entry, less than float32 shows"

    @property
    def _has_formula(self) -> bool:
        return self.case.formula and self.derives

    def _wrong_dtype(self, i: int) -> str:
        """What is wrong with the dtype of a gradient: JAX does not look at it."""
        if i < self.output_count:
            return ""
        got, expected = self.traces.rule.out_avals[i].dtype, self.dtypes[i - self.output_count]
        return "" if got == expected else f"dtype {got}, expected {expected}"

    def _left_out(self, i: int) -> str:
        """How many entries were not compared; empty if all or none."""
        unknown = self.double_run.unknown[i]
        if not unknown.any() or unknown.all():
            return ""
        whose = "f is" if i < self.output_count else "the gradient that JAX derives is"
        return f"{np.count_nonzero(unknown)} of {unknown.size} entries not compared, as {whose} not finite there"

    def _reason(self, i: int, seen: float) -> tuple[str, bool]:
        """Why a row was not checked, and whether there is nothing to check in it; empty if it was."""
        unknown, expected = self.double_run.unknown[i], self.double_run.expected[i]
        is_output = i < self.output_count
        if unknown.size and (unknown | (is_output & ~np.isfinite(expected))).all():
            whose = "f is" if is_output else "the gradient that JAX derives is"
            return f"{whose} not finite in any entry{'' if is_output else '; give reference='}", False
        if not self.rules[i] and self.case.reference is None and self.case.claims is None:
            return _NO_RULE, True
        if not is_output and i - self.output_count not in self.case.zero and self._is_zero(i):
            return ZERO, True
        if np.isfinite(seen) and seen > LARGEST_SEEN:
            return f"an error of {share(seen)} of a usual entry would not have been seen", is_output
        return "", False

    def _is_zero(self, i: int) -> bool:
        """Whether a gradient holds nothing but what rounding leaves, by the rule as well."""
        run = self.double_run
        sizes = [*run.dy, *run.expected[self.output_count :]]
        return all(tolerance.is_zero(a, run.program.length, sizes) for a in (run.expected[i], run.got[i]))

    def _blamed_outputs(self, i: int) -> str:
        """What the gradient is for the cotangent of each output by itself."""
        words, run = [], self.double_run
        for k in range(self.output_count):
            dy = [np.asarray(d) if j == k else np.zeros_like(d) for j, d in enumerate(run.dy)]
            got, expected = run.program(run.args, dy)
            if not got or not expected:
                return ""
            alone = self._difference(run, i, got[i], expected[i])
            if k in self.case.ignores:
                continue
            if not alone.is_wrong:
                words.append(f"right for {self.names[k]}")
            else:
                ignored = not np.any(got[i]) and np.any(expected[i])
                words.append(f"{'ignores the cotangent of' if ignored else 'wrong for'} {self.names[k]}")
        return ", ".join(words) if len({word.split()[0] for word in words}) > 1 else ""

    def _corrected_elsewhere(self, rows: list[Comparison]) -> list[Comparison]:
        """The rows, with those made wrong in which the rule is right for the first point, or the first dy, only."""
        here = self._here
        elsewhere = self.differences(self.elsewhere_run, self.elsewhere_run.got)
        if not any(self._is_worse(i, far, near) for i, (far, near) in enumerate(zip(elsewhere, here, strict=True))):
            return rows
        elsewhere, why = self._cause_elsewhere(here, elsewhere)
        corrected = list(rows)
        for i, (far, near) in enumerate(zip(elsewhere, here, strict=True)):
            if self._is_worse(i, far, near):
                comparison = far.comparison(self.names[i], self.batch)
                problem = f"right at your arguments, but {comparison.problem} wrong {why}"
                corrected[i] = replace(comparison, problem=problem, rules=self.rules[i])
        return corrected

    def _is_worse(self, i: int, far: Difference, near: Difference) -> bool:
        """Whether a row is so much worse than another that what is wrong in it is a fault of its own."""
        return far.largest_excess() > _WORSE_ELSEWHERE * near.largest_excess() and not self._slight(far, i)

    def _cause_elsewhere(self, here: list[Difference], elsewhere: list[Difference]) -> tuple[list[Difference], str]:
        """Which of the two, the other dy or the other point, makes the rule wrong; the differences, and in words."""
        double, other = self.double_run, self.elsewhere_run
        point = f"where entries are up to {SHRINKING:.0%} smaller" if self.case.elsewhere is None else "elsewhere"
        hint = "" if self.case.domain or self.case.elsewhere is not None else " (then give domain= or elsewhere=)"
        for args, dy, why in (
            (double.args, other.dy, f"for {OTHER_DY} dy: it is not linear in dy"),
            (other.args, double.dy, f"at a point {point}: {_ASSUMES}{hint}"),
        ):
            run = self.run(double.program, args, dy)
            differences = self.differences(run, run.got)
            if any(self._is_worse(i, far, near) for i, (far, near) in enumerate(zip(differences, here, strict=True))):
                return differences, why
        return elsewhere, "elsewhere"

    def _not_repeated(self) -> list[Comparison]:
        """What changes by itself: a result that was wrong may be right in the next run."""
        run = self.double_run
        again = run.program(run.args, run.dy)[0] or run.got
        rows = [
            Comparison(name, "the results change from run to run")
            for name, row, got, now in zip(self.names, self._here, run.got, again, strict=True)
            if got.shape == row.expected.shape and difference(now, got, row.tolerance).wrong.any()
        ]
        if not rows and not traced_alike(self.case.f, self.case.floats):
            rows.append(Comparison("each trace", "f draws or reads something new whenever it is traced"))
        return rows


def examined(case: Case, names: Sequence[str] = ()) -> Examination:
    """The rule of a case next to its reference."""
    return Examination(case, Traces(case), names)


def _joined(row: Comparison, low: Comparison, dtype: Any, formula: bool) -> Comparison:
    """A row in float64 with what the same row says in the dtype of the arguments."""
    if not formula:
        return replace(low, seen=low.seen and f"{low.seen} in {dtype}")
    seen = f"{row.seen}, in {dtype} {low.seen}" if row.seen else ""
    if row.problem is None and low.problem is not None:
        row = replace(low, problem=f"{low.problem} in {dtype}, right in float64")
    elif row.problem is not None and low.problem is None:
        row = replace(row, problem=f"{row.problem} in float64, right in {dtype}")
    return replace(row, seen=seen)
