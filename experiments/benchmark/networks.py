"""The networks, each a list of layers, and what can be said of them from their shapes alone.

A peer has one method for each kind of layer; `forward` calls them in order. All paddings are the same
on both sides, and all pools divide without padding, so that every framework can compute the same function.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import repeat
from math import prod
from typing import Any

import numpy as np

LEARNING_RATE, MOMENTUM, EPS = 0.01, 0.9, 1e-5


@dataclass(frozen=True)
class Conv:
    filters: int
    kernel: int
    stride: int = 1
    groups: int = 1
    bias: bool = False

    @property
    def padding(self) -> int:
        return (self.kernel - 1) // 2


@dataclass(frozen=True)
class ConvTranspose:
    filters: int
    kernel: int = 4
    stride: int = 2
    padding: int = 1


@dataclass(frozen=True)
class BatchNorm:
    pass


@dataclass(frozen=True)
class Relu:
    pass


@dataclass(frozen=True)
class MaxPool:
    window: int


@dataclass(frozen=True)
class GlobalMeanPool:
    pass


@dataclass(frozen=True)
class Flatten:
    pass


@dataclass(frozen=True)
class Dense:
    features: int


@dataclass(frozen=True)
class Residual:
    """body(x) + shortcut(x); an empty shortcut is x itself."""

    body: tuple
    shortcut: tuple = ()


@dataclass(frozen=True)
class Network:
    """The loss is the cross-entropy of 10 classes, or the squared error to the input where `reconstructs`."""

    input: tuple[int, ...]
    layers: tuple
    reconstructs: bool = False


def normalised(*convolution: Any, **options: Any) -> tuple:
    return Conv(*convolution, **options), BatchNorm(), Relu()


def basic_block(filters: int, stride: int = 1, project: bool = False) -> tuple:
    body = (*normalised(filters, 3, stride), Conv(filters, 3), BatchNorm())
    return Residual(body, (Conv(filters, 1, stride), BatchNorm()) if project else ()), Relu()


def grouped_block(width: int, filters: int, stride: int = 1, project: bool = False) -> tuple:
    body = (*normalised(width, 1), *normalised(width, 3, stride, groups=8), Conv(filters, 1), BatchNorm())
    return Residual(body, (Conv(filters, 1, stride), BatchNorm()) if project else ()), Relu()


def separable(channels: int, filters: int, stride: int = 1) -> tuple:
    return *normalised(channels, 3, stride, groups=channels), *normalised(filters, 1)


CLASSIFIER = (GlobalMeanPool(), Dense(10))

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
            *(Conv(32, 3, 2, bias=True), Relu(), Conv(64, 3, 2, bias=True), Relu(), Conv(128, 3, 2, bias=True), Relu()),
            *(ConvTranspose(64), Relu(), ConvTranspose(32), Relu(), ConvTranspose(3)),
        ),
        reconstructs=True,
    ),
}
QUICK = {
    "LeNet": replace(NETWORKS["LeNet"], input=(4, 28, 28, 1)),
    "autoencoder": replace(NETWORKS["autoencoder"], input=(4, 16, 16, 3)),
}


def forward(layers: tuple, parameters: Iterator, x: Any, peer: Any) -> Any:
    """x through the layers, computed by the methods of a peer; each layer takes its parameters as they come."""
    for layer in layers:
        match layer:
            case Conv():
                x = peer.conv(x, next(parameters), layer)
            case ConvTranspose():
                x = peer.conv_transpose(x, next(parameters), layer)
            case BatchNorm():
                x = peer.batch_norm(x, next(parameters))
            case Dense():
                x = peer.dense(x, next(parameters), layer)
            case MaxPool():
                x = peer.max_pool(x, layer.window)
            case Relu():
                x = peer.relu(x)
            case GlobalMeanPool():
                x = peer.global_mean_pool(x)
            case Flatten():
                x = peer.flatten(x)
            case Residual():
                body = forward(layer.body, parameters, x, peer)
                x = peer.add(body, forward(layer.shortcut, parameters, x, peer))
    return x


class Shapes:
    """A peer that computes shapes. It notes the shapes of the parameters, and the floating-point operations of a step.

    Counted are the products and sums of convolutions and dense layers, those with the zeros of a padding too: as many
    for each of the two gradients as for the forward pass, and none for the gradient by the input of the network.
    """

    def __init__(self, network: Network):
        self.parameters: list[tuple[type, dict[str, tuple[int, ...]]]] = []
        self.flops = 0
        forward(network.layers, repeat(None), network.input, self)

    def _note(self, kind, multiplications, **shapes):
        passes = 3 if self.parameters else 2
        self.flops += passes * 2 * multiplications
        self.parameters.append((kind, shapes))

    def conv(self, x, _, layer):
        n, *size, channels = x
        size = [(s + 2 * layer.padding - layer.kernel) // layer.stride + 1 for s in size]
        w = (*(layer.kernel for _ in size), channels // layer.groups, layer.filters)
        self._note(Conv, n * prod(size) * prod(w), w=w, **({"b": (layer.filters,)} if layer.bias else {}))
        return n, *size, layer.filters

    def conv_transpose(self, x, _, layer):
        n, *size, channels = x
        w = (*(layer.kernel for _ in size), layer.filters, channels)
        self._note(ConvTranspose, n * prod(size) * prod(w), w=w, b=(layer.filters,))
        return n, *((s - 1) * layer.stride + layer.kernel - 2 * layer.padding for s in size), layer.filters

    def batch_norm(self, x, _):
        self._note(BatchNorm, 0, gamma=x[-1:], beta=x[-1:])
        return x

    def dense(self, x, _, layer):
        w = (x[-1], layer.features)
        self._note(Dense, x[0] * prod(w), w=w, b=w[1:])
        return x[0], layer.features

    def max_pool(self, x, window):
        n, *size, channels = x
        return n, *(s // window for s in size), channels

    def relu(self, x):
        return x

    def add(self, x, y):
        assert x == y, "the body of a residual block keeps the shape of its shortcut"
        return x

    def global_mean_pool(self, x):
        return x[0], x[-1]

    def flatten(self, x):
        return x[0], prod(x[1:])


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
