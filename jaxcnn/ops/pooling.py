"""Pooling and its backward pass.

Lecture: "Backpropagate through Pooling": each derivative of the pooled map gets multiplied with its filter and added to
the corresponding entries of the input map. The filter of max-pooling is one at the maximum and zero elsewhere, that of
mean-pooling is 1/|window| everywhere, that of weighted pooling is learnt.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.ops import shapes
from jaxcnn.ops.convolution import convolve, filter_grad, input_grad, input_grad_padding
from jaxcnn.ops.shapes import Padding, Pads, PerAxis, Window
from jaxcnn.ops.windows import inside_image, positions
from jaxcnn.ops.winners import (
    add_at_place,
    add_at_winner,
    max_and_winner,
    place_of_winner,
    take_from_place,
    window_max,
)


def max_pool(
    x: jax.Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest entry of each window, channel by channel.

        y[n, i, c] = max_k x[n, s·i + d·k - low, c]

    Args:
        x: images [N, *S, C].
        window: size of the window, an int or one per spatial axis.
        stride: s, an int or one per spatial axis; the size of the window by default.
        padding: as for `conv`; what is added never is the maximum.
        dilation: d, the distance between neighbouring entries of the window, an int or one per spatial axis.
        ceil_mode: whether a last window may stick out at the end, as long as it begins in the image or before it.
        return_indices: whether to return where the maxima are as well.

    Returns:
        y [N, *M, C] with M = floor((S + low + high - d(window - 1) - 1) / s) + 1, the ceiling in ceil_mode, in the
        dtype of x; with return_indices (y, indices), indices int32 of the shape of y, flat in the spatial axes of x,
        as PyTorch's. A NaN in a window is its maximum, the first one where there are several.

    Raises:
        TypeError: x is no floating-point array, a static argument is no int or bool.
        ValueError: the window is larger than the padded image, or lies in the padding altogether at some place.

    Gradient: each dy goes to the entry that was the maximum, to the first one (the last axis fastest) where several
        tie; an entry that was the maximum of several windows gets the sum.

    Source: lecture, "Backpropagation: Max-Pooling".

    >>> max_pool(jnp.array([1.0, 3.0, 2.0, 0.0]).reshape(1, 4, 1), 2)[0, :, 0]
    Array([3., 2.], dtype=float32)
    """
    (x,) = shapes.floating("max_pool", x=x)
    geometry = _pooling_window("max_pool", x, window, stride, padding, dilation, ceil_mode)
    _require_sight("max_pool", geometry)
    y = _max_pool(x, geometry)
    if not shapes.flag("max_pool", "return_indices", return_indices):
        return y
    return y, place_of_winner(max_and_winner(lax.stop_gradient(x), geometry)[1], geometry)


def _require_sight(function: str, window: Window) -> None:
    """ValueError unless every place of the window has an entry of the image."""
    sees_image = all(inside.any(axis=1).all() for inside in inside_image(window))
    expected = f"such that every window of size {window.size} sees an entry of the image"
    shapes.require(sees_image, function, "padding", expected, window.padding)


def _max_pool_plain(x, window):
    return window_max(x, window)


_max_pool = jax.custom_vjp(_max_pool_plain, nondiff_argnums=(1,))


def _max_pool_fwd(x, window):
    return max_and_winner(x, window)


def _max_pool_bwd(window, winner, dy):
    """Each dy times the filter that is one at the winner of its window, added to the input map."""
    return (add_at_winner(dy, winner, window),)


_max_pool.defvjp(_max_pool_fwd, _max_pool_bwd)


def max_unpool(
    y: jax.Array,
    indices: jax.Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Pads = 0,
    shape: tuple[int, ...] | None = None,
) -> jax.Array:
    """Puts pooled entries back to where the maxima were, and zeros elsewhere: the backward pass of `max_pool` as an op.

        x[n, indices[n, i, c], c] = y[n, i, c]

    Args:
        y: pooled maps [N, *M, C].
        indices: integers [N, *M, C], flat in the spatial axes of the result, from `max_pool(..., return_indices=True)`.
        window, stride: those of the pooling; they say how large the result is.
        padding: of the pooling, an int or (low, high) per axis.
        shape: the spatial shape of the result; by default (M - 1)s - low - high + window.

    Returns:
        x [N, *shape, C], in the dtype of y. Entries that share a place are summed, as in the backward pass of
        pooling, where PyTorch keeps any one of them.

    Raises:
        TypeError: y is no floating-point array, indices are no integers, a static argument is no int.
        ValueError: indices have not the shape of y, shape has not one entry per spatial axis, or nothing would be left;
            an index is out of range. Under `jit` indices have no values to look at: one out of range gets lost there.

    Gradient: dy = dx[indices].

    Source: lecture, "Backpropagation: Max-Pooling"; Zeiler and Fergus, Visualizing and understanding convolutional
        networks, 2014.

    >>> y, indices = max_pool(jnp.array([1.0, 3.0, 2.0, 0.0]).reshape(1, 4, 1), 2, return_indices=True)
    >>> max_unpool(y, indices, 2)[0, :, 0]
    Array([0., 3., 2., 0.], dtype=float32)
    """
    function = "max_unpool"
    (y,) = shapes.floating(function, y=y)
    shapes.images(function, y, "y")
    if shape is None:
        stride = window if stride is None else stride
        size = shapes.per_axis(function, "window", window, y.ndim - 2)
        shape = shapes.transposed_window(
            function, y.shape, (*size, 1, y.shape[-1]), stride, padding, 0, 1, 1, argument="window"
        ).image
    shape = shapes.shape(function, "shape", shape)
    expected = f"one entry for each of the {y.ndim - 2} spatial axes"
    shapes.require(len(shape) == y.ndim - 2, function, "shape", expected, shape)
    indices = shapes.integers(function, "indices", indices, y.shape, math.prod(shape))
    return _max_unpool(y, indices, shape)


def _max_unpool_plain(y, indices, shape):
    return add_at_place(y, indices, shape)


_max_unpool = jax.custom_vjp(_max_unpool_plain, nondiff_argnums=(2,))


def _max_unpool_fwd(y, indices, shape):
    return _max_unpool_plain(y, indices, shape), indices


def _max_unpool_bwd(shape, indices, dx):
    """Every entry of y went to one place."""
    return take_from_place(dx, indices), None


_max_unpool.defvjp(_max_unpool_fwd, _max_unpool_bwd)


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
    floor = _pooling_window(function, x, window, stride, padding)
    geometry = shapes.reaching_the_end(floor) if shapes.flag(function, "ceil_mode", ceil_mode) else floor
    if divisor is not None:
        counted = shapes.number(function, "divisor", divisor)
        shapes.require(counted != 0, function, "divisor", "a number other than 0", divisor)
    elif shapes.flag(function, "count_include_pad", count_include_pad):
        counted = floor.padding
    else:
        _require_sight(function, geometry)
        counted = ((0, 0),) * len(geometry.size)
    return _mean_pool(x, geometry, counted)


def _mean_pool_plain(x, window, counted):
    padded = _pad(x, [(low, high, 0) for low, high in window.padding])
    wide = padded.astype(shapes.sum_dtype(x.dtype))
    return (_window_sum(wide, window.size, window.stride) / _divisor(window, counted, wide.dtype)).astype(x.dtype)


_mean_pool = jax.custom_vjp(_mean_pool_plain, nondiff_argnums=(1, 2))


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


_mean_pool.defvjp(_mean_pool_fwd, _mean_pool_bwd)


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


_weighted_pool = jax.custom_vjp(_weighted_pool_plain, nondiff_argnums=(2,))


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


_weighted_pool.defvjp(_weighted_pool_fwd, _weighted_pool_bwd)


def _one_filter_per_channel(w, channels, window):
    """[*K, C] or [*K] -> the depthwise filters [*K, 1, C]."""
    per_channel = w.reshape(*window.size, 1, -1)
    return jnp.broadcast_to(per_channel, (*window.size, 1, channels))


def _pooling_window(
    function: str, x: Any, window: Any, stride: Any, padding: Any, dilation: Any = 1, ceil_mode: Any = False
) -> Window:
    shapes.images(function, x)
    stride = window if stride is None else stride
    geometry = shapes.window(function, x.shape[1:-1], window, stride, padding, dilation)
    return shapes.reaching_the_end(geometry) if shapes.flag(function, "ceil_mode", ceil_mode) else geometry
