"""How well does the main job do, and how long does it take?

    python experiments/digits.py [--seeds N]

runs `jaxcnn train digits` with seeds 0 to N - 1, one process after the other, each with its start and compilation: JAX
keeps nothing of what the others compiled.

Result: over 10 seeds, test accuracy in %: median 99.44, from 98.89 to 99.72; seconds: median 5.6, from 5.3 to 6.3
(2 cores of an AMD EPYC, Linux, Python 3.11.7, jax and jaxlib 0.10.2, optax 0.2.8, numpy 2.4.6; November 2026).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

parser = argparse.ArgumentParser(description="Accuracy and time of the main job over several seeds.")
parser.add_argument("--seeds", type=int, default=10, metavar="N")
ENVIRONMENT = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
seeds = range(parser.parse_args().seeds)

accuracies, seconds = [], []
with tempfile.TemporaryDirectory() as folder:
    for seed in seeds:
        out = Path(folder) / str(seed)
        command = [sys.executable, "-m", "jaxcnn", "train", "digits", "--seed", str(seed), "--out", str(out)]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
        seconds.append(time.perf_counter() - start)
        last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
        accuracies.append(100 * last["test_accuracy"])
        print(f"seed {seed}: test accuracy {accuracies[-1]:.2f} %, {seconds[-1]:.1f} s", flush=True)


def spread(values, digits):
    low, median, high = min(values), statistics.median(values), max(values)
    return f"median {median:.{digits}f}, from {low:.{digits}f} to {high:.{digits}f}"


print(f"test accuracy in %: {spread(accuracies, 2)}; seconds: {spread(seconds, 1)}")
versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "optax", "numpy"))
print(f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, {versions}")
