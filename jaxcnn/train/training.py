"""The epochs of a run, one after the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from jaxcnn.contract import arguments
from jaxcnn.nn import Layer
from jaxcnn.train import interrupts
from jaxcnn.train.averaging import averaged
from jaxcnn.train.evaluation import Metric, evaluate
from jaxcnn.train.inputs import Batches, Inputs
from jaxcnn.train.run import Run
from jaxcnn.train.step import Loss, TrainState
from jaxcnn.train.terminal import epoch_line, progress_bar, tell

_FIT = "train.fit"


@dataclass(frozen=True)
class Evaluation:
    """What is measured after each epoch, by the average of the parameters where the state has one."""

    model: Layer
    loss: Loss
    metrics: Mapping[str, Metric] | None
    sets: Mapping[str, tuple[Any, Any]]
    batch_size: int

    def names(self, inputs: Inputs) -> list[str]:
        """What the results are called."""
        names = []
        for name, (x, y) in self.sets.items():
            usual = ["accuracy"] if inputs.has_classes(x, y) else []
            names += [f"{name}_{each}" for each in ("loss", *(usual if self.metrics is None else self.metrics))]
        return names

    def __call__(self, state: TrainState, inputs: Inputs) -> dict[str, float]:
        """Losses and metrics, as "test_loss" and "test_accuracy"."""
        result = {}
        for name, (x, y) in self.sets.items():
            options = {"batch_size": self.batch_size, "loss": self.loss, "metrics": self.metrics}
            loss, values = evaluate(self.model, averaged(state), x, y, **options)
            if self.metrics is None:
                values = {"accuracy": values} if inputs.has_classes(x, y) else {}
            result[f"{name}_loss"] = loss
            for metric, value in values.items():
                expected, got = "functions that give a number", f"{arguments.describe(value)} of {metric!r}"
                arguments.require(isinstance(value, float), _FIT, "metrics", expected, got, TypeError)
                result[f"{name}_{metric}"] = value
        return result


@dataclass(frozen=True)
class Training:
    """What a run is to do."""

    batches: Batches
    inputs: Inputs
    evaluation: Evaluation
    epochs: int
    monitor: str | None
    patience: int | None
    callbacks: Sequence[Callable[[int, dict[str, Any], TrainState], Any]]
    save_every: int
    save_steps: int | None
    learning_rate: float | Callable[[Any], Any] | None

    def go_on(self, run: Run) -> None:
        """Trains to the end. Data is looked at before the first file is made."""
        self.batches.skip(run.progress)
        batches = self._looked_at(self.batches.remaining(run.progress), run.progress.position)
        run.begin()
        with interrupts.kept() as signals:
            try:
                while not run.progress.complete:
                    self._epoch(run, batches or self.batches.remaining(run.progress), signals)
                    batches = None
            except BaseException as error:
                signals.hold = True
                run.leave(error)
                raise

    def _looked_at(self, batches: Iterable[Any], position: int) -> Iterable[Any]:
        """The batches: all of a list have been looked at, of others the first one."""
        if isinstance(batches, Sequence):
            seen = batches if isinstance(batches, list) else batches[:1]
        else:
            rest = iter(batches)
            seen = list(itertools.islice(rest, 1))
            batches = itertools.chain(seen, rest)
        for number, batch in enumerate(seen, position + 1):
            self.inputs.batch(batch, f"batch {number}", first=True)
        if position + len(seen) == 0:
            self.batches.require_whole(0)
        return batches

    def _epoch(self, run: Run, batches: Iterable[Any], signals: interrupts.Interrupts) -> None:
        progress, number = run.progress, run.progress.epoch + 1
        signals.hold = True
        with progress_bar(batches, f"epoch {number}/{self.epochs}", progress.position) as shown:
            for batch in shown:
                place = f"batch {progress.position + 1} of epoch {number}"
                run.take(self.inputs.batch(batch, place, first=number == 1))
                if self.save_steps and run.steps % self.save_steps == 0:
                    run.save()
                signals.check()
        self.batches.require_whole(progress.position)
        train_loss = run.settle()
        signals.hold = False
        measured = self.evaluation(run.state, self.inputs)
        signals.hold = True
        metrics = {"epoch": number, "step": run.steps, "train_loss": train_loss, **measured}
        if self.learning_rate is not None:
            with jax.numpy_dtype_promotion("standard"):  # optax relies on it
                rate = self.learning_rate(run.steps) if callable(self.learning_rate) else self.learning_rate
            metrics["learning_rate"] = float(rate)
        metrics["seconds"] = round(run.seconds(), 3)
        run.end_epoch(metrics, self.monitor)
        tell(epoch_line(metrics, self.epochs))
        is_waiting = self.patience is not None and number - progress.best_epoch >= self.patience
        if is_waiting and progress.best is None:
            arguments.require(False, _FIT, "monitor", "a number in some epoch", f"{self.monitor} of NaN in all of them")
        progress.complete = number == self.epochs or is_waiting
        is_asked = [bool(callback(run.steps, metrics, run.state)) for callback in self.callbacks]
        progress.complete |= any(is_asked)
        if progress.complete or number % self.save_every == 0:
            run.save()
        signals.check()
