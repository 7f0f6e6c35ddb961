"""The batches of a run, looked at before they are used: inside the compiled step their numbers have no values."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.contract import arguments
from jaxcnn.data import Rows, taken
from jaxcnn.nn import Layer
from jaxcnn.train.evaluation import class_count, counts_classes, require_classes
from jaxcnn.train.run import Progress
from jaxcnn.train.step import TrainState

_FIT = "train.fit"


class Batches:
    """The batches of every epoch, from a function of the epoch or from an iterable.

    An iterator, which cannot begin anew, goes through all epochs.
    """

    def __init__(self, batches: Any, epochs: int, steps: int | None):
        self._batches: Any = batches
        self._steps = steps
        self._is_iterator = isinstance(batches, Iterator)
        is_enough = not self._is_iterator or epochs == 1 or steps is not None
        expected = f"a function of the epoch, or steps_per_epoch given, for {epochs} epochs"
        arguments.require(is_enough, _FIT, "batches", expected, f"{arguments.describe(batches)}, which ends after one")
        known = callable(batches) or isinstance(batches, Iterable)
        got = arguments.describe(batches)
        arguments.require(known, _FIT, "batches", "a function of the epoch or an iterable", got, TypeError)

    def skip(self, progress: Progress) -> None:
        """Goes past what a run has seen already, in an iterator."""
        if self._is_iterator:
            done = progress.epoch * (self._steps or 0) + progress.position
            next(itertools.islice(self._batches, done, done), None)

    def require_whole(self, count: int) -> None:
        """ValueError unless an epoch had as many batches as it is to have."""
        expected = "at least one" if self._steps is None else f"{self._steps}"
        is_whole = count > 0 if self._steps is None else count == self._steps
        arguments.require(is_whole, _FIT, "batches", f"{expected} in an epoch", count)

    def remaining(self, progress: Progress) -> Iterable[Any]:
        """The batches of the epoch that are not done yet."""
        if self._is_iterator:
            return itertools.islice(self._batches, self._steps and self._steps - progress.position)
        batches: Any = self._batches(progress.epoch) if callable(self._batches) else self._batches
        is_iterable, got = isinstance(batches, Iterable), f"one that gives {arguments.describe(batches)}"
        arguments.require(is_iterable, _FIT, "batches", "a function that gives the batches of an epoch", got, TypeError)
        if isinstance(batches, Sequence):
            return batches[progress.position : self._steps]
        return itertools.islice(batches, progress.position, self._steps)


class Inputs:
    """What a model can be trained on with a loss.

    Entries that are not finite are an error, and so are labels that are no classes where the loss is one of ours for
    classes. What lies on a device is looked at in the first epoch only, as to read it takes time.
    """

    def __init__(self, model: Layer, state: TrainState, loss: Callable[..., Any]):
        self._model, self._loss = model, loss
        self._params = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (state.params, state.statistics))
        self._outputs: dict[Any, Any] = {}  # the types of the output, by those of the input
        self._seen: dict[int, Any] = {}  # the arrays that rows were taken from, by their ids

    def batch(self, batch: Any, place: str, *, first: bool) -> tuple[Any, ...]:
        """A batch as arrays (x, y) or (x, y, where)."""
        known = isinstance(batch, Sequence) and len(batch) in (2, 3)
        got = f"a dict of {', '.join(map(repr, batch))}" if isinstance(batch, Mapping) else arguments.describe(batch)
        arguments.require(known, _FIT, "batches", "of pairs (x, y)", got, TypeError)
        x, y, *where = (jax.tree.map(_array, part, is_leaf=_is_rows) for part in batch)
        counts = [leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves((x, y), is_leaf=_is_rows)]
        arguments.require(0 not in counts, _FIT, "batches", "of at least one example", f"none in {place}")
        self.look_at(x, y, place, first=first)
        return x, y, *where

    def look_at(self, x: Any, y: Any, place: str, *, first: bool = True) -> None:
        """ValueError if an entry of x or y is not finite, or a label is no class."""
        for argument, tree in (("x", x), ("y", y)):
            for leaf in jax.tree.leaves(tree, is_leaf=_is_rows):
                values, found = self._readable(leaf, place, first)
                if values is not None and jnp.issubdtype(values.dtype, jnp.inexact):
                    _require(np.isfinite(values), argument, "finite", values, found)
                elif values is not None and argument == "y" and leaf is y and counts_classes(self._loss):
                    if class_count(self._output(x), y) is None:
                        continue
                    output = jax.ShapeDtypeStruct((*values.shape, self._output(x).shape[-1]), values.dtype)
                    require_classes(_FIT, output, values, self._loss, f" in {found}")

    def has_classes(self, x: Any, y: Any) -> bool:
        """Whether y are classes that the model tells apart: integers, one for each row of the output."""
        return class_count(self._output(x), y, self._loss) is not None

    def _output(self, x: Any) -> Any:
        types = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), x)
        key = str(types)
        if key not in self._outputs:
            self._outputs[key] = jax.eval_shape(
                lambda params, x: self._model.apply(*params, taken(x))[0], self._params, types
            )
        return self._outputs[key]

    def _readable(self, leaf: Any, place: str, first: bool) -> tuple[np.ndarray | None, str]:
        """The values of an array and where they are; None for what is not to be read, or was."""
        if isinstance(leaf, Rows):
            if id(leaf.array) in self._seen:
                return None, place
            self._seen[id(leaf.array)] = leaf.array
            return np.asarray(leaf.array), "the training set"
        return (np.asarray(leaf) if first or isinstance(leaf, np.ndarray) else None), place


def _require(known: np.ndarray, argument: str, expected: str, values: np.ndarray, place: str) -> None:
    """ValueError with the first entry that is not as expected."""
    if not known.all():
        first = np.argwhere(~known)[0].tolist()
        arguments.require(False, _FIT, argument, expected, f"{values[tuple(first)]} at {first} of {place}")


def _is_rows(value: Any) -> bool:
    return isinstance(value, Rows)


def _array(value: Any) -> Any:
    """An array of another library, or a number, as an array of NumPy."""
    array = value if isinstance(value, jax.Array | np.ndarray | Rows) else np.asarray(value)
    known = jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool
    arguments.require(known, _FIT, "batches", "of arrays of numbers", arguments.describe(value), TypeError)
    return array
