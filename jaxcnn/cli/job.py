"""A training as a recipe describes it: model, loss, optimizer and batches for a data set."""

import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import data, nn, train
from jaxcnn.cli.recipes import Recipe, model_of
from jaxcnn.data.datasets import held_out_fifth
from jaxcnn.ops.activations.softmax import softmax
from jaxcnn.ops.losses.cross_entropy import softmax_cross_entropy
from jaxcnn.ops.losses.dice import dice
from jaxcnn.train.terminal import tell

_MODEL = "model"


class OptionError(ValueError):
    """An option that does not fit the data set."""


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


class Job:
    """A training that is ready to begin; OptionError where an option does not fit the data set."""

    def __init__(self, dataset: data.Dataset, recipe: Recipe, seed: int):
        self._dataset, self._recipe, self._seed = dataset, recipe, seed
        self._model = self._made("--model", lambda: model_of(recipe.model, dataset.classes))
        if recipe.per_example:
            self._model = nn.sequential(nn.instance_norm(), self._model)
        if recipe.precision != "float32":
            self._model = nn.cast(self._model, recipe.precision)
        names, classes = recipe.augment, dataset.classes
        self._augment = None
        if names not in (None, "", "none"):
            self._augment = self._made("--augment", lambda: data.augment.by_names(names, classes))
        shape = (recipe.batch_size, *dataset.train_x.shape[1:])
        self._made("--model", lambda: nn.output_shape(self._model, shape))

    def _made(self, option: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except (TypeError, ValueError) as error:
            raise OptionError(f"argument {option}: {error}") from None

    def run(self, out: Path, config: Mapping[str, Any], save_every: int) -> str:
        """Trains in a folder, leaves the model there, and says how good it is."""
        dataset, recipe = self._dataset, self._recipe
        mean, std = data.fit_standardization(dataset.train_x)
        if recipe.per_example:
            mean, std = np.zeros_like(mean), np.ones_like(std)
        x, y = data.standardize(dataset.train_x, mean, std), dataset.train_y
        validation = None
        if dataset.validation_x is not None:
            validation = data.standardize(dataset.validation_x, mean, std), dataset.validation_y
        elif recipe.patience is not None:
            held = held_out_fifth(y) if dataset.task == "classification" else np.arange(len(y)) % 5 == 4
            validation, x, y = (x[held], y[held]), x[~held], y[~held]
        batches = data.Batches(x, y, recipe.batch_size, seed=self._seed)
        updates = recipe.epochs * len(batches(0)) // recipe.accumulate
        warmup = round(recipe.warmup * len(batches(0))) // recipe.accumulate
        schedule = self._made(
            "--warmup", lambda: train.schedule(recipe.schedule, recipe.learning_rate, updates, warmup=warmup)
        )
        optimizer = train.optimizer(
            recipe.optimizer,
            schedule,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            clip=recipe.clip,
            accumulate=recipe.accumulate,
            ema=recipe.ema,
        )
        state = train.init(self._model, optimizer, jax.random.key(self._seed), x.shape)
        self._tell(len(x), state)
        test = data.standardize(dataset.test_x, mean, std), dataset.test_y
        state = train.fit(
            self._model,
            train.make_step(self._model, optimizer, self._training_loss(y), augment=_moved(self._augment, -mean / std)),
            state,
            batches,
            test,
            epochs=recipe.epochs,
            out=out,
            loss=loss_of(dataset),
            metrics=metrics_of(dataset),
            validation=validation,
            patience=recipe.patience,
            save_every=save_every,
            learning_rate=lambda step: schedule(step // recipe.accumulate),
            config={**config, "data": _digest(dataset)},
        )
        self._save(out / _MODEL, state, (mean, std), x.shape)
        options = {"loss": loss_of(dataset), "metrics": metrics_of(dataset)}
        _, values = train.evaluate(self._model, train.averaged(state), *test, **options)
        return f"test {said(values)} on {len(dataset.test_x)} held-out examples"

    def _tell(self, examples: int, state: train.TrainState) -> None:
        name, held_out = self._dataset.name, len(self._dataset.test_x)
        parameters = nn.count_parameters(state.params)
        counts = f"{examples} examples to train on, {held_out} held out; {parameters:,} parameters"
        tell(f"{name}: {counts}; {jax.default_backend()}")

    def _training_loss(self, y: np.ndarray) -> Callable[..., jax.Array]:
        recipe, dataset = self._recipe, self._dataset
        if dataset.task == "segmentation":
            return loss_of(dataset)
        weights = jnp.asarray(data.class_weights(y, dataset.classes)) if recipe.class_weights else None
        return functools.partial(softmax_cross_entropy, label_smoothing=recipe.label_smoothing, class_weights=weights)

    def _save(self, path: Path, state: train.TrainState, standardization: Any, shape: tuple[int, ...]) -> None:
        if not path.exists():
            train.save_model(
                path,
                self._model,
                state,
                standardization=standardization,
                class_names=self._dataset.class_names or None,
                input_shape=shape,
                extra={"dataset": self._dataset.name, "task": self._dataset.task},
            )


def _moved(augment: Callable[..., Any] | None, zero: np.ndarray) -> Callable[..., Any] | None:
    """The augmentation of raw values, for standardized ones: what it fills with 0 becomes `zero`, black in an image."""
    if augment is None:
        return None

    def moved(key: jax.Array, x: jax.Array, y: Any) -> tuple[jax.Array, Any]:
        shift = jnp.asarray(zero, x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
        x, y = augment(key, x - shift, y)
        return x + shift, y

    return moved


def said(values: Mapping[str, float]) -> str:
    """Metrics for a person."""
    shown = {"auc": "AUC", "dice": "Dice"}
    return ", ".join(
        f"{shown.get(name, name.replace('_', ' '))} {value:{'.2%' if 'accuracy' in name else '.4f'}}"
        for name, value in values.items()
    )


def _digest(dataset: data.Dataset) -> str:
    """The SHA-256 of the arrays of a data set."""
    names = [f"{part}_{argument}" for part in ("train", "validation", "test") for argument in "xy"]
    digest = hashlib.sha256()
    for array in (getattr(dataset, name) for name in names):
        digest.update(b"" if array is None else np.ascontiguousarray(array).data)
    return digest.hexdigest()
