"""A run goes on where it was stopped, to the same bits, and nothing is lost on the way."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxcnn import data, nn, train

KEY = jax.random.key(0, impl="rbg")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)
MODEL = nn.sequential(nn.dense(4), nn.batch_norm(), nn.dropout(0.5), nn.dense(2))
OPTIMIZER = train.optimizer("adam", 0.01, ema=0.9, accumulate=2)
STEP = train.make_step(MODEL, OPTIMIZER)
FIRST = train.init(MODEL, OPTIMIZER, KEY, X.shape)
BATCHES = data.Batches(X, Y, 5, seed=0)


def fit(out, batches=BATCHES, *, step=STEP, **options):
    state = jax.tree.map(jnp.copy, FIRST)
    options = {"epochs": 3, "validation": (X, Y), "patience": 3, **options}
    return train.fit(MODEL, step, state, batches, (X, Y), out=out, **options)


def lines(out):
    """The metrics but for the time."""
    objects = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in each.items() if name != "seconds"} for each in objects]


def leaves(state):
    return jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))


def assert_same(state, expected):
    for got, leaf in zip(leaves(state), leaves(expected), strict=True):
        np.testing.assert_array_equal(got, leaf)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run without a break: its state and its metrics."""
    out = tmp_path_factory.mktemp("whole")
    return fit(out), lines(out)


class Stop(OSError):
    """An error of the caller's own, of a kind that saving has as well."""


def stopping(where):
    """Options of a fit that raises Stop once, at a place of the second epoch or in the last callback."""
    left = [True]

    def stop(is_there):
        if is_there and left:
            left.pop()
            raise Stop
        return 0

    def batches(epoch):
        for number, batch in enumerate(BATCHES(epoch)):
            stop(where == "batches" and (epoch, number) == (1, 2))
            yield batch

    def step(state, *batch):
        stop(where == "step" and int(state.step) == 6)
        return STEP(state, *batch)

    measured = []
    return {
        "batches": batches,
        "step": step,
        "metrics": {"zero": lambda output, y: stop(where == "metric" and (measured.append(0) or len(measured) == 3))},
        "callbacks": [lambda number, metrics, state: stop((where, number) in [("callback", 8), ("last callback", 12)])],
    }


@pytest.mark.parametrize(
    ("where", "step"), [("batches", 6), ("step", 6), ("metric", 8), ("callback", 8), ("last callback", 12)]
)
def test_a_run_that_an_error_ends_goes_on_to_the_same_bits(tmp_path, where, step):
    expected = fit(tmp_path / "whole", metrics={"zero": lambda output, y: 0})
    options = stopping(where)
    with pytest.raises(Stop) as error:
        fit(tmp_path / "run", **options)
    assert int(error.value.state.step) == step
    state = fit(tmp_path / "run", **options)
    assert_same(state, expected)
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")


@pytest.mark.parametrize(
    ("number", "error", "code"), [(signal.SIGINT, KeyboardInterrupt, None), (signal.SIGTERM, SystemExit, 143)]
)
def test_signals_end_a_run_behind_the_step(tmp_path, whole, number, error, code, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    sent = []

    def step(state, *batch):
        if int(state.step) == 5 and not sent:
            sent.append(os.kill(os.getpid(), number))
        return STEP(state, *batch)

    try:
        with pytest.raises(error) as stopped:
            fit(tmp_path, step=step)
    finally:
        assert signal.signal(signal.SIGINT, before) is signal.default_int_handler
    assert getattr(stopped.value, "code", None) == code
    assert int(stopped.value.state.step) == 6
    assert (tmp_path / "checkpoints" / "step-6.safetensors").exists()
    assert_same(fit(tmp_path), whole[0])
    assert lines(tmp_path) == whole[1]


def test_a_second_interrupt_does_not_wait(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def step(state, *batch):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second one was to be raised")

    try:
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path, step=step)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_that_is_killed_between_two_saves(tmp_path, whole):
    """What SIGKILL leaves: metrics of an epoch whose state was not saved, half a line, and a draft of a checkpoint."""
    fit(tmp_path, save_steps=3)
    checkpoints = tmp_path / "checkpoints"
    assert sorted(path.name for path in checkpoints.glob("step*")) == ["step-12.safetensors", "step-9.safetensors"]
    (checkpoints / "step-12.safetensors").rename(checkpoints / ".step-12.safetensors.99")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "st')
    assert_same(fit(tmp_path), whole[0])
    assert lines(tmp_path) == whole[1]


def test_a_complete_run_is_only_read(tmp_path, whole, capsys):
    fit(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert_same(fit(tmp_path), whole[0])
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert capsys.readouterr().err.splitlines()[-1] == f"the run in {tmp_path} is complete"


def test_another_run_is_not_touched(tmp_path):
    fit(tmp_path, epochs=1, config={"seed": 0})
    with pytest.raises(
        ValueError, match=r"holds a run of another configuration: epochs was 1 and is 2; seed was 0 and "
    ):
        fit(tmp_path, epochs=2, config={"seed": 1})
    other = nn.sequential(nn.dense(5), nn.batch_norm(), nn.dropout(0.5), nn.dense(2))
    state = train.init(other, OPTIMIZER, KEY, X.shape)
    expected = r"state must be of the structure of the file, got another: params/.*dense1/w is float32\[3, 4\] rather"
    with pytest.raises(ValueError, match=f"^train.fit: {expected}"):
        train.fit(
            other, STEP, state, BATCHES, validation=(X, Y), patience=3, epochs=1, out=tmp_path, config={"seed": 0}
        )
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "metrics.jsonl").write_text("")
    with pytest.raises(
        FileExistsError, match=r"^train.fit: out must be a new folder or that of a run that can go on, got"
    ):
        fit(tmp_path / "others")


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    program = (
        "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), fcntl.LOCK_EX); print(1, flush=True); input()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], **pipes) as holder:
        holder.stdout.readline()
        with pytest.raises(BlockingIOError, match=r"^train.fit: another process trains in "):
            fit(tmp_path)
        holder.communicate(b"\n")
    assert list(tmp_path.iterdir()) == []


def damage(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(tmp_path, whole, capsys):
    fit(tmp_path)
    newest, before = tmp_path / "checkpoints" / "step-12.safetensors", tmp_path / "checkpoints" / "step-8.safetensors"
    damage(newest)
    assert_same(fit(tmp_path), whole[0])
    said = capsys.readouterr().err
    assert f"{str(newest)!r} is damaged, or no file of jaxcnn: its digest is another; the checkpoint before it" in said
    damage(newest)
    damage(before)
    with pytest.raises(
        ValueError, match=r"^train.fit: every checkpoint is damaged; train.fit: '.*step-12.safetensors' is"
    ):
        fit(tmp_path)


def test_a_damaged_best_state_is_told_and_chosen_anew(tmp_path, whole, capsys):
    with pytest.raises(Stop):
        fit(tmp_path, **{**stopping("callback"), "metrics": None})
    damage(tmp_path / "checkpoints" / "best.safetensors")
    fit(tmp_path)
    assert re.search("best.safetensors' is damaged.*; the best epoch is chosen anew\n", capsys.readouterr().err)
    assert lines(tmp_path) == whole[1]


def test_a_state_stays_on_its_devices(tmp_path):
    everywhere = NamedSharding(jax.make_mesh((2,), ("data",)), PartitionSpec())
    state = jax.device_put(FIRST, everywhere)

    def failing(state, *batch):
        raise Stop

    with pytest.raises(Stop) as error:
        train.fit(MODEL, failing, state, BATCHES, epochs=1, out=tmp_path)
    assert all(leaf.sharding == everywhere for leaf in jax.tree.leaves(error.value.state))


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_full_disk_ends_the_run_in_one_line(tmp_path, whole, monkeypatch, call):
    """The second checkpoint cannot be written: the first one stays, and the run goes on from it.

    The state that was not written is handed over.
    """
    calls = {"open": (Path, "open"), "fsync": (os, "fsync"), "replace": (Path, "replace")}
    where, name = calls[call]
    real, is_full = getattr(where, name), [False]

    def failing(target, *args, **options):
        if is_full[0] and (call == "fsync" or ".step-8" in str(target)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(target, *args, **options)

    def fill(step, metrics, state):
        is_full[0] = step == 8

    monkeypatch.setattr(where, name, failing)
    expected = r"'.*step-8.safetensors' cannot be written \(No space left on device\); the checkpoint of step 4 stays"
    with pytest.raises(OSError, match=f"^train.fit: {expected}") as error:
        fit(tmp_path, callbacks=[fill])
    assert int(error.value.state.step) == 8
    assert not list((tmp_path / "checkpoints").glob(".step-8*"))
    is_full[0] = False
    assert_same(fit(tmp_path), whole[0])
    assert lines(tmp_path) == whole[1]


def test_a_folder_that_vanishes_ends_the_run_in_one_line(tmp_path):
    def vanish(step, metrics, state):
        (tmp_path / "run" / "checkpoints").rename(tmp_path / "elsewhere")

    with pytest.raises(
        OSError, match=r"^train.fit: '.*' cannot be written \(No such file or directory\); there is no ch"
    ):
        fit(tmp_path / "run", callbacks=[vanish], epochs=1)
