"""The rule against the function itself, along random directions. No derivative of JAX is needed.

The slope that the rule claims along u is ⟨J'dy, u⟩, and the function's own is that of ⟨dy, f(x + h u)⟩.
"""

import math
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcnn.check.arguments import Arguments
from jaxcnn.check.examination import OTHER_DY, SHRINKING
from jaxcnn.check.programs import float64_on_cpu, generator
from jaxcnn.check.report import Comparison, difference
from jaxcnn.check.tolerance import DOUBLE, longest_sum, usual

# Each argument is looked at along so many random directions: an error of a gradient may be orthogonal to one of them.
DIRECTIONS = 4
# The steps of differences, relative to a usual entry: the one that fits the curvature and the rounding of f is chosen.
_STEPS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
# _NOISE bounds how far rounding puts ⟨dy, f⟩ off, in units of eps √n times the root of the sum of its squared terms. n
# is the length of the longest sum in f. The largest seen is 3.2, in a sum of 65,536 (experiments/tolerances.py).
_NOISE = 8
# The slope (4 f(h) - f(2h) - 3 f(0)) / 2h of one side is off by (4 + 1 + 3)/2 times the noise of f over h; the slope of
# both sides by less.
_NOISE_OF_SLOPE = 4
# _KINK bounds how far the slopes of the two sides of a smooth function are apart, beside noise, in units of how far a
# side's slope over h is from that over 2h. If they are further apart, the two sides are those of a kink. By the first
# terms of Taylor's series it is at most 2/7, as for x^4 at 0: there the slopes over h are 6 h³ and -6 h³, and those
# over 2h are 48 h³ and -48 h³. The rest of the 4 is for terms of higher order.
_KINK = 4
# _OUTPUT bounds how far an output of the forward pass of a rule is from that of f, in units of eps √n of the sum of the
# entry and a usual entry. The two may add up in another order: two such sums are up to about 2 units apart. No rule of
# experiments/tolerances.py has such a forward pass: the rest of the 32 is chosen, not measured.
_OUTPUT = 32
KINK = "a kink: the slopes of the two sides differ, and that of the rule is between"


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

    def excess(self, claimed: float) -> float:
        """How far a claimed slope is out of the range."""
        return max(self.low - claimed, claimed - self.high) - self.uncertainty


class Slopes:
    """A function and its rule, in float64."""

    def __init__(self, arguments: Arguments, f: Callable[..., Any], seed: Any) -> None:
        ours = arguments.function_of_floats(f)
        self.args = [np.asarray(a, np.float64) for a in arguments.floats]
        self.random = generator("differences", seed)
        with float64_on_cpu():
            jaxpr, outputs = jax.make_jaxpr(ours, return_shape=True)(*self.args)
            if not outputs:
                raise TypeError(f"{arguments.caller}: f must return a floating-point array, got none")
            self.dy = [np.asarray(self.random.normal(size=y.shape)).astype(y.dtype) for y in outputs]
            self.values = jax.jit(ours).lower(*self.args).compile()
            self.pullback = jax.jit(_value_and_pullback(ours))
            self.outputs, self.gradients = jax.tree.map(np.asarray, self.pullback(self.args, self.dy))
        self.eps = DOUBLE * math.sqrt(longest_sum(jaxpr.jaxpr))

    def positive(self) -> "Slopes":
        """The same with dy nowhere negative, where one kink does not cancel another."""
        return self._moved_to(self.args, [np.abs(d) for d in self.dy])

    def moved_aside(self) -> "Slopes":
        """The same at a point close by, which is at no kink."""
        sizes = [usual(a) or 1.0 for a in self.args]
        moves = [size * self.random.uniform(-0.1, 0.1, size=a.shape) for a, size in zip(self.args, sizes, strict=True)]
        return self._moved_to([a + move for a, move in zip(self.args, moves, strict=True)], self.dy)

    def rescaled(self) -> "Slopes":
        """The same at smaller arguments of the same sign, for a dy of another size and sign."""
        args = [a * (1 - SHRINKING * self.random.random(size=a.shape)) for a in self.args]
        return self._moved_to(args, [OTHER_DY * d for d in self.dy])

    def _moved_to(self, args: Sequence[np.ndarray], dy: Sequence[np.ndarray]) -> "Slopes":
        moved = copy(self)
        moved.args, moved.dy = list(args), list(dy)
        with float64_on_cpu():
            moved.outputs, moved.gradients = jax.tree.map(np.asarray, self.pullback(moved.args, moved.dy))
        return moved

    def value(self, i: int, step: np.ndarray) -> tuple[float, float]:
        """⟨dy, f⟩ with a step added to argument i, and its noise: how far rounding may put it off."""
        with float64_on_cpu():
            moved = [a + step if k == i else a for k, a in enumerate(self.args)]
            y = [np.asarray(y, np.float64) for y in self.values(*moved)]
        terms = [np.asarray(d, np.float64) * y for d, y in zip(self.dy, y, strict=True)]
        size = math.sqrt(sum(float(np.sum(np.square(t))) for t in terms))
        return math.fsum(float(np.sum(t)) for t in terms), _NOISE * self.eps * size

    def claimed(self, i: int, u: np.ndarray) -> float:
        """The slope along u by the rule."""
        return float(np.vdot(np.asarray(self.gradients[i], np.float64), u))

    def measured(self, i: int, u: np.ndarray, steps: Sequence[float] = _STEPS) -> Slope:
        """The slope along u by differences, at the step for which two differences agree best.

        Differences of fourth order, over h and over 2h, give the slope of a smooth function. One-sided differences of
        second order, over h and over 2h, give the slope of each side of a kink.
        """
        best = Slope(0.0, 0.0, math.inf, steps[0])
        here, noise = self.value(i, 0 * u)
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


def compare_differences(arguments: Arguments, f: Callable[..., Any], seed: Any) -> list[Comparison]:
    """One comparison for each argument, and more where an output, or a gradient at another point, is wrong."""
    slopes = Slopes(arguments, f, seed)
    rows = [compare_slopes(slopes, i, f"gradient of {name}") for i, name in enumerate(arguments.names)]
    with float64_on_cpu():
        values = list(map(np.asarray, slopes.values(*slopes.args)))
    more = [
        difference(got, value, _OUTPUT * slopes.eps * (np.abs(value) + usual(value))).comparison("output")
        for got, value in zip(slopes.outputs, values, strict=True)
    ]
    if not any(row.problem or row.kink for row in rows):
        rescaled = slopes.rescaled()
        names = (f"gradient of {name}, for smaller arguments and {OTHER_DY} dy" for name in arguments.names)
        more += [compare_slopes(rescaled, i, name) for i, name in enumerate(names)]
    return rows + [row for row in more if row.problem]


def _value_and_pullback(f: Callable[..., Any]) -> Callable[..., Any]:
    def value_and_pullback(args: Sequence[Any], dy: Any) -> tuple[Any, Any]:
        y, vjp = jax.vjp(f, *args)
        return y, list(vjp(dy))

    return value_and_pullback


def compare_slopes(
    slopes: Slopes, i: int, name: str, steps: Sequence[float] = _STEPS, elsewhere: bool = False
) -> Comparison:
    """The gradient of argument i along random directions. A wrong entry is searched for by bisection.

    At a kink there is a range of slopes: a point beside it is looked at as well.
    """
    if not slopes.args[i].size:
        return Comparison(name, None, "no entries")
    kink, seen = "", 0.0
    size = usual(slopes.gradients[i]) * (usual(slopes.args[i]) or 1.0)
    for _ in range(DIRECTIONS):
        u = slopes.direction(i)
        slope = slopes.measured(i, u, steps)
        if slope.high > slope.low and not kink:
            kink, slopes = KINK, slopes.positive()
            slope = slopes.measured(i, u, steps)
        if not slope.excess(slopes.claimed(i, u)) <= 0:
            return _bisect(slopes, i, name, u, slope.step)
        seen = max(seen, slope.uncertainty / size if size else slope.uncertainty)
    said = Comparison(name, None, f"along {DIRECTIONS} random directions", kink=kink, seen=f"{seen:.0e} of an entry")
    if not kink or elsewhere:
        return said
    neighbour = compare_slopes(slopes.moved_aside(), i, f"{name}, beside the kink", steps, elsewhere=True)
    return neighbour if neighbour.problem else said


def _bisect(slopes: Slopes, i: int, name: str, u: np.ndarray, step: float) -> Comparison:
    """Halves the direction until one entry is left, keeping the half whose slope is further off."""

    def part(places: np.ndarray) -> tuple[Slope, float]:
        kept = np.zeros(u.size)
        kept[places] = u.ravel()[places]
        kept = kept.reshape(u.shape)
        return slopes.measured(i, kept, [step]), slopes.claimed(i, kept)

    places = np.arange(u.size)
    slope, claimed = part(places)
    while len(places) > 1:
        halves = np.array_split(places, 2)
        both = [part(half) for half in halves]
        excess = [slope.excess(claimed) for slope, claimed in both]
        worse = int(excess[1] > excess[0])
        if not excess[worse] > 0:
            break
        places, (slope, claimed) = halves[worse], both[worse]
    expected = slope.low if abs(slope.low - claimed) < abs(slope.high - claimed) else slope.high
    if len(places) > 1:
        where = f"among {len(places)} entries from {_index(places[0], u)} on"
        return Comparison(name, "the slope", f"along a direction: got {claimed:.9g}, expected {expected:.9g}", where)
    got, expected = claimed / u.ravel()[places[0]], expected / u.ravel()[places[0]]
    relative = abs(got - expected) / abs(expected) if expected else abs(got - expected)
    worst = f"at {_index(places[0], u)}: got {got:.9g}, expected {expected:.9g} (relative error {relative:.1e})"
    return Comparison(name, "at least one entry", worst)


def _index(place: int, like: np.ndarray) -> list[int]:
    return [int(k) for k in np.unravel_index(int(place), like.shape)]
