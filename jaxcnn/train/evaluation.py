"""What a model makes of a whole set, in inference mode, and how good that is."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, overload

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.contract import arguments
from jaxcnn.contract.precision import widen
from jaxcnn.nn import Layer
from jaxcnn.nn.layer import LayerLike, checked_layer
from jaxcnn.ops.losses.cross_entropy import nll, softmax_cross_entropy
from jaxcnn.ops.losses.hinge import hinge
from jaxcnn.train.metrics import found_classes
from jaxcnn.train.step import Loss, require_state
from jaxcnn.transforms import jit

Metric = Callable[[np.ndarray, np.ndarray], Any]


class Parameters(Protocol):
    """What a model is applied with: a `TrainState`, or a `Trained` model."""

    @property
    def params(self) -> Any: ...
    @property
    def statistics(self) -> Any: ...


@overload
def evaluate(
    model: LayerLike, state: Parameters, x: Any, y: Any, *, batch_size: int = ..., loss: Loss = ..., metrics: None = ...
) -> tuple[float, float]: ...


@overload
def evaluate(
    model: LayerLike,
    state: Parameters,
    x: Any,
    y: Any,
    *,
    batch_size: int = ...,
    loss: Loss = ...,
    metrics: Mapping[str, Metric],
) -> tuple[float, dict[str, Any]]: ...


def evaluate(
    model: LayerLike,
    state: Parameters,
    x: Any,
    y: Any,
    *,
    batch_size: int = 256,
    loss: Loss = softmax_cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
) -> tuple[float, Any]:
    """The loss on a whole set and how often the model is right, or metrics, in inference mode.

    The outputs of the whole set, in float32, are kept in memory: by `predict`. From these the loss is computed once, so
    class weights, masks and ignored labels count as in one batch of everything. It is not compiled as a whole: another
    function each time costs nothing.

    Args:
        model: a layer, or a function of an array.
        state: whose params and statistics are used.
        x: images [N, *S, C], or a tree of arrays, as for `predict`.
        y: what the loss takes beside the output of the model: classes [N], or those of each place [N, *S]; or anything
            else, an array or a tree of them with one entry per image.
        batch_size: how many images go through the model at once.
        loss: loss(output, y) -> scalar, of JAX arrays with all images. Labels equal to an `ignore_index` that it was
            given by `functools.partial` need not be classes.
        metrics: functions of (output, y) by name, of NumPy arrays, such as `train.metrics.auc`.

    Returns:
        (loss, accuracy): which share of the images, or of the places, is assigned to its class, those with an ignored
        label apart. The accuracy is NaN where y is no integer array of the output's shape but for the last axis: there
        is none. With metrics, (loss, {name: value}): a float, or what else a metric makes.

    Raises:
        TypeError: model is no layer, state no TrainState, x or y holds no arrays of numbers, batch_size is no int, loss
            no function, metrics no dict of functions.
        ValueError: the set is empty, x and y differ in number, a label is no class that the model has, batch_size is
            less than 1, the loss is no scalar; those of the model, the loss and the metrics.

    >>> from jaxcnn import nn, train
    >>> model, optimizer = nn.dense(2), train.sgd(0.1)
    >>> state = train.init(model, optimizer, jax.random.key(0), (1, 3))
    >>> loss, accuracy = train.evaluate(model, state, np.zeros((4, 3), np.float32), np.array([0, 0, 0, 1]))
    >>> round(loss, 3), accuracy
    (0.693, 0.75)
    """
    function = "train.evaluate"
    model = checked_layer(function, "model", model)
    require_state(function, state, ("params", "statistics"))
    arguments.called(function, "loss", loss)
    _require_metrics(function, metrics)
    images, labels = _count(function, "x", x, "image"), _count(function, "y", y, "label")
    got = ", ".join(map(arguments.describe, jax.tree.leaves(y)))
    arguments.require(images == labels, function, "y", f"{images} labels as there are images", got)
    output = outputs(function, model, state.params, state.statistics, x, batch_size)
    require_classes(function, output, y, loss)
    value = loss(*jax.tree.map(jnp.asarray, (output, y)))
    is_scalar = isinstance(value, float) or (arguments.is_array(value) and value.shape == ())
    arguments.require(is_scalar, function, "loss", "a function that gives a scalar", arguments.describe(value))
    if metrics is None:
        return float(value), _accuracy(output, y, loss)
    y = jax.tree.map(np.asarray, y)
    return float(value), {name: _plain(metric(output, y)) for name, metric in metrics.items()}


def _require_metrics(function: str, metrics: Any) -> None:
    if metrics is not None:
        expected, got = "functions by name, {name: function}", arguments.describe(metrics)
        is_mapping = isinstance(metrics, Mapping) and all(isinstance(name, str) for name in metrics)
        arguments.require(is_mapping, function, "metrics", expected, got, TypeError)
        arguments.require(all(map(callable, metrics.values())), function, "metrics", expected, got, TypeError)


def require_classes(function: str, output: Any, y: Any, loss: Loss = softmax_cross_entropy, place: str = "") -> None:
    """ValueError unless the labels are classes that the model tells apart: inside a step they have no values.

    Args:
        function: of whose argument y the error speaks.
        output: what comes out of the model, or its shape; nothing is asked where y are no classes.
        y: the labels.
        loss: nothing is asked where it is none of ours that take classes; its `ignore_index` is allowed beside them.
        place: where the labels are, for the error.
    """
    classes = class_count(output, y)
    if classes is not None and counts_classes(loss):
        values = np.asarray(y)[_counted(y, loss)]
        is_class = values.size == 0 or (values.min() >= 0 and values.max() < classes)
        got = (f"from {values.min()} to {values.max()}" if values.size else "none") + place
        if values.size and values.min() < 0:
            got += f": give the loss as partial(softmax_cross_entropy, ignore_index={values.min()}) to leave some out"
        arguments.require(is_class, function, "y", f"from 0 to {classes - 1}, as the model has classes", got)


def counts_classes(loss: Loss) -> bool:
    """Whether it is a loss of ours, or a partial of one, whose integer labels are classes."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    return loss in (softmax_cross_entropy, nll, hinge)


def class_count(output: Any, y: Any, loss: Loss | None = None) -> int | None:
    """How many classes a model tells apart; None where y are no classes. One output tells two apart by its sign.

    With a loss, labels that do not fit that number are no classes, but its `ignore_index`.
    """
    if not (arguments.is_array(output) and arguments.is_array(y) and jnp.issubdtype(y.dtype, jnp.integer)):
        return None
    classes = max(2, output.shape[-1]) if output.ndim > 1 and y.shape == output.shape[:-1] else None
    if classes is None or loss is None:
        return classes
    values = np.asarray(y)[_counted(y, loss)]
    return classes if values.size == 0 or (values.min() >= 0 and values.max() < classes) else None


def _counted(y: Any, loss: Loss) -> Any:
    """Which labels count: those that are not the ignore_index of a partial."""
    keywords = loss.keywords if isinstance(loss, functools.partial) else {}
    ignored = keywords.get("ignore_index")
    return ... if ignored is None else np.asarray(y) != ignored


def _accuracy(output: Any, y: Any, loss: Loss) -> float:
    if class_count(output, y, loss) is None:
        return math.nan
    right = (found_classes(output) == np.asarray(y))[_counted(y, loss)]
    return float(np.mean(right)) if right.size else math.nan


def _plain(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else value


def predict(model: LayerLike, state: Parameters, x: Any, *, batch_size: int = 256) -> Any:
    """What comes out of a model for a whole set, in inference mode.

    One program is compiled for a model and a batch size. A set smaller than that goes through in batches of a power of
    two, so sets of different sizes compile few programs. Where batches do not divide the set, the last one begins
    earlier: some images go through twice, and none is padded.

    Args:
        model: a layer, or a function of an array.
        state: whose params and statistics are used; for the moving average of `train.ema`, `train.averaged(state)`.
        x: images [N, *S, C], a NumPy array or memory map, which is read batch by batch, or a JAX array; or a tree of
            them, where that is what the model takes.
        batch_size: how many images go through the model at once.

    Returns:
        A NumPy array [N, ...], or a tree of them where that is what comes out, on the host; half precision becomes
        float32.

    Raises:
        TypeError: model is no layer, state no TrainState, x holds no arrays of numbers, batch_size is no int.
        ValueError: the set is empty, the arrays of x differ in number, batch_size is less than 1, what comes out has
            not one entry per image; those of the layers if x or the state does not fit the model.

    >>> from jaxcnn import nn, train
    >>> model, optimizer = nn.dense(2), train.sgd(0.1)
    >>> state = train.init(model, optimizer, jax.random.key(0), (1, 3))
    >>> train.predict(model, state, np.zeros((5, 3), np.float32)).tolist()[0]
    [0.0, 0.0]
    """
    model = checked_layer("train.predict", "model", model)
    require_state("train.predict", state, ("params", "statistics"))
    return outputs("train.predict", model, state.params, state.statistics, x, batch_size)


def outputs(
    function: str,
    model: Layer,
    params: Any,
    statistics: Any,
    x: Any,
    batch_size: int,
    prepared: Callable[[Any], Any] = lambda batch: batch,
) -> Any:
    """As `predict`; each batch is prepared on its way."""
    batch_size = arguments.integer(function, "batch_size", batch_size, 1)
    count = _count(function, "x", x, "image")
    size = min(batch_size, 1 << (count.bit_length() - 1))
    whole, before = None, None
    for start in [*range(0, count - size, size), count - size]:
        batch = prepared(jax.tree.map(functools.partial(_rows, start=start, size=size), x))
        output = _applied(model, params, statistics, batch)
        if before is None:
            _require_rows(function, output, size)
            whole = jax.tree.map(lambda y: np.empty((count, *y.shape[1:]), y.dtype), output)
        else:
            _enter(whole, before)  # while the device is busy with this batch
        before = slice(start, start + size), output
    _enter(whole, before)
    return whole


def _count(function: str, argument: str, tree: Any, noun: str) -> int:
    """How many images or labels there are: at least one, and as many in each array of the tree."""
    leaves = jax.tree.leaves(tree)
    for leaf in leaves or [tree]:
        is_rows = arguments.has_values(leaf) and leaf.ndim > 0
        is_rows = is_rows and (leaf.dtype == bool or jnp.issubdtype(leaf.dtype, jnp.number))
        expected = "an array [N, ...] of numbers, or a tree of them"
        got = arguments.describe(leaf if is_rows or arguments.is_array(tree) else tree)
        arguments.require(is_rows, function, argument, expected, got, TypeError)
        arguments.require(len(leaf) > 0, function, argument, f"at least one {noun}", got)
        same = len(leaf) == len(leaves[0])
        arguments.require(same, function, argument, f"{len(leaves[0])} {noun}s in each array", got)
    return len(leaves[0])


def _rows(array: Any, start: int, size: int) -> Any:
    """So many rows from start on; those of a JAX array by one program, wherever they begin."""
    if isinstance(array, jax.Array):
        return jax.lax.dynamic_slice_in_dim(array, np.int32(start), size)
    return array[start : start + size]


@jit(static_argnums=0)
def _applied(model, params, statistics, x):
    return jax.tree.map(widen, model.apply(params, statistics, x)[0])


def _require_rows(function: str, output: Any, size: int) -> None:
    for y in jax.tree.leaves(output):
        expected, got = "a model with one output per image, [N, ...]", f"one with {arguments.describe(y)} for {size}"
        arguments.require(y.ndim > 0 and len(y) == size, function, "model", expected, got)


def _enter(whole: Any, part: Any) -> None:
    """Writes the output of a batch to the rows where it belongs."""
    rows, output = part

    def enter(whole, y):
        whole[rows] = y

    jax.tree.map(enter, whole, jax.device_get(output))
