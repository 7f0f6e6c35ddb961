"""Cases on the device that JAX finds: their time, memory and bits, ours beside those of JAX's gradients."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from benchmark.comparison import geometric_mean

from accelerators.cases import Case
from accelerators.program import Program

Row = dict[str, Any]


def measure(
    cases: Iterable[Case], end: float, threads: int, rounds: int, budget: float, save: Callable[[dict[str, Row]], None]
) -> dict[str, Row]:
    """{name: row} of the cases, ours and theirs in turn, in so many rounds of about `budget` seconds each.

    All are compiled first, side by side. What is not ready after two thirds of the time until `end` is left out, and is
    compiled beside the timing to its end. Programs that are the same are not run.
    """
    rows: dict[str, Row] = {}
    pool = ThreadPoolExecutor(threads)
    futures = {case: pool.submit(_compiled, case) for case in cases}
    wait(futures.values(), timeout=max(1, 2 / 3 * (end - time.monotonic())))
    pool.shutdown(wait=False, cancel_futures=True)
    print(f"compiled, {end - time.monotonic():.0f} s left", flush=True)
    for case, future in futures.items():
        if not future.done() or future.cancelled():
            rows[case.name] = {"error": "not compiled in time"}
        elif time.monotonic() > end:
            rows[case.name] = {"error": "no time left"}
        else:
            rows[case.name] = _measured(case, future.result(), rounds, budget)
        save(rows)
    return rows


def _compiled(case):
    """Both programs of a case and what they say of themselves, or the error of each."""
    answers = []
    for f in (case.ours, case.theirs):
        try:
            lowered = jax.jit(f).lower(*case.types)
            program = lowered.compile()
            answers.append((program, Program.of_compiled(program, 0.0)))
        except Exception as error:  # the other one may do
            answers.append((None, f"{type(error).__name__}: {str(error)[:300]}"))
    return answers


def _measured(case, both, rounds, budget):
    row: Row = {}
    if errors := [about for program, about in both if program is None]:
        return {"error": "; ".join(errors)}
    (ours, ours_about), (theirs, theirs_about) = both
    row["temporary"] = [ours_about.temporary, theirs_about.temporary]
    row["same"] = ours_about.fingerprint == theirs_about.fingerprint
    if row["same"]:
        return row
    try:
        arguments = case.arguments()
        first, derived = ours(*arguments), theirs(*arguments)
        row["difference"] = difference(first, derived)
        again = zip(jax.tree.leaves(first), jax.tree.leaves(ours(*arguments)), strict=True)
        row["repeats"] = all(bool(jnp.array_equal(one, two)) for one, two in again)
        del first, derived
        turns = [(seconds(ours, arguments, budget), seconds(theirs, arguments, budget)) for _ in range(rounds)]
        row["seconds"] = [float(np.median(t)) for t in zip(*turns, strict=True)]
        row["ratio"] = float(np.median([b / a for a, b in turns]))
    except Exception as error:  # of this program alone, for instance out of memory
        row["error"] = f"{type(error).__name__}: {str(error)[:300]}"
    return row


def seconds(program, arguments, budget):
    """Seconds per call of calls that are queued one behind the other, in about `budget` seconds."""
    begin = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    once = time.perf_counter() - begin
    calls = max(1, min(100, int(budget / once)))
    begin = time.perf_counter()
    jax.block_until_ready([program(*arguments) for _ in range(calls)][-1])
    return (time.perf_counter() - begin) / calls


def difference(a, b):
    """The largest distance over the largest entry of b, of all leaves; NaN where a number is none."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return float(np.max([distance(*(np.asarray(v, np.float64) for v in pair)) for pair in pairs]))


def distance(got, expected):
    """The largest distance over the largest entry of what is expected."""
    return np.max(np.abs(got - expected)) / np.maximum(np.max(np.abs(expected)), 1e-30)


def table(rows: dict[str, Row]) -> str:
    """A row for each program that is not the very one of jax.grad."""
    good = [row for row in rows.values() if "error" not in row]
    lines = [
        f"{sum(row['same'] for row in good)} of {len(rows)} programs are the very ones of jax.grad.\n",
        "| | ours, ms | jax.grad, ms | jax.grad / ours | temporary MB, ours / jax.grad | difference | repeats |",
        "|---" * 7 + "|",
    ]
    for name, row in rows.items():
        name = name.replace(" | ", ", ")
        if "error" in row:
            lines.append(f"| {name} | {row['error']} | | | | | |")
        elif not row["same"]:
            times = f"{1e3 * row['seconds'][0]:.3f} | {1e3 * row['seconds'][1]:.3f} | {row['ratio']:.2f}"
            memory = " / ".join(f"{n / 1e6:.1f}" for n in row["temporary"])
            last = f"{row['difference']:.0e} | {'yes' if row['repeats'] else 'no'}"
            lines.append(f"| {name} | {times} | {memory} | {last} |")
    ratios = [row["ratio"] for row in good if not row["same"]]
    if ratios:
        lines.append(f"| geometric mean of {len(ratios)} | | | {geometric_mean(ratios):.3f} | | | |")
    return "\n".join(lines)
