"""Slopes of a function along random directions, by differences, beside those that its rule claims."""

import math
from collections.abc import Sequence
from copy import copy
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.check.points import Points, wide_arrays
from jaxcnn.check.programs import compile_program
from jaxcnn.check.tolerance import BELOW_SINGLE, DOUBLE, SINGLE, eps_of_results, longest_sum, usual
from jaxcnn.check.traces import Traces, evaluator, float64_on_cpu, generator
from jaxcnn.check.widening import widened

# The steps of differences, relative to a usual entry: the one that fits the curvature and the rounding of f is chosen.
STEPS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
# _NOISE bounds how far rounding puts ⟨dy, f⟩ off, in units of eps √n times the root of the sum of its squared terms. n
# is the length of the longest sum in f. The largest seen is 3.2, in a sum of 65,536 (experiments/tolerances.py).
_NOISE = 8
# The noise of values in a low precision is measured by their differences along a line, as J. J. Moré and S. M. Wild do
# (Estimating Computational Noise, SIAM J. Sci. Comput. 33, 2011): by _LINE_VALUES values, steps of _LINE of a usual
# entry apart. It counts as _SIGMAS standard deviations. The best step is larger there.
_LINE, _LINE_VALUES, _SIGMAS = 1e-3, 9, 4
_LARGE_STEPS = (1e-1, 3e-2)
# The slope (4 f(h) - f(2h) - 3 f(0)) / 2h of one side is off by (4 + 1 + 3)/2 times the noise of f over h; the slope of
# both sides by less.
_NOISE_OF_SLOPE = 4
# _KINK bounds how far the slopes of the two sides of a smooth function are apart, beside noise, in units of how far a
# side's slope over h is from that over 2h. If they are further apart, the two sides are those of a kink. By the first
# terms of Taylor's series it is at most 2/7, as for x^4 at 0: there the slopes over h are 6 h³ and -6 h³, and those
# over 2h are 48 h³ and -48 h³. The rest of the 4 is for terms of higher order.
_KINK = 4


class Slope(NamedTuple):
    """A slope by differences: the smaller and the larger slope of the two sides. They are equal but at a kink.

    Attributes:
        low, high: the two slopes.
        uncertainty: how far each may be off.
        step: the step of the differences.
    """

    low: float
    high: float
    uncertainty: float
    step: float

    def excess(self, claimed: float, allowed: float = 0.0) -> float:
        """How far a claimed slope is out of the range, beyond the uncertainty and what is allowed."""
        return max(self.low - claimed, claimed - self.high) - self.uncertainty - allowed


class Slopes:
    """A function and its rule in float64.

    Where the function has to compute in a lower precision, the noise of its values is that of this precision.
    """

    def __init__(self, traces: Traces) -> None:
        case = traces.case
        self.case, self.points = case, Points(case, traces.outputs)
        self.args, self.random = self.points.args, generator("differences", case.seed)
        with float64_on_cpu():
            dy = self._random_dy(traces.outputs)
            self.dy = [np.zeros_like(d) if i in case.ignores else d for i, d in enumerate(dy)]
            closed = jax.make_jaxpr(widened(traces.claims))(*self.args)
            self.values = jax.jit(evaluator(closed)).lower(*self.args).compile()
        self.rule = compile_program(traces, wide=True, reference=False)
        self.outputs, self.gradients = self._by_rule()
        eps = eps_of_results(closed.jaxpr)
        self.eps = math.sqrt(longest_sum(closed.jaxpr)) * np.asarray(eps)
        self.is_narrow = max(eps) > DOUBLE
        self.coarsest = max(float(jnp.finfo(jnp.result_type(a)).eps) for a in case.floats)

    def _random_dy(self, outputs: Sequence[Any]) -> list[np.ndarray]:
        if self.case.dy is not None:
            return wide_arrays(self.points.random_dy())
        return [self.random.normal(size=y.shape) for y in outputs]

    def _by_rule(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Outputs and gradients by the rule; those that are zero by a claim are zero."""
        results, count = self.rule(self.args, self.dy)[0], len(self.dy)
        return results[:count], results[count:]

    def positive(self) -> "Slopes":
        """The same with dy nowhere negative, where one kink does not cancel another."""
        return self._moved_to(self.args, [np.abs(d) for d in self.dy])

    def moved_aside(self) -> "Slopes":
        """The same at a point close by, which is at no kink."""
        sizes = [usual(a) or 1.0 for a in self.args]
        moves = [size * self.random.uniform(-0.1, 0.1, size=a.shape) for a, size in zip(self.args, sizes, strict=True)]
        return self._moved_to([a + move for a, move in zip(self.args, moves, strict=True)], self.dy)

    def rescaled(self) -> "Slopes":
        """The same at the other point, for a dy of another size and sign."""
        return self._moved_to(self.points.other_args(), self.points.other_dy(self.dy))

    def _moved_to(self, args: Sequence[np.ndarray], dy: Sequence[np.ndarray]) -> "Slopes":
        moved = copy(self)
        moved.args, moved.dy = list(args), list(dy)
        moved.outputs, moved.gradients = moved._by_rule()
        return moved

    def values_at(self, args: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs of the function."""
        with float64_on_cpu():
            return [np.asarray(y, np.float64) for y in self.values(*args)]

    def value(self, i: int, step: np.ndarray) -> tuple[float, float]:
        """⟨dy, f⟩ with a step added to argument i, and its noise: how far rounding may put it off."""
        y = self.values_at([a + step if k == i else a for k, a in enumerate(self.args)])
        terms = [d * y for d, y in zip(self.dy, y, strict=True)]
        noise = [e * float(np.sum(np.square(t))) ** 0.5 for e, t in zip(self.eps, terms, strict=True)]
        return math.fsum(float(np.sum(t)) for t in terms), _NOISE * math.hypot(*noise)

    def noise(self, i: int, u: np.ndarray) -> float:
        """The noise of ⟨dy, f⟩ near the point, where f has to compute in a low precision: measured.

        Differences of high order of values along a line hold nothing but noise.
        """
        values = [self.value(i, k * _LINE * u)[0] for k in range(_LINE_VALUES)]
        orders = range(_LINE_VALUES // 2, _LINE_VALUES - 1)
        squares = [np.mean(np.square(np.diff(values, k))) / math.comb(2 * k, k) for k in orders]
        return _SIGMAS * float(np.max(squares)) ** 0.5

    def claimed(self, i: int, u: np.ndarray) -> float:
        """The slope along u by the rule."""
        return float(np.vdot(self.gradients[i], u))

    def allowed(self, i: int, u: np.ndarray) -> float:
        """How far the slope that the rule claims may be off, by the relative tolerance of its entries."""
        terms = self.gradients[i] * u
        rtol = self.case.rtol if self.coarsest < SINGLE else max(self.case.rtol, BELOW_SINGLE)
        return rtol * (abs(float(np.sum(terms))) + float(np.sum(np.square(terms))) ** 0.5)

    def measured(self, i: int, u: np.ndarray, steps: Sequence[float] = STEPS) -> Slope:
        """The slope along u by differences, at the step for which two differences agree best.

        Differences of fourth order, over h and over 2h, give the slope of a smooth function. One-sided differences of
        second order, over h and over 2h, give the slope of each side of a kink.
        """
        best = Slope(0.0, 0.0, math.inf, steps[0])
        here, noise = self.value(i, 0 * u)
        if self.is_narrow:
            noise = self.noise(i, u)
            steps = (*_LARGE_STEPS, *steps) if len(steps) > 1 else steps
        for h in steps:
            forward, backward = ([self.value(i, sign * k * h * u)[0] - here for k in (1, 2, 4)] for sign in (1, -1))
            differences = [a - b for a, b in zip(forward, backward, strict=True)]
            narrow, wide = ((8 * differences[k] - differences[k + 1]) / (12 * h * 2**k) for k in (0, 1))
            sides = [sign * (4 * side[0] - side[1]) / (2 * h) for sign, side in ((1, forward), (-1, backward))]
            wide_sides = [sign * (4 * side[1] - side[2]) / (4 * h) for sign, side in ((1, forward), (-1, backward))]
            disagreement = abs(narrow - wide)
            sides_disagreement = max(abs(a - b) for a, b in zip(sides, wide_sides, strict=True))
            if abs(sides[0] - sides[1]) <= _KINK * sides_disagreement + _NOISE_OF_SLOPE * noise / h:
                sides = [narrow, narrow]
            else:
                disagreement = sides_disagreement
            uncertainty = 2 * disagreement + _NOISE_OF_SLOPE * noise / h
            if uncertainty < best.uncertainty:
                best = Slope(min(sides), max(sides), uncertainty, h)
        return best

    def direction(self, i: int) -> np.ndarray:
        """A random direction of the size of argument i, so that a step is relative to it."""
        a = self.args[i]
        return self.random.normal(size=a.shape) * (usual(a) or 1.0)
