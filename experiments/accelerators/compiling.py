"""Programs of all cases for devices that need not be here, ours beside those of JAX's gradients."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmark.comparison import geometric_mean

from accelerators.cases import Case
from accelerators.targets import compile_for

Row = dict[str, Any]


def compile_cases(cases: Iterable[Case], target: str, threads: int, save: Callable[[dict[str, Row]], None]):
    """{name: row} of the cases; `save` gets it after each. An error of XLA stands in the row."""
    rows: dict[str, Row] = {}
    with ThreadPoolExecutor(threads) as pool:
        for case, row in pool.map(lambda case: (case, _row(case, target)), cases):
            rows[case.name] = row
            save(rows)
    return rows


def _row(case, target):
    try:
        ours, theirs = (compile_for(target, f, *case.types) for f in (case.ours, case.theirs))
    except Exception as error:  # of XLA, about this program alone
        return {"error": f"{type(error).__name__}: {str(error)[:200]}"}
    return {
        "same": ours.fingerprint == theirs.fingerprint,
        "kernels": [dict(ours.kernels), dict(theirs.kernels)],
        "temporary": [ours.temporary, theirs.temporary],
        "moved": [ours.moved, theirs.moved],
        "estimate": [ours.estimate, theirs.estimate],
        "compiled_in": [ours.compiled_in, theirs.compiled_in],
    }


def summary(rows: dict[str, Row]) -> str:
    """What the rows say as a whole, for each dtype; rows of what is stored otherwise by themselves."""
    good = {name: row for name, row in rows.items() if "error" not in row}
    lines = [f"{sum(row['same'] for row in good.values())} of {len(rows)} programs are the very ones of jax.grad."]
    groups: dict[str, list[Row]] = {}
    for name, row in good.items():
        stored = ", convolutions stored" if "stored" in name else ""
        groups.setdefault(name.rpartition(" | ")[2] + stored, []).append(row)
    for group, members in groups.items():
        for key, label in (("temporary", "temporary memory"), ("moved", "bytes"), ("estimate", "XLA's estimate")):
            ratios = [ours / theirs for ours, theirs in (row[key] for row in members) if ours and theirs]
            if ratios:
                mean, most = geometric_mean(ratios), max(ratios)
                lines.append(f"{group}: {label}, ours over jax.grad's: geometric mean {mean:.2f}, most {most:.2f}.")
    if errors := [name for name in rows if name not in good]:
        lines.append(f"Not compiled: {'; '.join(errors)}.")
    return "\n".join(lines)


def table(rows: dict[str, Row], whole: bool) -> str:
    """A row for each program; for those that are the same only if it is to be `whole`."""
    with_estimate = any(row.get("estimate", [None])[0] for row in rows.values())
    heads = ["", "kernels, ours", "kernels, jax.grad", "temporary MB"]
    heads += ["MB moved", "estimate, ms", "ours / jax.grad"] if with_estimate else []
    lines = [f"| {' | '.join([*heads, 'compiled in, s'])} |", "|---" * (len(heads) + 1) + "|"]
    for name, row in rows.items():
        name = name.replace(" | ", ", ")
        if "error" in row:
            lines.append(f"| {name} | {row['error']}" + " |" * len(heads))
        elif whole or not row["same"]:
            cells = [*map(_kinds, row["kernels"]), _pair(row["temporary"], 1e-6, 2)]
            if with_estimate:
                ours, theirs = row["estimate"]
                cells += [_pair(row["moved"], 1e-6, 1), _pair(row["estimate"], 1e3, 3), f"{ours / theirs:.2f}"]
            lines.append(f"| {' | '.join([name, *cells, _pair(row['compiled_in'], 1, 1)])} |")
    return "\n".join(lines)


def _kinds(kernels):
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kernels.items(), key=lambda item: item[0] == "fusion"))


def _pair(values, scale, digits):
    return " / ".join(f"{value * scale:.{digits}f}" for value in values)
