"""One rule at one point: in float64, in the dtype of the arguments, and at another point."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcnn.check import tolerance
from jaxcnn.check.arguments import Arguments
from jaxcnn.check.kinks import entries_at_kinks
from jaxcnn.check.programs import Arrays, Program, compile_program, generator, traced_alike
from jaxcnn.check.report import Comparison, Difference, difference
from jaxcnn.check.tolerance import RoundingEffect

# At the other point each entry is smaller by up to this share, and has the same sign: most functions are defined there.
SHRINKING = 0.1
# The other dy is the first one times this: a rule that is not linear in dy, as by clipping at 10, shows.
OTHER_DY = -1024
# The share of the other dy that is zero, as the dy of what a loss masks: a rule that divides by dy shows.
_ZEROS_IN_DY = 0.1
# Both points have a largest error, in tolerances; that of a right row counts as 1. _WORSE_ELSEWHERE bounds how many
# times larger than the error at the first point the error at the other point is, if both have one cause. If it is
# larger still, the rule has another fault at the other point. The number bounds the smallest fault that shows at the
# other point only: with 1e3 that is an error of 1e-7 of an entry, at the default tolerance.
_WORSE_ELSEWHERE = 1e3
# To look for kinks each entry moves by up to a step, relative to the sum of itself and a usual entry. The step is
# _EPS_PER_STEP eps of the coarsest dtype that the gradients are computed in. Numbers that tie when they are rounded are
# up to 1 eps apart, so it is more than 1. The step is at least _SMALLEST_STEP, which the resolution of float64 bounds
# from below, and from above the change of a smooth gradient within a step: 1e-7 is 4e8 eps of float64.
_EPS_PER_STEP, _SMALLEST_STEP = 4, 1e-7
# To round an array anew each entry gets a number from its value. The sine of the angle times the entry, times this,
# modulo 1, has lost all likeness to the entry.
_SCRAMBLING = 1e4


@dataclass(frozen=True)
class Run:
    """A program at a point: outputs and gradients as the rule gives them, and as JAX derives them."""

    program: Program
    args: Sequence[Any]
    dy: Sequence[Any]
    got: Arrays
    expected: Arrays
    kinks: Sequence[Any]  # for each output and gradient, which entries may differ as the function has a kink there


def _scrambled(a: np.ndarray, angle: float) -> np.ndarray:
    """Numbers from 0 to 1 that look random. Equal entries get equal numbers, so that what ties goes on to tie."""
    return np.modf(np.abs(np.nan_to_num(np.sin(angle * a))) * _SCRAMBLING)[0]


class Examination:
    """The rule of f next to its reference.

    Three runs decide. A wrong formula shows in float64. A rule that holds for the first point or the first cotangent
    only shows in float64 at another point with another cotangent. Low precision shows in the dtype of the arguments.

    Attributes:
        f: the function, of the floating-point arrays among the arguments.
        rtol: the relative tolerance in float64.
        dtypes: those of the arguments.
        output_count: how many outputs f has. Every list of rows holds the outputs, and then the gradients.
        names: what each row is called.
        batch: the length of axis 0 of the first output, or None.
        eps: of the lowest precision that a right rule may compute in, in a run in float64.
        double_run: in float64, at the point.
        elsewhere_run: in float64, at another point with another cotangent.
        narrow_run: in the dtypes of the arguments, at the point; None where all of them are float64.
        rounding: what rounding does to each row of narrow_run; there only where narrow_run is.
    """

    def __init__(
        self, arguments: Arguments, f: Callable[..., Any], reference: Callable[..., Any], rtol: float, seed: Any
    ) -> None:
        """f and the reference are functions of the floating-point arrays of the arguments."""
        self.f, self.rtol = f, rtol
        double = compile_program(arguments.caller, f, reference, arguments.floats, double=True)
        self.dtypes = [jnp.result_type(a) for a in arguments.floats]
        narrow: Program | None = None
        if any(dtype != jnp.float64 for dtype in self.dtypes):
            narrow = compile_program(arguments.caller, f, reference, arguments.floats, double=False)

        self.output_count = len(double.outputs)
        self.batch = double.outputs[0].shape[0] if double.outputs[0].ndim else None
        outputs = ["output"] if self.output_count == 1 else [f"output {i}" for i in range(self.output_count)]
        self.names = [*outputs, *(f"gradient of {name}" for name in arguments.names)]

        dy = (narrow or double).random_dy(seed)
        coarsest = max(float(jnp.finfo(dtype).eps) for dtype in self.dtypes)
        self.eps = max(double.eps, min(double.rule_eps, coarsest))  # a rule may use as little precision as it is given
        self.double_run = self._run(double, arguments.floats, dy)
        self.elsewhere_run = self._run(double, *_second_point(arguments.floats, dy))
        self.narrow_run: Run | None = None
        if narrow:
            results = narrow(arguments.floats, dy)
            self.rounding = self._measure_rounding(results[1])
            self.narrow_run = self._run(narrow, arguments.floats, dy, results)

    def _measure_rounding(self, derived: Arrays) -> list[RoundingEffect]:
        """What rounding does to each output and gradient; `derived` are those of JAX in the dtype of the arguments."""
        angle, run = generator("rounding").uniform(1e4, 1e5), self.double_run

        def rounded_anew(arrays: Sequence[Any]) -> Arrays:
            eps = [float(jnp.finfo(jnp.result_type(a)).eps) for a in arrays]
            wide = [np.asarray(a, np.float64) for a in arrays]
            return [a * (1 + e * (2 * _scrambled(a, angle) - 1)) for a, e in zip(wide, eps, strict=True)]

        results = run.program(rounded_anew(run.args), rounded_anew(run.dy))[1]
        effects = [
            RoundingEffect.measure(e, low, anew, run.program.eps, run.program.length)
            for e, low, anew in zip(run.expected, derived, results, strict=True)
        ]
        # f may be another function in another dtype: random numbers, for one, are others.
        if not all(effect.derived_is_right for effect in effects[: self.output_count]):
            effects = [effect.measured_by_derived() for effect in effects]
        return effects

    def _run(
        self, program: Program, args: Sequence[Any], dy: Sequence[Any], results: tuple[Arrays, Arrays] | None = None
    ) -> Run:
        got, expected = results or program(args, dy)
        run = Run(program, args, dy, got, expected, [np.zeros(e.shape, bool) for e in expected])
        return replace(run, kinks=self._find_kinks(run))

    def comparisons(self) -> list[Comparison]:
        """One for each output and argument, and more where something else is wrong."""
        rows = [self._row(i) for i in range(len(self.names))]
        if self.double_run.program.keeps_state:
            rows.append(Comparison("two calls", "what the rule gives for one depends on the other"))
        if any(row.problem for row in rows):
            rows += self._not_repeated()
        return self._corrected_elsewhere(rows)

    def accepts(self, rule: Callable[[Run], Arrays]) -> bool:
        """Whether another rule, from a run to outputs and gradients, would be found right in place of that of f."""
        for run in filter(None, (self.double_run, self.narrow_run, self.elsewhere_run)):
            got = rule(run)
            if any(row.wrong.any() for row in self.differences(run, got)):
                return False
            if run is (self.narrow_run or self.double_run) and any(self._wrong_dtype(i, got) for i in range(len(got))):
                return False
        return True

    def sizes(self, run: Run) -> list[Any]:
        """The arrays whose largest number says what rounding leaves of a sum: dy and the gradients in float64."""
        return [*run.dy, *(run if run.program.double else self.double_run).expected[self.output_count :]]

    def differences(self, run: Run, got: Arrays) -> list[Difference]:
        """Row by row, what is got next to what is expected; entries at a kink are not wrong."""
        rows, length, sizes = [], run.program.length, self.sizes(run)
        if run.program.double:
            for g, e in zip(got, run.expected, strict=True):
                rows.append(difference(g, e, tolerance.float64_tolerance(e, self.rtol, self.eps, length, sizes)))
        else:
            for g, effect in zip(got, self.rounding, strict=True):
                zero = tolerance.is_zero(effect.expected, length, sizes)
                left = tolerance.rounding(effect.eps, length, sizes) if zero else 0.0
                also = effect.derived if effect.derived_is_right else None
                rows.append(difference(g, effect.expected, effect.tolerance(left), also, dtype=effect.dtype))
        return [row.excused(kink) for row, kink in zip(rows, run.kinks, strict=True)]

    def _find_kinks(self, run: Run) -> Sequence[Any]:
        """Which wrong entries of each row are no errors, as the function has a kink there."""
        rows, count = self.differences(run, run.got), self.output_count
        wrong = [row.wrong for row in rows]
        if any(w.any() for w in wrong[:count]) or not any(w.any() for w in wrong):
            return run.kinks
        double = run.program if run.program.double else self.double_run.program

        def gradients(args: Sequence[Any], dy: Sequence[Any]) -> tuple[Arrays, Arrays]:
            got, expected = double(args, dy)
            return got[count:], expected[count:]

        dy = [np.abs(d) for d in run.dy]
        claimed = run.program(run.args, dy)[0][count:]
        eps = max(self.eps, *(float(jnp.finfo(row.dtype).eps) for row in rows))
        step = max(_SMALLEST_STEP, _EPS_PER_STEP * eps)
        tolerated = [row.tolerance for row in rows[count:]]
        found = entries_at_kinks(gradients, claimed, run.args, dy, wrong[count:], tolerated, step)
        return [*run.kinks[:count], *found]

    def _wrong_dtype(self, i: int, got: Arrays) -> str:
        """What is wrong with the dtype of a row, for the arguments in their own dtype: JAX does not look at it."""
        if i < self.output_count or got[i].dtype == self.dtypes[i - self.output_count]:
            return ""
        return f"dtype {got[i].dtype}, expected {self.dtypes[i - self.output_count]}"

    def _row(self, i: int) -> Comparison:
        """What the runs at the point say about one output or argument."""
        double, narrow = self.double_run, self.narrow_run
        dtype = narrow.got[i].dtype if narrow else None
        row = self.differences(double, double.got)[i].comparison(self.names[i], self.batch, dtype)
        kinks = np.count_nonzero(double.kinks[i])
        if narrow is not None:
            low = self.differences(narrow, narrow.got)[i]
            row = _joined(row, low.comparison(self.names[i], self.batch), low.dtype)
            kinks = max(kinks, np.count_nonzero(narrow.kinks[i]))
        wrong_dtype = self._wrong_dtype(i, (narrow or double).got)
        if wrong_dtype:
            row = replace(row, problem=" and ".join(filter(None, (wrong_dtype, row.problem))))
        return replace(row, kink=f"{kinks} entries at a kink, where JAX takes another side" if kinks else "")

    def _corrected_elsewhere(self, rows: list[Comparison]) -> list[Comparison]:
        """The rows, with those made wrong in which the rule is right for the first point, or the first dy, only."""
        here = self.differences(self.double_run, self.double_run.got)
        elsewhere = self.differences(self.elsewhere_run, self.elsewhere_run.got)
        if not any(map(_is_worse, elsewhere, here)):
            return rows
        elsewhere, why = self._cause_elsewhere(here, elsewhere)
        corrected = list(rows)
        for i, (far, near) in enumerate(zip(elsewhere, here, strict=True)):
            if _is_worse(far, near):
                comparison = far.comparison(self.names[i], self.batch)
                corrected[i] = replace(comparison, problem=f"right here, but {comparison.problem} wrong {why}")
        return corrected

    def _cause_elsewhere(self, here: list[Difference], elsewhere: list[Difference]) -> tuple[list[Difference], str]:
        """Which of the two, the other dy or the other point, makes the rule wrong; the differences, and in words."""
        double, other = self.double_run, self.elsewhere_run
        for args, dy, why in (
            (double.args, other.dy, f"for {OTHER_DY} dy: it is not linear in dy"),
            (other.args, double.dy, "elsewhere: it may close over the arguments"),
        ):
            run = self._run(double.program, args, dy)
            differences = self.differences(run, run.got)
            if any(map(_is_worse, differences, here)):
                return differences, why
        return elsewhere, "elsewhere"

    def _not_repeated(self) -> list[Comparison]:
        """What changes by itself: a result that was wrong may be right in the next run."""
        run = self.double_run
        first, again = self.differences(run, run.got), run.program(run.args, run.dy)[0]
        rows = [
            Comparison(name, "the results change from run to run")
            for name, row, got, now in zip(self.names, first, run.got, again, strict=True)
            if difference(now, got, row.tolerance).wrong.any()
        ]
        if not rows and not traced_alike(self.f, run.args):
            rows.append(Comparison("each trace", "f draws or reads something new whenever it is traced"))
        return rows


def _second_point(args: Sequence[Any], dy: Sequence[Any]) -> tuple[Arrays, Arrays]:
    """Smaller arguments of the same sign, and a dy of another size and sign that is zero here and there."""
    random = generator("other arguments")
    wide = [np.asarray(a, np.float64) for a in args]
    second_args = [a * (1 - SHRINKING * random.random(size=a.shape)) for a in wide]
    kept = [random.random(size=d.shape) > _ZEROS_IN_DY for d in dy]
    return second_args, [OTHER_DY * np.asarray(d, np.float64) * k for d, k in zip(dy, kept, strict=True)]


def _joined(row: Comparison, low: Comparison, dtype: Any) -> Comparison:
    """A row in float64 with what the same row says in the dtype of the arguments."""
    seen = f"{row.seen}, in {dtype} {low.seen}" if row.seen else ""
    if row.problem is None and low.problem is not None:
        row = replace(low, problem=f"{low.problem} in {dtype}, right in float64")
    elif row.problem is not None and low.problem is None:
        row = replace(row, problem=f"{row.problem} in float64, right in {dtype}")
    return replace(row, seen=seen)


def _is_worse(far: Difference, near: Difference) -> bool:
    """Whether a row is so much worse than another that what is wrong in it is a fault of its own."""
    return far.largest_excess() > _WORSE_ELSEWHERE * near.largest_excess()
