"""Mean-pooling and pooling with weights, and their backward passes.

Lecture: "Backpropagate through Pooling": each derivative of the pooled map gets multiplied with its filter and added to
the corresponding entries of the input map. The filter of max-pooling is one at the maximum and zero elsewhere, that of
mean-pooling is 1/|window| everywhere, that of weighted pooling is learnt.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.ops import shapes
from jaxcnn.ops.convolution import convolve, filter_grad, input_grad, input_grad_padding
from jaxcnn.ops.rules import defvjp
from jaxcnn.ops.shapes import Padding, PerAxis
from jaxcnn.ops.sharding import on_any_mesh
from jaxcnn.ops.windows import pooling_window, positions, require_sight


def mean_pool(
    x: jax.Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "VALID",
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: float | None = None,
) -> jax.Array:
    """The mean of each window, channel by channel.

        y[n, i, c] = 1/|window| Σ_k x[n, s·i + k - low, c]

    Args:
        x: images [N, *S, C].
        window: size of the window, an int or one per spatial axis.
        stride: s, an int or one per spatial axis; the size of the window by default.
        padding: as for `conv`.
        ceil_mode: whether a last window may stick out at the end, as long as it begins in the image or before it.
        count_include_pad: whether the zeros of the padding count as entries of a window. What sticks out in ceil_mode
            never counts.
        divisor: what to divide by instead of the number of entries.

    Returns:
        y [N, *M, C] with M = floor((S + low + high - window) / s) + 1, the ceiling in ceil_mode, in the dtype of x.
        Half precision is summed in float32.

    Raises:
        TypeError: x is no floating-point array, a static argument is no int, bool or number.
        ValueError: the window is larger than the padded image, divisor is 0, or without count_include_pad the window
            lies in the padding altogether at some place.

    Gradient: the convolution of dy/|window|, upsampled by s, with the filter that is one everywhere.

    Source: lecture, "Backward Pass: Mean-Pooling".

    >>> mean_pool(jnp.array([1.0, 3.0, 2.0, 0.0]).reshape(1, 4, 1), 2)[0, :, 0]
    Array([2., 1.], dtype=float32)
    """
    function = "mean_pool"
    (x,) = shapes.floating(function, x=x)
    floor = pooling_window(function, x, window, stride, padding)
    geometry = shapes.reaching_the_end(floor) if shapes.flag(function, "ceil_mode", ceil_mode) else floor
    if divisor is not None:
        counted = shapes.number(function, "divisor", divisor)
        shapes.require(counted != 0, function, "divisor", "a number other than 0", divisor)
    elif shapes.flag(function, "count_include_pad", count_include_pad):
        counted = floor.padding
    else:
        require_sight(function, geometry)
        counted = ((0, 0),) * len(geometry.size)
    return _mean_pool(x, geometry, counted)


def _mean_pool_plain(x, window, counted):
    padded = _pad(x, [(low, high, 0) for low, high in window.padding])
    wide = padded.astype(shapes.sum_dtype(x.dtype))
    return (_window_sum(wide, window.size, window.stride) / _divisor(window, counted, wide.dtype)).astype(x.dtype)


_mean_pool = jax.custom_vjp(on_any_mesh(_mean_pool_plain), nondiff_argnums=(1, 2))


def _mean_pool_fwd(x, window, counted):
    return _mean_pool_plain(x, window, counted), None


def _mean_pool_bwd(window, counted, _, dy):
    """∇_X R = Conv(uSample(∇_Y R / |window| | s) | 1), the filter of ones being its own reverse."""
    wide = dy.astype(shapes.sum_dtype(dy.dtype))
    shares = wide / _divisor(window, counted, wide.dtype)
    if window.size == window.stride and window.padded == window.image and window.volume > _SMALL_BOX:
        return (_repeat(shares, window).astype(dy.dtype),)
    pads = zip(input_grad_padding(window), window.stride, strict=True)
    upsampled = _pad(shares, [(low, high, s - 1) for (low, high), s in pads])
    return (_window_sum(upsampled, window.size, (1,) * len(window.size)).astype(dy.dtype),)


defvjp(_mean_pool, _mean_pool_fwd, _mean_pool_bwd)


def _repeat(shares, window):
    """The same where no windows overlap: each share at every entry of its window, and zeros in the remainder."""
    images, channels = shares.shape[0], shares.shape[-1]
    between = [length for m in window.output for length in (m, 1)]
    inside = [length for m, k in zip(window.output, window.size, strict=True) for length in (m, k)]
    repeated = jnp.broadcast_to(shares.reshape(images, *between, channels), (images, *inside, channels))
    covered = [m * k for m, k in zip(window.output, window.size, strict=True)]
    remainder = [(0, n - c, 0) for n, c in zip(window.image, covered, strict=True)]
    return _pad(repeated.reshape(images, *covered, channels), remainder)


def _divisor(window, counted, dtype):
    """What each window is divided by: a number, or [1, *M, 1] entries within `counted` places around the image."""
    if not isinstance(counted, tuple):
        return np.asarray(counted, dtype)
    axes = zip(positions(window), window.image, counted, strict=True)
    counts = [((-low <= p) & (p < n + high)).sum(axis=1) for p, n, (low, high) in axes]
    if all((count == k).all() for count, k in zip(counts, window.size, strict=True)):
        return np.asarray(window.volume, dtype)
    entries = functools.reduce(np.multiply.outer, counts)
    return entries[None, ..., None].astype(dtype)


def _pad(x, spatial):
    """Zeros (low, high, between) on each spatial axis."""
    return lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *spatial, (0, 0, 0)])


def _window_sum(x, size, stride):
    """The sum over a box: at once, or where it is large one axis after the other, which costs the sum of its sides."""
    axes = range(1, len(size) + 1)
    for together in [axes] if math.prod(size) <= _SMALL_BOX else [(axis,) for axis in axes]:
        along, strides = [1] * x.ndim, [1] * x.ndim
        for axis in together:
            along[axis], strides[axis] = size[axis - 1], stride[axis - 1]
        x = lax.reduce_window(x, np.zeros((), x.dtype), lax.add, along, strides, "VALID")
    return x


_SMALL_BOX = 4  # on a CPU, measured inside a network: at 3x3 one axis after the other is three times as fast


def weighted_pool(
    x: jax.Array, w: jax.Array, *, stride: PerAxis | None = None, padding: Padding = "VALID"
) -> jax.Array:
    """Pooling with learnt weights: the weighted sum of each window, channel by channel.

        y[n, i, c] = Σ_k w[k, c] x[n, s·i + k - low, c]

    With all weights 1/|window| it is `mean_pool`. Unlike `depthwise_conv` it keeps the number of channels, may share
    one set of weights among them, and moves by its own size.

    Args:
        x: images [N, *S, C].
        w: weights, one window per channel [*K, C] or one for all channels [*K].
        stride: s, an int or one per spatial axis; the size of the window by default.
        padding: as for `conv`.

    Returns:
        y [N, *M, C] with M = floor((S + low + high - K) / s) + 1, in the dtype of x.

    Raises:
        TypeError: an argument is no floating-point array, the dtypes differ, a static argument is no int.
        ValueError: w is neither [*K, C] nor [*K], the window is larger than the padded image.

    Gradient: dx is the convolution of dy, upsampled by s, with the reversed weights; dw the convolution of x with it.

    Source: lecture, "Big Picture: What to Train" (advanced pooling with weights), "Backpropagation through Pooling:
        Summary".

    >>> weighted_pool(jnp.array([1.0, 3.0, 2.0, 0.0]).reshape(1, 4, 1), jnp.array([0.25, 0.75]))[0, :, 0]
    Array([2.5, 0.5], dtype=float32)
    """
    x, w = shapes.floating("weighted_pool", x=x, w=w)
    shapes.images("weighted_pool", x)
    shapes.channels("weighted_pool", x)
    rank = x.ndim - 2
    fits = w.ndim == rank or (w.ndim == rank + 1 and w.shape[-1] == x.shape[-1])
    expected = f"[*K, C] or [*K] with {rank} spatial axes and C = {x.shape[-1]} as x has"
    shapes.require(fits, "weighted_pool", "w", expected, shapes.describe(w))
    size = w.shape[:rank]
    stride = size if stride is None else stride
    return _weighted_pool(x, w, shapes.window("weighted_pool", x.shape[1:-1], size, stride, padding, argument="w"))


def _weighted_pool_plain(x, w, window):
    channels = x.shape[-1]
    return convolve(x, _one_filter_per_channel(w, channels, window), window, channels)


_weighted_pool = jax.custom_vjp(on_any_mesh(_weighted_pool_plain), nondiff_argnums=(2,))


def _weighted_pool_fwd(x, w, window):
    return _weighted_pool_plain(x, w, window), (x, w)


def _weighted_pool_bwd(window, residuals, dy):
    """Pooling is a convolution of each channel by itself, and so is its backward pass."""
    x, w = residuals
    channels = x.shape[-1]
    dx = input_grad(dy, _one_filter_per_channel(w, channels, window), window, channels)
    dw = filter_grad(x, dy, window, channels).reshape(*window.size, channels)
    shared = w.ndim == len(window.size)
    return dx, jnp.sum(dw, axis=-1) if shared else dw


defvjp(_weighted_pool, _weighted_pool_fwd, _weighted_pool_bwd)


def _one_filter_per_channel(w, channels, window):
    """[*K, C] or [*K] -> the depthwise filters [*K, 1, C]."""
    per_channel = w.reshape(*window.size, 1, -1)
    return jnp.broadcast_to(per_channel, (*window.size, 1, channels))
