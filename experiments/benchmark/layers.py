"""The kinds of layers, and what puts them together.

A peer has one method for each kind of layer; `forward` calls them in order. All paddings are the same on both sides,
and pools have none, so that every framework can compute the same function.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from math import prod
from typing import Any

EPS = 1e-5  # of batch normalisation


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
    keeps: str = "input"  # an option of jaxcnn


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
    """The loss is the cross-entropy of 10 classes, or the squared error to the input where `reconstructs`.

    A step takes the gradient of the mean loss. With `per_example` it takes the mean of the gradients of all examples,
    each clipped to the norm 1, as in DP-SGD (Abadi et al., Deep learning with differential privacy, 2016).
    """

    input: tuple[int, ...]
    layers: tuple
    reconstructs: bool = False
    per_example: bool = False


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
                x = peer.relu(x, layer)
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

    def relu(self, x, _):
        return x

    def add(self, x, y):
        assert x == y, "the body of a residual block keeps the shape of its shortcut"
        return x

    def global_mean_pool(self, x):
        return x[0], x[-1]

    def flatten(self, x):
        return x[0], prod(x[1:])
