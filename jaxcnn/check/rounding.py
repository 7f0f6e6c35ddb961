"""What the rounding of intermediate results does to gradients, entry by entry, by Monte Carlo arithmetic."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxcnn.check.points import Points, rounded_anew
from jaxcnn.check.programs import Arrays, Program
from jaxcnn.check.tolerance import LOST_BY_RULE, SINGLE, usual
from jaxcnn.check.traces import Traces, float64_on_cpu
from jaxcnn.check.widening import noisy

# How often the rounding is drawn anew. An entry whose moves are all small by chance is called wrong: with 6 draws of a
# normal error, a root mean square below a fourth of the deviation has a probability of 1e-4.
_SAMPLES = 6


def entry_errors(
    traces: Traces, points: Points, dy: Sequence[Any], own: Program, expected: Arrays, got: Arrays
) -> list[Any]:
    """The root mean square of how far rounding moves each entry of the outputs and gradients.

    It is that of what JAX derives, or that of the rule, as it would be in float32: a rule has to add up in float32 at
    least.

    Args:
        traces: the function, its rule and its reference.
        points: where they are looked at.
        dy: the cotangent.
        own: the program in the dtypes of the arguments, with a reference.
        expected, got: what the reference and the rule give in float64, without noise.
    """
    assert own.reference is not None
    centres = expected, got
    with float64_on_cpu():
        programs = [jax.jit(noisy(own.reference)), jax.jit(noisy(traces.rule, SINGLE))]
        squares = [[np.zeros(e.shape) for e in centre] for centre in centres]
        for seed in range(1, _SAMPLES + 1):
            moved = points.inside(rounded_anew(traces.case.floats, seed=seed))
            flat = [*moved, *rounded_anew(dy, own.dy_dtypes, seed)]
            for sums, program, rest, centre in zip(squares, programs, ([], moved), centres, strict=True):
                for total, m, e in zip(sums, program(*flat, *rest), centre, strict=True):
                    total += np.square(np.nan_to_num(np.asarray(m) - e, posinf=0, neginf=0))
    of_derived, of_rule = ([np.sqrt(total / _SAMPLES) for total in sums] for sums in squares)
    bounds = [LOST_BY_RULE * e * usual(x) for e, x in zip(own.eps, expected, strict=True)]
    return [
        np.maximum(d, np.minimum(r, bound)) if r.shape == d.shape else d
        for d, r, bound in zip(of_derived, of_rule, bounds, strict=True)
    ]
