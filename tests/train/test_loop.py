"""Evaluation, the epoch loop and what it leaves in the run folder."""

import functools
import io
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import data, nn, train

KEY = jax.random.key(0, impl="rbg")  # compiles four times as fast as the default
RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)
FIELDS = ["epoch", "step", "train_loss", "test_loss", "test_accuracy", "seconds"]


def batches(epoch):
    return data.batches(X, Y, 5, seed=0, epoch=epoch)


MODEL = nn.sequential(nn.dense(4), nn.batch_norm(), nn.dropout(0.5), nn.dense(2))
STEP = train.make_step(MODEL, train.sgd(0.1))


@functools.cache
def first_state():
    return train.init(MODEL, train.sgd(0.1), KEY, X.shape)


def start():
    return jax.tree.map(jnp.copy, first_state())


def fit(out, *, epochs=3, batches=batches):
    return train.fit(MODEL, STEP, start(), batches, (X, Y), epochs=epochs, out=out)


def metrics(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_parameters_are_no_state():
    with pytest.raises(TypeError, match=r"^train.evaluate: state must be a TrainState, got dict"):
        train.evaluate(MODEL, start().params, X, Y)
    with pytest.raises(TypeError, match=r"^train.fit: state must be a TrainState, got tuple"):
        train.fit(MODEL, STEP, (start().params, {}), batches, (X, Y), epochs=1, out="never")


def test_metrics_has_one_object_per_epoch(tmp_path):
    state = fit(tmp_path / "new" / "run")
    lines = metrics(tmp_path / "new" / "run")
    assert [list(line) for line in lines] == [FIELDS] * 3
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, 4), (2, 8), (3, 12)]
    assert (lines[-1]["test_loss"], lines[-1]["test_accuracy"]) == train.evaluate(MODEL, state, X, Y)
    assert 0 <= lines[0]["seconds"] <= lines[1]["seconds"] <= lines[2]["seconds"]


def test_the_training_loss_is_the_mean_over_the_steps(tmp_path):
    fit(tmp_path, epochs=1)
    state, losses = start(), []
    for x, y in batches(0):
        state, loss = STEP(state, x, y)
        losses.append(float(loss))
    assert metrics(tmp_path)[0]["train_loss"] == pytest.approx(np.mean(losses), rel=1e-6)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_its_metrics(tmp_path, error):
    def interrupted(epoch):
        if epoch == 2:
            assert len(metrics(tmp_path)) == 2
            raise error
        return batches(epoch)

    with pytest.raises(error):
        fit(tmp_path, batches=interrupted)
    assert [line["epoch"] for line in metrics(tmp_path)] == [1, 2]


@pytest.mark.parametrize(("factor", "offset"), [(np.nan, 0), (1, 1)], ids=["images", "labels"])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, factor, offset):
    def broken(epoch):
        return [(x * np.float32(factor), y + offset) if epoch == 1 else (x, y) for x, y in batches(epoch)]

    expected = "a smaller learning rate may help, if images are finite and labels are classes"
    with pytest.raises(FloatingPointError, match=f"^the training loss of epoch 2 is nan: {expected}$"):
        fit(tmp_path, batches=broken)
    assert [line["epoch"] for line in metrics(tmp_path)] == [1]


def test_a_run_is_never_written_over(tmp_path):
    fit(tmp_path, epochs=1)
    before = (tmp_path / "metrics.jsonl").read_text()
    with pytest.raises(FileExistsError):
        fit(tmp_path, epochs=1)
    assert (tmp_path / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be an int of at least 1, got 0"),
        ({"batches": lambda epoch: []}, "batches must be at"),
        ({"batches": lambda epoch: [(X, Y + 1)]}, "y must be from 0 to 1, as the model has classes, got from 1 to 2"),
    ],
)
def test_bad_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=r"^train.fit: " + message):
        fit(tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": [(X, Y)]}, "batches must be a function of the epoch, got list"),
        ({"test": X}, r"test must be a pair \(x, y\), got float32\[23, 3\]"),
        ({"test": (X, list(Y))}, r"y must be an array, got list"),
        ({"out": None}, "out must be a path, got NoneType None"),
    ],
)
def test_arguments_of_another_kind(tmp_path, options, message):
    with pytest.raises(TypeError, match=r"^train.fit: " + message):
        train.fit(MODEL, STEP, start(), **{"batches": batches, "test": (X, Y), "epochs": 1, "out": tmp_path, **options})


def test_without_a_terminal_there_is_one_plain_line_per_epoch(tmp_path, capsys):
    fit(tmp_path)
    lines = capsys.readouterr().err.splitlines(keepends=True)
    assert [line[:11] for line in lines] == ["epoch 1/3  ", "epoch 2/3  ", "epoch 3/3  "]
    assert all(line.endswith(" s\n") and "\r" not in line for line in lines)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("installed", [True, False])
def test_on_a_terminal_there_is_a_bar_if_tqdm_is_installed(tmp_path, monkeypatch, installed):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    if not installed:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    fit(tmp_path)
    shown = terminal.getvalue()
    assert ("\repoch 1/3:   0%" in shown) == installed
    assert shown.count("test accuracy") == 3
