"""How near do right rules come to the tolerances of the checker?

    python experiments/tolerances.py

runs the right rules of rules/ with 5 random cotangents, and its models with one, and prints for each margin of
jaxcnn/check/ that multiplies a unit of rounding the largest error that a right rule makes, in that unit. Of the four
units of an entry in the dtype of the arguments, an error counts for the largest. Results with a kink, or without an
expected number, and rules that JAX does not derive are left out.

For the margins of slopes.py and remainder.py the functions of these rules are looked at in float64. Over a step of
2^-29 the remainder of a linear approximation is rounding: it is the error of two values and of the slope.

Result: right rules use up to 0.4 of the tolerance of an entry in their own dtype, 4.2 of the 4 of NARROW_ENTRY, 3.4 of
the 4 of NARROW_SUM, 2.4 of the 4 of FACTOR, and about half of NARROW_ROUNDING (one cotangent, without the models; AMD
EPYC, Linux, Python 3.11.7, jax and jaxlib 0.10.2, numpy 2.4.6; November 2026).
"""

import platform
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version

import jax
import numpy as np
from rules import MODELS, RIGHT, Rule, in_training

from jaxcnn.check import remainder, slopes, tolerance
from jaxcnn.check.case import Case
from jaxcnn.check.examination import Examination
from jaxcnn.check.options import case_of
from jaxcnn.check.programs import Run, compile_program
from jaxcnn.check.traces import CannotDerive, Traces

MODULES = (tolerance, slopes, remainder)
NARROW = ("NARROW_ENTRY", "NARROW_USUAL", "NARROW_SUM", "NARROW_ROUNDING")
TOGETHER = "tolerance"  # of an entry, of which the four of NARROW are parts
Errors = Iterator[tuple[str, float]]  # of a margin, and the error in its unit


def case_with(rule: Rule, seed: int) -> Case:
    claims = rule.options.get("claims")
    return case_of("tolerances", rule.f, rule.args, functions={"claims": claims}, key=jax.random.key(seed))[0]


def double_errors(examination: Examination, run: Run) -> Errors:
    """The errors of each result in float64."""
    sizes, length = [*run.dy, *examination.wide_expected[examination.output_count :]], run.program.length
    rows = examination.differences(run, run.got)
    for row, eps, kink, unknown in zip(rows, run.program.eps, run.kinks, run.unknown, strict=True):
        if kink.any() or unknown.any():
            continue
        error = np.abs(row.got - row.expected)
        if eps == tolerance.DOUBLE:
            yield "CANCELLED", largest_ratio(error, tolerance.rounding_unit(eps, length, sizes))
        else:
            yield (
                "REDUCED_PRECISION",
                largest_ratio(error, eps * (np.abs(row.expected) + tolerance.usual(row.expected))),
            )


def own_errors(examination: Examination, run: Run) -> Errors:
    """The errors of each result in the dtype of the arguments."""
    derived = compile_program(examination.traces, wide=False, rule=False)(examination.case.floats, run.dy)[1]
    rows = examination.differences(run, run.got)
    for row, effect, kink, d in zip(rows, examination.rounding, run.kinks, derived, strict=True):
        if not tolerance.usual(effect.expected) or kink.any():
            continue
        if tolerance.is_zero(effect.expected, run.program.length, [*run.dy, *examination.wide_expected]):
            continue
        by_jax = replace(effect, derived_error=tolerance.usual(np.asarray(d, np.float64) - effect.expected))
        if by_jax.derived_is_right:  # not where JAX adds up in 16 bits
            yield "DERIVED_ERROR", largest_ratio(by_jax.derived_error, effect.derived_unit)
        yield "FACTOR", tolerance.FACTOR * abs(row.factor - 1) / row.factor_tolerance
        error = np.abs(row.got - effect.expected)
        *units, rounding = effect.units
        units = np.stack([np.broadcast_to(unit, error.shape) for unit in (*units, rounding + effect.entry_error)])
        yield TOGETHER, largest_ratio(error, effect.tolerance(0))
        for k, margin in enumerate(NARROW):
            counts = np.argmax(units, axis=0) == k
            yield margin, largest_ratio(error[counts], units[k][counts])


def difference_errors(case: Case) -> Errors:
    """The errors of the remainders of the linear approximation, where there is no kink."""
    differences = slopes.Slopes(Traces(case))
    for i in range(len(differences.args)):
        u, h = differences.direction(i), remainder._STEPS[-1]
        sides = differences.measured(i, u)
        if sides.high > sides.low or differences.is_narrow or not np.isfinite(sides.uncertainty):
            continue
        (here, noise), slope = differences.value(i, 0 * u), h * differences.claimed(i, u)
        rest = abs(differences.value(i, h * u)[0] - here - slope)
        yield "_REMAINDER", largest_ratio(rest, noise + tolerance.DOUBLE * abs(slope))
        yield "_NOISE", largest_ratio(rest, 2 * noise / slopes._NOISE)


def largest_ratio(error, unit) -> float:
    error, unit = np.broadcast_arrays(error, unit)
    return float(np.max(error[unit > 0] / unit[unit > 0], initial=0.0))


def errors(rule: Rule, seed: int) -> Errors:
    case = case_with(rule, seed)
    try:
        examination = Examination(case, Traces(case))
    except CannotDerive:
        return
    yield from double_errors(examination, examination.double_run)
    if examination.own_run:
        yield from own_errors(examination, examination.own_run)
    if case.claims is None:
        yield from difference_errors(case)


def main() -> None:
    warnings.simplefilter("ignore")
    seen: dict[str, tuple[float, str]] = defaultdict(lambda: (0.0, ""))
    drawn = [(rule, seed) for rule in RIGHT for seed in range(5)]
    for rule, seed in [*drawn, *((in_training(name), 0) for name in MODELS)]:
        for margin, ratio in errors(rule, seed):
            seen[margin] = max(seen[margin], (ratio, rule.name if ratio else ""))
        jax.clear_caches()
    print("| margin | is | largest seen | in |\n| --- | --- | --- | --- |")
    for margin in (
        "CANCELLED",
        "REDUCED_PRECISION",
        "DERIVED_ERROR",
        *NARROW,
        TOGETHER,
        "FACTOR",
        "_NOISE",
        "_REMAINDER",
    ):
        ratio, name = seen[margin]
        value = next((getattr(module, margin) for module in MODULES if hasattr(module, margin)), 1)
        print(f"| `{margin}` | {value} | {ratio:.2g} | {name or 'never the largest unit'} |")
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "numpy"))
    print(f"\n{platform.machine()}, {platform.system()}, Python {platform.python_version()}, {versions}")


if __name__ == "__main__":
    main()
