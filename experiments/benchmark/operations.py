"""The convolutions and pools of the second table, and what can be said of them from their shapes alone."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Operation:
    """A convolution, transposed convolution or max-pool, with the same kernel, stride and dilation on every axis."""

    kind: str
    input: tuple[int, ...]
    kernel: int
    filters: int = 0
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    padding: Any = "SAME"

    @property
    def has_filter(self) -> bool:
        return self.kind != "max_pool"

    @property
    def name(self) -> str:
        text = f"{self.kind} {'x'.join(map(str, self.input))}"
        text += f" to {self.filters}, kernel {self.kernel}" if self.has_filter else f", window {self.kernel}"
        for option, default in (("stride", 1), ("dilation", 1), ("groups", 1)):
            if getattr(self, option) != default:
                text += f", {option} {getattr(self, option)}"
        return text + (", unpadded" if self.unpadded else "")

    @property
    def unpadded(self) -> bool:
        """Whether a kernel sees the image only, and is neither a dense layer's nor that of patches side by side."""
        overlaps = self.stride < self.kernel < min(self.input[1:-1])
        return self.kind == "conv" and self.padding == "VALID" and overlaps

    @property
    def filter_shape(self) -> tuple[int, ...] | None:
        _, *size, channels = self.input
        match self.kind:
            case "conv":
                return *(self.kernel for _ in size), channels // self.groups, self.filters
            case "conv_transpose":
                return *(self.kernel for _ in size), self.filters, channels
        return None

    @property
    def output(self) -> tuple[int, ...]:
        n, *size, channels = self.input
        reach = self.dilation * (self.kernel - 1)
        match self.kind, self.padding:
            case "conv_transpose", padding:
                size = [(s - 1) * self.stride + reach + 1 - 2 * padding for s in size]
            case _, "SAME":
                size = [-(-s // self.stride) for s in size]
            case _, "VALID":
                size = [(s - reach - 1) // self.stride + 1 for s in size]
        return n, *size, self.filters if self.has_filter else channels

    @property
    def flops(self) -> int:
        """Products and sums of a part, those with the zeros of a padding too; of a pool none are counted."""
        places = self.input if self.kind == "conv_transpose" else self.output
        return 2 * prod(places[:-1]) * prod(self.filter_shape) if self.filter_shape else 0

    @property
    def numbers(self) -> int:
        """The least that a part reads and writes: input, filter and output, or the gradients that replace one."""
        return prod(self.input) + prod(self.output) + (prod(self.filter_shape) if self.filter_shape else 0)

    @property
    def parts(self) -> tuple[str, ...]:
        return ("forward", "input", "filter") if self.has_filter else ("forward", "input")

    def draw(self) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """x, w and dy."""
        random = np.random.default_rng(0)
        x, dy = random.standard_normal(self.input), random.standard_normal(self.output)
        return x, None if self.filter_shape is None else random.standard_normal(self.filter_shape), dy


def conv(input, filters, kernel, **options):
    return Operation("conv", input, kernel, filters, **options)


def conv_transpose(input, filters, kernel, stride, padding):
    return Operation("conv_transpose", input, kernel, filters, stride, padding=padding)


def max_pool(input, kernel, stride=None, padding="VALID"):
    return Operation("max_pool", input, kernel, stride=stride or kernel, padding=padding)


OPERATIONS = [
    # Plain, two axes.
    conv((32, 32, 32, 3), 64, 3),
    conv((128, 28, 28, 1), 16, 5),
    conv((128, 14, 14, 16), 16, 5),
    conv((32, 32, 32, 16), 16, 3),
    conv((1, 32, 32, 64), 64, 3),
    conv((8, 32, 32, 64), 64, 3),
    conv((32, 32, 32, 64), 64, 3),
    conv((32, 16, 16, 64), 96, 3),
    conv((32, 16, 16, 96), 96, 3),
    conv((32, 8, 8, 256), 256, 3),
    conv((1, 56, 56, 64), 64, 3),
    conv((8, 32, 32, 16), 64, 5),
    conv((8, 32, 32, 64), 64, 7),
    conv((4, 32, 32, 16), 16, 16),
    conv((2, 32, 32, 64), 128, 3),
    conv((128, 14, 14, 16), 32, 5, padding="VALID"),
    conv((32, 32, 32, 64), 16, 3, padding="VALID"),
    # One by one.
    conv((32, 32, 32, 16), 64, 1),
    conv((32, 16, 16, 64), 256, 1),
    conv((32, 16, 16, 256), 64, 1),
    conv((128, 8, 8, 256), 256, 1),
    conv((1, 32, 32, 96), 96, 1),
    conv((32, 32, 32, 64), 96, 1, stride=2),
    # As large as the image, which is a dense layer.
    conv((128, 7, 7, 64), 256, 7, padding="VALID"),
    conv((128, 5, 5, 16), 96, 5, padding="VALID"),
    conv((32, 16, 16, 16), 64, 16, padding="VALID"),
    # Strides.
    conv((8, 112, 112, 3), 64, 7, stride=2),
    conv((8, 128, 128, 3), 96, 4, stride=4, padding="VALID"),
    conv((32, 32, 32, 64), 96, 3, stride=2),
    conv((32, 16, 16, 96), 256, 3, stride=2),
    conv((8, 64, 64, 16), 64, 5, stride=4),
    conv((8, 64, 64, 3), 96, 16, stride=16, padding="VALID"),
    conv((8, 32, 32, 96), 96, 2, stride=2, padding="VALID"),
    # Dilation.
    conv((8, 32, 32, 64), 64, 3, dilation=2),
    conv((8, 32, 32, 16), 16, 5, dilation=2),
    conv((8, 32, 32, 64), 64, 3, dilation=2, groups=4),
    # Groups.
    conv((32, 16, 16, 64), 64, 3, groups=4),
    conv((32, 16, 16, 64), 128, 3, groups=8),
    conv((8, 32, 32, 256), 256, 3, groups=8),
    conv((32, 16, 16, 256), 256, 3, groups=32),
    conv((32, 16, 16, 256), 256, 3, groups=32, stride=2),
    conv((32, 16, 16, 64), 64, 1, groups=4),
    conv((32, 16, 16, 96), 96, 1, groups=16),
    conv((8, 16, 16, 96), 96, 5, groups=4),
    # Depthwise.
    conv((32, 32, 32, 64), 64, 3, groups=64),
    conv((32, 32, 32, 64), 64, 3, groups=64, stride=2),
    conv((1, 32, 32, 256), 256, 3, groups=256),
    conv((32, 16, 16, 96), 192, 3, groups=96),
    conv((8, 16, 16, 96), 96, 7, groups=96),
    conv((8, 32, 32, 64), 64, 5, groups=64, dilation=2),
    conv((8, 32, 32, 16), 32, 5, groups=16, stride=2),
    # One axis.
    conv((32, 8000, 1), 64, 80, stride=4),
    conv((32, 500, 64), 64, 3),
    conv((32, 125, 96), 256, 3),
    conv((8, 4000, 16), 16, 16),
    conv((8, 2000, 16), 64, 16, stride=16, padding="VALID"),
    conv((32, 500, 64), 64, 3, dilation=2),
    conv((32, 500, 64), 64, 7, groups=64),
    conv((32, 500, 64), 64, 1),
    conv((8, 2000, 64), 128, 5, stride=2, groups=4),
    # Three axes.
    conv((8, 16, 16, 16, 16), 16, 3),
    conv((4, 32, 32, 32, 1), 16, 3),
    conv((4, 16, 16, 16, 16), 64, 3, stride=2),
    conv((4, 16, 16, 16, 16), 64, 1),
    conv((2, 16, 16, 16, 64), 64, 3, groups=64),
    conv((4, 8, 8, 8, 64), 64, 3, groups=4),
    conv((4, 12, 12, 12, 16), 16, 3, dilation=2),
    conv((8, 8, 8, 8, 16), 64, 8, padding="VALID"),
    conv((2, 16, 16, 16, 3), 16, 5),
    # Transposed.
    conv_transpose((32, 8, 8, 96), 64, 4, 2, padding=1),
    conv_transpose((32, 16, 16, 64), 16, 4, 2, padding=1),
    conv_transpose((32, 16, 16, 64), 64, 3, 1, padding=1),
    conv_transpose((8, 16, 16, 96), 64, 2, 2, padding=0),
    conv_transpose((8, 8, 8, 256), 64, 4, 4, padding=0),
    conv_transpose((32, 250, 64), 16, 16, 4, padding=6),
    conv_transpose((4, 8, 8, 8, 64), 16, 4, 2, padding=1),
    # Max-pooling.
    max_pool((32, 32, 32, 64), 2),
    max_pool((128, 28, 28, 16), 2),
    max_pool((32, 32, 32, 64), 3, stride=2, padding="SAME"),
    max_pool((8, 16, 16, 96), 3, stride=1, padding="SAME"),
    max_pool((8, 16, 16, 256), 5, stride=1, padding="SAME"),
    max_pool((32, 2000, 64), 4),
    max_pool((8, 16, 16, 16, 32), 2),
    max_pool((32, 8, 8, 256), 8),
]
QUICK = [
    conv((2, 9, 9, 8), 8, 3, stride=2, groups=4),
    conv_transpose((2, 5, 7), 3, 4, 2, padding=1),
    max_pool((2, 6, 6, 6, 12), 2),
]


def choose(name: str, quick: bool) -> Operation:
    return next(operation for operation in (QUICK if quick else OPERATIONS) if operation.name == name)
