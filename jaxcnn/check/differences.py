"""The rule against the function itself, along random directions. No derivative of JAX is needed.

The slope that the rule claims along u is ⟨J'dy, u⟩, and the function's own is that of ⟨dy, f(x + h u)⟩.
"""

from collections.abc import Sequence

import numpy as np

from jaxcnn.check.difference import difference
from jaxcnn.check.examination import LARGEST_SEEN, ZERO
from jaxcnn.check.location import factor_in_words
from jaxcnn.check.points import OTHER_DY
from jaxcnn.check.report import Comparison
from jaxcnn.check.slopes import STEPS, Slope, Slopes
from jaxcnn.check.tolerance import usual
from jaxcnn.check.wording import share

# Each argument is looked at along so many random directions: an error of a gradient may be orthogonal to one of them.
DIRECTIONS = 4
# _OUTPUT bounds how far an output of the forward pass of a rule is from that of f, in units of eps √n of the sum of the
# entry and a usual entry. The two may add up in another order: two such sums are up to about 2 units apart. No rule of
# experiments/tolerances.py has such a forward pass: the rest of the 32 is chosen, not measured.
_OUTPUT = 32
# The factors along all directions are one common factor if they differ by at most this share of its distance from 1.
_ALIKE = 0.1
KINK = "a kink: the slopes of the two sides differ, and that of the rule is between"


def compare_differences(slopes: Slopes) -> list[Comparison]:
    """One comparison for each argument; that at another point where the rule is wrong there only."""
    names = [f"gradient of {name}" for name in slopes.case.arguments.names]
    rows = [compare_slopes(slopes, i, name) for i, name in enumerate(names)]
    if any(row.problem or row.kink or (row.reason and not row.optional) for row in rows):
        return rows
    other = slopes.rescaled()
    there = [
        compare_slopes(other, i, f"{name}, at another point and for {OTHER_DY} dy") for i, name in enumerate(names)
    ]
    return [far if far.problem else near for near, far in zip(rows, there, strict=True)]


def outputs_by_rule(slopes: Slopes) -> list[Comparison]:
    """The outputs of the forward pass of the rule against those of the function."""
    rows = []
    for got, value, eps in zip(slopes.outputs, slopes.values_at(slopes.args), slopes.eps, strict=True):
        allowed = np.maximum(_OUTPUT * eps, slopes.case.rtol) * (np.abs(value) + usual(value))
        rows.append(difference(got, value, allowed).comparison("output"))
    return rows


def compare_slopes(
    slopes: Slopes, i: int, name: str, steps: Sequence[float] = STEPS, elsewhere: bool = False
) -> Comparison:
    """The gradient of argument i along random directions. A wrong entry is searched for by bisection.

    At a kink there is a range of slopes: a point beside it is looked at as well.
    """
    known = _known_beforehand(slopes, i, name)
    if known:
        return known
    kink, seen, steepest = "", 0.0, 0.0
    size = usual(slopes.gradients[i]) * (usual(slopes.args[i]) or 1.0)
    for _ in range(DIRECTIONS):
        u = slopes.direction(i)
        slope = slopes.measured(i, u, steps)
        if slope.high > slope.low and not kink:
            kink, slopes = KINK, slopes.positive()
            slope = slopes.measured(i, u, steps)
        if not slope.excess(slopes.claimed(i, u), slopes.allowed(i, u)) <= 0:
            return _by_a_factor(slopes, i, name) or _bisect(slopes, i, name, u, slope.step)
        allowed = slope.uncertainty + slopes.allowed(i, u)
        seen, steepest = (
            max(seen, allowed / size if size else allowed),
            max(steepest, abs(slope.low) + slope.uncertainty),
        )
    along = f"along {DIRECTIONS} random directions"
    if not size and steepest <= seen:
        return Comparison(name, None, along, reason=ZERO, optional=True)
    reason = f"an error of {share(seen)} of a usual entry would not have been seen" if seen > LARGEST_SEEN else ""
    said = Comparison(name, None, along, kink=kink, seen=f"{seen:.0e} of an entry", reason=reason, is_gradient=True)
    if not kink or elsewhere:
        return said
    neighbour = compare_slopes(slopes.moved_aside(), i, f"{name}, beside the kink", steps, elsewhere=True)
    return neighbour if neighbour.problem else said


def _known_beforehand(slopes: Slopes, i: int, name: str) -> Comparison | None:
    """What can be said without a difference, or None."""
    gradient = slopes.gradients[i]
    if not slopes.args[i].size:
        return Comparison(name, None, "no entries", reason="it has no entries", optional=True)
    if i in slopes.case.zero:
        wrong = np.count_nonzero(gradient)
        problem = f"{wrong} of {gradient.size} entries are not zero, as was claimed" if wrong else None
        return Comparison(name, problem, "" if wrong else "zero, as claimed", is_gradient=True)
    values = slopes.values_at(slopes.args)
    if not all(np.isfinite(y).all() for y in values):
        return Comparison(name, None, reason="f is not finite in every entry")
    if not np.isfinite(gradient).all():
        place = _index(int(np.flatnonzero(~np.isfinite(gradient))[0]), gradient)
        wrong = np.count_nonzero(~np.isfinite(gradient))
        return Comparison(name, f"{wrong} of {gradient.size} entries are not finite", f"the first at {place}")
    return None


def _by_a_factor(slopes: Slopes, i: int, name: str) -> Comparison | None:
    """The common factor that all slopes of the rule are off by, or None."""
    directions = [slopes.direction(i) for _ in range(DIRECTIONS)]
    slopes_along = [slopes.measured(i, u) for u in directions]
    claimed = [slopes.claimed(i, u) for u in directions]
    if any(slope.low != slope.high or abs(slope.low) <= 2 * slope.uncertainty for slope in slopes_along):
        return None
    factors = [c / slope.low for c, slope in zip(claimed, slopes_along, strict=True)]
    doubt = max(abs(c) * slope.uncertainty / slope.low**2 for c, slope in zip(claimed, slopes_along, strict=True))
    if max(factors) - min(factors) > min(4 * doubt + 1e-6, _ALIKE * abs(np.mean(factors) - 1)):
        return None
    where = f"everywhere, by the factor {factor_in_words(float(np.mean(factors)), doubt)}"
    worst = f"along a direction: got {claimed[0]:.9g}, expected {slopes_along[0].low:.9g}"
    return Comparison(name, "the slope along every direction", worst, where)


def _bisect(slopes: Slopes, i: int, name: str, u: np.ndarray, step: float) -> Comparison:
    """Halves the direction until one entry is left, keeping the half whose slope is further off."""

    def part(places: np.ndarray) -> tuple[Slope, float, float]:
        kept = np.zeros(u.size)
        kept[places] = u.ravel()[places]
        kept = kept.reshape(u.shape)
        return slopes.measured(i, kept, [step]), slopes.claimed(i, kept), slopes.allowed(i, kept)

    places = np.arange(u.size)
    slope, claimed, _ = part(places)
    while len(places) > 1:
        halves = np.array_split(places, 2)
        both = [part(half) for half in halves]
        excess = [slope.excess(claimed, allowed) for slope, claimed, allowed in both]
        worse = int(excess[1] > excess[0])
        if not excess[worse] > 0:
            break
        places, (slope, claimed, _) = halves[worse], both[worse]
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
