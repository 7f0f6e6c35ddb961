"""A training in progress: its state, how far it has come, and what is saved of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.train.checkpoint import named_arrays, rebuilt
from jaxcnn.train.folder import RunFolder, SaveError
from jaxcnn.train.step import TrainState
from jaxcnn.train.terminal import tell

_DIVERGED = 1e9  # times the loss of the first step, or 1
_WAITING = 1000  # losses of so many steps stay on the device before they are read


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        epoch: how many epochs are complete.
        position: how many batches of the next epoch are done.
        total: the sum of the losses of these.
        first_loss: the loss of the first step of the run.
        best: the best value of what is monitored.
        best_epoch: the epoch, from 1, that had it.
        seconds: how long the run has trained.
        complete: whether it has come to its end.
    """

    epoch: int = 0
    position: int = 0
    total: float = 0.0
    first_loss: float | None = None
    best: float | None = None
    best_epoch: int = 0
    seconds: float = 0.0
    complete: bool = False


class Run:
    """What a training changes, and how it is saved: to a folder, and in memory for who catches an error.

    Attributes:
        state: after the last step.
        progress: how far it has come.
    """

    def __init__(self, step: Callable[..., tuple[TrainState, jax.Array]], state: TrainState, folder: RunFolder | None):
        self.state, self.progress, self._step, self._folder = state, Progress(), step, folder
        self._like = jax.tree.map(_type, state)
        self._first_step, self._taken = int(state.step), 0
        self._losses: list[jax.Array] = []
        self._saved = named_arrays("train.fit", state)
        self._best: dict[str, np.ndarray] | None = None
        self._since = time.perf_counter()

    @property
    def steps(self) -> int:
        """The step of the state, without waiting for it."""
        return self._first_step + self._taken

    def resume(self) -> list[str]:
        """Goes to the newest checkpoint of the folder, if there is one. Returns what is wrong with newer ones."""
        found = self._folder.newest() if self._folder else None
        if self._folder is None or found is None:
            return []
        self._saved, progress, damaged = found
        self.state, self.progress = self._rebuilt(self._saved), Progress(**progress)
        try:
            self._best = self._folder.best()
        except ValueError as error:  # the best of the epochs to come is as good as can be
            damaged.append(f"{error}; the best epoch is chosen anew")
            self.progress.best, self.progress.best_epoch = None, self.progress.epoch
        self._first_step = int(self.state.step)
        return damaged

    def begin(self) -> None:
        """Makes the folder ready for what comes."""
        if self._folder:
            self._folder.begin(self.progress.epoch)
            if self.progress.epoch or self.progress.position:
                tell(f"the run in {self._folder.path} goes on behind step {self.steps}")
        self._since = time.perf_counter()

    def take(self, batch: Sequence[Any]) -> None:
        """One step."""
        self.state, loss = self._step(self.state, *batch)
        self._losses.append(loss)  # on the device: to read it here would wait for the step
        self._taken += 1
        self.progress.position += 1
        if len(self._losses) == _WAITING:
            self.settle()

    def settle(self) -> float:
        """The mean loss of the epoch until now; FloatingPointError if it is not finite or has left all bounds."""
        progress = self.progress
        for loss in map(float, jax.device_get(self._losses)):
            progress.first_loss = loss if progress.first_loss is None else progress.first_loss
            progress.total += loss
        self._losses = []
        mean, first = progress.total / max(progress.position, 1), progress.first_loss or 0.0
        what = f"the training loss of epoch {progress.epoch + 1} is"
        if not math.isfinite(mean):
            _refuse(f"{what} {mean}")
        if mean > _DIVERGED * max(abs(first), 1.0):
            _refuse(f"{what} {mean:.3g}, and that of the first step was {first:.3g}")
        return mean

    def seconds(self) -> float:
        """How long the run has trained, in all sittings."""
        now = time.perf_counter()
        self.progress.seconds, self._since = self.progress.seconds + now - self._since, now
        return self.progress.seconds

    def end_epoch(self, metrics: Mapping[str, Any], monitor: str | None) -> None:
        """Counts the epoch, writes its metrics, and keeps its state if what is monitored is the best so far."""
        progress = self.progress
        progress.epoch, progress.position, progress.total = progress.epoch + 1, 0, 0.0
        if self._folder:
            self._folder.add_metrics(metrics)
        value = math.nan if monitor is None else metrics[monitor.removeprefix("-")]
        if monitor is None or math.isnan(value):
            return
        falls = monitor.startswith("-") or monitor.endswith("loss")
        if progress.best is None or (value < progress.best if falls else value > progress.best):
            progress.best, progress.best_epoch = value, progress.epoch
            self._best = named_arrays("train.fit", self.state)
            if self._folder:
                self._folder.save_best(self._best, asdict(progress))

    def save(self) -> None:
        """Keeps the state as it is now; FloatingPointError if a parameter is not finite."""
        self.settle()
        self.seconds()
        arrays = named_arrays("train.fit", self.state)
        for name, array in arrays.items():
            is_model = name.startswith(("params", "statistics")) and jnp.issubdtype(array.dtype, jnp.inexact)
            if is_model and not np.isfinite(array).all():
                _refuse(f"{name} is not finite behind step {self.steps}")
        self._saved = arrays
        if self._folder:
            self._folder.save(self.steps, arrays, asdict(self.progress))

    def leave(self, error: BaseException) -> None:
        """Saves what can be saved before an error leaves, and hands the last good state over with it."""
        used_up = any(leaf.is_deleted() for leaf in jax.tree.leaves(self.state) if isinstance(leaf, jax.Array))
        if not (used_up or isinstance(error, SaveError)):
            try:
                self.save()
            except (FloatingPointError, OSError) as another:
                if str(another) != str(error):
                    error.add_note(str(another))
        error.state = self._rebuilt(self._saved)  # pyright: ignore[reportAttributeAccessIssue]

    def best_state(self) -> TrainState:
        """That of the best epoch, or the last one where there is no best."""
        return self.state if self._best is None else self._rebuilt(self._best)

    def _rebuilt(self, arrays: Mapping[str, np.ndarray]) -> TrainState:
        return rebuilt("train.fit", "state", arrays, self._like)


def _refuse(what: str) -> None:
    raise FloatingPointError(f"{what}: a smaller learning rate may help, if images are finite and labels are classes")


def _type(leaf: jax.Array) -> Any:
    """What `rebuilt` needs to know of a leaf, without its buffer. A random key stays as it is: its kind is no type."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.copy(leaf)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding if leaf.committed else None)
