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
        per_example: whether each example is standardized by itself, by an instance norm, and not by the training set.
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
    per_example: bool = False
    patience: int | None = None


_SPEECH = "plain_cnn(stem=(64, 64, 8, 4), stages=((64, 64), (128, 128), (256,), (256,)), rate=0.3)"
_GLANDS = "plain_cnn(stem=(32, 4, 2, 1), stages=((32,), (64,), (64,)), rate=0.3, with_max=True)"
_IMAGES = "plain_cnn(stages=((64, 64), (128, 128)), rate=0.2)"
_ADAMW = {"optimizer": "adamw", "learning_rate": 0.003, "schedule": "one_cycle"}
_CLOTHES = {"augment": "flip,shift:2,cutout:8", "label_smoothing": 0.1, "weight_decay": 0.05, **_ADAMW}
_SOUNDS = {"augment": "scale:0.15,time_shift:1500,cutout:1000,gain:9", "label_smoothing": 0.1, **_ADAMW}
_VOLUMES = {"augment": "flip:0:1:2,shift:2", "label_smoothing": 0.1, "weight_decay": 0.05, "ema": 0.99, **_ADAMW}
RECIPES = {
    "digits": Recipe("digits_cnn", 20, weight_decay=5e-4),
    "mnist": Recipe(_IMAGES, 12, 128, augment="rotate:11,scale:0.1,shift:2", **_ADAMW),
    "fashion_mnist": Recipe(_IMAGES, 40, 128, **_CLOTHES),
    "cifar10": Recipe("resnet_cifar(20)", 60, 128, augment="flip,crop:4,cutout:8", weight_decay=0.05, **_ADAMW),
    "fsdd": Recipe(_SPEECH, 80, 32, **_SOUNDS),
    "adrenalmnist3d": Recipe(_GLANDS, 24, 32, **_VOLUMES),
    "hippocampus": Recipe(
        "unet(depth=3, width=16, batch_norm=True)", 12, 4, augment="crop:0:32x48x32", per_example=True, **_ADAMW
    ),
    "folder": Recipe("plain_cnn", 60, 32, augment="flip", **_ADAMW),
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
