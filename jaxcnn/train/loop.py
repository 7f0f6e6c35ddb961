"""The epochs of a training run."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcnn.contract import arguments
from jaxcnn.nn import Layer
from jaxcnn.nn.layer import checked_layer
from jaxcnn.ops.losses.cross_entropy import softmax_cross_entropy
from jaxcnn.train.evaluation import evaluate, output_types, require_classes
from jaxcnn.train.step import Loss, TrainState, require_state

Step = Callable[[TrainState, Any, Any], tuple[TrainState, jax.Array]]
Batches = Sequence[tuple[Any, Any]]


def fit(
    model: Layer,
    step: Step,
    state: TrainState,
    batches: Callable[[int], Batches],
    test: tuple[np.ndarray, np.ndarray],
    *,
    epochs: int,
    out: str | PathLike[str],
    loss: Loss = softmax_cross_entropy,
) -> TrainState:
    """Trains a classifier for some epochs and writes down how it goes.

    Each epoch takes one step per batch, evaluates the test set, and adds a line to out/metrics.jsonl at once: an object
    with `epoch` (from 1), `step`, `train_loss` (mean over the steps of the epoch), `test_loss`, `test_accuracy` and
    `seconds` (since the start). It also prints a line on stderr; on a terminal a bar shows the progress of the epoch.

    Args:
        model: the classifier.
        step: from `make_step`.
        state: from `init`; its buffers are reused.
        batches: batches(epoch) -> the pairs (x, y) of that epoch, epoch from 0; `data.batches` makes them. The labels
            of the first epoch are looked at before its first step.
        test: the pair (x, y) of the test set.
        epochs: how many.
        out: the folder of the run, made if it is not there.
        loss: for the test set, as in `evaluate`.

    Returns:
        The state after the last step.

    Raises:
        TypeError: model is no layer, state no TrainState, batches no function, test no pair of arrays, epochs no int,
            out no path.
        ValueError: epochs is less than 1, an epoch has no batches, a label is no class that the model has.
        FileExistsError: out holds the metrics of another run.
        FloatingPointError: the loss of an epoch is not finite; the lines of the epochs before are there.
    """
    model, epochs = checked_layer("train.fit", "model", model), arguments.integer("train.fit", "epochs", epochs, 1)
    require_state("train.fit", state)
    arguments.called("train.fit", "batches", batches, "a function of the epoch")
    is_pair = isinstance(test, Sequence) and len(test) == 2
    arguments.require(is_pair, "train.fit", "test", "a pair (x, y)", arguments.describe(test), TypeError)
    for argument, value in zip("xy", test, strict=True):
        arguments.array("train.fit", argument, value)
    arguments.path("train.fit", "out", out)
    require_classes("train.fit", output_types(model, state, test[0]), test[1], loss)
    path = Path(out) / "metrics.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with path.open("x", encoding="utf-8") as file:
        for epoch in range(epochs):
            losses, pairs = [], batches(epoch)
            arguments.require(len(pairs) > 0, "train.fit", "batches", "at least one in an epoch", len(pairs))
            for x, y in pairs if epoch == 0 else ():
                require_classes("train.fit", output_types(model, state, x), y, loss)
            with _progress_bar(pairs, f"epoch {epoch + 1}/{epochs}") as shown:
                for x, y in shown:
                    state, value = step(state, x, y)
                    losses.append(value)  # on the device: to read it here would wait for the step
            train_loss = float(np.mean(jax.device_get(losses)))
            if not math.isfinite(train_loss):
                was = f"the training loss of epoch {epoch + 1} is {train_loss}"
                unless = "if images are finite and labels are classes"
                raise FloatingPointError(f"{was}: a smaller learning rate may help, {unless}")
            test_loss, test_accuracy = evaluate(model, state, *test, loss=loss)
            metrics = {
                "epoch": epoch + 1,
                "step": int(state.step),
                "train_loss": train_loss,
                "test_loss": test_loss,
                "test_accuracy": test_accuracy,
                "seconds": round(time.perf_counter() - start, 3),
            }
            print(json.dumps(metrics), file=file, flush=True)
            tell(_line(metrics, epochs))
    return state


def tell(line: str) -> None:
    """Prints on stderr, unless that is closed."""
    if sys.stderr is not None:
        print(line, file=sys.stderr, flush=True)


def _line(metrics: dict[str, Any], epochs: int) -> str:
    epoch = f"{metrics['epoch']:{len(str(epochs))}}/{epochs}"
    losses = f"train loss {metrics['train_loss']:.4f}  test loss {metrics['test_loss']:.4f}"
    return f"epoch {epoch}  {losses}  test accuracy {metrics['test_accuracy']:7.2%}  {metrics['seconds']:.1f} s"


def _progress_bar(pairs: Batches, label: str) -> AbstractContextManager[Iterable[tuple[Any, Any]]]:
    """The batches, with a progress bar that goes away at the end if stderr is a terminal and tqdm is installed."""
    if sys.stderr is None or not sys.stderr.isatty():
        return nullcontext(pairs)
    try:
        from tqdm import tqdm
    except ImportError:
        return nullcontext(pairs)
    return tqdm(pairs, desc=label, unit="step", leave=False)
