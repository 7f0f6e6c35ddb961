"""The epochs of a run: what is trained on, measured, said and refused."""

import functools
import io
import json
import sys

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcnn
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


def fit(out, *, epochs=3, batches=batches, test=(X, Y), **options):
    return train.fit(MODEL, STEP, start(), batches, test, epochs=epochs, out=out, **options)


def metrics(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def assert_equal(state, expected):
    for got, leaf in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected.params), strict=True):
        np.testing.assert_array_equal(got, leaf)
    assert int(state.step) == int(expected.step)


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


class Tensor:
    """An array of another library."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._array, dtype)


class Loader:
    """As a DataLoader: begins anew for each epoch, knows its length, and gives lists of tensors."""

    def __init__(self):
        self.read = 0

    def __len__(self):
        return 4

    def __iter__(self):
        for x, y in batches(0):
            self.read += 1
            yield [Tensor(x), Tensor(y)]


def test_any_iterable_trains_and_is_read_once():
    expected = fit(None, epochs=2, batches=lambda epoch: batches(0))
    loader = Loader()
    assert_equal(fit(None, epochs=2, batches=loader), expected)
    assert loader.read == 8
    endless = (batch for _ in range(9) for batch in batches(0))
    assert_equal(fit(None, epochs=2, batches=endless, steps_per_epoch=4), expected)
    np.testing.assert_array_equal(next(endless)[1], batches(0)[0][1])
    in_order = data.Batches(X, Y, 5, seed=0)
    assert_equal(fit(None, epochs=2, batches=in_order), fit(None, epochs=2))


def test_a_grain_loader_trains():
    examples = grain.MapDataset.source(list(zip(X, Y, strict=True))).batch(5, drop_remainder=True)
    in_order = [(X[start : start + 5], Y[start : start + 5]) for start in range(0, 20, 5)]
    expected = fit(None, epochs=2, batches=in_order)
    assert_equal(fit(None, epochs=2, batches=examples.to_iter_dataset()), expected)


def test_a_batch_with_a_mask_is_the_batch_without_the_rest():
    """A step with 3 of 5 rows that count equals one with these 3 rows, but for batch norm: a model without."""
    model, optimizer = nn.dense(2), train.sgd(0.1)
    state = train.init(model, optimizer, KEY, X.shape)
    step = train.make_step(model, optimizer)
    where = np.array([True, False, True, True, False])
    masked, loss = step(jax.tree.map(jnp.copy, state), X[:5], Y[:5], where)
    expected, expected_loss = step(state, X[:5][where], Y[:5][where])
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    np.testing.assert_allclose(masked.params["w"], expected.params["w"], rtol=1e-5)


def test_regression_of_several_heads_has_losses_only(tmp_path):
    model, optimizer = nn.parallel(nn.dense(1), nn.dense(2)), train.sgd(0.01)
    target = (X[:, :1], X[:, 1:])

    def loss(output, y):
        return sum(map(jaxcnn.mean_squared_error, output, y))

    step, state = train.make_step(model, optimizer, loss), train.init(model, optimizer, KEY, X.shape)
    train.fit(model, step, state, [(X, target)], epochs=2, validation=(X, target), out=tmp_path, loss=loss)
    first, second = metrics(tmp_path)
    assert list(first) == ["epoch", "step", "train_loss", "validation_loss", "seconds"]
    assert second["validation_loss"] < first["validation_loss"]


def test_metrics_of_ones_own_on_both_sets(tmp_path):
    share = {"share": lambda output, y: np.mean(output.argmax(-1))}
    fit(tmp_path, epochs=1, metrics=share, validation=(X[:7], Y[:7]), learning_rate=lambda step: step / 8)
    (line,) = metrics(tmp_path)
    names = ["epoch", "step", "train_loss", "validation_loss", "validation_share", "test_loss", "test_share"]
    assert list(line) == [*names, "learning_rate", "seconds"]
    assert line["test_share"] * 23 == pytest.approx(round(line["test_share"] * 23))
    assert line["learning_rate"] == 0.5


def test_callbacks_see_each_epoch_and_stop():
    seen = []

    def callback(step, metrics, state):
        seen.append((step, metrics["epoch"], int(state.step)))
        return len(seen) == 2

    assert int(fit(None, epochs=9, callbacks=[callback]).step) == 8
    assert seen == [(4, 1, 4), (8, 2, 8)]


def test_patience_stops_and_gives_back_the_best_epoch(tmp_path):
    """The metric says which epoch is best: 0.5, 0.75, 0.75, 0.25 and so on."""
    values = iter([0.5, 0.75, 0.75, 0.25, 0.25])
    states = []
    state = fit(
        tmp_path,
        epochs=9,
        validation=(X, Y),
        metrics={"score": lambda output, y: next(values)},
        monitor="validation_score",
        patience=2,
        test=None,
        callbacks=[lambda step, metrics, state: states.append(jax.tree.map(jnp.copy, state))],
    )
    assert len(metrics(tmp_path)) == 4
    assert_equal(state, states[1])
    best = train.restore(tmp_path / "checkpoints" / "best.safetensors", like=start())
    assert_equal(best, states[1])


def test_patience_with_a_metric_that_is_to_fall():
    values = iter([3.0, 1.0, 2.0, 2.0])
    options = {"metrics": {"error": lambda output, y: next(values)}, "monitor": "-validation_error", "patience": 2}
    state = fit(None, epochs=9, validation=(X, Y), test=None, **options)
    assert int(state.step) == 8


def test_integer_targets_of_a_regression():
    model, optimizer = nn.dense(1), train.sgd(0.01)
    state, ages = train.init(model, optimizer, KEY, X.shape), np.arange(23)

    def loss(output, y):
        return jaxcnn.mean_squared_error(output[:, 0], y.astype(output.dtype))

    step = train.make_step(model, optimizer, loss)
    seen = []
    callbacks = [lambda step, metrics, state: seen.append(metrics)]
    train.fit(model, step, state, [(X, ages)], (X, ages), epochs=2, loss=loss, callbacks=callbacks)
    assert seen[1]["test_loss"] < seen[0]["test_loss"]
    assert "test_accuracy" not in seen[0]


def test_ignored_labels_count_in_no_set(tmp_path):
    y = np.where(np.arange(23) < 5, -1, Y)
    loss = functools.partial(jaxcnn.softmax_cross_entropy, ignore_index=-1)
    state = fit(tmp_path, epochs=1, test=(X, y), loss=loss)
    assert metrics(tmp_path)[0]["test_accuracy"] == train.evaluate(MODEL, state, X[5:], Y[5:])[1]


def nan_in(array, place):
    result = array.copy()
    result[place] = np.nan
    return result


BROKEN = [(X[:5], Y[:5]), (nan_in(X[:5], (3, 1)), Y[:5])]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be an int of at least 1, got 0"),
        ({"batches": lambda epoch: []}, "batches must be at least one in an epoch, got 0"),
        ({"batches": [(X, Y + 1)]}, "y must be from 0 to 1, as the model has classes, got from 1 to 2 in batch 1"),
        ({"batches": data.Batches(X, Y + 1, 5)}, "y must be from 0 to 1, .* got from 1 to 2 in the training set"),
        ({"batches": BROKEN}, r"x must be finite, got nan at \[3, 1\] of batch 2"),
        ({"batches": lambda epoch: iter(BROKEN)}, r"x must be finite, got nan at \[3, 1\] of batch 2 of epoch 1"),
        ({"batches": data.Batches(nan_in(X, (4, 2)), Y, 5)}, r"x must be finite, got nan at \[4, 2\] of the training"),
        ({"test": (nan_in(X, (0, 0)), Y)}, r"x must be finite, got nan at \[0, 0\] of the test set"),
        ({"test": (X, Y - 1)}, r"y must be from 0 to 1, as the model has classes, got from -1 to 0 in the test set"),
        ({"batches": iter(BROKEN)}, "batches must be a function of the epoch, or steps_per_epoch given, for 3 epochs"),
        ({"batches": batches, "steps_per_epoch": 9}, "batches must be 9 in an epoch, got 4"),
        ({"batches": [(X[:0], Y[:0])]}, "batches must be of at least one example, got none in batch 1"),
        ({"test": (X, Y[:5])}, "test must be of as many x as y, at least one, got 5 and 23"),
        ({"test": (X[:0], Y[:0])}, "test must be of as many x as y, at least one, got 0"),
        (
            {"monitor": "test_acuracy"},
            "monitor must be one of 'train_loss', 'test_loss', 'test_accuracy', got 'test_ac",
        ),
        ({"metrics": {"loss": max}}, 'metrics must be a dict without the name "loss"'),
        ({"patience": 2}, "monitor must be a name of the metrics, got None without a validation set"),
    ],
)
def test_bad_arguments_make_no_file(tmp_path, options, message):
    with pytest.raises(ValueError, match=r"^train.fit: " + message):
        fit(tmp_path / "run", **options)
    is_late = "epoch 1" in message or "9 in an epoch" in message  # they are seen when they come
    assert (tmp_path / "run").exists() == is_late


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": 3}, "batches must be a function of the epoch or an iterable, got int 3"),
        ({"batches": lambda epoch: epoch}, "batches must be a function that gives the batches of an epoch, got one th"),
        ({"batches": [{"image": X, "label": Y}]}, r"batches must be of pairs \(x, y\), got a dict of 'image', 'label'"),
        ({"batches": [(X, ["a"] * 23)]}, r"batches must be of arrays of numbers, got "),
        ({"test": X}, r"test must be a pair \(x, y\), got float32\[23, 3\]"),
        ({"test": (X, ["a"])}, r"test must be of arrays \[N, ...\], got str 'a'"),
        ({"out": 3}, "out must be a path, got int 3"),
        (
            {"metrics": {"all": lambda output, y: output}},
            r"metrics must be functions that give a number, got float32\[23",
        ),
        ({"callbacks": print}, "callbacks must be a list of functions"),
        ({"config": {"model": MODEL}}, "config must be a dict that JSON can write, got dict"),
    ],
)
def test_arguments_of_another_kind(tmp_path, options, message):
    with pytest.raises(TypeError, match=r"^train.fit: " + message):
        train.fit(MODEL, STEP, start(), **{"batches": batches, "test": (X, Y), "epochs": 1, "out": tmp_path, **options})


def test_parameters_are_no_state():
    with pytest.raises(TypeError, match=r"^train.fit: state must be a TrainState, got tuple"):
        train.fit(MODEL, STEP, (start().params, {}), batches, (X, Y), epochs=1, out="never")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([2.0, 2.0, np.nan, 2.0], "the training loss of epoch 1 is nan: a smaller learning rate may help, if images"),
        (
            [2.0, 2.0, 2.0, 2.0, 6e23],
            "the training loss of epoch 2 is 1.5e\\+23, and that of the first step was 2: a sm",
        ),
    ],
)
def test_a_loss_that_is_lost_stops_the_run(tmp_path, values, message):
    """The state of the last save is handed over, and nothing is saved after it."""
    losses = iter(values)

    def step(state, x, y):
        return STEP(state, x, y)[0], jnp.float32(next(losses, 2.0))

    with pytest.raises(FloatingPointError, match=f"^{message}") as error:
        train.fit(MODEL, step, start(), batches, (X, Y), epochs=3, out=tmp_path)
    saved = 4 * (len(values) // 4 if len(values) > 4 else 0)
    assert int(error.value.state.step) == saved
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == ({"best.safetensors", "step-4.safetensors"} if saved else set())


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
