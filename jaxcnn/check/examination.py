"""One rule at one point: in float64, in the dtype of the arguments, and at another point."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcnn.check import tolerance
from jaxcnn.check.arguments import Arguments
from jaxcnn.check.kinks import at_kinks
from jaxcnn.check.programs import Arrays, Program, compile_program, traced_alike
from jaxcnn.check.report import Comparison, Difference, difference

_OTHER = -1024
_KINK = "JAX takes another side"
Rule = Callable[[Program, Sequence[Any], Sequence[Any]], Arrays]  # to outputs and gradients


def as_it_is(program: Program, args: Sequence[Any], dy: Sequence[Any]) -> Arrays:
    """The rule of f."""
    return program(args, dy)[0]


class Examination:
    """The rule of f next to its reference.

    Three runs decide: in float64, where a wrong formula shows; in the dtype of the arguments, where low precision shows;
    and in float64 at another point with another cotangent, where it shows if a rule holds for the first only.
    """

    def __init__(
        self, arguments: Arguments, f: Callable[..., Any], reference: Callable[..., Any], rtol: float, seed: Any
    ) -> None:
        self.f, self.rtol = arguments.of(f), rtol
        on_reference = self.f if reference is f else arguments.of(reference)
        self.double = compile_program(self.f, on_reference, arguments.floats, double=True)
        self.dtypes = [jnp.result_type(a) for a in arguments.floats]
        self.own: Program | None = None
        if any(dtype != jnp.float64 for dtype in self.dtypes):
            self.own = compile_program(self.f, on_reference, arguments.floats, double=False)

        outputs = self.double.outputs
        self.first = len(outputs)  # of the gradients, behind the outputs
        self.batch = outputs[0].shape[0] if outputs[0].ndim else None
        named = ["output"] if self.first == 1 else [f"output {i}" for i in range(self.first)]
        self.names = [*named, *(f"gradient of {name}" for name in arguments.names)]

        dy = (self.own or self.double).random_dy(seed)
        self.base = arguments.floats, dy
        # Smaller entries of the same sign are within the domain of most functions.
        random = np.random.default_rng(1)
        wide = [np.asarray(a, np.float64) for a in arguments.floats]
        self.other = (
            [a * (1 - 0.1 * random.random(size=a.shape)) for a in wide],
            [_OTHER * np.asarray(d, np.float64) for d in dy],
        )
        self.expected = [self.double(*probe)[1] for probe in (self.base, self.other)]
        self.derived = self.own(*self.base)[1] if self.own else None

    def comparisons(self, rule: Rule = as_it_is) -> list[Comparison]:
        """One for each output and argument, and more where something else is wrong."""
        base, kinks = self._in_double(rule, *self.base, self.expected[0])
        own = self._in_own_dtype(rule, kinks)
        rows = [self._row(i, base[i], own[i], int(np.count_nonzero(kinks[i]))) for i in range(len(base))]
        if self.double.keeps_state:
            rows.append(Comparison("two calls", "what the rule gives for one depends on the other"))
        if any(row.problem for row in rows):
            return rows + self._repeated(rule, base)
        return self._elsewhere(rule, rows)

    def _in_double(
        self, rule: Rule, args: Sequence[Any], dy: Sequence[Any], expected: Arrays
    ) -> tuple[list[Difference], list[np.ndarray]]:
        """Row by row, in float64, and the entries that differ but are at a kink."""
        program, gradients = self.double, expected[self.first :]
        rounding = tolerance.rounding(program.eps, program.length, [*dy, *gradients])
        rows = [
            difference(g, e, tolerance.in_double(e, self.rtol, program.eps, rounding))
            for g, e in zip(rule(program, args, dy), expected, strict=True)
        ]
        kinks = [np.zeros(row.wrong.shape, bool) for row in rows]
        if not any(row.wrong.any() for row in rows[: self.first]):
            wrong = [row.wrong for row in rows[self.first :]]
            kinks[self.first :] = at_kinks(self._gradients(rule), args, dy, wrong, 1e-5, max(1e-6, 100 * program.eps))
        return [row.without(kink) for row, kink in zip(rows, kinks, strict=True)], kinks

    def _gradients(self, rule: Rule) -> Any:
        """(args, dy) -> the gradients of the rule and the expected ones, in float64."""

        def run(args: Sequence[Any], dy: Sequence[Any]) -> tuple[Arrays, Arrays]:
            return rule(self.double, args, dy)[self.first :], self.double(args, dy)[1][self.first :]

        return run

    def _in_own_dtype(self, rule: Rule, kinks: Sequence[np.ndarray]) -> list[Difference | None]:
        """Row by row, in the dtype of the arguments, where that is not float64."""
        if self.own is None or self.derived is None:
            return [None] * len(self.names)
        rows, sizes = [], [*self.base[1], *self.expected[0][self.first :]]
        for g, e, d in zip(rule(self.own, *self.base), self.expected[0], self.derived, strict=True):
            eps = max(float(jnp.finfo(d.dtype).eps), self.double.eps)
            tolerated = tolerance.in_own_dtype(e, d, eps, self.own.length, sizes)
            rows.append(difference(g, e, tolerated, also=d, dtype=d.dtype))
        return [row.without(kink) for row, kink in zip(rows, kinks, strict=True)]

    def _row(self, i: int, double: Difference, own: Difference | None, kinks: int) -> Comparison:
        """What both say about one output or argument."""
        row = double.comparison(self.names[i], self.batch)
        dtype = double.got_dtype
        if own is not None:
            dtype = own.got_dtype
            low = own.comparison(self.names[i], self.batch)
            seen = f"{row.seen}, in {own.dtype} {low.seen}"
            if row.problem is None and low.problem is not None:
                row = replace(low, problem=f"{low.problem} in {own.dtype}, right in float64")
            elif row.problem is not None and low.problem is None:
                row = replace(row, problem=f"{row.problem} in float64, right in {own.dtype}")
            row = replace(row, seen=seen)
        expected = self.dtypes[i - self.first] if i >= self.first else dtype
        if dtype != expected:
            also = f" and {row.problem}" if row.problem else ""
            row = replace(row, problem=f"dtype {dtype}, expected {expected}{also}")
        return replace(row, kink=f"at a kink in {kinks} entries: {_KINK}" if kinks else "")

    def _elsewhere(self, rule: Rule, rows: list[Comparison]) -> list[Comparison]:
        """The rows, wrong where the rule is right at the point that was given only, or for the first dy only."""
        args, dy = self.other
        wrong = [row.wrong.any() for row in self._in_double(rule, args, dy, self.expected[1])[0]]
        if not any(wrong):
            return rows
        why = []
        for probe, said in (
            ((self.base[0], dy), f"for {_OTHER} times the cotangent: not linear in the cotangent"),
            ((args, self.base[1]), "at other arguments: it depends on what it closes over"),
        ):
            differences, _ = self._in_double(rule, *probe, self.double(*probe)[1])
            if any(row.wrong.any() for row in differences):
                why.append((said, differences))
        said, differences = why[0] if why else ("elsewhere", self._in_double(rule, args, dy, self.expected[1])[0])
        for i, row in enumerate(differences):
            if row.wrong.any():
                elsewhere = row.comparison(self.names[i], self.batch)
                rows[i] = replace(elsewhere, problem=f"right here, but {elsewhere.problem} {said}")
        return rows

    def _repeated(self, rule: Rule, base: Sequence[Difference]) -> list[Comparison]:
        """What does not repeat itself: what was wrong may be right in the next run."""
        again, _ = self._in_double(rule, *self.base, self.expected[0])
        rows = [
            Comparison(name, "the results change from run to run")
            for name, a, b in zip(self.names, base, again, strict=True)
            if difference(a.got, b.got, a.tolerance).wrong.any()
        ]
        if not rows and not traced_alike(self.f, self.base[0]):
            rows.append(Comparison("every trace", "the function draws or reads something new each time it is traced"))
        return rows
