"""The epochs of a training run: steps, evaluation, metrics, checkpoints, and how a run goes on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import jax

from jaxcnn.contract import arguments
from jaxcnn.nn import Layer
from jaxcnn.nn.layer import checked_layer
from jaxcnn.ops.losses.cross_entropy import softmax_cross_entropy
from jaxcnn.train.checkpoint import require_safetensors
from jaxcnn.train.evaluation import Metric
from jaxcnn.train.folder import RunFolder
from jaxcnn.train.inputs import Batches, Inputs
from jaxcnn.train.run import Run
from jaxcnn.train.step import Loss, TrainState, require_state
from jaxcnn.train.terminal import tell
from jaxcnn.train.training import Evaluation, Training

Step = Callable[..., tuple[TrainState, jax.Array]]
Callback = Callable[[int, dict[str, Any], TrainState], Any]
_FIT = "train.fit"


def fit(
    model: Layer,
    step: Step,
    state: TrainState,
    batches: Callable[[int], Iterable[Any]] | Iterable[Any],
    test: tuple[Any, Any] | None = None,
    *,
    epochs: int,
    out: str | PathLike[str] | None = None,
    loss: Loss = softmax_cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
    validation: tuple[Any, Any] | None = None,
    callbacks: Sequence[Callback] = (),
    patience: int | None = None,
    monitor: str | None = None,
    steps_per_epoch: int | None = None,
    save_every: int = 1,
    save_steps: int | None = None,
    keep: int = 2,
    batch_size: int = 256,
    learning_rate: float | Callable[[int], Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> TrainState:
    """Trains a model for some epochs, writes down how it goes, and goes on where a run was stopped.

    Each epoch takes one step per batch, evaluates the validation set and the test set, and gives a line of metrics:
    `epoch` (from 1), `step`, `train_loss` (mean over the steps of the epoch), `validation_loss`, `test_loss`, the
    metrics of both such as `test_accuracy`, `learning_rate` if it is given, and `seconds` since the run began, breaks
    apart. It is printed on stderr; on a terminal a bar shows the progress of the epoch. If the state has an average of
    the parameters (`train.ema`), that is what is evaluated.

    With `out`, metrics.jsonl there gets each line at once, and checkpoints the whole state: the newest ones and the
    best. It is also saved when Ctrl-C or SIGTERM ends the training, which they do behind the step that runs, and before
    any error leaves. The same call on the same folder then goes on, to the same numbers as a run without a break, if
    batches depend on nothing but the epoch. A run that is complete is only read.

    Args:
        model: what is trained.
        step: from `make_step`: step(state, x, y) -> (state, loss).
        state: from `init`; its buffers are reused.
        batches: batches(epoch) -> the batches of that epoch, epoch from 0: `data.Batches` or a function of one's own;
            or an iterable for every epoch, such as a DataLoader. A batch is (x, y) or (x, y, where), arrays or trees
            of them; each is read once.
        test: a pair (x, y), evaluated after each epoch.
        epochs: how many.
        out: the folder of the run, made if it is not there; None to write nothing.
        loss: loss(output, y), as of the step, for both sets.
        metrics: others by name, f(output, y) -> a number, of NumPy arrays; None for the accuracy where y are classes.
        validation: a pair (x, y), evaluated after each epoch, by which the best epoch is chosen.
        callbacks: each is called after an epoch as callback(step, metrics, state); training stops if one returns a true
            value. The buffers of the state are reused by the next step.
        patience: training stops after so many epochs in which `monitor` has not improved, and the state of the best
            epoch is returned; None for no such stop.
        monitor: what shows the best epoch, a name among the metrics. It is to rise, but to fall if it is a loss or
            has a minus in front: "validation_accuracy", "-validation_error". None for the loss on the validation set;
            if there is none, for that on the test set, but `patience` then needs a name.
        steps_per_epoch: how many batches are an epoch; an iterator then goes through all epochs. None for all.
        save_every: how many epochs lie between two checkpoints.
        save_steps: how many steps lie between two checkpoints within an epoch; None for none there.
        keep: how many of the newest checkpoints are kept.
        batch_size: how many examples are evaluated at once.
        learning_rate: a number or schedule, only to be written into the metrics.
        config: what else makes this run what it is, for config.json; to go on, it must be equal.

    Returns:
        The state after the last step, with `patience` that of the best epoch.

    Raises:
        ImportError: safetensors is not installed, for `out`.
        TypeError: an argument is of another kind than described.
        ValueError: a number is out of range, an epoch has no batches, a batch has an entry that is not finite or a
            label that is no class, `out` holds a run of another configuration or state, or damaged checkpoints only.
        FileExistsError: out holds the metrics of something else.
        BlockingIOError: another process trains in `out`.
        OSError: out cannot be written; the last checkpoint stays.
        FloatingPointError: the loss of an epoch is not finite, or 10^9 times that of the first step.

        What leaves a training that has begun, Ctrl-C included, has the last good state as its attribute `state`.
    """
    model, epochs = checked_layer(_FIT, "model", model), arguments.integer(_FIT, "epochs", epochs, 1)
    require_state(_FIT, state)
    arguments.called(_FIT, "step", step, "a function of a state and a batch")
    patience, steps_per_epoch = _count("patience", patience), _count("steps_per_epoch", steps_per_epoch)
    inputs = Inputs(model, state, loss)
    sets = {name: _pair(name, pair) for name, pair in (("validation", validation), ("test", test)) if pair is not None}
    for name, (x, y) in sets.items():
        inputs.look_at(x, y, f"the {name} set")
    named = metrics is None or (isinstance(metrics, Mapping) and "loss" not in metrics)
    arguments.require(named, _FIT, "metrics", 'a dict without the name "loss"', arguments.describe(metrics))
    evaluation = Evaluation(model, loss, metrics, sets, arguments.integer(_FIT, "batch_size", batch_size, 1))
    monitor = _monitor(monitor, ["train_loss", *evaluation.names(inputs)], patience)
    training = Training(
        batches=Batches(batches, epochs, steps_per_epoch),
        inputs=inputs,
        evaluation=evaluation,
        epochs=epochs,
        monitor=monitor,
        patience=patience,
        callbacks=_functions("callbacks", callbacks),
        save_every=arguments.integer(_FIT, "save_every", save_every, 1),
        save_steps=_count("save_steps", save_steps),
        learning_rate=learning_rate,
    )
    settings = {"epochs": epochs, "steps_per_epoch": steps_per_epoch, "patience": patience, "monitor": monitor}
    folder = _folder(out, {**settings, **_json("config", config)}, arguments.integer(_FIT, "keep", keep, 1))
    with contextlib.nullcontext() if folder is None else folder:
        run = Run(step, state, folder)
        for damaged in run.resume():
            tell(damaged)
        if run.progress.complete:
            tell(f"the run in {out} is complete")
        else:
            training.go_on(run)
        return run.best_state() if patience else run.state


def _count(argument: str, value: int | None) -> int | None:
    return None if value is None else arguments.integer(_FIT, argument, value, 1)


def _functions(argument: str, value: Sequence[Callable[..., Any]]) -> tuple[Callable[..., Any], ...]:
    is_sequence = isinstance(value, Sequence)
    arguments.require(is_sequence, _FIT, argument, "a list of functions", arguments.describe(value), TypeError)
    for function in value:
        arguments.called(_FIT, argument, function, "functions of a step, metrics and a state")
    return tuple(value)


def _pair(argument: str, value: Any) -> tuple[Any, Any]:
    is_pair = isinstance(value, Sequence) and len(value) == 2
    arguments.require(is_pair, _FIT, argument, "a pair (x, y)", arguments.describe(value), TypeError)
    counts = set()
    for part in jax.tree.leaves(tuple(value)):
        is_array = arguments.is_array(part) and part.ndim > 0
        arguments.require(is_array, _FIT, argument, "of arrays [N, ...]", arguments.describe(part), TypeError)
        counts.add(len(part))
    got = " and ".join(map(str, sorted(counts)))
    arguments.require(len(counts) == 1 and 0 not in counts, _FIT, argument, "of as many x as y, at least one", got)
    return value[0], value[1]


def _monitor(name: str | None, names: list[str], patience: int | None) -> str | None:
    """The name of what shows the best epoch; ValueError if there is none of this name."""
    if name is not None:
        arguments.choice(_FIT, "monitor", name.removeprefix("-") if isinstance(name, str) else name, names)
        return name
    held_out = [each for each in ("validation_loss", "test_loss") if each in names]
    got = "None without a validation set"
    arguments.require(
        patience is None or held_out[:1] == ["validation_loss"], _FIT, "monitor", "a name of the metrics", got
    )
    return held_out[0] if held_out else None


def _json(argument: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    """The value as JSON gives it back."""
    try:
        return json.loads(json.dumps(dict(value or {}), allow_nan=False))
    except (TypeError, ValueError):
        expected = "a dict that JSON can write"
        arguments.require(False, _FIT, argument, expected, arguments.describe(value), TypeError)
        raise


def _folder(out: str | PathLike[str] | None, config: dict[str, Any], keep: int) -> RunFolder | None:
    if out is None:
        return None
    arguments.path(_FIT, "out", out)
    require_safetensors()
    return RunFolder(Path(out), config, keep)
