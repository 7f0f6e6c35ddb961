"""How near do right rules come to the tolerances of the checker?

    python experiments/tolerances.py

runs the right rules of rules.py with 5 random cotangents, and prints for each margin of jaxcnn/check/ that multiplies a
unit of rounding the largest error that a right rule makes, in that unit. Of the four units of an entry in the dtype of
the arguments, an error counts for the largest. Results with a kink, and the rule that JAX does not derive, are left
out.

For the margins of differences.py and remainder.py the functions of these rules are looked at in float64. Over a step of
2^-29 the remainder of a linear approximation is rounding: it is the error of two values and of the slope.

Result: right rules use 10 of the 45 of CANCELLED, 3.2 of the 8 of _NOISE, and less than a third of every other margin;
the unit of NARROW_ROUNDING is never the largest (AMD EPYC, Linux, Python 3.11.7, jax and jaxlib 0.10.2, numpy 2.4.6;
November 2026).
"""

import platform
from collections import defaultdict
from importlib.metadata import version

import jax
import numpy as np
from rules import RIGHT, Rule

from jaxcnn.check import differences, remainder, tolerance
from jaxcnn.check.arguments import floating_arguments
from jaxcnn.check.differences import Slopes
from jaxcnn.check.examination import Examination, Run
from jaxcnn.check.programs import CannotDerive

MODULES = (tolerance, differences, remainder)
NARROW = ("NARROW_ENTRY", "NARROW_USUAL", "NARROW_SUM", "NARROW_ROUNDING")


def examine(rule: Rule, seed: int) -> Examination:
    arguments = floating_arguments("tolerances", rule.f, rule.args)
    f = arguments.function_of_floats(rule.f)
    return Examination(arguments, f, f, 1e-10, jax.random.key_data(jax.random.key(seed)))


def double_errors(examination: Examination, run: Run):
    """(margin, error in its unit) of each result in float64."""
    sizes, length = examination.sizes(run), run.program.length
    for row, expected, kink in zip(examination.differences(run, run.got), run.expected, run.kinks, strict=True):
        if kink.any():
            continue
        error = np.abs(row.got - row.expected)
        if examination.eps == tolerance.DOUBLE:
            yield "CANCELLED", largest_ratio(error, tolerance.rounding_unit(examination.eps, length, sizes))
        else:
            unit = examination.eps * (np.abs(expected) + tolerance.usual(expected))
            yield "REDUCED_PRECISION", largest_ratio(error, unit)


def narrow_errors(examination: Examination, run: Run):
    """(margin, error in its unit) of each result in the dtype of the arguments."""
    rows = examination.differences(run, run.got)
    for row, effect, kink in zip(rows, examination.rounding, run.kinks, strict=True):
        if tolerance.usual(effect.expected) and effect.derived_is_right and not kink.any():
            yield "DERIVED_ERROR", largest_ratio(effect.derived_error, effect.derived_unit)
            error = np.minimum(np.abs(row.got - effect.expected), np.abs(row.got - effect.derived))
            units = np.stack([np.broadcast_to(unit, error.shape) for unit in effect.units])
            for k, margin in enumerate(NARROW):
                counts = np.argmax(units, axis=0) == k
                yield margin, largest_ratio(error[counts], units[k][counts])


def difference_errors(rule: Rule, seed: int):
    """(margin, error in its unit) of the remainders of the linear approximation, where there is no kink."""
    slopes = Slopes(
        floating_arguments("tolerances", rule.f, rule.args), rule.f, jax.random.key_data(jax.random.key(seed))
    )
    for i in range(len(slopes.args)):
        u, h = slopes.direction(i), remainder._STEPS[-1]
        sides = slopes.measured(i, u)
        if sides.high > sides.low:
            continue
        (here, noise), slope = slopes.value(i, 0 * u), h * slopes.claimed(i, u)
        rest = abs(slopes.value(i, h * u)[0] - here - slope)
        yield "_REMAINDER", largest_ratio(rest, noise + tolerance.DOUBLE * abs(slope))
        yield "_NOISE", largest_ratio(rest, 2 * noise / differences._NOISE)


def largest_ratio(error, unit) -> float:
    error, unit = np.broadcast_arrays(error, unit)
    return float(np.max(error[unit > 0] / unit[unit > 0], initial=0.0))


def main() -> None:
    seen: dict[str, tuple[float, str]] = defaultdict(lambda: (0.0, ""))
    for rule in RIGHT:
        for seed in range(5):
            try:
                examination = examine(rule, seed)
            except CannotDerive:
                continue
            narrow = narrow_errors(examination, examination.narrow_run) if examination.narrow_run else ()
            errors = *double_errors(examination, examination.double_run), *narrow, *difference_errors(rule, seed)
            for margin, ratio in errors:
                seen[margin] = max(seen[margin], (ratio, rule.name if ratio else ""))
    print("| margin | is | largest seen | in |\n| --- | --- | --- | --- |")
    for margin in ("CANCELLED", "REDUCED_PRECISION", "DERIVED_ERROR", *NARROW, "_NOISE", "_REMAINDER"):
        ratio, name = seen[margin]
        value = next(getattr(module, margin) for module in MODULES if hasattr(module, margin))
        print(f"| `{margin}` | {value} | {ratio:.2g} | {name or 'never the largest unit'} |")
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "numpy"))
    print(f"\n{platform.machine()}, {platform.system()}, Python {platform.python_version()}, {versions}")


if __name__ == "__main__":
    main()
