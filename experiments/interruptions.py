"""A run that is killed again and again ends with the same bits as one that is left alone.

    python experiments/interruptions.py [--kills 10] [--data digits] [--epochs 30] [--seed 0]

`jaxcnn train` is started on one folder and ended by SIGKILL at random moments, after each of which the same command
goes on. At the end every array of the last checkpoint and every metric but the seconds must be equal, bit for bit, to
those of a run without a break. Prints a line for each kill: where the run was, and how many steps were lost.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from jaxcnn.train.checkpoint import read


def started(data: str, epochs: int, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jaxcnn", "train", data, "--epochs", str(epochs), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def newest(out: Path) -> Path | None:
    """The newest checkpoint of a run."""
    paths = (out / "checkpoints").glob("step-*.safetensors")
    return max(paths, key=lambda path: int(path.stem.removeprefix("step-")), default=None)


def metrics(out: Path) -> list[dict[str, float]]:
    """What a run has measured, but for the time."""
    path = out / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


def equal(out: Path, expected: Path) -> bool:
    paths = newest(out), newest(expected)
    if None in paths or metrics(out) != metrics(expected):
        return False
    arrays, others = (read("interruptions", path)[0] for path in paths if path is not None)
    return arrays.keys() == others.keys() and all(np.array_equal(arrays[name], others[name]) for name in arrays)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    chosen = parser.parse_args()
    moments = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory() as folder:
        alone, killed = Path(folder, "alone"), Path(folder, "killed")
        started(chosen.data, chosen.epochs, alone).communicate()
        seconds = json.loads((alone / "metrics.jsonl").read_text().splitlines()[-1])["seconds"]
        print(f"left alone: {len(metrics(alone))} epochs in {seconds:.1f} s of training")
        for number in range(chosen.kills):
            process = started(chosen.data, chosen.epochs, killed)
            assert process.stderr is not None
            next((line for line in process.stderr if line.startswith("epoch")), None)  # all is compiled
            time.sleep(moments.uniform(0, seconds / (chosen.kills + 1)))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            path = newest(killed)
            saved = "nothing saved" if path is None else f"saved until {path.stem.replace('-', ' ')}"
            ended = "killed" if process.returncode == -signal.SIGKILL else "had ended"
            print(f"kill {number + 1}: {ended}, {len(metrics(killed))} epochs written, {saved}", flush=True)
        while (process := started(chosen.data, chosen.epochs, killed)).communicate() and process.returncode:
            print(f"the last start ended with {process.returncode}")
            return 1
        same = equal(killed, alone)
        print("the same bits" if same else "ANOTHER RESULT")
        return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
