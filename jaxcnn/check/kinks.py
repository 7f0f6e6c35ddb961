"""Kinks: points where a function has no single derivative.

Such a point is 0 of relu, or a tie in max-pooling. There a rule may take another derivative than JAX, and both are
right. A kink shows in the derived gradient at points close by: it differs from side to side.
"""

from collections.abc import Callable, Sequence

import numpy as np

from jaxcnn.check.difference import difference
from jaxcnn.check.tolerance import usual
from jaxcnn.check.traces import generator

Arrays = Sequence[np.ndarray]
Run = Callable[[Arrays, Arrays], tuple[Arrays, Arrays]]  # (args, dy) -> gradients of the rule, and expected ones

# _JUMP bounds what rounding does to the difference of two derived gradients close by, in tolerances. A larger
# difference is that of two sides of a kink. From below it is bounded by 2: each of two equal gradients is rounded by
# less than a tolerance. From above it is bounded by the smallest kink that is to be seen: with 20 that is a jump of
# 2e-9 of an entry, at the default tolerance.
_JUMP = 20
# The rule has to agree with the derived gradient at _POINTS random points close by. A rule that is wrong on one side of
# a kink only agrees at one point with a probability of 1/2, and at all 4 with one of 1/16.
_POINTS = 4
# _SIDES bounds how many random combinations of the sides of the kinks are tried. It bounds the time: each costs a pass
# of the rule, and all are tried only where an entry stays wrong. An entry whose side is not among them is called wrong.
_SIDES = 16
# _CURVATURE bounds how much the slope of a smooth function changes within a step: by _CURVATURE times the step,
# relative to the slope. It is the largest second derivative that a function may have, in units of the first and of a
# usual entry. With 10 and a step of 1e-7 the slope of a rule at a kink may be 1e-6 of itself beyond those of the sides.
_CURVATURE = 10


class _Surroundings:
    """A point, and the derived gradients close by: `low` and `high` are the smallest and the largest of each entry.

    `scales` is how far one step goes in each entry. `expected` is the derived gradient at the point itself.
    """

    def __init__(self, run: Run, args: Arrays, dy: Arrays, steps: Sequence[float]) -> None:
        self.run, self.dy = run, dy
        self.args = [np.asarray(a, np.float64) for a in args]
        sizes = [np.where(np.isfinite(a), np.abs(a) + (usual(a) or 1.0), 0.0) for a in self.args]
        self.scales = [step * size for step, size in zip(steps, sizes, strict=True)]
        self.expected = run(self.args, dy)[1]
        self.low, self.high = list(self.expected), list(self.expected)

    def look(self, direction: Arrays) -> tuple[Arrays, Arrays]:
        """The gradients of the rule and the derived ones a step away."""
        moved = [a + s * u for a, s, u in zip(self.args, self.scales, direction, strict=True)]
        got, expected = self.run(moved, self.dy)
        self.low = list(map(np.minimum, self.low, expected))
        self.high = list(map(np.maximum, self.high, expected))
        return got, expected

    def holds(self, got: Arrays, tolerance: Arrays) -> Arrays:
        """Which entries lie between low and high, or beyond them by no more than half a tolerance.

        If low and high differ by more than `_JUMP` tolerances, they are sides of a kink. Other sides may not have been
        seen, so an entry may then lie beyond them by the distance of the two as well.
        """
        held = []
        for g, below, above, t in zip(got, self.low, self.high, tolerance, strict=True):
            with np.errstate(invalid="ignore"):
                slack = np.where(above - below > _JUMP * t, above - below, 0.0)
                held.append((g >= below - slack - t / 2) & (g <= above + slack + t / 2))
        return held

    def slope(self, gradients: Arrays, direction: Arrays) -> float:
        """The slope of the function along a direction, if these are its gradients."""
        terms = zip(gradients, self.expected, self.scales, direction, strict=True)
        return float(sum(np.vdot(np.where(np.isfinite(g) & np.isfinite(e), g, 0.0), s * u) for g, e, s, u in terms))


def entries_at_kinks(
    run: Run, gradients: Arrays, args: Arrays, dy: Arrays, wrong: Arrays, tolerance: Arrays, steps: Sequence[float]
) -> Arrays:
    """Which of the wrong entries are no errors: a boolean array for each argument.

    An entry is right if all of this holds:

    - At points close by the rule agrees with the derived gradient in this entry.
    - At the point the rule gives a number between the derived gradients close by.
    - The slope that the rule claims along a direction lies between the slopes close by. A pool that gives dy to each
      entry of a tie is right in every entry, and wrong in their sum.

    dy is nowhere negative: what one window of a pool gives to an entry does not cancel what another window gives.

    Args:
        run: gives the gradients of the rule and the derived ones.
        gradients: what the rule gives at the point.
        args: the point.
        dy: the cotangent, nowhere negative.
        wrong: where the two differ, for each argument.
        tolerance: how far apart two equal gradients may be, for each argument.
        steps: how far away the points close by are in each argument, relative to a usual entry.
    """
    got, surroundings = [np.asarray(g, np.float64) for g in gradients], _Surroundings(run, args, dy, steps)
    candidates = [w & d for w, d in zip(wrong, _differing(got, surroundings.expected, tolerance), strict=True)]
    candidates = _agreeing_close_by(surroundings, candidates, tolerance)
    right = _lying_between(surroundings, got, candidates, tolerance)
    # The entries that are wrong anyway must not spoil the slope of the others: they count as the derived gradient.
    judged = [np.where(w & ~r, e, g) for w, r, g, e in zip(wrong, right, got, surroundings.expected, strict=True)]
    return right if _slopes_lie_between(surroundings, judged, max(steps)) else [np.zeros(w.shape, bool) for w in wrong]


def _differing(a: Arrays, b: Arrays, tolerance: Arrays) -> Arrays:
    """Which entries differ by more than the tolerance."""
    return [difference(*entries).wrong for entries in zip(a, b, tolerance, strict=True)]


def _agreeing_close_by(surroundings: _Surroundings, candidates: Arrays, tolerance: Arrays) -> Arrays:
    """Those candidates in which the rule agrees with the derived gradient at random points close by.

    A wrong rule is wrong there, too. A right rule that takes another side is not: at a random point nothing ties.
    """
    random = generator("kinks")
    for _ in range(_POINTS):
        if any(c.any() for c in candidates):
            sides = surroundings.look([random.uniform(-1, 1, size=a.shape) for a in surroundings.args])
            candidates = [c & ~d for c, d in zip(candidates, _differing(*sides, tolerance), strict=True)]
    return candidates


def _lying_between(surroundings: _Surroundings, got: Arrays, candidates: Arrays, tolerance: Arrays) -> Arrays:
    """Those candidates in which the rule gives, at the point, a number between the derived gradients close by.

    Each order of the entries that tie is a combination of sides. There are too many to try all. The first combination
    makes earlier entries larger than later ones, and the second makes them smaller. Up to `_SIDES` random combinations
    follow. Each raises the candidates whose number does not yet lie between, and lowers all other entries.
    """
    random = generator("sides")
    if any(c.any() for c in candidates):
        for sign in (1, -1):
            surroundings.look([sign * u for u in _first_wins(surroundings.args)])
    for _ in range(_SIDES):
        missing = [c & ~held for c, held in zip(candidates, surroundings.holds(got, tolerance), strict=True)]
        if not any(m.any() for m in missing):
            break
        surroundings.look([np.where(m, 1, -1) * random.uniform(0.5, 1, size=m.shape) for m in missing])
    return [c & held for c, held in zip(candidates, surroundings.holds(got, tolerance), strict=True)]


def _slopes_lie_between(surroundings: _Surroundings, got: Arrays, step: float) -> bool:
    """Whether the slope that the rule claims lies between those of the two sides, along three directions.

    Along the first direction the entries that tie get an order. Along the second the excess of the rule over the
    derived gradient adds up. Along the third all entries move alike.
    """
    with np.errstate(invalid="ignore"):
        excess = [np.nan_to_num(g - e, posinf=0, neginf=0) for g, e in zip(got, surroundings.expected, strict=True)]
    if not any(e.any() for e in excess):
        return True
    towards_excess = [e / (np.max(np.abs(e), initial=0.0) or 1.0) for e in excess]
    for direction in (_first_wins(surroundings.args), towards_excess, [np.ones(a.shape) for a in surroundings.args]):
        slopes = [
            surroundings.slope(surroundings.look([sign * u for u in direction])[1], direction) for sign in (1, -1)
        ]
        size = surroundings.slope(list(map(np.abs, got)), list(map(np.abs, direction)))
        bend = _CURVATURE * step * size
        if not min(slopes) - bend <= surroundings.slope(got, direction) <= max(slopes) + bend:
            return False
    return True


def _first_wins(args: Arrays) -> Arrays:
    """A direction along which the first one of entries that tie becomes the largest."""
    return [np.linspace(1, 0, a.size).reshape(a.shape) for a in args]


# Derived gradients close by have one limit where they differ by less than _LIMIT of their size and of a usual entry. It
# is far above what a gradient changes by in a step, and below any error that would matter. There are limits, one or one
# on each side, where the gradients are the same _FARTHER times as far away; those of log x at 0 are not.
_LIMIT, _FARTHER = 1e-4, 100
# Few points close by do not show the whole range of the gradients: a number may lie beyond it by this share of it.
_BEYOND = 0.25
# The slope that a rule claims may lie beyond those of the two sides by this share.
_SLOPE = 1e-2


def _sides(surroundings: _Surroundings) -> list[tuple[np.ndarray, np.ndarray]]:
    """The smallest and the largest of each derived gradient at random points close by; NaN where none is finite."""
    random = generator("limits")
    low, high = ([np.full(e.shape, np.nan) for e in surroundings.expected] for _ in range(2))
    for _ in range(_POINTS):
        direction = [random.uniform(-1, 1, size=a.shape) for a in surroundings.args]
        for sign in (1, -1):
            _, close_by = surroundings.look([sign * u for u in direction])
            close_by = [np.where(np.isfinite(c), c, np.nan) for c in close_by]
            low, high = list(map(np.fmin, low, close_by)), list(map(np.fmax, high, close_by))
    return list(zip(low, high, strict=True))


def limits(
    run: Run, gradients: Arrays, args: Arrays, dy: Arrays, missing: Arrays, step: float
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Expected numbers where JAX derives NaN or infinity: the limit of what it derives at points close by.

    Args:
        run: gives the gradients of the rule and the derived ones.
        gradients: what the rule gives at the point.
        args, dy: the point, and the cotangent.
        missing: where an expected number is missing, for each argument.
        step: how far away the points close by are, relative to a usual entry.

    Returns:
        The expected gradients, and where they stay unknown. If the derived gradient has another limit on each side, as
        that of a norm at 0, a number between them is as expected, and any other is the nearest side.
    """
    close_by = _Surroundings(run, args, dy, [step] * len(args))
    near, far = _sides(close_by), _sides(_Surroundings(run, args, dy, [_FARTHER * step] * len(args)))
    expected = [np.array(e, np.float64) for e in run(args, dy)[1]]
    unknown, between = [], []
    for e, g, (below, above), (lower, higher), m in zip(expected, gradients, near, far, missing, strict=True):
        got, size = np.asarray(g, np.float64), usual(e)
        with np.errstate(invalid="ignore"):
            spread = above - below
            slack = np.maximum(_LIMIT * (np.abs(above) + size), _BEYOND * spread)
            held = (got >= below - slack) & (got <= above + slack)
            steady = np.maximum(np.abs(below - lower), np.abs(above - higher)) <= np.maximum(slack, spread / 2)
            known = m & np.isfinite(spread) & steady
        nearest = np.where(held, got, np.clip(got, below, above))
        e[known] = np.where(np.isfinite(nearest), nearest, below)[known]
        unknown.append(m & ~known)
        between.append(known & held)
    directions = [
        np.where(b, g, 0.0) / (np.max(np.abs(g[b]), initial=0.0) or 1.0)
        for g, b in zip(gradients, between, strict=True)
    ]
    if any(d.any() for d in directions) and not _claims_a_slope_between(close_by, gradients, between, directions):
        beside = close_by.look(directions)[1]
        expected = [np.where(b & np.isfinite(s), s, e) for e, s, b in zip(expected, beside, between, strict=True)]
    return expected, unknown


def _claims_a_slope_between(surroundings: _Surroundings, gradients: Arrays, places: Arrays, direction: Arrays) -> bool:
    """Whether the slope along a direction, by the entries at some places, lies between those of the two sides."""

    def slope(values: Arrays) -> float:
        terms = zip(values, places, surroundings.scales, direction, strict=True)
        return float(sum(np.sum(np.where(b & np.isfinite(v), v, 0.0) * s * u) for v, b, s, u in terms))

    sides = [slope(surroundings.look([sign * u for u in direction])[1]) for sign in (1, -1)]
    slack = _SLOPE * slope([np.abs(np.asarray(g)) for g in gradients])
    return min(sides) - abs(slack) <= slope(gradients) <= max(sides) + abs(slack)
