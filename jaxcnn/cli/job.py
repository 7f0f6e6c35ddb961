"""A training as a recipe describes it: model, loss, optimizer and batches for a data set."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import data, nn, train
from jaxcnn.cli import options
from jaxcnn.cli.recipes import Recipe
from jaxcnn.cli.task import loss_of, metrics_of, said
from jaxcnn.train.terminal import tell

_MODEL = "model"
_SAMPLE_RATES = {"fsdd": 8000}  # per second


class Job:
    """A training that is ready to begin; nothing is written until it runs.

    Raises:
        OptionError: an option does not fit the data set, or another option.
        DataError: the data set has a value that is not finite.
    """

    def __init__(self, dataset: data.Dataset, recipe: Recipe, seed: int, stored: str):
        self._dataset, self._recipe = dataset, recipe
        held = options.validating(dataset, recipe.patience)
        examples = int((~held).sum())
        expected = f"at most {examples}, the training examples"
        options.require(recipe.batch_size <= examples, "--batch-size", expected, recipe.batch_size)
        self._schedule = options.schedule(recipe, examples // recipe.batch_size)
        self._optimizer = options.optimizer(recipe, self._schedule)
        self._loss = options.training_loss(dataset, recipe, dataset.train_y[~held])
        self._model = options.model(dataset, recipe)
        augment = options.augmentation(dataset, recipe, self._model)
        mean, std = self._standardization = _standardization(dataset, recipe)
        x, y = data.standardize(dataset.train_x, mean, std), dataset.train_y
        self._validation = (x[held], y[held]) if held.any() else None
        if dataset.validation_x is not None:
            self._validation = data.standardize(dataset.validation_x, mean, std), dataset.validation_y
        x, y = (x[~held], y[~held]) if held.any() else (x, y)
        self._test = data.standardize(dataset.test_x, mean, std), dataset.test_y
        self._batches = data.Batches(x, y, recipe.batch_size, seed=seed)
        self._state = train.init(self._model, self._optimizer, jax.random.key(seed), x.shape)
        augment = _moved(augment, -mean / std)
        self._step = train.make_step(self._model, self._optimizer, self._loss, augment=augment, stored=stored)
        self._shape, self._digest = x.shape, _digest(dataset)

    def run(self, out: Path, config: Mapping[str, Any], save_every: int, save_steps: int | None) -> str:
        """Trains in a folder, leaves the model there, and says how good it is."""
        dataset, recipe = self._dataset, self._recipe
        self._tell()
        state = train.fit(
            self._model,
            self._step,
            self._state,
            self._batches,
            self._test,
            epochs=recipe.epochs,
            out=out,
            loss=loss_of(dataset),
            metrics=metrics_of(dataset),
            validation=self._validation,
            patience=recipe.patience,
            save_every=save_every,
            save_steps=save_steps,
            learning_rate=lambda step: self._schedule(step // recipe.accumulate),
            config={**config, "data": self._digest},
        )
        self._save(out / _MODEL, state)
        measures = {"loss": loss_of(dataset), "metrics": metrics_of(dataset)}
        _, values = train.evaluate(self._model, train.averaged(state), *self._test, **measures)
        return f"test {said(values)} on {len(dataset.test_x)} held-out examples"

    def _tell(self) -> None:
        name, held_out = self._dataset.name, len(self._dataset.test_x)
        parameters = nn.count_parameters(self._state.params)
        counts = f"{self._shape[0]} examples to train on, {held_out} held out; {parameters:,} parameters"
        tell(f"{name}: {counts}; {jax.default_backend()}")

    def _save(self, path: Path, state: train.TrainState) -> None:
        name = self._dataset.name
        rate = {"sample_rate": _SAMPLE_RATES[name]} if name in _SAMPLE_RATES else {}
        if not path.exists():
            train.save_model(
                path,
                self._model,
                state,
                standardization=self._standardization,
                class_names=self._dataset.class_names or None,
                input_shape=self._shape,
                extra={"dataset": name, "task": self._dataset.task, **rate},
            )


def _standardization(dataset: data.Dataset, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """What comes off each channel, and what it is divided by; nothing where examples are standardized one by one."""
    try:
        mean, std = data.fit_standardization(dataset.train_x)
    except ValueError as error:
        raise data.DataError(f"{dataset.name}: {error}") from None
    return (np.zeros_like(mean), np.ones_like(std)) if recipe.per_example else (mean, std)


def _moved(augment: Callable[..., Any] | None, zero: np.ndarray) -> Callable[..., Any] | None:
    """The augmentation of raw values, for standardized ones: what it fills with 0 becomes `zero`, black in an image."""
    if augment is None:
        return None

    def moved(key: jax.Array, x: jax.Array, y: Any) -> tuple[jax.Array, Any]:
        shift = jnp.asarray(zero, x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
        x, y = augment(key, x - shift, y)
        return x + shift, y

    return moved


def _digest(dataset: data.Dataset) -> str:
    """The SHA-256 of the arrays of a data set."""
    names = [f"{part}_{argument}" for part in ("train", "validation", "test") for argument in "xy"]
    digest = hashlib.sha256()
    for array in (getattr(dataset, name) for name in names):
        digest.update(b"" if array is None else np.ascontiguousarray(array).data)
    return digest.hexdigest()
