"""What `check.mutants` does to a gradient: each a way in which written-out rules have been wrong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxcnn.check.programs import generator

_RANDOM = generator("breakages")


@dataclass(frozen=True)
class Call:
    """One call of the backward pass."""

    g: np.ndarray  # the right gradient
    args: Sequence[Any]
    dy: Sequence[Any]
    elsewhere: Sequence[Any]  # the arguments of the first call
    gradient: Callable[[Sequence[Any], Sequence[Any]], np.ndarray]  # of (args, dy)

    def of_dy(self, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The gradient with another cotangent in place of dy."""
        return self.gradient(self.args, [change(np.asarray(d)).astype(d.dtype) for d in self.dy])

    def of_args(self, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The gradient at other arguments."""
        return self.gradient([change(np.asarray(a)).astype(np.asarray(a).dtype) for a in self.args], self.dy)


def _largest(g: np.ndarray, change: Callable[[Any], Any]) -> np.ndarray:
    """The largest entry changed."""
    if not g.size:
        return g
    g, place = g.copy(), np.unravel_index(np.argmax(np.abs(g)), g.shape)
    g[place] = change(g[place])
    return g


def _without(g: np.ndarray, axis: int, part: Any) -> np.ndarray:
    """A part along an axis set to zero."""
    if g.ndim == 0:
        return np.zeros_like(g)
    g, index = g.copy(), [slice(None)] * g.ndim
    index[axis] = part
    g[tuple(index)] = 0
    return g


def _inner(g: np.ndarray) -> tuple[int, ...]:
    """The axes of an image, or of a filter: all but the first and the last; all of a short array."""
    return tuple(range(1, g.ndim - 1)) or tuple(range(g.ndim))


def _mean(g: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.mean(np.asarray(g, np.float64)), g.shape).astype(g.dtype)


def _coarse(g: np.ndarray) -> np.ndarray:
    """Through a lower precision: 16 bits of exponent and sign and mantissa less than there were."""
    mantissa, exponent = np.frexp(np.asarray(g, np.float64))
    bits = 2.0 ** {8: 24, 4: 8}.get(g.dtype.itemsize, 3)
    return np.ldexp(np.round(mantissa * bits) / bits, exponent).astype(g.dtype)


def _axes_swapped(g: np.ndarray) -> np.ndarray:
    pairs = [(a, b) for a in range(g.ndim) for b in range(a) if g.shape[a] == g.shape[b]]
    return np.swapaxes(g, *pairs[0]) if pairs else g


def _first_two_exchanged(g: np.ndarray) -> np.ndarray:
    return g[..., [1, 0, *range(2, g.shape[-1])]] if g.ndim and g.shape[-1] > 1 else g


def _only_first(dy: Sequence[Any]) -> list[Any]:
    return [dy[0], *map(np.zeros_like, dy[1:])]


BREAKAGES: dict[str, Callable[[Call], np.ndarray]] = {
    # numbers
    "one entry off by a thousandth": lambda c: _largest(c.g, lambda entry: entry * c.g.dtype.type(1.001)),
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
    "one NaN": lambda c: _largest(c.g, lambda entry: np.nan),
    "one infinity": lambda c: _largest(c.g, lambda entry: np.inf),
    # precision
    "wrong dtype": lambda c: c.g.astype(np.float32 if c.g.dtype != np.float32 else np.float16),
    "computed in low precision": lambda c: _coarse(c.g),
    # places
    "all zero": lambda c: np.zeros_like(c.g),
    "shifted by one along the first inner axis": lambda c: np.roll(c.g, 1, _inner(c.g)[:1]) if c.g.ndim else c.g,
    "shifted by one along the last axis": lambda c: np.roll(c.g, 1, -1) if c.g.ndim else c.g,
    "not flipped": lambda c: np.flip(c.g, _inner(c.g)),
    "channels in reverse": lambda c: np.flip(c.g, -1) if c.g.ndim else c.g,
    "two channels exchanged": lambda c: _first_two_exchanged(c.g),
    "two axes exchanged": lambda c: _axes_swapped(c.g),
    "the last image dropped": lambda c: _without(c.g, 0, slice(-1, None)),
    "the first channel dropped": lambda c: _without(c.g, -1, slice(1)),
    "the first row dropped": lambda c: _without(c.g, min(1, c.g.ndim - 1), slice(1)),
    "the last row dropped": lambda c: _without(c.g, min(1, c.g.ndim - 1), slice(-1, None)),
    "every second row dropped": lambda c: _without(c.g, min(1, c.g.ndim - 1), slice(1, None, 2)),
    # the cotangent
    "ones in place of dy": lambda c: c.of_dy(np.ones_like),
    "dy squared": lambda c: c.of_dy(np.square),
    "the sign of dy": lambda c: c.of_dy(np.sign),
    "dy clipped at 10": lambda c: c.of_dy(lambda dy: np.clip(dy, *np.asarray([-10, 10]).astype(dy.dtype))),
    "the last image of dy dropped": lambda c: c.of_dy(lambda dy: _without(dy, 0, slice(-1, None))),
    "dy shifted by one": lambda c: c.of_dy(lambda dy: np.roll(dy, 1, _inner(dy)[:1]) if dy.ndim else dy),
    "the mean of dy taken out": lambda c: c.of_dy(lambda dy: dy - _mean(dy)),
    "dy in low precision": lambda c: c.of_dy(_coarse),
    "dy of the first output only": lambda c: c.gradient(c.args, _only_first(c.dy)),
    # what is kept for the backward pass
    "always the arguments of the first call": lambda c: c.gradient(c.elsewhere, c.dy),
    "halved arguments": lambda c: c.of_args(lambda a: a / 2),
    "the arguments of the image before": lambda c: c.of_args(lambda a: np.roll(a, 1, 0) if a.ndim else a),
    "arguments in low precision": lambda c: c.of_args(_coarse),
    # what changes
    "a mask drawn anew": lambda c: c.g * (_RANDOM.random(size=c.g.shape) < 0.5).astype(c.g.dtype),
    "noise of a thousandth": lambda c: (c.g * (1 + 1e-3 * _RANDOM.normal(size=c.g.shape))).astype(c.g.dtype),
}
