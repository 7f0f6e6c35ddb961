"""The runs in which a rule is compared: in float64, in the dtype of the arguments, and at another point."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcnn.check import tolerance
from jaxcnn.check.case import Case
from jaxcnn.check.difference import Difference, difference
from jaxcnn.check.kinks import entries_at_kinks, limits
from jaxcnn.check.points import Points, rounded_anew
from jaxcnn.check.programs import Arrays, Program, Run, compile_program
from jaxcnn.check.rounding import entry_errors
from jaxcnn.check.tolerance import BELOW_SINGLE, DOUBLE, SINGLE, RoundingEffect, eps_of_results, float64_tolerance
from jaxcnn.check.traces import Traces, evaluator

# To look for kinks each entry moves by up to a step, relative to the sum of itself and a usual entry. The step is
# _EPS_PER_STEP eps of the coarsest dtype that its gradient is computed in. Numbers that tie when they are rounded are
# up to 1 eps apart, so it is more than 1. The step is at least _SMALLEST_STEP, which the resolution of float64 bounds
# from below, and from above the change of a smooth gradient within a step: 1e-7 is 4e8 eps of float64.
_EPS_PER_STEP, _SMALLEST_STEP = 4, 1e-7
# A gradient that is moved into the domain, entry by entry a sum of others, is off by up to _TURNED times as much as the
# largest entry may be. The number is chosen, not measured.
_TURNED = 4
# A rule that is off by less than this share of itself and of a usual entry may be right where f is an approximation.
_SLIGHT = 1e-3


class Runs:
    """The rule of f next to its reference.

    Three runs decide. A wrong formula shows in float64. A rule that holds for the first point or the first cotangent
    only shows in float64 at another point with another cotangent. Low precision shows in the dtype of the arguments.

    Attributes:
        case: what is compared.
        traces: f, its rule and its reference.
        derives: whether there is a reference; else the rule in float64 stands for it.
        points, dy: where the rule is looked at, and the cotangent.
        double, own: the programs in float64, and in the dtypes of the arguments, if there is one.
        wide_expected: what is expected at the point in float64.
        dtypes, coarsest: of the arguments, and the eps of the coarsest of them.
        output_count: how many outputs f has. Every list of rows holds the outputs, and then the gradients.
        names: what each row is called.
        batch: the length of axis 0 of the first output, or None.
        double_run: in float64, at the point.
        elsewhere_run: in float64, at another point with another cotangent.
        own_run: in the dtypes of the arguments, at the point; None where it would be double_run.
        rounding: what rounding does to each row of own_run; there only where own_run is.
    """

    def __init__(self, case: Case, traces: Traces, names: Sequence[str] = (), derives: bool = True) -> None:
        """Compiles both programs, and looks at the runs; thoroughly, where something seems to be wrong."""
        self.case, self.traces, self.derives = case, traces, derives
        self.output_count = len(traces.outputs)
        self.batch = traces.outputs[0].shape[0] if traces.outputs[0].shape else None
        outputs = names or (["output"] if self.output_count == 1 else [f"output {i}" for i in range(self.output_count)])
        self.names = [*outputs, *(f"gradient of {name}" for name in case.arguments.names)]
        self.dtypes = [jnp.result_type(a) for a in case.floats]
        self.coarsest = max(float(jnp.finfo(dtype).eps) for dtype in self.dtypes)
        self.points = Points(case, traces.outputs)

        self.double = self._compiled_double()
        self.own: Program | None = None
        if self._has_own_run():
            self.own = compile_program(traces, wide=False, reference=derives, computed=False)
        self.dy, self.rounding = self.points.random_dy(), []
        self._own_got = self.own(case.floats, self.dy)[0] if self.own else []
        self._look()
        wrong = any(self._wrong(run) for run in (self.own_run, self.double_run))
        if self.own is not None and wrong and not self._has_wrong_formula():
            self._measure_rounding(thoroughly=True)
            self._look()
        if derives and self._is_slight():
            self._ask_for_second_opinion()

    def _compiled_double(self) -> Program:
        rule = self.case.formula or not self.derives
        return compile_program(self.traces, wide=True, rule=rule, reference=self.derives)

    def _look(self) -> None:
        """Sets the runs."""
        results = self.double(self.points.args, self.dy)
        self.wide_expected = results[1] or results[0]
        if self.own is not None and not self.rounding:
            self._measure_rounding()
        self.double_run = self.run(self.double, self.points.args, self.dy, results)
        self.elsewhere_run = self.run(self.double, self.points.other_args(), self.points.other_dy(self.dy))
        self.own_run: Run | None = None
        if self.own is not None:
            expected = self.double_run.expected
            self.rounding = [effect.completed(e) for effect, e in zip(self.rounding, expected, strict=True)]
            self.own_run = self.run(
                self.own, self.case.floats, self.dy, (self._own_got, expected), self.double_run.unknown
            )

    def _wrong(self, run: Run | None) -> bool:
        return run is not None and any(row.is_wrong for row in self.differences(run, run.got))

    def _has_wrong_formula(self) -> bool:
        """Whether a row that is computed in float64 is wrong by much: then no rounding is to blame."""
        rows = self.differences(self.double_run, self.double_run.got)
        eps = [max(pair) for pair in zip(self.double.eps, self.double.rule_eps, strict=True)]
        return any(e <= DOUBLE and row.relative_error > _SLIGHT for e, row in zip(eps, rows, strict=True))

    def _is_slight(self) -> bool:
        """Whether the rule is wrong in float64, by little."""
        runs = [run for run in (self.double_run, self.elsewhere_run) if self._wrong(run)]
        rows = [row for run in runs for row in self.differences(run, run.got)]
        return bool(runs) and all(row.relative_error <= _SLIGHT for row in rows)

    def _ask_for_second_opinion(self) -> None:
        """Takes the reference that is traced for float64 arrays, if the rule is right by it.

        A special function traced in float32 is an approximation that is good to float32. Its own derivative is not.
        """
        other, mine = self.traces.retraced_in_float64(), (self.traces, self.double, self.rounding)
        if other is None:
            return
        self.traces, self.rounding = other, []
        try:
            self.double = self._compiled_double()
            self._look()
        except Exception:
            convinced = False
        else:
            runs = self.double_run, self.elsewhere_run
            rows = [row for run in runs for row in enumerate(self.differences(run, run.got))]
            near = all(not row.is_wrong or self.is_below_single(i, row) for i, row in rows)
            convinced = near and not self._wrong(self.own_run)
        if not convinced:
            self.traces, self.double, self.rounding = mine
            self._look()

    def is_below_single(self, i: int, row: Difference) -> bool:
        """Whether a row in float64 is off by less than what arguments in float32, or coarser, show."""
        if self.coarsest < SINGLE or not self.rounding:
            return False
        effect = self.rounding[i]
        larger = tolerance.usual(row.expected) / (tolerance.usual(effect.expected) or 1.0)
        # A constant that is rounded to float32 moves a result as the rounding of an argument does.
        moves = tolerance.NARROW_ROUNDING * larger * effect.input_error if effect.eps <= SINGLE else 0.0
        return row.error_beyond(moves) <= BELOW_SINGLE

    def _has_own_run(self) -> bool:
        """Whether something is computed below float64."""
        eps = [e for closed in (self.traces.rule, self.traces.reference) for e in eps_of_results(closed.jaxpr)]
        return self.case.own and max([self.coarsest, *eps]) > DOUBLE

    def _measure_rounding(self, thoroughly: bool = False) -> None:
        """Sets what rounding does to each output and gradient.

        What JAX derives in the dtypes of the arguments, and how far the rounding of intermediate results moves it, is
        looked at only where the rule is not near the gradient in float64.
        """
        own, args, rows = self.own, self.case.floats, len(self._own_got)
        assert own is not None
        moved = self.double(self.points.inside(rounded_anew(args)), rounded_anew(self.dy, own.dy_dtypes))
        derived: list[Any] = [None] * rows
        errors: list[Any] = [0.0] * rows
        if thoroughly and self.derives:
            derived = compile_program(self.traces, wide=False, rule=False)(args, self.dy)[1]
            try:
                got = self.double_run.got if self.case.formula else self.wide_expected
                errors = entry_errors(self.traces, self.points, self.dy, own, self.wide_expected, got)
            except (TypeError, ValueError, NotImplementedError):  # an operation that cannot be evaluated with noise
                errors = [0.0] * rows
        elif thoroughly:
            outputs = evaluator(self.traces.reference)(*args)
            derived[: self.output_count] = map(np.asarray, outputs)
        terms = zip(self._own_got, self.wide_expected, derived, moved[1] or moved[0], own.eps, strict=True)
        effects = [RoundingEffect.measure(e, d, anew, g.dtype, eps, own.length) for g, e, d, anew, eps in terms]
        # What is rounded to an integer, or compared, on the way may differ in another dtype.
        if not all(effect.derived_is_right for effect in effects[: self.output_count]):
            effects = [effect.measured_by_derived() for effect in effects]
        self.rounding = [replace(effect, entry_error=e) for effect, e in zip(effects, errors, strict=True)]

    def run(
        self,
        program: Program,
        args: Sequence[Any],
        dy: Sequence[Any],
        results: tuple[Arrays, Arrays] | None = None,
        unknown: Sequence[Any] | None = None,
    ) -> Run:
        """A program at a point, with the entries that are at a kink, or have no expected number."""
        got, expected = results or program(args, dy)
        got, expected = got or expected, list(expected or got)
        nothing = [np.zeros(e.shape, bool) for e in expected]
        run = Run(program, args, dy, got, expected, nothing, unknown or nothing)
        if unknown is None:
            run = self._limits_filled_in(run)
        return replace(run, kinks=self._find_kinks(run))

    def _limits_filled_in(self, run: Run) -> Run:
        """The run with limits for expected numbers that are NaN, or infinite, and with what is unknown even so."""
        missing = [~np.isfinite(e) & (np.isnan(e) | (g != e)) for g, e in zip(run.got, run.expected, strict=True)]
        count = self.output_count
        if not any(m.any() for m in missing):
            return run
        expected, unknown = list(run.expected), list(missing)
        wanted = [m & ~np.isnan(g) for m, g in zip(missing, run.got, strict=True)][count:]
        if not any(m.any() for m in missing[:count]) and self.derives and any(w.any() for w in wanted):
            found, left = limits(self._wide_gradients, run.got[count:], run.args, run.dy, wanted, _SMALLEST_STEP)
            expected[count:] = found
            unknown[count:] = [m & (~w | u) for m, w, u in zip(missing[count:], wanted, left, strict=True)]
        return replace(run, expected=expected, unknown=unknown)

    def _wide_gradients(self, args: Sequence[Any], dy: Sequence[Any]) -> tuple[Arrays, Arrays]:
        """The gradients of the rule and the derived ones in float64, at a point that is moved into the domain."""
        got, expected = self.double(self.points.inside(args), dy)
        return (got or expected)[self.output_count :], (expected or got)[self.output_count :]

    def _find_kinks(self, run: Run) -> Sequence[Any]:
        """Which wrong entries of each row are no errors, as the function has a kink there."""
        rows, count = self.differences(run, run.got), self.output_count
        wrong = [row.wrong for row in rows]
        if any(w.any() for w in wrong[:count]) or not any(w.any() for w in wrong):
            return run.kinks
        if any(g.shape != w.shape for g, w in zip(run.got, wrong, strict=True)):
            return run.kinks
        dy = [np.abs(np.asarray(d)) for d in run.dy]
        claimed = (run.program(run.args, dy)[0] or self.double(run.args, dy)[1])[count:]
        eps = list(self.double.eps[count:])
        if run.program is not self.double:
            own = [float(jnp.finfo(dtype).eps) for dtype in self.dtypes]
            eps = [max(triple) for triple in zip(eps, own, run.program.eps[count:], strict=True)]
        steps = [max(_SMALLEST_STEP, _EPS_PER_STEP * e) for e in eps]
        tolerated = [row.tolerance for row in rows[count:]]
        found = entries_at_kinks(self._wide_gradients, claimed, run.args, dy, wrong[count:], tolerated, steps)
        return [*run.kinks[:count], *found]

    def differences(self, run: Run, got: Arrays) -> list[Difference]:
        """Row by row, what is got next to what is expected; entries at a kink, or unknown, are not wrong."""
        rows = [self._difference(run, i, got[i], run.expected[i]) for i in range(len(got))]
        rows = [row.excused(k | u) for row, k, u in zip(rows, run.kinks, run.unknown, strict=True)]
        if any(row.is_wrong for row in rows[self.output_count :]):
            rows = self._compared_along_domain(run, got, rows)
        return rows

    def _difference(self, run: Run, i: int, got: np.ndarray, expected: np.ndarray) -> Difference:
        length, sizes = run.program.length, [*run.dy, *self.wide_expected[self.output_count :]]
        rtol = self.case.rtol
        if run.program.wide:
            eps = max(run.program.eps[i], min(run.program.rule_eps[i], self.coarsest))
            allowed = float64_tolerance(expected, rtol, eps, length, sizes)
            if eps > DOUBLE and self.rounding:
                effect = self.rounding[i]
                larger = tolerance.usual(expected) / (tolerance.usual(effect.expected) or 1.0)
                moves = effect.input_error + effect.entry_error
                allowed = allowed + tolerance.NARROW_ROUNDING * larger * moves
            return difference(got, expected, allowed, floor=max(rtol, eps if eps > DOUBLE else 0.0))
        effect = self.rounding[i]
        zero = tolerance.is_zero(self.wide_expected[i], length, sizes)
        left = tolerance.rounding(effect.eps, length, sizes) if zero else 0.0
        allowed = effect.tolerance(left) + rtol * (np.abs(effect.expected) + tolerance.usual(effect.expected))
        also = effect.derived if effect.derived_is_right else None
        floor = max(rtol, effect.factor_error)
        return difference(got, effect.expected, allowed, also, dtype=effect.dtype, floor=floor)

    def _compared_along_domain(self, run: Run, got: Arrays, rows: list[Difference]) -> list[Difference]:
        """The rows with gradients compared within the domain, where that is possible."""
        count = self.output_count
        pulled, expected = (self.points.pulled_back(run.args, g[count:]) for g in (got, run.expected))
        if pulled is None or expected is None:
            return rows
        compared: list[Difference] = []
        for row, g, e in zip(rows[count:], pulled, expected, strict=True):
            allowed = _TURNED * np.max(row.tolerance, initial=0.0)
            along = difference(g, e, allowed, dtype=row.dtype, floor=row.floor)
            compared.append(along if np.any(e) else row)
        return [*rows[:count], *compared]

    def accepts(self, rule: Callable[[Run], Arrays]) -> bool:
        """Whether another rule, from a run to outputs and gradients, would be found right in place of that of f."""
        for run in filter(None, (self.double_run, self.own_run, self.elsewhere_run)):
            got = rule(run)
            if any(row.is_wrong for row in self.differences(run, got)):
                return False
            if run is (self.own_run or self.double_run) and any(
                g.dtype != like.dtype for g, like in zip(got, run.got, strict=True)
            ):
                return False
        return True
