"""The results as a Markdown table, and what they add up to."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from foreign_rules.case import RIGHT, WRONG
from foreign_rules.plants import ENTRY, SCALE
from foreign_rules.results import CRASH, FOUND, MISSED, MISSING, UNSEEN, Result

PATTERNS = "patterns"


_COLUMNS = ("package", "function", "entries", "as it comes", "s", "what is known of it", SCALE, ENTRY)


def table(results: Iterable[Result]) -> str:
    """A line for each case; bold is what the checker got wrong."""
    lines, package = [f"| {' | '.join(_COLUMNS)} |", f"|{' --- |' * len(_COLUMNS)}"], ""
    for result in results:
        lines.append(line(result, result.package != package))
        package = result.package
    return "\n".join(lines)


def line(result: Result, with_package: bool = True) -> str:
    claimed = f"`{result.claim}`: {_marked(result.claimed, RIGHT)}" if result.claim else ""
    faults = [_marked(result.faults.get(fault, ""), FOUND, UNSEEN, "") for fault in (SCALE, ENTRY)]
    options = f", `{result.options}`" if result.options else ""
    cells = [
        _with_version(result.package) if with_package else "",
        f"{result.name}{options}{' (jvp)' if result.kind == 'custom_jvp' else ''}",
        f"{result.entries:,}",
        _marked(result.verdict, result.truth, MISSING),
        f"{result.seconds:.1f}",
        "; ".join(filter(None, (result.why, claimed))),
        *faults,
    ]
    return f"| {' | '.join(cells)} |"


def _marked(word: str, *good: str) -> str:
    return word if word in good else f"**{word}**"


def _with_version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package


def totals(results: list[Result]) -> str:
    """How many rules, false alarms, faults that were found, and crashes."""
    ran = [r for r in results if r.verdict != MISSING]
    words = [word for r in ran for word in r.faults.values()]
    verdicts = [(r.verdict, r.truth) for r in ran] + [(r.claimed, RIGHT) for r in ran if r.claimed]
    counts = {
        "functions": len(ran),
        "rules that they reach": len({name for r in ran for name in r.rules}),
        "functions with a custom_vjp": sum(r.kind == "custom_vjp" for r in ran),
        "packages": len({r.package for r in ran} - {PATTERNS}),
        "false alarms": sum(got == WRONG and truth != WRONG for got, truth in verdicts),
        "right ones not checked": sum(got == "not checked" and truth == RIGHT for got, truth in verdicts),
        "wrong ones called right": sum(got == RIGHT and truth == WRONG for got, truth in verdicts),
        "crashes": sum(got == CRASH for got, _ in verdicts) + words.count(CRASH),
        "faults planted": len(words),
        "found": words.count(FOUND),
        "said to be unseen": words.count(UNSEEN),
        "missed": words.count(MISSED),
        "not installed": len(results) - len(ran),
    }
    return "\n".join(f"{name}: {count}" for name, count in counts.items())


def machine() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "numpy"))
    system = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    return f"{system}, Python {platform.python_version()}, {versions}"
