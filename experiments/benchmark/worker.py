"""The process of one peer: it reads requests from stdin and answers each with one line of JSON."""

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmark import networks, operations


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class Loaded:
    """A compiled function with its arguments.

    Attributes:
        start: starts one call and returns what to wait for.
        wait: waits for the result of the last start.
        outcome: numbers by which the peers are compared.
        burst: calls that are started before waiting. On an accelerator they run in order while the next is being
            started, as in training; on a CPU they could run at the same time, so there it is 1.
        facts: what else is known: bytes of memory, floating-point operations, a fingerprint of the program.
        compile: compiles it once more, with empty caches, and returns the seconds.
    """

    start: Callable[[], Any]
    wait: Callable[[Any], Any]
    outcome: list[float]
    burst: int
    facts: dict[str, Any] = field(default_factory=dict)
    compile: Callable[[], float] | None = None

    def seconds(self) -> float:
        """Seconds per call."""
        begin = time.perf_counter()
        results = [self.start() for _ in range(self.burst)]
        self.wait(results[-1])
        return (time.perf_counter() - begin) / self.burst

    def handful(self, budget: float) -> list[float]:
        """The seconds per call of 3 to 50 bursts in about `budget` seconds, after one untimed that fills the caches.

        One that takes longer than a second is the only one.
        """
        first = self.seconds()
        if first * self.burst > 1:
            return [first]
        return [self.seconds() for _ in range(max(3, min(50, round(budget / (first * self.burst)))))]


def load(peer: Any, do: str, dtype: str, quick: bool, name: str = "", part: str = "") -> Loaded:
    if do == "network":
        return peer.load_network(networks.choose(name, quick), dtype)
    if do == "operation":
        return peer.load_operation(operations.choose(name, quick), part, dtype)
    return peer.load_product(dtype, quick)


def serve(name: str, platform: str | None) -> None:
    """Answers requests until stdin ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer

    def answer(**content):
        print(json.dumps(content), file=answers, flush=True)

    try:
        peer = importlib.import_module(f"benchmark.peers.{name}_peer").Peer(platform)
    except ModuleNotFoundError as error:
        return answer(missing=f"not installed ({error})")
    if platform not in (None, peer.platform):
        return answer(missing=f"finds no {platform}")
    answer(about=peer.about)

    loaded: Loaded | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "time":
                assert loaded is not None
                answer(seconds=loaded.handful(request["budget"]))
            elif request["do"] == "compile":
                assert loaded is not None
                assert loaded.compile is not None
                answer(seconds=loaded.compile())
            else:
                loaded = None  # frees its memory first
                loaded = load(peer, **request)
                answer(outcome=loaded.outcome, **loaded.facts)
        except Exception as error:
            traceback.print_exc()
            answer(error=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
