"""What `jaxcnn train` does with a data set unless it is told otherwise."""

import ast
import inspect
from dataclasses import dataclass
from typing import Any

from jaxcnn import nn
from jaxcnn.nn import models


@dataclass(frozen=True)
class Recipe:
    """The options of a training.

    Attributes:
        model: a function of `nn.models`, or a call of one with options: "resnet_cifar(depth=20)".
        epochs: how often each example is seen.
        batch_size: how many examples are in a step.
        optimizer, learning_rate, momentum, weight_decay, clip, accumulate: as for `train.optimizer`.
        schedule: of the learning rate, as for `train.schedule`.
        warmup: over how many epochs the learning rate rises.
        augment: names for `data.augment.by_names`.
        label_smoothing: which share of a label is spread over all classes.
        class_weights: whether classes count by the reciprocal of their number.
        ema: the decay of the average of the parameters.
        precision: of the arithmetic.
        patience: training stops after so many epochs without a better loss on the validation set.
    """

    model: str
    epochs: int
    batch_size: int = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.05
    schedule: str = "cosine"
    warmup: float = 0.0
    momentum: float | None = None
    weight_decay: float | None = None
    clip: float | None = None
    accumulate: int = 1
    augment: str | None = None
    label_smoothing: float = 0.0
    class_weights: bool = False
    ema: float | None = None
    precision: str = "float32"
    patience: int | None = None


RECIPES = {
    "digits": Recipe("digits_cnn", epochs=20, weight_decay=5e-4),
    "mnist": Recipe("resnet_cifar(20)", epochs=10, batch_size=128, augment="shift:2", ema=0.998),
    "fashion_mnist": Recipe("resnet_cifar(20)", epochs=30, batch_size=128, augment="flip,shift:2,cutout:8", ema=0.998),
    "cifar10": Recipe("resnet_cifar(20)", epochs=60, batch_size=128, augment="flip,crop:4,cutout:8", ema=0.999),
    "fsdd": Recipe("audio_cnn", epochs=60, augment="time_shift:800,gain:6", ema=0.998),
    "adrenalmnist3d": Recipe("voxnet", epochs=60, augment="flip,shift:2", class_weights=True, ema=0.998),
    "hippocampus": Recipe("unet_3d", epochs=60, batch_size=4, augment="shift:3", ema=0.998),
    "folder": Recipe("resnet_cifar(20)", epochs=60, augment="flip", ema=0.998),
}


def model_of(text: str, classes: int) -> nn.Layer:
    """The model of a name or a call, "resnet_cifar(depth=20)", for so many classes; ValueError for anything else."""
    try:
        call = ast.parse(text.strip(), mode="eval").body
        name, args, keywords = (call.func, call.args, call.keywords) if isinstance(call, ast.Call) else (call, [], [])
        if not isinstance(name, ast.Name):
            raise ValueError
        values = [ast.literal_eval(value) for value in args]
        options: dict[str, Any] = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in keywords}
    except (SyntaxError, ValueError):
        raise ValueError(f"give a name or a call with numbers, as resnet_cifar(depth=20), not {text!r}") from None
    if name.id not in MODELS:
        raise ValueError(f"give one of {', '.join(MODELS)}, not {name.id!r}")
    make = getattr(nn, name.id)
    try:
        inspect.signature(make).bind_partial(*values, **options, classes=classes)
        return make(*values, **options, classes=classes)
    except TypeError as error:
        raise ValueError(f"{text!r} is no call of nn.{name.id}: {error}") from None


MODELS = tuple(name for name in models.__all__ if "classes" in inspect.signature(getattr(nn, name)).parameters)
