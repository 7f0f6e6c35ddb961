"""How near do right rules come to the tolerances of the checker?

    python experiments/tolerances.py

runs the right rules of rules.py with 5 random cotangents, and prints for each margin of jaxcnn/check/tolerance.py the
largest error that a right rule makes, in the unit that the margin multiplies. Of the four units of an entry in the
dtype of the arguments, an error counts for the largest. Results with a kink, and the rule that JAX does not derive, are
left out.

Result: right rules use 10 of the 45 of CANCELLED, and less than a third of every other margin; the unit of OWN_ROUNDING
is never the largest (AMD EPYC, Linux, Python 3.11.7, jax and jaxlib 0.10.2, numpy 2.4.6; November 2026).
"""

import platform
from collections import defaultdict
from importlib.metadata import version

import jax
import numpy as np
from rules import RIGHT, Rule

from jaxcnn.check import tolerance
from jaxcnn.check.arguments import floating_arguments
from jaxcnn.check.examination import Examination, Run
from jaxcnn.check.programs import CannotDerive

OWN = ("OWN_ENTRY", "OWN_USUAL", "OWN_SUM", "OWN_ROUNDING")


def examine(rule: Rule, seed: int) -> Examination:
    arguments = floating_arguments("tolerances", rule.f, rule.args)
    f = arguments.function_of_floats(rule.f)
    return Examination(arguments, f, f, 1e-10, jax.random.key_data(jax.random.key(seed)))


def in_float64(examination: Examination, run: Run):
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


def in_own_dtype(examination: Examination, run: Run):
    """(margin, error in its unit) of each result in the dtype of the arguments."""
    rows = examination.differences(run, run.got)
    for row, effect, kink in zip(rows, examination.rounding, run.kinks, strict=True):
        if tolerance.usual(effect.expected) and effect.derived_is_right and not kink.any():
            yield "DERIVED_ERROR", largest_ratio(effect.derived_error, effect.derived_unit)
            error = np.minimum(np.abs(row.got - effect.expected), np.abs(row.got - effect.derived))
            units = np.stack([np.broadcast_to(unit, error.shape) for unit in effect.units])
            for k, margin in enumerate(OWN):
                counts = np.argmax(units, axis=0) == k
                yield margin, largest_ratio(error[counts], units[k][counts])


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
            own = in_own_dtype(examination, examination.own_run) if examination.own_run else ()
            for margin, ratio in (*in_float64(examination, examination.double_run), *own):
                seen[margin] = max(seen[margin], (ratio, rule.name if ratio else ""))
    print("| margin | is | largest seen | in |\n| --- | --- | --- | --- |")
    for margin in ("CANCELLED", "REDUCED_PRECISION", "DERIVED_ERROR", *OWN):
        ratio, name = seen[margin]
        print(f"| `{margin}` | {getattr(tolerance, margin)} | {ratio:.2g} | {name or 'never the largest unit'} |")
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "numpy"))
    print(f"\n{platform.machine()}, {platform.system()}, Python {platform.python_version()}, {versions}")


if __name__ == "__main__":
    main()
