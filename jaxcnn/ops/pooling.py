"""Pooling and its backward pass.

Lecture: "Backpropagate through Pooling": each derivative of the pooled map gets multiplied with its filter and added to
the corresponding entries of the input map. The filter of max-pooling is one at the maximum and zero elsewhere, that of
mean-pooling is 1/|window| everywhere, that of weighted pooling is learnt.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.ops import shapes
from jaxcnn.ops.convolution import convolve, filter_grad, input_grad, input_grad_padding
from jaxcnn.ops.shapes import Padding, PerAxis, Window
from jaxcnn.ops.winners import add_at_winner, inside_image, max_and_winner, window_max


def max_pool(x: jax.Array, window: PerAxis, *, stride: PerAxis | None = None, padding: Padding = "VALID") -> jax.Array:
    """The largest entry of each window, channel by channel.

        y[n, i, c] = max_k x[n, s·i + k - low, c]

    Args:
        x: images [N, *S, C].
        window: size of the window, an int or one per spatial axis.
        stride: s, an int or one per spatial axis; the size of the window by default.
        padding: as for `conv`; what is added never is the maximum.

    Returns:
        y [N, *M, C] with M = floor((S + low + high - window) / s) + 1, in the dtype of x. A NaN in a window is its
        maximum.

    Raises:
        TypeError: x is no floating-point array, a static argument is no int.
        ValueError: the window is larger than the padded image, or lies in the padding altogether at some place.

    Gradient: each dy goes to the entry that was the maximum, to the first one (the last axis fastest) where several
        tie; an entry that was the maximum of several windows gets the sum.

    Source: lecture, "Backpropagation: Max-Pooling".

    >>> max_pool(jnp.array([1.0, 3.0, 2.0, 0.0]).reshape(1, 4, 1), 2)[0, :, 0]
    Array([3., 2.], dtype=float32)
    """
    (x,) = shapes.floating("max_pool", x=x)
    geometry = _pooling_window("max_pool", x, window, stride, padding)
    sees_image = all(inside.any(axis=1).all() for inside in inside_image(geometry))
    expected = f"such that every window of size {geometry.size} sees an entry of the image"
    shapes.require(sees_image, "max_pool", "padding", expected, geometry.padding)
    return _max_pool(x, geometry)


def _max_pool_plain(x, window):
    return window_max(x, window)


_max_pool = jax.custom_vjp(_max_pool_plain, nondiff_argnums=(1,))


def _max_pool_fwd(x, window):
    return max_and_winner(x, window)


def _max_pool_bwd(window, winner, dy):
    """Each dy times the filter that is one at the winner of its window, added to the input map."""
    return (add_at_winner(dy, winner, window),)


_max_pool.defvjp(_max_pool_fwd, _max_pool_bwd)


def mean_pool(x: jax.Array, window: PerAxis, *, stride: PerAxis | None = None, padding: Padding = "VALID") -> jax.Array:
    """The mean of each window, channel by channel.

        y[n, i, c] = 1/|window| Σ_k x[n, s·i + k - low, c]

    Args:
        x: images [N, *S, C].
        window: size of the window, an int or one per spatial axis.
        stride: s, an int or one per spatial axis; the size of the window by default.
        padding: as for `conv`; the zeros count as entries of the window.

    Returns:
        y [N, *M, C] with M = floor((S + low + high - window) / s) + 1, in the dtype of x. Half precision is summed in
        float32.

    Raises:
        TypeError: x is no floating-point array, a static argument is no int.
        ValueError: the window is larger than the padded image.

    Gradient: the convolution of dy, upsampled by s, with the filter that is 1/|window| everywhere.

    Source: lecture, "Backward Pass: Mean-Pooling".

    >>> mean_pool(jnp.array([1.0, 3.0, 2.0, 0.0]).reshape(1, 4, 1), 2)[0, :, 0]
    Array([2., 1.], dtype=float32)
    """
    (x,) = shapes.floating("mean_pool", x=x)
    return _mean_pool(x, _pooling_window("mean_pool", x, window, stride, padding))


def _mean_pool_plain(x, window):
    padded = _pad(x, [(low, high, 0) for low, high in window.padding])
    return _mean(padded, window, window.stride)


_mean_pool = jax.custom_vjp(_mean_pool_plain, nondiff_argnums=(1,))


def _mean_pool_fwd(x, window):
    return _mean_pool_plain(x, window), None


def _mean_pool_bwd(window, _, dy):
    """∇_X R = Conv(uSample(∇_Y R | s) | 1/|window|); reversed, this filter is the same."""
    pads = zip(input_grad_padding(window), window.stride, strict=True)
    upsampled = _pad(dy, [(low, high, s - 1) for (low, high), s in pads])
    return (_mean(upsampled, window, (1,) * len(window.size)),)


_mean_pool.defvjp(_mean_pool_fwd, _mean_pool_bwd)


def _pad(x, spatial):
    """Zeros (low, high, between) on each spatial axis."""
    return lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *spatial, (0, 0, 0)])


def _mean(x, window, stride):
    """The mean over a box, one axis after the other, so that a large window costs the sum of its sides."""
    total = x.astype(shapes.sum_dtype(x.dtype))
    for axis, (k, s) in enumerate(zip(window.size, stride, strict=True), start=1):
        along = [1] * x.ndim
        along[axis], strides = k, [1] * x.ndim
        strides[axis] = s
        total = lax.reduce_window(total, np.zeros((), total.dtype), lax.add, along, strides, "VALID")
    return (total / window.volume).astype(x.dtype)


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


def _pooling_window(function, x, window, stride, padding) -> Window:
    shapes.images(function, x)
    return shapes.window(function, x.shape[1:-1], window, window if stride is None else stride, padding)
