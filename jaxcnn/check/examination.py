"""One rule at one point: in float64, in the dtype of the arguments, and at another point."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcnn.check import tolerance
from jaxcnn.check.arguments import Arguments
from jaxcnn.check.kinks import at_kinks
from jaxcnn.check.programs import Arrays, Program, compile_program, generator, traced_alike
from jaxcnn.check.report import Comparison, Difference, difference
from jaxcnn.check.tolerance import OwnDtype

_OTHER = -1024


@dataclass(frozen=True)
class Run:
    """A program at a point: outputs and gradients as the rule gives them, and as JAX derives them."""

    program: Program
    args: Sequence[Any]
    dy: Sequence[Any]
    got: Arrays
    expected: Arrays
    kinks: Sequence[Any]  # for each of them which entries may differ


def _scrambled(a: np.ndarray, angle: float) -> np.ndarray:
    """Numbers from 0 to 1 that look random, the same for equal entries, so that what ties goes on to tie."""
    return np.modf(np.abs(np.nan_to_num(np.sin(angle * a))) * 1e4)[0]


class Examination:
    """The rule of f next to its reference.

    Three runs decide: in float64, where a wrong formula shows; in float64 at another point with another cotangent,
    where it shows if a rule holds for the first only; and in the dtype of the arguments, where low precision shows.
    """

    def __init__(
        self, arguments: Arguments, f: Callable[..., Any], reference: Callable[..., Any], rtol: float, seed: Any
    ) -> None:
        """f and the reference are functions of the floating-point arrays of the arguments."""
        self.f, self.rtol = f, rtol
        double = compile_program(arguments.caller, f, reference, arguments.floats, double=True)
        self.dtypes = [jnp.result_type(a) for a in arguments.floats]
        own: Program | None = None
        if any(dtype != jnp.float64 for dtype in self.dtypes):
            own = compile_program(arguments.caller, f, reference, arguments.floats, double=False)

        self.first = len(double.outputs)  # of the gradients, behind the outputs
        self.batch = double.outputs[0].shape[0] if double.outputs[0].ndim else None
        named = ["output"] if self.first == 1 else [f"output {i}" for i in range(self.first)]
        self.names = [*named, *(f"gradient of {name}" for name in arguments.names)]

        dy = (own or double).random_dy(seed)
        wide = [np.asarray(a, np.float64) for a in arguments.floats]
        # Smaller entries of the same sign are within the domain of most functions.
        random = generator("other arguments")
        other_args = [a * (1 - 0.1 * random.random(size=a.shape)) for a in wide]
        # Here and there it is zero, as of what a loss masks: a rule that divides by it shows.
        other_dy = [_OTHER * np.asarray(d, np.float64) * (random.random(size=d.shape) > 0.1) for d in dy]
        coarsest = max(float(jnp.finfo(dtype).eps) for dtype in self.dtypes)
        self.eps = max(double.eps, min(double.rule_eps, coarsest))  # a rule may use as little precision as it is given
        self.base = self.run(double, arguments.floats, dy)
        self.other = self.run(double, other_args, other_dy)
        self.own: Run | None = None
        if own:
            both = own(arguments.floats, dy)
            self.rounded = self._rounded(both[1])
            self.own = self.run(own, arguments.floats, dy, both)

    def _rounded(self, derived: Arrays) -> list[OwnDtype]:
        """What rounding does to each output and gradient."""
        angle, program = generator("rounding").uniform(1e4, 1e5), self.base.program

        def anew(arrays: Sequence[Any]) -> Arrays:
            eps = [float(jnp.finfo(jnp.result_type(a)).eps) for a in arrays]
            wide = [np.asarray(a, np.float64) for a in arrays]
            return [a * (1 + e * (2 * _scrambled(a, angle) - 1)) for a, e in zip(wide, eps, strict=True)]

        moved = program(anew(self.base.args), anew(self.base.dy))[1]
        rows = [
            OwnDtype.of(e, low, m, program.eps, program.length)
            for e, low, m in zip(self.base.expected, derived, moved, strict=True)
        ]
        # f may be another function in another dtype: random numbers, for one, are others.
        if not all(row.derived_is_right for row in rows[: self.first]):
            rows = [row.by_itself() for row in rows]
        return rows

    def run(
        self, program: Program, args: Sequence[Any], dy: Sequence[Any], results: tuple[Arrays, Arrays] | None = None
    ) -> Run:
        got, expected = results or program(args, dy)
        run = Run(program, args, dy, got, expected, [np.zeros(e.shape, bool) for e in expected])
        return replace(run, kinks=self._find_kinks(run))

    def comparisons(self) -> list[Comparison]:
        """One for each output and argument, and more where something else is wrong."""
        rows = [self._row(i) for i in range(len(self.names))]
        if self.base.program.keeps_state:
            rows.append(Comparison("two calls", "what the rule gives for one depends on the other"))
        if any(row.problem for row in rows):
            rows += self._not_repeated()
        return self._also_elsewhere(rows)

    def accepts(self, rule: Callable[[Run], Arrays]) -> bool:
        """Whether another rule, from a run to outputs and gradients, would be found right in place of that of f."""
        for run in filter(None, (self.base, self.own, self.other)):
            got = rule(run)
            if any(row.wrong.any() for row in self.differences(run, got)):
                return False
            if run is (self.own or self.base) and any(self._wrong_dtype(i, got) for i in range(len(got))):
                return False
        return True

    def differences(self, run: Run, got: Arrays) -> list[Difference]:
        """Row by row, but for the entries where the function has a kink."""
        rows, program = [], run.program
        sizes = [*run.dy, *(run if program.double else self.base).expected[self.first :]]
        if program.double:
            for g, e in zip(got, run.expected, strict=True):
                rows.append(difference(g, e, tolerance.in_double(e, self.rtol, self.eps, program.length, sizes)))
        else:
            for g, own in zip(got, self.rounded, strict=True):
                zero = tolerance.is_zero(own.expected, program.length, sizes)
                left = tolerance.rounding(own.eps, program.length, sizes) if zero else 0.0
                also = own.derived if own.derived_is_right else None
                rows.append(difference(g, own.expected, own.tolerance(left), also, dtype=own.dtype))
        return [row.without(kink) for row, kink in zip(rows, run.kinks, strict=True)]

    def _find_kinks(self, run: Run) -> Sequence[Any]:
        """Which wrong entries of each row are no errors, as the function has a kink there."""
        rows, first = self.differences(run, run.got), self.first
        wrong = [row.wrong for row in rows]
        if any(w.any() for w in wrong[:first]) or not any(w.any() for w in wrong):
            return run.kinks
        double = run.program if run.program.double else self.base.program

        def gradients(args: Sequence[Any], dy: Sequence[Any]) -> tuple[Arrays, Arrays]:
            got, expected = double(args, dy)
            return got[first:], expected[first:]

        dy = [np.abs(d) for d in run.dy]
        at_point = run.program(run.args, dy)[0][first:]
        eps = max(self.eps, *(float(jnp.finfo(row.dtype).eps) for row in rows))
        tolerated = [row.tolerance for row in rows[first:]]
        found = at_kinks(gradients, at_point, run.args, dy, wrong[first:], tolerated, max(1e-7, 4 * eps))
        return [*run.kinks[:first], *found]

    def _wrong_dtype(self, i: int, got: Arrays) -> str:
        """What is wrong with the dtype of a row, for the arguments in their own dtype: JAX does not look at it."""
        if i < self.first or got[i].dtype == self.dtypes[i - self.first]:
            return ""
        return f"dtype {got[i].dtype}, expected {self.dtypes[i - self.first]}"

    def _row(self, i: int) -> Comparison:
        """What the runs at the point say about one output or argument."""
        dtype = self.own.got[i].dtype if self.own else None
        row = self.differences(self.base, self.base.got)[i].comparison(self.names[i], self.batch, dtype)
        kinks = np.count_nonzero(self.base.kinks[i])
        if self.own is not None:
            own = self.differences(self.own, self.own.got)[i]
            low, dtype = own.comparison(self.names[i], self.batch), own.dtype
            kinks = max(kinks, np.count_nonzero(self.own.kinks[i]))
            seen = f"{row.seen}, in {dtype} {low.seen}" if row.seen else ""
            if row.problem is None and low.problem is not None:
                row = replace(low, problem=f"{low.problem} in {dtype}, right in float64")
            elif row.problem is not None and low.problem is None:
                row = replace(row, problem=f"{row.problem} in float64, right in {dtype}")
            row = replace(row, seen=seen)
        wrong_dtype = self._wrong_dtype(i, (self.own or self.base).got)
        if wrong_dtype:
            row = replace(row, problem=" and ".join(filter(None, (wrong_dtype, row.problem))))
        return replace(row, kink=f"{kinks} entries at a kink, where JAX takes another side" if kinks else "")

    def _also_elsewhere(self, rows: list[Comparison]) -> list[Comparison]:
        """The rows, wrong where the rule is right at the point that was given only, or for the first dy only."""
        here, apart = (self.differences(run, run.got) for run in (self.base, self.other))
        if not any(far.beyond() > 1e3 * near.beyond() for near, far in zip(here, apart, strict=True)):
            return rows
        why = "elsewhere"
        for run, said in (
            (self.run(self.base.program, self.base.args, self.other.dy), f"for {_OTHER} dy: it is not linear in dy"),
            (self.run(self.base.program, self.other.args, self.base.dy), "elsewhere: it may close over the arguments"),
        ):
            differences = self.differences(run, run.got)
            if any(far.beyond() > 1e3 * near.beyond() for near, far in zip(here, differences, strict=True)):
                why, apart = said, differences
                break
        for i, (near, far) in enumerate(zip(here, apart, strict=True)):
            if far.beyond() > 1e3 * near.beyond():
                comparison = far.comparison(self.names[i], self.batch)
                rows[i] = replace(comparison, problem=f"right here, but {comparison.problem} wrong {why}")
        return rows

    def _not_repeated(self) -> list[Comparison]:
        """What changes by itself: what was wrong may be right in the next run."""
        before, again = self.differences(self.base, self.base.got), self.base.program(self.base.args, self.base.dy)[0]
        rows = [
            Comparison(name, "the results change from run to run")
            for name, row, got, now in zip(self.names, before, self.base.got, again, strict=True)
            if difference(now, got, row.tolerance).wrong.any()
        ]
        if not rows and not traced_alike(self.f, self.base.args):
            rows.append(Comparison("each trace", "f draws or reads something new whenever it is traced"))
        return rows
