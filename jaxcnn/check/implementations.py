"""Several bodies of one function, compared with each other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import jax

from jaxcnn.check.case import Case
from jaxcnn.check.difference import difference
from jaxcnn.check.examination import Examination
from jaxcnn.check.report import Comparison
from jaxcnn.check.traces import CannotDerive, RuleRaises, Traces


def compare_implementations(
    case: Case, names: Sequence[str], implementations: Mapping[str, Callable[..., Any]]
) -> tuple[Comparison, ...]:
    """Each implementation against f, and each against each other, on one device of each kind."""
    if not isinstance(implementations, Mapping):
        got = f"{type(implementations).__name__} {implementations!r}"
        raise TypeError(f"{case.arguments.caller}: implementations must be a dict of functions, got {got}")
    for name, g in implementations.items():
        if not callable(g):
            got = f"{type(g).__name__} {g!r} for {name!r}"
            raise TypeError(f"{case.arguments.caller}: implementations must hold functions, got {got}")
    kinds = {device.platform: device for device in (*jax.devices("cpu"), *jax.devices())}
    rows: list[Comparison] = []
    for platform, device in kinds.items():
        where = f" on {platform}" if len(kinds) > 1 else ""
        with jax.default_device(device):
            rows += _compared(case, names, implementations, where)
    return tuple(rows)


def _compared(
    case: Case, names: Sequence[str], bodies: Mapping[str, Callable[..., Any]], where: str
) -> list[Comparison]:
    rows, examined = [], {}
    for name, g in bodies.items():
        ours = case.replace(f=case.arguments.function_of_floats(g), reference=case.reference or case.f)
        try:
            try:
                examination = Examination(ours, Traces(ours), names)
            except CannotDerive:
                examination = Examination(ours, Traces(ours.replace(reference=None)), names, derives=False)
        except (RuleRaises, ValueError) as error:
            rows.append(Comparison(f"{name}{where}", str(error)))
            continue
        examined[name] = examination
        rows += [replace(row, name=f"{name}{where}, {row.name}") for row in examination.comparisons()]
    for (a, first), (b, second) in combinations(examined.items(), 2):
        rows += _pair(f"{a} against {b}{where}", first, second)
    return rows


def _pair(title: str, first: Examination, second: Examination) -> list[Comparison]:
    """What one body gives against what another gives, in the dtype of the arguments."""
    run, other = (each.own_run or each.double_run for each in (first, second))
    rows = []
    for i, name in enumerate(first.names):
        allowed = sum(each.differences(r, r.got)[i].tolerance for each, r in ((first, run), (second, other)))
        row = difference(run.got[i], other.got[i], allowed).comparison(f"{title}, {name}")
        rows.append(replace(row, is_gradient=i >= first.output_count))
    return rows
