"""Checks a case as it comes, under its claim, and with faults planted; and says what came out."""

import re
import time
import traceback
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import numpy as np

from foreign_rules.case import RIGHT, WRONG, Call, Case
from foreign_rules.plants import ENTRY, SCALE, planted, watched
from jaxcnn import check

FOUND, MISSED, UNSEEN, CRASH, MISSING = "found", "MISSED", "said to be unseen", "crash", "not installed"


@dataclass
class Result:
    """What the checker said of a case; `said` holds the report of each part that did not come out as it should."""

    package: str
    name: str
    kind: str
    truth: str
    why: str
    entries: int = 0
    rules: tuple[str, ...] = ()
    verdict: str = ""
    seconds: float = 0.0
    options: str = ""
    claim: str = ""
    claimed: str = ""
    faults: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def result_of(case: Case, faults: bool = True) -> Result:
    result = Result(case.package, case.name, case.kind, case.truth, case.why)
    with jax.enable_x64(case.x64), case.within():
        try:
            call = case.make()
        except ImportError as error:
            result.verdict, result.said = MISSING, {MISSING: str(error)}
            return result
        except Exception:
            result.verdict, result.said = CRASH, {"making the call": traceback.format_exc()}
            return result
        result.entries = max(int(np.size(leaf)) for leaf in jax.tree.leaves(call.args))
        result.options = ", ".join(call.options)
        start = time.perf_counter()
        with watched() as rules:
            result.verdict = _verdict(result, "as it comes", call, call.options)
            result.rules = tuple(sorted(rules))
        result.seconds = time.perf_counter() - start
        if result.verdict == case.truth:
            result.said.pop("as it comes", None)
        options = call.options
        if call.claim is not None:
            options = {**options, **call.claim}
            result.claim = ", ".join(call.claim)
            result.claimed = _verdict(result, "under its claim", call, options)
        if RIGHT not in (result.claimed, result.verdict) or not faults or case.planted is None:
            return result
        for fault in (SCALE, ENTRY):
            with planted(fault, case.planted):
                verdict = _verdict(result, fault, call, options)
            result.faults[fault] = FOUND if verdict == WRONG else CRASH if verdict == CRASH else MISSED
            if verdict == WRONG:
                result.said.pop(fault, None)
            elif verdict != CRASH and _said_to_be_unseen(result.said[fault], fault, case.planted):
                result.faults[fault] = UNSEEN
    return result


def _verdict(result: Result, part: str, call: Call, options: dict[str, Any]) -> str:
    """What the checker says; its report is kept unless all is right."""
    try:
        report = check.gradients(call.f, *call.args, **options)
    except Exception:
        result.said[part] = traceback.format_exc()
        return CRASH
    verdict = getattr(report, "verdict", RIGHT if report else WRONG)
    if verdict != RIGHT or part in (SCALE, ENTRY):
        result.said[part] = str(report)
    return verdict


def _said_to_be_unseen(report: str, fault: str, position: int) -> bool:
    """Whether the report says of the gradient at the position that only larger errors than the fault would show."""
    rows = [row for row in report.splitlines() if row.startswith("gradient")]
    row = rows[min(position, len(rows) - 1)] if rows else ""
    _, _, seen = row.partition("would have seen ")
    if fault == ENTRY:
        seen = re.sub(r"\([^)]*\)", "", seen)  # of a common factor
    sizes = [float(size) for size in re.findall(r"\d+e[+-]\d+", seen)]
    return "absolute" not in seen and min(sizes, default=1.0) >= {SCALE: 0.01, ENTRY: 0.001}[fault]
