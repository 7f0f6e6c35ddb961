"""The benchmark runs, its peers compute the same, and it says what it left out. What it measured is not looked at."""

import argparse
import importlib
import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

QUICK = {"quick": True, "dtype": "float32", "rounds": 1, "patience": 0, "budget": 0.0}
SCRIPT = Path(__file__).parent.parent.parent / "experiments" / "benchmark.py"


def benchmark(*arguments, path=None):
    """A run in a process of its own, with `path` in front of what it can import. It compiles as quickly as it can."""
    paths = [str(p) for p in (path, os.environ.get("PYTHONPATH")) if p]
    quick = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    environment = {**os.environ, **quick, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_a_quick_run(tmp_path):
    """PyTorch is not installed. One test, since a fixture would be run by every process that has one of its tests."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('No module named torch')")
    files = ("--json", tmp_path / "times.json", "--chart", tmp_path / "ratios.png")
    ran = benchmark("--quick", "--peers", "jaxcnn,lax,torch", *files, path=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((tmp_path / "times.json").read_text())
    assert "torch is skipped: not installed (No module named torch)" in ran.stderr
    assert list(report["missing"]) == ["torch"]
    assert_machine_is_told(report, ran.stdout)
    assert_training_steps(report, ran.stdout)
    assert_operations(report, ran.stdout)


def assert_machine_is_told(report, printed):
    machine = report["machine"]
    assert machine.keys() == {"platform", "device", "cores", "system", "versions", "date"}
    assert machine["platform"] == "cpu"
    assert {"Python", "numpy", "jax", "jaxlib", "jaxcnn"} <= machine["versions"].keys()
    assert printed.startswith(machine["device"])
    assert report["peak_flops"] > 0


def assert_training_steps(report, printed):
    assert [row["name"] for row in report["networks"]] == ["every layer", "autoencoder", "DP-SGD"]
    for row in report["networks"]:
        assert row.keys() == {"name", "input", "per_example", "flops", "peers"}
        assert list(row["peers"]) == ["jaxcnn", "lax"]
        for peer, result in row["peers"].items():
            compiled = {"compile_seconds"} if peer in ("jaxcnn", "lax") else set()
            assert result.keys() == {"seconds", "memory_bytes", "outcome"} | compiled
            assert_times([*chain(*result["seconds"]), *result.get("compile_seconds", []), result["memory_bytes"]])
            before, after = result["outcome"]
            assert after < before
            np.testing.assert_allclose(result["outcome"], row["peers"]["jaxcnn"]["outcome"], rtol=1e-3)
        assert f"| {row['name']} |" in printed


def assert_operations(report, printed):
    parts = [("forward", "input", "filter"), ("forward", "input", "filter"), ("forward", "input")]
    assert [tuple(row["parts"]) for row in report["operations"]] == parts
    for row in report["operations"]:
        assert row.keys() == {"name", "flops", "bytes", "parts"}
        assert row["bytes"] > 0
        for results in row["parts"].values():
            assert list(results) == ["jaxcnn", "lax"]
            for result in results.values():
                assert result.keys() == {"seconds", "program"}
                assert_times([*chain(*result["seconds"])])
        (line,) = (line for line in printed.splitlines() if line.startswith(f"| {row['name']} |"))
        same = [results["jaxcnn"]["program"] == results["lax"]["program"] for results in row["parts"].values()]
        assert line.count("| same |") == sum(same)
    assert same == [True, False]  # max-pooling, the last


def assert_times(times):
    assert len(times) > 0
    assert np.all(np.isfinite(times) & (np.array(times) > 0))


def test_unknown_names_are_refused():
    ran = benchmark("--peers", "theano")
    assert ran.returncode == 2
    assert "unknown theano; there are jaxcnn, lax" in ran.stderr


def turns(*ratios, program="theirs"):
    """Results of two peers, one of which takes so many times longer in each turn; jaxcnn has a turn more."""
    jaxcnn = {"seconds": [[1.0, 2.0, 9.0]] * (len(ratios) + 1), "program": "ours"}
    return {"jaxcnn": jaxcnn, "lax": {"seconds": [[2.0 * r, 2.0 * r] for r in ratios], "program": program}}


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (turns(1.0, 1.2, 0.8, 1.0, 0.9), False),
        (turns(1.0, 1.01, 0.99, 1.0, 1.02), True),
        (turns(1.0, 1.0, 1.0, 1.0), False),
        (turns(1.2, 1.0, 1.3, 1.5, 1.1), False),
        (turns(*[1.2, 1.0, 1.3, 1.5, 1.1] * 5), True),  # as far apart, and seen to be slower
        (turns(9.0, 7.0, 12.0, 10.0, 9.0), True),
        (turns(1.0, 1.2, 0.8, 1.0, 0.9, program="ours"), True),
        ({**turns(1.0, 1.2, 0.8), "lax": {"error": "has failed", "seconds": []}}, True),
    ],
)
def test_turns_end_when_the_ratio_is_settled(comparison, results, expected):
    assert comparison.is_settled(results, "lax") is expected


class Peer:
    """Stands in for a worker: how long its calls take in each turn, the last one from then on."""

    def __init__(self, *seconds):
        self.seconds = list(seconds)

    def ask(self, do, **_):
        seconds = self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]
        if do == "time" and seconds is None:
            raise measure().PeerError("out of memory")
        return {"seconds": [seconds]}


def measure():
    return importlib.import_module("benchmark.measure")


class Trained:
    """Stands in for a worker that trains a network: its losses."""

    def __init__(self, *losses):
        self.losses, self.about = losses, {"platform": "cpu"}

    def ask(self, do, **_):
        return {"outcome": self.losses} if do == "network" else {"seconds": [1.0]}


def test_a_peer_that_computes_something_else_is_not_timed(comparison):
    """The losses of one are one per cent too large; another learns one and a half per cent less."""
    workers = {"jaxcnn": Trained(2.0, 1.9), "lax": Trained(2.0, 1.9), "flax": Trained(2.02, 1.919)}
    workers["torch"] = Trained(2.0, 1.9015)
    row = measure().network(workers, "every layer", argparse.Namespace(**QUICK))
    assert [bool(result["seconds"]) for result in row["peers"].values()] == [True, True, False, False]
    failures = importlib.import_module("benchmark.report").failures({"networks": [row], "operations": []})
    assert [failure[: len("every layer: torch computes")] for failure in failures] == [
        "every layer: flax computes ",
        "every layer: torch computes",
    ]


def test_who_is_settled_takes_no_part_in_further_turns(comparison):
    unsteady = Peer(*[0.5, 1.5, 0.7, 1.4, 0.6, 1.0, 1.0, 1.0, 1.0], 1.0)
    row = measure().Row({"jaxcnn": Peer(1.0), "steady": Peer(7.0), "failing": Peer(2.0, None), "unsteady": unsteady})
    row.time(argparse.Namespace(rounds=5, patience=30), 0.0)
    count = {peer: len(result["seconds"]) for peer, result in row.results.items()}
    assert count["steady"] == 5
    assert count["failing"] == 1
    assert 5 < count["unsteady"] == count["jaxcnn"] < 40
    assert row.results["failing"]["error"] == "out of memory"


def test_patience_ends_the_turns(comparison):
    row = measure().Row({"jaxcnn": Peer(1.0), "lax": Peer(0.5, 1.5, 0.7, 1.4, 0.6)})
    row.time(argparse.Namespace(rounds=5, patience=0), 0.0)
    assert len(row.results["lax"]["seconds"]) == 5


def test_the_ratio_is_that_of_most_turns(comparison):
    assert comparison.ratio(turns(1.5, 4.0, 1.4, 1.5, 9.0, 1.5), "lax") == 1.5
    assert comparison.ratio(turns(1.5, 4.0, program="ours"), "lax") == 1
    assert np.isnan(comparison.ratio(turns(1.5), "torch"))


@pytest.fixture
def comparison(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module("benchmark.comparison")
