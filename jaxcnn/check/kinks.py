"""Kinks: where a function has no single derivative, a rule and JAX may each take another, and both be right.

Such is relu at 0, or a tie in max-pooling. It shows in the derived gradient at points close by, on both sides.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxcnn.check.report import difference
from jaxcnn.check.tolerance import usual

Arrays = Sequence[np.ndarray]
Run = Callable[[Arrays, Arrays], tuple[Arrays, Arrays]]  # (args, dy) -> gradients of the rule, and expected ones


def at_kinks(run: Run, args: Arrays, dy: Arrays, wrong: Arrays, step: float, rtol: float) -> list[np.ndarray]:
    """Which of the wrong entries are no errors: a boolean array for each argument.

    An entry is right if, close by, the rule agrees with the derived gradient in it; if that gradient jumps there, from
    one point close by to the next; and if what the rule gives lies within the jump. All of this for a dy that is
    positive, where what one window of a pool gives does not cancel what another one takes. And as one entry may be in
    order where their sum is not, as in a pool that gives dy to each entry of a tie, the slope that the rule claims
    along a direction lies between the slopes of the two sides.

    Args:
        run: the gradients of the rule and the derived ones.
        args: the point.
        dy: the cotangent.
        wrong: where they differ, for each argument.
        step: how far away the points close by are, relative to a usual entry.
        rtol: how far apart two equal gradients may be.
    """
    nothing = [np.zeros(w.shape, bool) for w in wrong]
    if not any(w.any() for w in wrong):
        return nothing
    dy = [np.abs(d) for d in dy]
    args = [np.asarray(a, np.float64) for a in args]
    scales = [step * (np.abs(a) + (usual(a) or 1.0)) for a in args]
    random = np.random.default_rng(0)

    def near(direction: Arrays) -> tuple[Arrays, Arrays]:
        return run([a + s * u for a, s, u in zip(args, scales, direction, strict=True)], dy)

    def differ(got: Arrays, expected: Arrays) -> list[np.ndarray]:
        return [difference(g, e, rtol * (np.abs(e) + usual(e))).wrong for g, e in zip(got, expected, strict=True)]

    sides: list[Arrays] = []
    left = list(wrong)
    for _ in range(4):
        got, expected = near([random.uniform(-1, 1, size=a.shape) for a in args])
        left = [w & ~d for w, d in zip(left, differ(got, expected), strict=True)]
        sides.append(expected)
        if not any(w.any() for w in left):
            return nothing
    got, expected = run(args, dy)
    apart = [np.where(w, g - e, 0.0) for w, g, e in zip(wrong, got, expected, strict=True)]
    towards = [d / (np.max(np.abs(d), initial=0.0) or 1.0) for d in apart]
    ramp = [np.linspace(1, 0, a.size).reshape(a.shape) for a in args]
    for direction in (ramp, towards, [np.ones(a.shape) for a in args]):
        both = [near([sign * u for u in direction])[1] for sign in (1, -1)]
        sides += both
        slopes = [_slope(gradients, scales, direction) for gradients in both]
        claimed, size = _slope(got, scales, direction), _slope(list(map(np.abs, got)), scales, map(np.abs, direction))
        if not min(slopes) - rtol * size <= claimed <= max(slopes) + rtol * size:
            return nothing
    return [_within(g, [e, *each], w, rtol) for g, e, w, *each in zip(got, expected, left, *sides, strict=True)]


def _slope(gradients: Arrays, scales: Arrays, direction: Any) -> float:
    return float(sum(np.vdot(g, s * u) for g, s, u in zip(gradients, scales, direction, strict=True)))


def _within(got: np.ndarray, sides: Arrays, left: np.ndarray, rtol: float) -> np.ndarray:
    """Where the sides are apart, and what the rule gives is one of them or between."""
    low, high = np.min(sides, axis=0), np.max(sides, axis=0)
    slack = rtol * (np.maximum(np.abs(low), np.abs(high)) + usual(sides[0]))
    return left & (high - low > slack) & (got >= low - slack) & (got <= high + slack)
