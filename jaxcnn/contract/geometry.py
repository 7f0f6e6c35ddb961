"""How a window slides over an image: where it begins, how far it reaches, how often it fits.

All sizes are Python integers, with one exception. Where `jax.export` compiles for images of all sizes, their axes, and
what follows from them, are symbolic.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from jax.core import max_dim
from jax.errors import InconclusiveDimensionOperation


@dataclass(frozen=True)
class Window:
    """How a filter or a pooling window slides over the spatial axes of an image; one entry per axis everywhere.

    With an upsampling u there are u - 1 zeros between neighbouring entries of the image, and `image` counts them.
    """

    image: tuple[int, ...]
    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    upsampling: tuple[int, ...]

    @property
    def known(self) -> bool:
        """Whether the size of the padded image is known, in numbers."""
        return all(isinstance(n, int) for n in self.padded)

    @property
    def volume(self) -> int:
        """How many entries the window holds."""
        return math.prod(self.size)

    @property
    def side_by_side(self) -> bool:
        """Whether the windows cover the image from its first place on, without overlap; a remainder may be left."""
        rank = len(self.size)
        return self.size == self.stride and self.padding == ((0, 0),) * rank and self.dilation == (1,) * rank

    @property
    def extent(self) -> tuple[int, ...]:
        """How many places the window spans: d(k - 1) + 1."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.size, self.dilation, strict=True))

    @property
    def padded(self) -> tuple[int, ...]:
        """The shape of the padded image: n + low + high."""
        return tuple(n + low + high for n, (low, high) in zip(self.image, self.padding, strict=True))

    @property
    def output(self) -> tuple[int, ...]:
        """How many places the window takes: floor((n + low + high - extent) / s) + 1."""
        places = [(n - e) // s + 1 for n, e, s in zip(self.padded, self.extent, self.stride, strict=True)]
        return tuple(m if isinstance(m, int) else max_dim(m, 0) for m in places)

    @property
    def input_grad_padding(self) -> tuple[tuple[int, int], ...]:
        """The zeros (low, high) around uSample(dz | s) that make the gradient of the image as large as the image."""
        axes = zip(self.image, self.output, self.extent, self.stride, self.padding, strict=True)
        return tuple((e - 1 - low, n + low - spread(m, s)) for n, m, e, s, (low, _) in axes)

    @property
    def filter_grad_padding(self) -> tuple[tuple[int, int], ...]:
        """The zeros (low, high) around the image in which uSample(dz | s) has a place for each entry of the filter."""
        axes = zip(self.image, self.output, self.extent, self.stride, self.padding, strict=True)
        return tuple((low, spread(m, s) - 1 + e - n - low) for n, m, e, s, (low, _) in axes)


def spread(m: int, s: int) -> int:
    """How many entries uSample(z | s) of m entries has: s(m - 1) + 1, as in lax, with no zeros behind the last one."""
    return max_dim(s * (m - 1) + 1, 0)


def surely(comparison: Callable[..., bool], *sizes: Any) -> bool:
    """Whether a comparison of sizes holds; of symbolic sizes, whether it holds for all their values."""
    try:
        return bool(comparison(*sizes))
    except InconclusiveDimensionOperation:
        return False


def may_be_left(n: int) -> bool:
    """Whether an image can have n entries: n is above 0, or it is symbolic and never negative."""
    return n > 0 if isinstance(n, int) else surely(operator.ge, n, 0)


def reaching_the_end(window: Window) -> Window:
    """The window with one place more where a remainder of the padded image is left, as ceil_mode has it.

    There are ceil((n + low + high - extent) / s) + 1 places. The last may reach beyond the padded image. It is
    left out if it would begin in the padding behind the image.
    """

    def more(n, low, high, e, s):
        missing = -(n + low + high - e) % s
        begins_before_end = surely(operator.lt, high - e + missing, 0)
        return missing if begins_before_end else 0

    axes = zip(window.image, window.padding, window.extent, window.stride, strict=True)
    padding = tuple((low, high + more(n, low, high, e, s)) for n, (low, high), e, s in axes)
    return replace(window, padding=padding)


def bounded_steps(window: Window) -> Window:
    """The same window with no step that is never made: a stride where there is one place, a dilation of one entry."""
    axes = zip(window.output, window.stride, window.padded, strict=True)
    return replace(
        window,
        stride=tuple(max(min(s, n), 1) if m == 1 else s for m, s, n in axes),
        dilation=tuple(d if k > 1 else 1 for k, d in zip(window.size, window.dilation, strict=True)),
    )


def sees_everywhere(window: Window) -> bool:
    """Whether every place of the window has an entry inside the image. True where the size is not known."""
    if not window.known:
        return True
    axes = zip(window.image, window.output, window.size, window.stride, window.padding, window.dilation, strict=True)
    return all(_sees(*axis) for axis in axes)


# The image has n entries. The entries of a window are d apart, and places are s apart. A window at place i begins at
# s·i - low. It sees the image if one of its entries is inside.
#
# If d <= n, the image does not fit between two entries of a window. Then only the first and the last place can see
# nothing. The same is true of a window of one entry.
#
# If d > n, the image fits between two entries. A window that begins in front of the image, and ends inside or behind
# it, sees it if (s·i - low) mod d is one of the n numbers 0, ..., n - 1. From a place to the next this number grows by
# s, modulo d. If n + 1 places in a row see the image, two of them have the same number. So the numbers repeat from
# there on, and all later places that begin in front of the image see it. That is why the first n + 1 places and the
# last one are looked at.
def _sees(n, m, k, s, pads, d):
    if max(pads) <= 0:
        return True
    low, places = pads[0], {0, m - 1} if d <= n or k == 1 else {*range(min(m, n + 1)), m - 1}

    def first_inside(i):
        return s * i - low + d * max(-((s * i - low) // d), 0)

    return all(first_inside(i) < n and first_inside(i) <= s * i - low + d * (k - 1) for i in places)


def trimmed(window: Window) -> Window:
    """The same window without its first and last entries, as far as they lie in the padding at every place.

    It is the window itself where the size of the image is not known.
    """
    if not window.known:
        return window
    axes = list(zip(window.output, window.size, window.stride, window.padding, window.dilation, strict=True))
    seen = [_seen(n, *axis) for n, axis in zip(window.image, axes, strict=True)]
    pads = [(low - d * a, high - d * (k - 1 - b)) for (_, k, _, (low, high), d), (a, b) in zip(axes, seen, strict=True)]
    return bounded_steps(replace(window, size=tuple(b - a + 1 for a, b in seen), padding=tuple(pads)))


def _seen(n, m, k, s, pads, d):
    """The first and the last entry of the window that lies inside the image at some place; one entry at least."""
    low, high = pads
    first = min(max(-((s * (m - 1) - low) // d), 0), k - 1) if low > 0 else 0
    last = max(min((n - 1 + low) // d, k - 1), first) if high > 0 else k - 1
    return first, last


def _same(n: int, extent: int, s: int) -> tuple[int, int]:
    """The padding (low, high) for ceil(n / s) outputs. Of an odd number of zeros one more is behind, as XLA has it."""
    missing = (-(-n // s) - 1) * s + extent - n
    zeros = missing if extent >= s else max_dim(missing, 0)
    return zeros // 2, zeros - zeros // 2


# The padding (low, high) of each name, for n entries and a window that spans `extent` and moves in steps of s.
NAMED_PADDINGS = {
    "SAME": _same,
    "SAME_LOWER": lambda n, extent, s: _same(n, extent, s)[::-1],
    "VALID": lambda n, extent, s: (0, 0),
    "CAUSAL": lambda n, extent, s: (extent - 1, 0),
}
