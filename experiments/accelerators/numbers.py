"""How far gradients on a device are from float64, and whether they are the same twice."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from accelerators.cases import operation_cases, other_cases
from accelerators.measuring import distance

DTYPES = "float32", "bfloat16", "float16"
Row = list[Any]  # what is said of ours, and of JAX's


def distances(
    folder: Path, quick: bool, threads: int, end: float, save: Callable[[dict[str, Row]], None]
) -> dict[str, Row]:
    """{name: row} of the largest distance of the gradients from those in float64 on a CPU, over their largest entry.

    Another process, which has float64, computes the expected ones.
    """
    path = folder / "expected.npz"
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-m", "accelerators.numbers", str(path), *(["quick"] if quick else [])]
    subprocess.run(command, env=environment, check=True, timeout=max(1, end - time.monotonic()))
    expected = dict(np.load(path))
    path.unlink()
    cases = [case for dtype in DTYPES for case in _cases(dtype, quick)]
    return _rows(cases, lambda case, f: _distance(f, case, expected), threads, end, save)


def repeated(quick: bool, threads: int, end: float, save: Callable[[dict[str, Row]], None]) -> dict[str, Row]:
    """{name: row} of whether two runs agree bit for bit, compiled with XLA's flag for determinism on GPUs."""
    cases = [case for dtype in ("float32", "bfloat16") for case in _cases(dtype, quick)]
    return _rows(cases, _repeats, threads, end, save)


def _rows(cases, of, threads, end, save):
    """{name: what `of` says of our function and of JAX's}, as far as the time goes; or the error in its place."""
    rows: dict[str, Row] = {}

    def both(case):
        return None if time.monotonic() > end else [_or_error(of, case, f) for f in (case.ours, case.theirs)]

    with ThreadPoolExecutor(threads) as pool:
        for case, row in zip(cases, pool.map(both, cases), strict=True):
            rows[case.name] = row or ["no time left", ""]
            save(rows)
    return rows


def _or_error(of, case, f):
    try:
        return of(case, f)
    except Exception as error:  # of this program alone: XLA refuses what is not deterministic, or memory ends
        return f"{type(error).__name__}: {str(error)[:100]}"


def _repeats(case, f):
    program, arguments = jax.jit(f, compiler_options={"xla_gpu_deterministic_ops": True}), case.arguments()
    once, twice = (jax.tree.leaves(program(*arguments)) for _ in range(2))
    return all(bool(jnp.array_equal(a, b)) for a, b in zip(once, twice, strict=True))


def table(rows: dict[str, Row]) -> str:
    lines = ["| | ours | jax.grad |", "|---|---|---|"]
    for name, row in rows.items():
        cells = [f"{cell:.1e}" if isinstance(cell, float) else str(cell) for cell in row]
        lines.append(f"| {name.replace(' | ', ', ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cases(dtype, quick):
    """Gradients, of ops that are no convolutions with the value."""
    return [case for case in operation_cases(dtype, quick) if "forward" not in case.name] + [*other_cases(dtype, quick)]


def _key(case, number):
    """The name of a result of a case, whatever the dtype."""
    return f"{case.name.rpartition(' | ')[0]} | {number}"


def _distance(f, case, expected):
    """The largest distance from what is expected of any result, over its largest entry."""
    entries = enumerate(_some_entries(f, case))
    return float(np.max([distance(got, expected[_key(case, number)]) for number, got in entries]))


def _some_entries(f, case):
    """About 4,096 entries of each result."""
    results = [np.asarray(a, np.float64).ravel() for a in jax.tree.leaves(jax.jit(f)(*case.arguments()))]
    return [a[:: max(1, a.size // 4096)] for a in results]


def _write_expected(path, quick):
    cases = _cases("float64", quick)
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 2) // 2)) as pool:
        results = pool.map(lambda case: _some_entries(case.ours, case), cases)
        expected: dict[str, Any] = {}
        for case, entries in zip(cases, results, strict=True):
            expected |= {_key(case, number): a for number, a in enumerate(entries)}
    np.savez(path, **expected)


if __name__ == "__main__":
    _write_expected(sys.argv[1], "quick" in sys.argv[2:])
