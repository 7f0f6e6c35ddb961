"""How a window slides over an image: where it begins, how far it reaches, how often it fits; Python integers only."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Window:
    """How a filter or a pooling window slides over the spatial axes of an image; one entry per axis everywhere.

    With an upsampling there are zeros between the entries of the image, and `image` is its shape with them.
    """

    image: tuple[int, ...]
    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    upsampling: tuple[int, ...]

    @property
    def volume(self) -> int:
        """How many entries the window holds."""
        return math.prod(self.size)

    @property
    def side_by_side(self) -> bool:
        """Whether the windows cover the image from its first place on without overlap, up to a remainder."""
        rank = len(self.size)
        return self.size == self.stride and self.padding == ((0, 0),) * rank and self.dilation == (1,) * rank

    @property
    def extent(self) -> tuple[int, ...]:
        """How many places it spans: d(k - 1) + 1."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.size, self.dilation, strict=True))

    @property
    def padded(self) -> tuple[int, ...]:
        """The shape of the padded image: n + low + high."""
        return tuple(n + low + high for n, (low, high) in zip(self.image, self.padding, strict=True))

    @property
    def output(self) -> tuple[int, ...]:
        """How many places it takes: floor((n + low + high - extent) / s) + 1."""
        return tuple((n - e) // s + 1 for n, e, s in zip(self.padded, self.extent, self.stride, strict=True))


def reaching_the_end(window: Window) -> Window:
    """The window with a last place that may stick out behind the padded image, as long as it begins before its end.

    These are ceil((n + low + high - extent) / s) + 1 places, one less if the last began in the padding behind the
    image.
    """

    def more(n, low, high, e, s):
        over = -(n + low + high - e) % s
        begins = n + low + high - e + over
        return over if begins < n + low else 0

    axes = zip(window.image, window.padding, window.extent, window.stride, strict=True)
    padding = tuple((low, high + more(n, low, high, e, s)) for n, (low, high), e, s in axes)
    return replace(window, padding=padding)


def _same(n: int, extent: int, s: int) -> tuple[int, int]:
    """ceil(n / s) outputs; where the zeros are odd in number, one more behind than in front (XLA's convention)."""
    zeros = max((-(-n // s) - 1) * s + extent - n, 0)
    return zeros // 2, zeros - zeros // 2


# What a padding of this name adds to n entries, (low, high), for a window that spans `extent` and moves in steps of s.
NAMED_PADDINGS = {
    "SAME": _same,
    "SAME_LOWER": lambda n, extent, s: _same(n, extent, s)[::-1],
    "VALID": lambda n, extent, s: (0, 0),
    "CAUSAL": lambda n, extent, s: (extent - 1, 0),
}
