"""Kinks: where a function has no single derivative, a rule and JAX may each take another, and both be right.

Such is relu at 0, or a tie in max-pooling. It shows in the derived gradient at points close by, on both sides.
"""

from collections.abc import Callable, Sequence

import numpy as np

from jaxcnn.check.programs import generator
from jaxcnn.check.report import difference
from jaxcnn.check.tolerance import usual

Arrays = Sequence[np.ndarray]
Run = Callable[[Arrays, Arrays], tuple[Arrays, Arrays]]  # (args, dy) -> gradients of the rule, and expected ones

_JUMP = 20  # tolerances that two sides of a kink are apart at least; what changes less does so smoothly
_POINTS = 4  # close by, at which the rule has to agree; at one of them a wrong rule may do so by chance
_SIDES = 16  # that are tried of each kink
_CURVATURE = 10  # steps by which a slope changes within a step of a smooth function


class _Surroundings:
    """The point, and what the derived gradients are close by: `low` and `high` are the least and the most of each."""

    def __init__(self, run: Run, args: Arrays, dy: Arrays, step: float) -> None:
        self.run, self.dy = run, dy
        self.args = [np.asarray(a, np.float64) for a in args]
        self.scales = [step * (np.abs(a) + (usual(a) or 1.0)) for a in self.args]
        self.expected = run(self.args, dy)[1]  # at the point itself
        self.low, self.high = list(self.expected), list(self.expected)

    def look(self, direction: Arrays) -> tuple[Arrays, Arrays]:
        """The gradients of the rule and the derived ones a step away."""
        moved = [a + s * u for a, s, u in zip(self.args, self.scales, direction, strict=True)]
        got, expected = self.run(moved, self.dy)
        self.low = list(map(np.minimum, self.low, expected))
        self.high = list(map(np.maximum, self.high, expected))
        return got, expected

    def holds(self, got: Arrays, tolerance: Arrays) -> Arrays:
        """Which entries lie between low and high, or beyond by no more than these are apart."""
        found = []
        for g, below, above, t in zip(got, self.low, self.high, tolerance, strict=True):
            beyond = np.where(above - below > _JUMP * t, above - below, 0.0)
            found.append((g >= below - beyond - t / 2) & (g <= above + beyond + t / 2))
        return found

    def slope(self, gradients: Arrays, direction: Arrays) -> float:
        """How fast the function grows along a direction, by these gradients."""
        terms = zip(gradients, self.scales, direction, strict=True)
        return float(sum(np.vdot(g, s * u) for g, s, u in terms))


def at_kinks(
    run: Run, at_point: Arrays, args: Arrays, dy: Arrays, wrong: Arrays, tolerance: Arrays, step: float
) -> Arrays:
    """Which of the wrong entries are no errors: a boolean array for each argument.

    An entry is right if all of this holds, for a dy that is positive, where what one window of a pool gives does not
    cancel what another one takes: close by the rule agrees with the derived gradient in it; at the point the rule gives
    what lies between the derived gradients close by; and so does the slope that the rule claims along a direction, as
    an entry may be in order where the sum is not, in a pool that gives dy to each entry of a tie.

    Args:
        run: the gradients of the rule and the derived ones.
        at_point: what the rule gives at the point.
        args: the point.
        dy: the cotangent, nowhere negative.
        wrong: where they differ, for each argument.
        tolerance: how far apart two equal gradients may be, for each argument.
        step: how far away the points close by are, relative to a usual entry.
    """
    got, around = [np.asarray(g, np.float64) for g in at_point], _Surroundings(run, args, dy, step)
    left = [w & d for w, d in zip(wrong, _apart(got, around.expected, tolerance), strict=True)]
    left = _that_agree_close_by(around, left, tolerance)
    left = _that_lie_between(around, got, left, tolerance)
    # The rest is wrong anyway, and does not hide what is not.
    kept = [np.where(w & ~k, e, g) for w, k, g, e in zip(wrong, left, got, around.expected, strict=True)]
    return left if _slopes_lie_between(around, kept, step) else [np.zeros(w.shape, bool) for w in wrong]


def _apart(a: Arrays, b: Arrays, tolerance: Arrays) -> Arrays:
    """Which entries differ by more than the tolerance."""
    return [difference(*entries).wrong for entries in zip(a, b, tolerance, strict=True)]


def _that_agree_close_by(around: _Surroundings, left: Arrays, tolerance: Arrays) -> Arrays:
    """Those entries in which the rule agrees with the derived gradient at random points close by.

    A rule that is wrong is so there, too. At a random point nothing ties, so a rule that takes another side does not
    differ.
    """
    random = generator("kinks")
    for _ in range(_POINTS):
        if any(w.any() for w in left):
            sides = around.look([random.uniform(-1, 1, size=a.shape) for a in around.args])
            left = [w & ~d for w, d in zip(left, _apart(*sides, tolerance), strict=True)]
    return left


def _that_lie_between(around: _Surroundings, got: Arrays, left: Arrays, tolerance: Arrays) -> Arrays:
    """Those entries in which the rule at the point gives what lies between the derived gradients close by.

    Not all combinations of sides are tried, which are as many as there are orders of what ties. First all entries move
    one way, and the other way; then those that are left win over the others that they tie with.
    """
    random = generator("sides")
    if any(w.any() for w in left):
        for sign in (1, -1):
            around.look([sign * u for u in _first_wins(around.args)])
    for _ in range(_SIDES):
        missing = [w & ~inside for w, inside in zip(left, around.holds(got, tolerance), strict=True)]
        if not any(m.any() for m in missing):
            break
        around.look([np.where(m, 1, -1) * random.uniform(0.5, 1, size=m.shape) for m in missing])
    return [w & inside for w, inside in zip(left, around.holds(got, tolerance), strict=True)]


def _slopes_lie_between(around: _Surroundings, got: Arrays, step: float) -> bool:
    """Whether the slope that the rule claims lies between those of the two sides, along three directions.

    Along the first the entries that tie get an order, along the second the rule's excess adds up, along the third
    all entries move alike.
    """
    excess = [g - e for g, e in zip(got, around.expected, strict=True)]
    if not any(e.any() for e in excess):
        return True
    towards = [e / (np.max(np.abs(e), initial=0.0) or 1.0) for e in excess]
    for direction in (_first_wins(around.args), towards, [np.ones(a.shape) for a in around.args]):
        slopes = [around.slope(around.look([sign * u for u in direction])[1], direction) for sign in (1, -1)]
        size = around.slope(list(map(np.abs, got)), list(map(np.abs, direction)))
        rounding = _CURVATURE * step * size
        if not min(slopes) - rounding <= around.slope(got, direction) <= max(slopes) + rounding:
            return False
    return True


def _first_wins(args: Arrays) -> Arrays:
    """A direction along which the first of the entries that tie becomes the largest."""
    return [np.linspace(1, 0, a.size).reshape(a.shape) for a in args]
