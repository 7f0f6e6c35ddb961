"""Weighted pooling: a convolution of each channel with a filter of its own, or of all with one."""

import jax
import jax.numpy as jnp

from jaxcnn.contract import arguments, window_arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.contract.rules import custom_rule
from jaxcnn.contract.window_arguments import Padding
from jaxcnn.ops.convolution import convolve, filter_grad, input_grad


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
    x, w = arguments.floating("weighted_pool", x=x, w=w)
    arguments.images("weighted_pool", x)
    arguments.channels("weighted_pool", x)
    rank = x.ndim - 2
    fits = w.ndim == rank or (w.ndim == rank + 1 and w.shape[-1] == x.shape[-1])
    expected = f"[*K, C] or [*K] with {rank} spatial axes and C = {x.shape[-1]} as x has"
    arguments.require(fits, "weighted_pool", "w", expected, arguments.describe(w))
    size = w.shape[:rank]
    window_arguments.not_empty("weighted_pool", "w", size, w.shape)
    stride = size if stride is None else stride
    return _weighted_pool(
        x, w, window_arguments.checked_window("weighted_pool", x.shape[1:-1], size, stride, padding, argument="w")
    )


def _weighted_pool_plain(x, w, window):
    channels = x.shape[-1]
    return convolve(x, _one_filter_per_channel(w, channels, window), window, channels)


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


_weighted_pool = custom_rule(_weighted_pool_plain, _weighted_pool_fwd, _weighted_pool_bwd)


def _one_filter_per_channel(w, channels, window):
    """[*K, C] or [*K] -> the depthwise filters [*K, 1, C]."""
    filters = w.reshape(*window.size, 1, -1)
    return jnp.broadcast_to(filters, (*window.size, 1, channels))
