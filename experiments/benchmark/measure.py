"""The parent's side: starts the workers, lets one of them work at a time, and collects what they answer."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmark import layers, networks, operations
from benchmark.comparison import is_settled

SCRIPT = Path(__file__).parent.parent / "benchmark.py"


class PeerError(Exception):
    """A peer that is missing, or that could not do what it was asked to."""


class Worker:
    """The process of a peer."""

    def __init__(self, peer: str, python: str, platform: str | None, share: float):
        command = [python, str(SCRIPT), "--worker", peer, *(["--platform", platform] if platform else [])]
        environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{share:.2f}", **os.environ}  # of a GPU that all use
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True)
        first = self._answer()
        if "missing" in first:
            self.close()
            raise PeerError(first["missing"])
        self.about: dict[str, Any] = first["about"]

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise PeerError("its process had ended") from None
        return self._answer()

    def _answer(self):
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise PeerError(f"its process ended with exit code {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def close(self) -> None:
        self.process.communicate()


def start(peers: list[str], pythons: dict[str, str]) -> tuple[dict[str, Worker], dict[str, str]]:
    """A worker for each peer that is installed, on the platform of the first; and why the others are not there."""
    workers, missing = {}, {}
    platform = None
    for peer in peers:
        try:
            workers[peer] = Worker(peer, pythons.get(peer, sys.executable), platform, share=0.9 / len(peers))
            platform = workers[peer].about["platform"]
        except (PeerError, OSError) as error:
            missing[peer] = str(error)
    return workers, missing


def peak(worker: Worker, dtype: str, quick: bool) -> float:
    """Floating-point operations per second of a large matrix product: the fastest of several."""
    flops = worker.ask(do="product", dtype=dtype, quick=quick)["flops"]
    return flops / min(worker.ask(do="time", budget=1.0)["seconds"])


def tolerance(workers: dict[str, Worker], dtype: str) -> float:
    """How far outcomes may differ, relatively. On accelerators the factors of a float32 product may be rounded."""
    if dtype == "bfloat16":
        return 5e-2
    return 1e-3 if workers["jaxcnn"].about["platform"] == "cpu" else 1e-2


def network(workers: dict[str, Worker], name: str, options: Any) -> dict[str, Any]:
    """A row of the table of networks: one training step in every peer.

    The losses before and after the first update agree, and in float32 on a CPU how much it lowers the loss, too.
    """
    described = networks.choose(name, options.quick)
    row = Row(workers)
    request = {"do": "network", "name": name, "quick": options.quick, "dtype": options.dtype}
    row.load(request)
    accuracy = tolerance(workers, options.dtype)
    row.compare(lambda losses: losses, accuracy)
    if accuracy <= 1e-3:
        row.compare(np.diff, 1e-2)
    row.compile(1 if options.quick else 9)
    row.time(options, 4 * options.budget)
    about = {"name": name, "input": described.input, "per_example": described.per_example}
    return {**about, "flops": layers.Shapes(described).flops, "peers": row.results}


def operation(workers: dict[str, Worker], name: str, options: Any) -> dict[str, Any]:
    """A row of the table of operations: each part of it in jaxcnn and lax, which agree in a sample of the results."""
    described = operations.choose(name, options.quick)
    parts = {}
    for part in described.parts:
        row = Row({peer: worker for peer, worker in workers.items() if peer in ("jaxcnn", "lax")})
        row.load({"do": "operation", "name": name, "part": part, "quick": options.quick, "dtype": options.dtype})
        row.compare(lambda sample: sample, tolerance(workers, options.dtype))
        row.time(options, options.budget)
        for result in row.results.values():
            result.pop("outcome", None)
        parts[part] = row.results
    size = {"float32": 4, "bfloat16": 2}[options.dtype]
    return {"name": name, "flops": described.flops, "bytes": size * described.numbers, "parts": parts}


class Row:
    """What each peer answers about one network or operation: its `results`, or the error that it ended with."""

    def __init__(self, workers: dict[str, Worker]):
        self.workers = workers
        self.results: dict[str, dict[str, Any]] = {peer: {"seconds": []} for peer in workers}

    def load(self, request: dict[str, Any]) -> None:
        for peer, answer in self._ask_each(list(self.workers), request):
            self.results[peer].update(answer)

    def compare(self, of: Callable[[np.ndarray], np.ndarray], tolerance: float) -> None:
        """An outcome that is not that of the first peer is an error."""
        sound = {
            peer: of(np.array(result["outcome"])) for peer, result in self.results.items() if "error" not in result
        }
        expected = next(iter(sound.values()), np.zeros(0))
        for peer, outcome in sound.items():
            if not np.all(np.abs(outcome - expected) <= tolerance * np.abs(expected).max()):
                self.results[peer]["error"] = f"computes {outcome[:2]} where {next(iter(sound))} has {expected[:2]}"

    def time(self, options: Any, budget: float) -> None:
        """Turns of all peers, as many as there are rounds, and then of jaxcnn and those that are not settled yet.

        Who takes no part once takes part no more, so that turns of the same number were taken together.
        """
        begin, peers = time.monotonic(), list(self.workers)
        for turn in itertools.count():
            if turn >= options.rounds:
                unsettled = [peer for peer in peers if peer != "jaxcnn" and not is_settled(self.results, peer)]
                if not unsettled or time.monotonic() > begin + options.patience:
                    return
                peers = ["jaxcnn", *unsettled]
            first = turn % len(peers)  # another one in every turn
            for peer, answer in self._ask_each(peers[first:] + peers[:first], {"do": "time", "budget": budget}):
                self.results[peer]["seconds"].append(answer["seconds"])

    def compile(self, times: int) -> None:
        """Compiling once more, in jaxcnn and lax."""
        compiled = [peer for peer in self.workers if peer in ("jaxcnn", "lax")]
        for peer, answer in self._ask_each(compiled * times, {"do": "compile"}):
            self.results[peer].setdefault("compile_seconds", []).append(answer["seconds"])

    def _ask_each(self, peers, request):
        """The answers of those peers that are well, one after the other."""
        for peer in peers:
            if "error" not in self.results[peer]:
                time.sleep(0.01)  # for a while, the threads of the one before spin
                try:
                    yield peer, self.workers[peer].ask(**request)
                except PeerError as error:
                    self.results[peer]["error"] = str(error)
