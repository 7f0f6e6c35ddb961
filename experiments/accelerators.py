"""What do our gradients do on accelerators, beside those that JAX derives?

    python experiments/accelerators.py --out FOLDER                     compiles for devices that are not here
    python experiments/accelerators.py --device --out FOLDER            8 minutes on the device that JAX finds
    python experiments/accelerators.py --device --quick --out FOLDER    small, on a CPU too: does it work?

The first needs `pip install 'jaxcnn[accelerators]'`, and says what XLA's compilers make of the operations and networks
of `benchmark.py`, of other ops and of whole models: kinds of kernels, memory, and on a TPU bytes and XLA's estimate of
the time. Nothing runs. The second measures on a device: how far gradients are from float64, how long they take, how
much memory XLA says they need, whether two runs agree to the last bit, and the tests of every op. Both write to
`FOLDER/compiled.json` or `device.json` after every program, and tables beside it. A part that fails is named, and the
next begins.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
if "--device" not in sys.argv:  # or JAX looks for the devices of the compilers that are installed
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax
from accelerators import cases, compiling, measuring, numbers
from accelerators.targets import TARGETS, has_compiler

HERE = Path(__file__).parent
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
CASES = {
    "operations": cases.operation_cases,
    "others": cases.other_cases,
    "networks": cases.network_cases,
    "models": cases.model_cases,
}
# On a device: the share of the time that a part may take, how many times the images of a case are measured, and for how
# many seconds a round measures it.
SHARES = {"numbers": 20, "operations": 25, "others": 12, "networks": 10, "models": 18, "determinism": 7, "tests": 8}
BATCHES = {"operations": {"batches": 8}, "others": {"batches": 4}}
SECONDS = {"operations": 0.004, "others": 0.004, "networks": 0.02, "models": 0.1}


def chosen_cases(part, options, **more):
    """The cases of a part in all dtypes, those that are asked for."""
    found = (case for dtype in options.dtypes for case in CASES[part](dtype, options.quick, **more))
    chosen = [case for case in found if any(text in case.name for text in options.only or [""])]
    if not chosen:
        raise ValueError(f"--only: no case of the part {part} has {' or '.join(options.only)} in its name")
    return chosen


def compile_part(target, part, options, save):
    rows = compiling.compile_cases(chosen_cases(part, options), target, options.threads, save)
    return f"{compiling.summary(rows)}\n\n{compiling.table(rows, whole=part in ('networks', 'models'))}"


def device_part(part, options, save):
    """What a part measures, as a table. What it leaves of its share of the time is for the parts behind."""
    behind = options.parts[options.parts.index(part) :]
    left = options.end - time.monotonic()
    end = time.monotonic() + left * SHARES[part] / sum(SHARES[name] for name in behind)
    if part == "numbers":
        return numbers.table(numbers.distances(options.out, options.quick, options.threads, end, save))
    if part == "determinism":
        return numbers.table(numbers.repeated(options.quick, options.threads, end, save))
    if part == "tests":
        return tests_on_the_device(options, save)
    found = chosen_cases(part, options, **({} if options.quick else BATCHES.get(part, {})))
    return measuring.table(measuring.measure(found, end, options.threads, options.rounds, SECONDS[part], save))


def tests_on_the_device(options, save):
    """The tests of every op."""
    left = max(30, options.end - time.monotonic())
    chosen = "jax_derives and relu" if options.quick else "jax_derives or dtype"
    pytest = ["pytest", "-v", "-n", "6", "--tb=line", "--maxfail=60", "-p", "no:benchmark", "-k", chosen]
    command = [sys.executable, "-m", *pytest, "tests/ops/test_every_op.py"]
    environment = {**os.environ, "JAX_PLATFORMS": "", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.1"}
    try:
        done = subprocess.run(command, env=environment, cwd=HERE.parent, capture_output=True, text=True, timeout=left)
        text, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as late:
        text, code = (late.stdout or b"").decode(), "no time left"
    (options.out / "tests.txt").write_text(text)
    save({"exit": code})
    lines = text.splitlines()
    return "\n".join([*(line for line in lines if " FAILED " in line), *lines[-5:]])


def run(parts, report, path):
    """Runs the parts {name: function of `save`}, and writes the report and the tables after each."""
    tables, begin = [], time.monotonic()

    def save(name, rows):
        report["parts"][name] = rows
        path.write_text(json.dumps(report, indent=1))

    for name, part in parts.items():
        try:
            tables.append(f"## {name}\n\n{part(partial(save, name))}")
        except Exception as error:
            traceback.print_exc()
            report.setdefault("failed", {})[name] = f"{type(error).__name__}: {error}"
        print(f"{name}: {time.monotonic() - begin:.0f} s", flush=True)
        path.with_suffix(".md").write_text("\n\n".join([report["about"], *tables]) + "\n")
    path.write_text(json.dumps(report, indent=1))
    return bool(report.get("failed"))


def parsed():
    parser = argparse.ArgumentParser(description="Gradients on accelerators, ours and those that JAX derives.")
    parser.add_argument("--device", action="store_true", help="measure on the device that JAX finds")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is written")
    parser.add_argument("--targets", default=",".join(TARGETS), help="to compile for (%(default)s)")
    parser.add_argument("--parts", help=f"to compile: {', '.join(CASES)}; on a device also numbers, determinism, tests")
    parser.add_argument("--dtypes", default="float32,bfloat16", help="(%(default)s)")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="TEXT",
        help="the cases with one of these texts in their name; not of numbers, determinism, tests",
    )
    parser.add_argument("--threads", type=int, default=max(1, CORES - 2), help="that compile (%(default)s)")
    parser.add_argument("--minutes", type=float, default=8, help="on a device; nothing begins later (%(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="on a device (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it work?")
    options = parser.parse_args()
    known = list(SHARES if options.device else CASES)
    options.parts = options.parts.split(",") if options.parts else known
    options.dtypes, options.targets = options.dtypes.split(","), options.targets.split(",")
    for name in ("threads", "rounds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}: expected 1 or more, got {getattr(options, name)}")
    for name, given, there in (
        ("dtypes", options.dtypes, numbers.DTYPES),
        ("parts", options.parts, known),
        ("targets", options.targets, TARGETS),
    ):
        if unknown := [value for value in given if value not in there]:
            parser.error(f"--{name}: expected some of {', '.join(there)}, got {', '.join(unknown)}")
    if not options.device and (missing := [target for target in options.targets if not has_compiler(target)]):
        parser.error(f"--targets: no compiler for {', '.join(missing)}; pip install 'jaxcnn[accelerators]'")
    return options


def main():
    options = parsed()
    options.out.mkdir(parents=True, exist_ok=True)
    options.end = time.monotonic() + 60 * options.minutes
    if options.device:
        device = jax.devices()[0]
        about = f"{device.device_kind}, jax {jax.__version__}, {CORES} cores"
        parts = {part: partial(device_part, part, options) for part in options.parts}
        path = options.out / "device.json"
    else:
        about = f"Compiled with jax {jax.__version__}, not run"
        both = [(target, part) for target in options.targets for part in options.parts]
        parts = {f"{part} for {target}": partial(compile_part, target, part, options) for target, part in both}
        path = options.out / "compiled.json"
    print(about, flush=True)
    report: dict[str, Any] = {"about": about, "parts": {}}
    return run(parts, report, path)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # compilations that came too late would be waited for
