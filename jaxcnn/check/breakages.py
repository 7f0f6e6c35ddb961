"""What `check.mutants` does to a gradient. Each is a way in which written-out rules have been wrong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxcnn.check.traces import generator

_RANDOM = generator("breakages")


@dataclass(frozen=True)
class Call:
    """One call of the backward pass.

    Attributes:
        g: the right gradient.
        args: the arguments of the call.
        dy: the cotangent.
        first_args: the arguments of the first call.
        gradient: takes args and dy, and returns the gradient that is right for them.
    """

    g: np.ndarray
    args: Sequence[Any]
    dy: Sequence[Any]
    first_args: Sequence[Any]
    gradient: Callable[[Sequence[Any], Sequence[Any]], np.ndarray]

    def changed_dy(self, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The gradient for change(dy) in the place of dy."""
        return self.gradient(self.args, [change(np.asarray(d)).astype(d.dtype) for d in self.dy])

    def changed_args(self, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The gradient at change(argument) in the place of each argument."""
        return self.gradient([change(np.asarray(a)).astype(np.asarray(a).dtype) for a in self.args], self.dy)


def _changed_largest(g: np.ndarray, change: Callable[[Any], Any]) -> np.ndarray:
    """g with change(entry) in the place of its largest entry."""
    if not g.size:
        return g
    g, place = g.copy(), np.unravel_index(np.argmax(np.abs(g)), g.shape)
    g[place] = change(g[place])
    return g


def _zeroed(g: np.ndarray, axis: int, part: Any) -> np.ndarray:
    """g with zeros in a part of an axis."""
    if g.ndim == 0:
        return np.zeros_like(g)
    g, index = g.copy(), [slice(None)] * g.ndim
    index[axis] = part
    g[tuple(index)] = 0
    return g


def _inner_axes(g: np.ndarray) -> tuple[int, ...]:
    """The spatial axes of images: all but the first and the last. For a vector or a matrix it is all axes."""
    return tuple(range(1, g.ndim - 1)) or tuple(range(g.ndim))


def _mean(g: np.ndarray) -> np.ndarray:
    """The mean of g in every entry."""
    return np.broadcast_to(np.mean(np.asarray(g, np.float64)), g.shape).astype(g.dtype)


def _coarse(g: np.ndarray) -> np.ndarray:
    """g rounded to the mantissa of the next lower precision: float32 for float64, bfloat16 for float32, 3 bits else."""
    mantissa, exponent = np.frexp(np.asarray(g, np.float64))
    steps = 2.0 ** {8: 24, 4: 8}.get(g.dtype.itemsize, 3)
    return np.ldexp(np.round(mantissa * steps) / steps, exponent).astype(g.dtype)


def _axes_swapped(g: np.ndarray) -> np.ndarray:
    """g with two axes of one length exchanged."""
    pairs = [(a, b) for a in range(g.ndim) for b in range(a) if g.shape[a] == g.shape[b]]
    return np.swapaxes(g, *pairs[0]) if pairs else g


def _first_channels_exchanged(g: np.ndarray) -> np.ndarray:
    return g[..., [1, 0, *range(2, g.shape[-1])]] if g.ndim and g.shape[-1] > 1 else g


def _all_but_first_zeroed(dy: Sequence[Any]) -> list[Any]:
    """The cotangent of the first output, and zeros for the others."""
    return [dy[0], *map(np.zeros_like, dy[1:])]


BREAKAGES: dict[str, Callable[[Call], np.ndarray]] = {
    # numbers
    "one entry off by a thousandth": lambda c: _changed_largest(c.g, lambda entry: entry * c.g.dtype.type(1.001)),
    "everything off by a thousandth": lambda c: c.g * c.g.dtype.type(1.001),
    "wrong sign": lambda c: -c.g,
    "twice as large": lambda c: c.g + c.g,
    "absolute values": lambda c: np.abs(c.g),
    "divided by its number of entries": lambda c: (c.g / max(c.g.size, 1)).astype(c.g.dtype),
    "times the length of axis 0": lambda c: c.g * c.g.dtype.type(len(c.g) if c.g.ndim else 2),
    "a constant added": lambda c: (c.g + _mean(np.abs(c.g)) / c.g.dtype.type(1000)).astype(c.g.dtype),
    "the mean taken out": lambda c: c.g - _mean(c.g),
    "nothing but the mean": lambda c: _mean(c.g),
    "clipped": lambda c: np.clip(c.g, *(np.asarray([-1, 1]) * np.max(np.abs(c.g), initial=0) / 2).astype(c.g.dtype)),
    "one NaN": lambda c: _changed_largest(c.g, lambda entry: np.nan),
    "one infinity": lambda c: _changed_largest(c.g, lambda entry: np.inf),
    # precision
    "wrong dtype": lambda c: c.g.astype(np.float32 if c.g.dtype != np.float32 else np.float16),
    "computed in low precision": lambda c: _coarse(c.g),
    # places
    "all zero": lambda c: np.zeros_like(c.g),
    "shifted by one along the first inner axis": lambda c: np.roll(c.g, 1, _inner_axes(c.g)[:1]) if c.g.ndim else c.g,
    "shifted by one along the last axis": lambda c: np.roll(c.g, 1, -1) if c.g.ndim else c.g,
    "not flipped": lambda c: np.flip(c.g, _inner_axes(c.g)),
    "channels in reverse": lambda c: np.flip(c.g, -1) if c.g.ndim else c.g,
    "two channels exchanged": lambda c: _first_channels_exchanged(c.g),
    "two axes exchanged": lambda c: _axes_swapped(c.g),
    "the last image dropped": lambda c: _zeroed(c.g, 0, slice(-1, None)),
    "the first channel dropped": lambda c: _zeroed(c.g, -1, slice(1)),
    "the first row dropped": lambda c: _zeroed(c.g, min(1, c.g.ndim - 1), slice(1)),
    "the last row dropped": lambda c: _zeroed(c.g, min(1, c.g.ndim - 1), slice(-1, None)),
    "every second row dropped": lambda c: _zeroed(c.g, min(1, c.g.ndim - 1), slice(1, None, 2)),
    # the cotangent
    "ones in place of dy": lambda c: c.changed_dy(np.ones_like),
    "dy squared": lambda c: c.changed_dy(np.square),
    "the sign of dy": lambda c: c.changed_dy(np.sign),
    "dy clipped at 10": lambda c: c.changed_dy(lambda dy: np.clip(dy, *np.asarray([-10, 10]).astype(dy.dtype))),
    "the last image of dy dropped": lambda c: c.changed_dy(lambda dy: _zeroed(dy, 0, slice(-1, None))),
    "dy shifted by one": lambda c: c.changed_dy(lambda dy: np.roll(dy, 1, _inner_axes(dy)[:1]) if dy.ndim else dy),
    "the mean of dy taken out": lambda c: c.changed_dy(lambda dy: dy - _mean(dy)),
    "dy in low precision": lambda c: c.changed_dy(_coarse),
    "dy of the first output only": lambda c: c.gradient(c.args, _all_but_first_zeroed(c.dy)),
    # what is kept for the backward pass
    "always the arguments of the first call": lambda c: c.gradient(c.first_args, c.dy),
    "halved arguments": lambda c: c.changed_args(lambda a: a / 2),
    "the arguments of the image before": lambda c: c.changed_args(lambda a: np.roll(a, 1, 0) if a.ndim else a),
    "arguments in low precision": lambda c: c.changed_args(_coarse),
    # what changes
    "a mask drawn anew": lambda c: c.g * (_RANDOM.random(size=c.g.shape) < 0.5).astype(c.g.dtype),
    "noise of a thousandth": lambda c: (c.g * (1 + 1e-3 * _RANDOM.normal(size=c.g.shape))).astype(c.g.dtype),
}
