"""Padding of images by what is in them: zeros, the other end, a mirror or the border.

Lecture: "Backpropagation: Resampling" has the idea of the rules: what an entry was copied to, its derivative is the sum
of. The strips of dy around the image are folded back to where they came from.
"""

import math
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.contract import arguments, window_arguments
from jaxcnn.contract.geometry import may_be_left, surely
from jaxcnn.contract.precision import widen
from jaxcnn.contract.rules import custom_rule
from jaxcnn.contract.window_arguments import Pads


def pad(x: jax.Array, width: Pads, mode: str = "zeros") -> jax.Array:
    """Images with a frame around them.

        y[i] = x[source(i - low)]        along every spatial axis, of n entries; x[0], ..., x[n - 1] is the image

    "zeros": 0 outside the image. "circular": source(j) = j mod n. "reflect": -j in front and 2(n - 1) - j behind, the
    border not repeated. "replicate": 0 in front and n - 1 behind. These are PyTorch's F.pad.

    Args:
        x: images [N, *S, C].
        width: how many places are added, an int for all sides or (low, high) per spatial axis. A negative one crops.
            As in PyTorch "circular" crops before it pads the other side, "reflect" afterwards: what is cropped does
            not come round again, but does show in the mirror.
        mode: "zeros", "circular", "reflect" or "replicate".

    Returns:
        y [N, *(S + low + high), C], in the dtype of x.

    Raises:
        TypeError: x is no floating-point array, width is no int.
        ValueError: x has no spatial axis, mode is another, nothing would be left, or the image is too small: "circular"
            takes at most n places (of what cropping leaves), "reflect" n - 1, "replicate" none of an empty image.

    Gradient: ∇_x[j] R = Σ dy[i] over the places i that x[j] went to: the strips of dy in front and behind, reversed for
        "reflect" and summed for "replicate", added where they came from. Nothing is kept.

    Source: the padding modes of PyTorch's convolutions; Alsallakh et al., Mind the pad, 2021, for what they do to a
        network.

    >>> x = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)
    >>> for mode in ("zeros", "circular", "reflect", "replicate"):
    ...     print(pad(x, 2, mode)[0, :, 0])
    [0. 0. 1. 2. 3. 0. 0.]
    [2. 3. 1. 2. 3. 1. 2.]
    [3. 2. 1. 2. 3. 2. 1.]
    [1. 1. 1. 2. 3. 3. 3.]
    """
    (x,) = arguments.floating("pad", x=x)
    arguments.images("pad", x)
    image = x.shape[1:-1]
    width = window_arguments.pads("pad", "width", width, len(image), "an int", both_sides=False)
    window_arguments.thin("pad", "width", width)
    arguments.choice("pad", "mode", mode, ("zeros", *_SOURCES))
    left = [n + low + high for n, (low, high) in zip(image, width, strict=True)]
    arguments.require(
        all(map(may_be_left, left)), "pad", "width", f"such that something is left of {list(image)}", width
    )
    most = [_most(n, pads, mode) for n, pads in zip(image, width, strict=True)]
    fits = all(surely(operator.le, max(pads), m) for pads, m in zip(width, most, strict=True))
    if not fits:
        arguments.known_image(
            "pad", x, expected=f"[N, *S, C] of a known size, or one that is surely enough for {width}"
        )
    expected = f"at most {most} at either end of an image {list(image)} in mode {mode!r}"
    arguments.require(fits, "pad", "width", expected, width)
    return _pad(x, width, mode)


def _most(n, pads, mode):
    """How many places can be added at one end of an axis."""
    cropped = n + sum(min(w, 0) for w in pads)
    return {"zeros": math.inf, "circular": cropped, "reflect": n - 1, "replicate": math.inf if n else 0}[mode]


def _pad_plain(x, width, mode):
    if mode == "zeros":
        return _zeros(x, width)
    first_crop, added, last_crop = _steps(width, mode)
    x = _zeros(x, first_crop)
    for axis, (low, high) in enumerate(added, 1):
        (a, b), (c, d) = _SOURCES[mode](x.shape[axis], low, high)
        front = _strip(lax.slice_in_dim(x, a, b, axis=axis), axis, low, mode)
        back = _strip(lax.slice_in_dim(x, c, d, axis=axis), axis, high, mode)
        x = jnp.concatenate([front, x, back], axis)
    return _zeros(x, last_crop)


def _pad_fwd(x, width, mode):
    return _pad_plain(x, width, mode), None


# Along one axis y = [F x[a:b], x, B x[c:d]] with F and B the identity, the reversal or the repetition. So dy falls into
# three parts, [front, middle, back], and dx = middle + Fᵀ front at a:b + Bᵀ back at c:d.
def _pad_bwd(width, mode, _, dy):
    """Each step backwards, the last one first: what was cropped gets zeros, what was added is folded back."""
    if mode == "zeros":
        return (_zeros(dy, _negative(width)),)
    first_crop, added, last_crop = _steps(width, mode)
    dx = _zeros(widen(dy), _negative(last_crop))
    for axis, (low, high) in reversed(list(enumerate(added, 1))):
        n = dx.shape[axis] - low - high
        front, middle, back = (
            lax.slice_in_dim(dx, *ends, axis=axis) for ends in ((0, low), (low, low + n), (low + n, low + n + high))
        )
        (a, b), (c, d) = _SOURCES[mode](n, low, high)
        front, back = _strip_transposed(front, axis, mode), _strip_transposed(back, axis, mode)
        dx = middle + _pad_axis(front, axis, a, n - b) + _pad_axis(back, axis, c, n - d)
    return (_zeros(dx, _negative(first_crop)),)


_pad = custom_rule(_pad_plain, _pad_fwd, _pad_bwd)


# For each mode where in the axis what is in front comes from, and what is behind: [a, b) and [c, d).
_SOURCES = {
    "circular": lambda n, low, high: ((n - low, n), (0, high)),
    "reflect": lambda n, low, high: ((1, 1 + low), (n - 1 - high, n - 1)),
    "replicate": lambda n, low, high: ((0, 1), (n - 1, n)),
}


def _strip(source, axis, width, mode):
    """What is added, from the entries that it repeats."""
    if mode == "replicate":
        return jnp.broadcast_to(source, (*source.shape[:axis], width, *source.shape[axis + 1 :]))
    return lax.rev(source, (axis,)) if mode == "reflect" else source


def _strip_transposed(strip, axis, mode):
    """The derivatives of the entries that a strip repeats, from those of the strip."""
    if mode == "replicate":
        return jnp.sum(strip, axis, keepdims=True)
    return lax.rev(strip, (axis,)) if mode == "reflect" else strip


def _steps(width, mode):
    """What to crop before, what to add, what to crop after; the widths of each, per axis."""
    crop = tuple((min(low, 0), min(high, 0)) for low, high in width)
    added = tuple((max(low, 0), max(high, 0)) for low, high in width)
    nothing = ((0, 0),) * len(width)
    return (crop, added, nothing) if mode == "circular" else (nothing, added, crop)


def _negative(width):
    return [(-low, -high) for low, high in width]


def _zeros(x, width):
    """Zeros around the image, or less of it."""
    return lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in width), (0, 0, 0)])


def _pad_axis(x, axis, low, high):
    """x with zeros around it along one axis, or less of it."""
    return lax.pad(x, np.zeros((), x.dtype), [(low, high, 0) if a == axis else (0, 0, 0) for a in range(x.ndim)])
