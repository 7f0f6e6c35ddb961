"""What the task of a data set asks for: a loss, metrics, an output of the model."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn import data, train
from jaxcnn.ops.activations.softmax import softmax
from jaxcnn.ops.losses.cross_entropy import softmax_cross_entropy
from jaxcnn.ops.losses.dice import dice


def segmentation_loss(logits: jax.Array, labels: jax.Array, *, ignore_index: int | None = None) -> jax.Array:
    """Cross-entropy, and the Dice losses of all classes but the background, of label maps [N, *S]."""
    overlap = dice(softmax(logits), labels, ignore_index=ignore_index, reduction="none")
    return softmax_cross_entropy(logits, labels, ignore_index=ignore_index) + jnp.mean(overlap[..., 1:])


def metrics_of(dataset: data.Dataset) -> dict[str, Callable[[Any, Any], Any]]:
    """What is measured for the task of a data set."""
    if dataset.task == "segmentation":
        return {"dice": train.metrics.dice}
    two = {"auc": train.metrics.auc, "balanced_accuracy": train.metrics.balanced_accuracy}
    return {"accuracy": train.metrics.accuracy, **(two if dataset.classes == 2 else {})}


def loss_of(dataset: data.Dataset) -> Callable[..., jax.Array]:
    """The loss that is reported of a data set."""
    if dataset.task == "segmentation":
        return functools.partial(segmentation_loss, ignore_index=-1)
    return softmax_cross_entropy


def output_of(dataset: data.Dataset, examples: int) -> tuple[int, ...]:
    """The shape of what a model makes of so many examples of a data set: logits of classes, or those of each place."""
    places = dataset.train_x.shape[1:-1] if dataset.task == "segmentation" else ()
    return (examples, *places, dataset.classes)


def said(values: Mapping[str, Any]) -> str:
    """Metrics for a person."""
    shown = {"auc": "AUC", "dice": "Dice"}
    return ", ".join(f"{shown.get(name, name.replace('_', ' '))} {_number(name, v)}" for name, v in values.items())


def _number(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "unknown"
    return f"{value:{'.2%' if 'accuracy' in name else '.4f'}}"
