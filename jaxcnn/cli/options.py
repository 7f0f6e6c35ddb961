"""What is made of the options of `jaxcnn train`, each of which is looked at before anything is written."""

import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import data, nn, train
from jaxcnn.cli.recipes import Recipe, model_of
from jaxcnn.cli.task import loss_of, output_of
from jaxcnn.data.datasets import held_out_fifth
from jaxcnn.nn.inspection import abstract_init, applied_shape
from jaxcnn.ops.losses.cross_entropy import softmax_cross_entropy


class OptionError(ValueError):
    """An option that does not fit the data set, or another option."""


def require(ok: bool, option: str, expected: str, got: object) -> None:
    """OptionError unless `ok`."""
    if not ok:
        raise OptionError(f"argument {option}: give {expected}, not {got}")


def _made(option: str, make: Callable[[], Any]) -> Any:
    """What is made of the value of an option; what does not fit is said of the option."""
    try:
        return make()
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise OptionError(f"argument {option}: {error}") from None


def validating(dataset: data.Dataset, patience: int | None) -> np.ndarray:
    """Which training examples are kept to validate [N]: a fifth, if there is to be a validation set and is none."""
    count, y = len(dataset.train_x), dataset.train_y
    if patience is None or dataset.validation_x is not None:
        return np.zeros(count, bool)
    held = held_out_fifth(y) if dataset.task == "classification" else np.arange(count) % 5 == 4
    require(bool(held.any()), "--patience", "none", f"{patience}, as there are too few examples to keep some of them")
    return held


def schedule(recipe: Recipe, steps: int) -> Callable[[Any], Any]:
    """The learning rate of each update, for so many steps in an epoch."""
    total, accumulate = recipe.epochs * steps, recipe.accumulate
    require(accumulate <= total, "--accumulate", f"at most {total}, the steps of the run", accumulate)
    updates, warmup = total // accumulate, round(min(recipe.warmup, recipe.epochs) * steps) // accumulate
    is_long = updates > 1 or recipe.schedule != "one_cycle"
    require(is_long, "--schedule", "one for the run's single update of the parameters", recipe.schedule)
    expected = f"epochs with fewer updates than the {updates} of the run"
    require(warmup < updates, "--warmup", expected, f"{recipe.warmup:g} with {warmup}")
    make = functools.partial(train.schedule, recipe.schedule, recipe.learning_rate, updates, warmup=warmup)
    return _made("--schedule", make)


def optimizer(recipe: Recipe, learning_rate: Callable[[Any], Any]) -> Any:
    """The optimizer; what it says of an argument is said of the option of that name."""
    names = ("momentum", "weight_decay", "clip", "accumulate", "ema")
    try:
        return train.optimizer(recipe.optimizer, learning_rate, **{name: getattr(recipe, name) for name in names})
    except ValueError as error:
        said = re.match(r"train\.optimizer: (\w+)", str(error))
        argument = said[1] if said and said[1] in names else "optimizer"
        raise OptionError(f"argument --{argument.replace('_', '-')}: {error}") from None


def training_loss(dataset: data.Dataset, recipe: Recipe, y: np.ndarray) -> Callable[..., jax.Array]:
    """The loss of a step, for the labels of the training."""
    if dataset.task == "segmentation":
        for option, value in (("--class-weights", recipe.class_weights), ("--label-smoothing", recipe.label_smoothing)):
            if value:
                raise OptionError(f"argument {option}: not allowed for a segmentation, whose loss has none")
        return loss_of(dataset)
    weights = None
    if recipe.class_weights:
        weights = jnp.asarray(_made("--class-weights", lambda: data.class_weights(y, dataset.classes)))
    return functools.partial(softmax_cross_entropy, label_smoothing=recipe.label_smoothing, class_weights=weights)


def model(dataset: data.Dataset, recipe: Recipe) -> nn.Layer:
    """The model, whose output is what the task asks for."""
    made = _made("--model", lambda: model_of(recipe.model, dataset.classes))
    if recipe.per_example:
        made = nn.sequential(nn.instance_norm(), made)
    if recipe.precision != "float32":
        made = nn.cast(made, recipe.precision)
    shape = (recipe.batch_size, *dataset.train_x.shape[1:])
    output, expected = _made("--model", lambda: nn.output_shape(made, shape)), output_of(dataset, recipe.batch_size)
    require(output == expected, "--model", f"one that makes {expected} of {shape}", f"{output} as {recipe.model} does")
    return made


def augmentation(dataset: data.Dataset, recipe: Recipe, model: nn.Layer) -> Callable[..., Any] | None:
    """The augmentation of raw values: it takes the examples, and the model and the loss take what comes of it."""
    names = recipe.augment
    if names in (None, "", "none"):
        return None
    augment = _made("--augment", lambda: data.augment.by_names(names, dataset.classes))
    x, y = dataset.train_x[: recipe.batch_size], dataset.train_y[: recipe.batch_size]
    types = jax.ShapeDtypeStruct(x.shape, jnp.float32), jax.ShapeDtypeStruct(y.shape, y.dtype)
    images, labels = _made("--augment", lambda: jax.eval_shape(augment, jax.random.key(0), *types))
    fits = dataset.task == "classification" or labels.dtype == y.dtype
    require(fits, "--augment", "names that mix no labels, as this is a segmentation", repr(names))
    if images.shape != x.shape:
        _made("--augment", lambda: applied_shape(model, *abstract_init(model, x.shape), images.shape))
    return augment
