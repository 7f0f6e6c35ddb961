"""How good is `jaxcnn train DATA` with nothing else said?

    python experiments/recipes.py [DATA ...] [--seeds 3] [--out runs/recipes]

trains every data set whose files are there by its recipe, once for each seed, each in a process of its own, and prints
a table: what was reached on the held-out examples (mean, and the range over the seeds), the bar, and the time. A run
that is stopped goes on where it was when the same command is given again; a complete one is only read.
"""

import argparse
import json
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from jaxcnn import data
from jaxcnn.cli.recipes import RECIPES

# data set: metrics with their bars, and the minutes
BARS = {
    "digits": ({"accuracy": 0.99}, 0.5),
    "mnist": ({"accuracy": 0.994}, 20),
    "fashion_mnist": ({"accuracy": 0.93}, 60),
    "fsdd": ({"accuracy": 0.98}, 20),
    "adrenalmnist3d": ({"auc": 0.85, "accuracy": 0.81}, 30),
    "hippocampus": ({"dice": 0.86}, 60),
}


def trained(name: str, seed: int, out: Path) -> dict[str, float]:
    """The metrics of the last epoch of a run."""
    folder = out / f"{name}-{seed}"
    command = [sys.executable, "-m", "jaxcnn", "train", name, "--seed", str(seed), "--out", str(folder)]
    subprocess.run(command, check=True)
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])


def row(name: str, runs: list[dict[str, float]]) -> str:
    """A row of the table."""
    bars, minutes = BARS[name]
    reached = []
    for metric, bar in bars.items():
        values = [run[f"test_{metric}"] for run in runs]
        mean = sum(values) / len(values)
        reached.append(f"{metric} {mean:.4f} ({min(values):.4f} to {max(values):.4f}; bar {bar})")
    seconds = sorted(run["seconds"] for run in runs)
    taken = f"{seconds[0] / 60:.1f} to {seconds[-1] / 60:.1f} (bar {minutes:g})"
    return f"| {name} | `{RECIPES[name].model}` | {', '.join(reached)} | {taken} | {len(runs)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="DATA", default=[], help=", ".join(BARS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs", "recipes"))
    chosen = parser.parse_args()
    unknown = [name for name in chosen.names if name not in BARS]
    if unknown:
        parser.error(f"argument DATA: give some of {', '.join(BARS)}, not {unknown[0]!r}")
    rows = []
    for name in chosen.names or BARS:
        try:
            data.load(name)
        except data.DataError as error:
            print(error, file=sys.stderr)
            continue
        rows.append(row(name, [trained(name, seed, chosen.out) for seed in range(chosen.seeds)]))
    versions = f"Python {platform.python_version()}, jax {version('jax')}"
    print(f"{platform.processor() or platform.machine()}, {platform.system()}, {versions}\n")
    print("| data | model | held-out examples: mean (range over seeds; bar) | minutes | seeds |\n|---|---|---|---|---|")
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
