"""The networks, each a list of layers, with the parameters and the batch that every peer starts from."""

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from benchmark.layers import (
    BatchNorm,
    Conv,
    ConvTranspose,
    Dense,
    Flatten,
    GlobalMeanPool,
    MaxPool,
    Network,
    Relu,
    Residual,
    Shapes,
)

LEARNING_RATE, MOMENTUM = 0.01, 0.9


def normalised(*convolution: Any, **options: Any) -> tuple:
    return Conv(*convolution, **options), BatchNorm(), Relu()


def rectified(filters: int) -> tuple:
    return Conv(filters, 3, 2, bias=True), Relu("output")


def basic_block(filters: int, stride: int = 1, project: bool = False) -> tuple:
    body = (*normalised(filters, 3, stride), Conv(filters, 3), BatchNorm())
    return Residual(body, (Conv(filters, 1, stride), BatchNorm()) if project else ()), Relu()


def grouped_block(width: int, filters: int, stride: int = 1, project: bool = False) -> tuple:
    body = (*normalised(width, 1), *normalised(width, 3, stride, groups=8), Conv(filters, 1), BatchNorm())
    return Residual(body, (Conv(filters, 1, stride), BatchNorm()) if project else ()), Relu()


def separable(channels: int, filters: int, stride: int = 1) -> tuple:
    return *normalised(channels, 3, stride, groups=channels), *normalised(filters, 1)


CLASSIFIER = (GlobalMeanPool(), Dense(10))
PRIVATE = (
    *(Conv(16, 3, bias=True), Relu(), MaxPool(2), Conv(32, 3, bias=True), Relu(), MaxPool(2)),
    *(Conv(64, 3, bias=True), Relu(), *CLASSIFIER),
)

NETWORKS = {
    "LeNet": Network(
        (128, 28, 28, 1),
        (
            *(Conv(6, 5, bias=True), Relu(), MaxPool(2)),
            *(Conv(16, 5, bias=True), Relu(), MaxPool(2)),
            *(Flatten(), Dense(120), Relu(), Dense(84), Relu(), Dense(10)),
        ),
    ),
    "VGG": Network(
        (32, 32, 32, 3),
        (
            *(*normalised(64, 3), *normalised(64, 3), MaxPool(2)),
            *(*normalised(128, 3), *normalised(128, 3), MaxPool(2)),
            *(*normalised(256, 3), *normalised(256, 3), MaxPool(2)),
            *(Flatten(), Dense(256), Relu(), Dense(10)),
        ),
    ),
    "ResNet": Network(
        (32, 32, 32, 3),
        (
            *normalised(64, 3),
            *(*basic_block(64), *basic_block(64)),
            *(*basic_block(128, 2, project=True), *basic_block(128)),
            *(*basic_block(256, 2, project=True), *basic_block(256)),
            *CLASSIFIER,
        ),
    ),
    "MobileNet": Network(
        (32, 64, 64, 3),
        (
            *normalised(32, 3, 2),
            *(*separable(32, 64), *separable(64, 128, 2), *separable(128, 128)),
            *(*separable(128, 256, 2), *separable(256, 256)),
            *(*separable(256, 512, 2), *separable(512, 512)),
            *CLASSIFIER,
        ),
    ),
    "ResNeXt": Network(
        (32, 32, 32, 3),
        (
            *normalised(64, 3),
            *(*grouped_block(128, 256, project=True), *grouped_block(128, 256)),
            *(*grouped_block(256, 512, 2, project=True), *grouped_block(256, 512)),
            *CLASSIFIER,
        ),
    ),
    "audio": Network(
        (32, 8000, 1),
        (
            *(*normalised(64, 80, 4), MaxPool(4)),
            *(*normalised(64, 3), MaxPool(4)),
            *(*normalised(128, 3), MaxPool(4)),
            *(*normalised(256, 3), *CLASSIFIER),
        ),
    ),
    "volumes": Network(
        (8, 32, 32, 32, 1),
        (
            *(*normalised(16, 3), *normalised(32, 3, 2), *normalised(32, 3), MaxPool(2)),
            *(*normalised(64, 3), *normalised(64, 3, 2), MaxPool(2)),
            *(Flatten(), Dense(128), Relu(), Dense(10)),
        ),
    ),
    "autoencoder": Network(
        (64, 32, 32, 3),
        (
            *(*rectified(32), *rectified(64), *rectified(128)),
            *(ConvTranspose(64), Relu("output"), ConvTranspose(32), Relu("output"), ConvTranspose(3)),
        ),
        reconstructs=True,
    ),
    "DP-SGD 64": Network((64, 32, 32, 3), PRIVATE, per_example=True),
    "DP-SGD 256": Network((256, 32, 32, 3), PRIVATE, per_example=True),
}
QUICK = {
    "every layer": Network(
        (4, 12, 12, 3),
        (
            *(*normalised(16, 3), MaxPool(2), *separable(16, 16)),
            *(
                *grouped_block(16, 32, 2, project=True),
                Residual((GlobalMeanPool(), Dense(8), Relu()), (Flatten(), Dense(8))),
            ),
            Dense(10),
        ),
    ),
    "autoencoder": replace(NETWORKS["autoencoder"], input=(4, 16, 16, 3)),
    "DP-SGD": Network((4, 8, 8, 1), (Conv(4, 3, bias=True), Relu(), Flatten(), Dense(10)), per_example=True),
}


def draw_parameters(network: Network) -> list[dict[str, np.ndarray]]:
    """He-normal filters and weights, small biases, gamma near 1: the same for every peer, in jaxcnn's layout."""
    random = np.random.default_rng(0)

    def draw(kind, name, shape):
        values = random.standard_normal(shape)
        if name == "w":
            inputs = prod(shape[:-2]) * shape[-1] if kind is ConvTranspose else prod(shape[:-1])
            values *= np.sqrt(2 / inputs)
        else:
            values = 0.1 * values + (name == "gamma")
        return values.astype(np.float32)

    return [
        {name: draw(kind, name, shape) for name, shape in shapes.items()} for kind, shapes in Shapes(network).parameters
    ]


def draw_batch(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Images, and labels; the images again where the network reconstructs them."""
    random = np.random.default_rng(1)
    x = random.standard_normal(network.input).astype(np.float32)
    return x, x if network.reconstructs else random.integers(0, 10, network.input[0], dtype=np.int32)


def choose(name: str, quick: bool) -> Network:
    return (QUICK if quick else NETWORKS)[name]
