"""The adjoint test of a linear function, and the Taylor remainder of any. Neither needs a derivative of JAX."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax

from jaxcnn.check.arguments import checked_seed, floating_arguments
from jaxcnn.check.case import Case
from jaxcnn.check.differences import KINK, compare_slopes
from jaxcnn.check.report import Comparison, Report
from jaxcnn.check.slopes import Slopes
from jaxcnn.check.tolerance import DOUBLE
from jaxcnn.check.traces import Traces

# _LINEAR bounds f(2u) - 2 f(u) + f(0) of a linear f, in units of the noise of f(2u). Rounding of the three values makes
# up to 1 + 2 + 1 = 4 units if all have the noise of f(2u). That of f(u) and f(0) is larger where f(2u) is near 0.
_LINEAR = 16
# _REMAINDER bounds what rounding makes of a remainder, in units of its rounding error. The rate is taken from larger
# remainders only. The largest seen is 0.8 (experiments/tolerances.py): a remainder of 64 is right to two digits or so.
_REMAINDER = 64
# The steps of the remainder: the largest moves a usual entry by a sixteenth, and the square of the smallest, 2^-58, is
# below the eps of float64. The rate is taken over the smallest _STEPS_OF_RATE steps of those whose remainder counts:
# over 4 of them h² falls to a 64th.
_STEPS = tuple(2.0**-k for k in range(4, 30))
_STEPS_OF_RATE = 4
# The rate is 2 for a right rule and 1 for a wrong one.
_RATE = 1.5


def adjoint(
    f: Callable[..., Any],
    *args: Any,
    argnums: int | Sequence[int] | None = None,
    key: jax.Array | None = None,
) -> Report:
    """Tests the rule of a function that is linear in each of its arguments.

        ⟨J u, v⟩ = ⟨u, J'v⟩    with    2 J u = f(x + u) - f(x - u),        u and v random, J'v by the rule

    Args:
        f: a function of pytrees of arrays that is linear, or linear and a constant, in each of the arguments alone.
        args: where to check, which for a linear function is everywhere.
        argnums: the positions of the arguments to look at, by default all.
        key: the random key of u and v.

    Returns:
        A `Report` with one line for each argument. An argument in which f is not linear is wrong.

    Raises:
        TypeError: f is not callable, key is no random key, or no argument or no output is a floating-point array.
        ValueError: argnums names no argument.

    Source: the dot-product test, J. F. Claerbout, Earth Soundings Analysis (1992).

    >>> import jax.numpy as jnp
    >>> import jaxcnn
    >>> bool(adjoint(jaxcnn.conv, jnp.ones((2, 5, 4, 3)), jnp.ones((3, 2, 3, 4))))
    True
    """
    slopes = _slopes("adjoint", f, args, argnums, key)
    rows = []
    for i, name in enumerate(slopes.case.arguments.names):
        u = slopes.direction(i)
        (zero, _), (one, _), (two, noise) = (slopes.value(i, k * u) for k in (0, 1, 2))
        linear = abs(two - 2 * one + zero) <= _LINEAR * noise
        row = compare_slopes(slopes, i, f"adjoint in {name}", [1.0])
        rows.append(row if linear else Comparison(row.name, f"f is not linear in {name}"))
    return Report(tuple(rows))


def taylor(
    f: Callable[..., Any],
    *args: Any,
    argnums: int | Sequence[int] | None = None,
    key: jax.Array | None = None,
) -> Report:
    """Tests a rule by how fast the remainder of its linear approximation falls: a verdict without a tolerance.

        R(h) = |⟨dy, f(x + h u)⟩ - ⟨dy, f(x)⟩ - h ⟨J'dy, u⟩|,        dy and u random, J'dy by the rule

    falls as h² where the rule is right, and as h where it is wrong, for steps so small that the error outweighs the
    curvature. With random directions that takes an error of about a hundredth of one entry in a million, or of 1e-5 of
    all entries: `check.gradients` sees far smaller ones.

    Args:
        f: any function of pytrees of arrays with a custom VJP.
        args: where to check.
        argnums: the positions of the arguments to look at, by default all.
        key: the random key of dy and u.

    Returns:
        A `Report` with the rate of each argument, which is right from 1.5 on. Where R(h) is nothing but rounding, as
        for a linear function, there is no rate, and the rule is right.

    Raises:
        TypeError: f is not callable, key is no random key, or no argument or no output is a floating-point array.
        ValueError: argnums names no argument.

    >>> import jax.numpy as jnp
    >>> import jaxcnn
    >>> print(taylor(jaxcnn.sigmoid, jnp.linspace(-1.0, 1.0, 50)))
    Taylor remainder in z: right; falls as h^2.00
    """
    slopes = _slopes("taylor", f, args, argnums, key)
    names = slopes.case.arguments.names
    return Report(tuple(_rate(slopes, i, f"Taylor remainder in {name}") for i, name in enumerate(names)))


def _slopes(caller: str, f: Callable[..., Any], args: tuple[Any, ...], argnums: Any, key: Any) -> Slopes:
    arguments = floating_arguments(caller, f, args, argnums)
    return Slopes(Traces(Case(arguments, arguments.function_of_floats(f), seed=checked_seed(caller, key))))


def _rate(slopes: Slopes, i: int, name: str, elsewhere: bool = False) -> Comparison:
    """The rate at the smallest steps at which the remainder is more than rounding.

    Where the function has a kink, the rate is that at a point beside it.
    """
    u = slopes.direction(i)
    here, noise = slopes.value(i, 0 * u)
    claimed = slopes.claimed(i, u)
    if not math.isfinite(claimed):
        return Comparison(name, f"the slope that the rule claims is {claimed}")
    rest = [abs(slopes.value(i, h * u)[0] - here - h * claimed) for h in _STEPS]
    kept = [(h, r) for h, r in zip(_STEPS, rest, strict=True) if r > _REMAINDER * (noise + DOUBLE * abs(h * claimed))]
    kept = kept[-_STEPS_OF_RATE:]
    if len(kept) < 2:
        return Comparison(name, None, "nothing but rounding", is_gradient=True)
    (h, r), (less, smaller) = kept[0], kept[-1]
    rate = math.log(r / smaller) / math.log(h / less)
    worst = f"falls as h^{rate:.2f}"
    if rate >= _RATE:
        return Comparison(name, None, worst, is_gradient=True)
    positive, slope = slopes.positive(), slopes.measured(i, u)
    if slope.high > slope.low and positive.measured(i, u).excess(positive.claimed(i, u)) <= 0 and not elsewhere:
        return replace(_rate(slopes.moved_aside(), i, name, elsewhere=True), kink=KINK)
    return Comparison(name, "falls too slowly", worst)
