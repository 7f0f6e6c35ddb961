"""What the times of a row say: each peer's median, its ratio to jaxcnn, and whether more turns would change that.

Results are {peer: {"seconds": turns, ...}}, each turn being the seconds of several calls. Turns are interleaved: what
else the machine does is much the same in one turn of two peers, and may be something else in the next. So the ratio is
the median of the ratios of the turns.
"""

from typing import Any

import numpy as np

Results = dict[str, dict[str, Any]]


def calls(result: dict[str, Any]) -> np.ndarray:
    """The seconds of all calls in all turns; none of a peer that failed."""
    return np.array([] if "error" in result else [seconds for turn in result["seconds"] for seconds in turn])


def seconds(result: dict[str, Any]) -> float:
    """The median of all calls, or NaN of a peer that failed."""
    return float(np.median(calls(result))) if calls(result).size else float("nan")


def is_same(results: Results, peer: str) -> bool:
    """Whether the peer runs the very program that jaxcnn runs."""
    programs = [results[name].get("program") for name in ("jaxcnn", peer) if "error" not in results[name]]
    return len(programs) == 2 and programs[0] is not None and programs[0] == programs[1]


def ratio(results: Results, peer: str) -> float:
    """How many times longer the peer takes than jaxcnn; 1 where it is the same program, NaN where one failed."""
    if peer in results and is_same(results, peer):
        return 1.0
    ratios = _ratios_of_turns(results, peer)
    return float(np.median(ratios)) if ratios.size else float("nan")


def ratio_of_fastest(results: Results, peer: str) -> float:
    """The same of the fastest calls: where it is 1 and the ratio is not, the machine was busy with something else."""
    return float(calls(results[peer]).min() / calls(results["jaxcnn"]).min())


def is_settled(results: Results, peer: str) -> bool:
    """Whether more turns would hardly change the ratio, or not on which side of 1 it is.

    The standard error of the median, 0.93 times the distance of the quartiles over the root of their number, is below
    2 %, or below a quarter of the distance from 1. That is a rough guide: after fewer than 5 turns it says nothing.
    """
    ratios = _ratios_of_turns(results, peer)
    if is_same(results, peer) or not ratios.size:
        return True
    if ratios.size < 5:
        return False
    low, middle, high = np.quantile(np.log(ratios), (0.25, 0.5, 0.75))
    return bool(0.93 * (high - low) / np.sqrt(ratios.size) < max(0.02, abs(middle) / 4))


def _ratios_of_turns(results, peer):
    both = [results.get(name, {"error": "takes no part"}) for name in (peer, "jaxcnn")]
    if any("error" in result for result in both):
        return np.array([])
    theirs, ours = ([np.median(turn) for turn in result["seconds"]] for result in both)
    return np.array(theirs) / np.array(ours[: len(theirs)])  # one that is settled takes part no longer


def geometric_mean(values: list[float]) -> float:
    values = [value for value in values if np.isfinite(value)]
    return float(np.exp(np.mean(np.log(values)))) if values else float("nan")
