"""Kinks: where a function has no single derivative, a rule and JAX may each take another, and both be right.

Such is relu at 0, or a tie in max-pooling. It shows in the derived gradient at points close by, on both sides.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxcnn.check.programs import generator
from jaxcnn.check.report import difference
from jaxcnn.check.tolerance import usual

Arrays = Sequence[np.ndarray]
Run = Callable[[Arrays, Arrays], tuple[Arrays, Arrays]]  # (args, dy) -> gradients of the rule, and expected ones


def at_kinks(
    run: Run, at_point: Arrays, args: Arrays, dy: Arrays, wrong: Arrays, tolerance: Arrays, step: float
) -> list[np.ndarray]:
    """Which of the wrong entries are no errors: a boolean array for each argument.

    An entry is right if, close by, the rule agrees with the derived gradient in it; and if what the rule gives lies
    between what that gradient is at one point close by and at the next, or not further beyond than these are apart, as
    not all combinations of sides are tried. All of this for a dy that is positive, where what one window of a pool
    gives does not cancel what another one takes. And as an entry may be in order where the sum is not, as in a
    pool that gives dy to each entry of a tie, the slope that the rule claims along a direction has to lie between the
    slopes of the two sides.

    Args:
        run: the gradients of the rule and the derived ones.
        at_point: what the rule gives at the point.
        args: the point.
        dy: the cotangent, nowhere negative.
        wrong: where they differ, for each argument.
        tolerance: how far apart two equal gradients may be, for each argument.
        step: how far away the points close by are, relative to a usual entry.
    """
    nothing = [np.zeros(w.shape, bool) for w in wrong]
    args = [np.asarray(a, np.float64) for a in args]
    scales = [step * (np.abs(a) + (usual(a) or 1.0)) for a in args]
    got, expected = [np.asarray(g, np.float64) for g in at_point], run(args, dy)[1]
    low, high = list(expected), list(expected)
    random = generator("kinks")

    def look(direction: Arrays) -> tuple[Arrays, Arrays]:
        """The gradients a step away, which widen what is between low and high."""
        near, side = run([a + s * u for a, s, u in zip(args, scales, direction, strict=True)], dy)
        low[:], high[:] = map(np.minimum, low, side), map(np.maximum, high, side)
        return near, side

    def apart(a: Arrays, b: Arrays) -> Arrays:
        return [difference(*entries).wrong for entries in zip(a, b, tolerance, strict=True)]

    def within() -> Arrays:
        found = []
        for g, below, above, t in zip(got, low, high, tolerance, strict=True):
            beyond = np.where(above - below > 20 * t, above - below, 0.0)  # else it is no jump, but a smooth change
            found.append((g >= below - beyond - t / 2) & (g <= above + beyond + t / 2))
        return found

    left = [w & d for w, d in zip(wrong, apart(got, expected), strict=True)]
    for _ in range(4):
        if not any(w.any() for w in left):
            return nothing
        sides = look([random.uniform(-1, 1, size=a.shape) for a in args])
        left = [w & ~d for w, d in zip(left, apart(*sides), strict=True)]

    first = [np.linspace(1, 0, a.size).reshape(a.shape) for a in args]  # the first of those that tie wins
    for sign in (1, -1):
        look([sign * u for u in first])
    for _ in range(16):
        missing = [w & ~inside for w, inside in zip(left, within(), strict=True)]
        if not any(m.any() for m in missing):
            break
        # These now win over the others that they tie with.
        look([np.where(m, 1, -1) * random.uniform(0.5, 1, size=m.shape) for m in missing])

    left = [w & inside for w, inside in zip(left, within(), strict=True)]
    # The rest is wrong anyway, and does not hide what is not.
    got = [np.where(w & ~kept, e, g) for w, kept, g, e in zip(wrong, left, got, expected, strict=True)]
    excess = [g - e for g, e in zip(got, expected, strict=True)]
    towards = [e / (np.max(np.abs(e), initial=0.0) or 1.0) for e in excess]
    for direction in (first, towards, [np.ones(a.shape) for a in args]):
        slopes = [_slope(look([sign * u for u in direction])[1], scales, direction) for sign in (1, -1)]
        claimed, size = _slope(got, scales, direction), _slope(list(map(np.abs, got)), scales, map(np.abs, direction))
        if not min(slopes) - 10 * step * size <= claimed <= max(slopes) + 10 * step * size:
            return nothing
    return left


def _slope(gradients: Arrays, scales: Arrays, direction: Any) -> float:
    return float(sum(np.vdot(g, s * u) for g, s, u in zip(gradients, scales, direction, strict=True)))
