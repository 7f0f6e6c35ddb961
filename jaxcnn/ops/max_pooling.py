"""Max-pooling, and its backward pass as a rule and as an op.

Lecture: "Backpropagation: Max-Pooling": each derivative of the pooled map gets multiplied with its filter, which is one
at the maximum and zero elsewhere, and added to the corresponding entries of the input map.
"""

import math
from typing import Any

import jax
from jax import lax

from jaxcnn.contract import arguments, window_arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.contract.geometry import trimmed
from jaxcnn.contract.rules import custom_rule, plain_op
from jaxcnn.contract.window_arguments import Padding, Pads, pooling_window, require_seen
from jaxcnn.kernels.winners import (
    add_at_maximum,
    image_of_maxima,
    max_and_winner,
    max_of_symbolic,
    place_of_winner,
    window_max,
)
from jaxcnn.kernels.winning_places import add_at_place, dtype_of_places, take_from_place


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
        dtype of x; with return_indices (y, indices), indices of the shape of y, flat in the spatial axes of x, as
        PyTorch's: int32, or int64 for an image of 2^31 places and more. A NaN in a window is its maximum, the first one
        where there are several.

    Raises:
        TypeError: x is no floating-point array, a static argument is no int or bool.
        ValueError: the window is larger than the padded image, in ceil_mode by the stride or more, or lies in the
            padding altogether at some place; the image has 2^31 places or more, and without jax_enable_x64 there are no
            numbers for them.

    Gradient: each dy goes to the entry that was the maximum, to the first one (the last axis fastest) where several
        tie; an entry that was the maximum of several windows gets the sum. Keeps one byte for each window, the number
        of its maximum; beyond 64 entries the place in the image, in as many bytes as that takes. A TPU wants x instead,
        and searches it again, so x is kept beside them, unless the window is dilated or there is only one. A program
        of both passes, as under `jit`, keeps what its platform wants alone. Where each pass is a program of its own,
        x stays in memory until the backward pass. On a TPU the sum is in the dtype of x, and the dy of a window with a
        NaN goes to any of its entries, as with the gradient that JAX derives.

    Source: lecture, "Backpropagation: Max-Pooling".

    >>> import jax.numpy as jnp
    >>> max_pool(jnp.array([1.0, 3.0, 2.0, 0.0]).reshape(1, 4, 1), 2)[0, :, 0]
    Array([3., 2.], dtype=float32)
    """
    (x,) = arguments.floating("max_pool", x=x)
    checked = pooling_window("max_pool", x, window, stride, padding, dilation, ceil_mode)
    return _max_and_indices(x, trimmed(require_seen("max_pool", checked)), return_indices)


def _max_and_indices(x, window, return_indices):
    if not window.known and max(window.dilation) == 1 and not return_indices:
        return _max_of_symbolic(x, window)
    arguments.known_image("max_pool", x)
    y = _max_pool(x, window)
    if not arguments.flag("max_pool", "return_indices", return_indices):
        return y
    return y, _indices(lax.stop_gradient(x), window)


_max_of_symbolic = plain_op(max_of_symbolic)


@plain_op
def _indices(x, window):
    return place_of_winner(max_and_winner(x, window)[1], window)


def _max_pool_plain(x, window):
    return window_max(x, window)


def _max_pool_fwd(x, window):
    y, winner = max_and_winner(x, window)
    return y, (image_of_maxima(x, window), winner)


# The maximum of window i is its entry k = winner[i], so y[i] = x[s·i + d·k - low]. Place j is the entry
# k = (j + low - s·i) / d of window i, if that is an entry. So ∂y[i]/∂x[j] = [winner[i] = k]: the filter of window i is
# one at the maximum and zero elsewhere. Then dx[j] = Σ_i dy[i] ∂y[i]/∂x[j], the sum that `add_at_maximum` computes.
def _max_pool_bwd(window, residuals, dy):
    """dx[j] = Σ_i dy[i] [winner[i] = k] over the windows i that place j is in, k its entry there."""
    x, winner = residuals
    dx = add_at_maximum(dy, x, winner, window)
    return (dx,)


_max_pool = custom_rule(_max_pool_plain, _max_pool_fwd, _max_pool_bwd)


def max_unpool(
    y: jax.Array,
    indices: jax.Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Pads | PerAxis = 0,
    shape: tuple[int, ...] | None = None,
) -> jax.Array:
    """Puts pooled entries back to where the maxima were, and zeros elsewhere: the backward pass of `max_pool` as an op.

        x[n, indices[n, i, c], c] = y[n, i, c]

    Args:
        y: pooled maps [N, *M, C].
        indices: integers [N, *M, C], flat in the spatial axes of the result, from `max_pool(..., return_indices=True)`.
        window, stride: those of the pooling; they say how large the result is.
        padding: of the pooling, an int for all sides, or per axis an int for both or (low, high).
        shape: the spatial shape of the result; by default (M - 1)s - low - high + window.

    Returns:
        x [N, *shape, C], in the dtype of y. Entries that share a place are summed, as in the backward pass of
        pooling, where PyTorch keeps any one of them. As the indices may be any, that is a scatter, which a GPU sums in
        any order unless `--xla_gpu_deterministic_ops` is set. The gradient only reads.

    Raises:
        TypeError: y is no floating-point array, indices are no integers, a static argument is no int.
        ValueError: indices have not the shape of y, shape has not one entry per spatial axis, nothing would be left, or
            there are 2^31 places or more without jax_enable_x64; an index is out of range. Under `jit` indices have no
            values to look at: one out of range gets lost there.

    Gradient: dy = dx[indices].

    Source: lecture, "Backpropagation: Max-Pooling"; Zeiler and Fergus, Visualizing and understanding convolutional
        networks, 2014.

    >>> import jax.numpy as jnp
    >>> y, indices = max_pool(jnp.array([1.0, 3.0, 2.0, 0.0]).reshape(1, 4, 1), 2, return_indices=True)
    >>> max_unpool(y, indices, 2)[0, :, 0]
    Array([0., 3., 2., 0.], dtype=float32)
    """
    function = "max_unpool"
    (y,) = arguments.floating(function, y=y)
    arguments.images(function, y, "y")
    if shape is None:
        stride = window if stride is None else stride
        size = window_arguments.one_per_axis(function, "window", window, y.ndim - 2)
        shape = window_arguments.transposed_window(
            function, y.shape, (*size, 1, y.shape[-1]), stride, padding, 0, 1, 1, argument="window"
        ).image
    shape = arguments.shape(function, "shape", shape)
    expected = f"one entry for each of the {y.ndim - 2} spatial axes"
    arguments.require(len(shape) == y.ndim - 2, function, "shape", expected, shape)
    dtype_of_places(shape, function, "shape")
    indices = arguments.integers(function, "indices", indices, y.shape, math.prod(shape))
    return _max_unpool(y, indices, shape)


def _max_unpool_plain(y, indices, shape):
    return add_at_place(y, indices, shape)


def _max_unpool_fwd(y, indices, shape):
    return _max_unpool_plain(y, indices, shape), indices


def _max_unpool_bwd(shape, indices, dx):
    """dy[i] = dx[indices[i]]: every entry of y went to one place."""
    return take_from_place(dx, indices), None


_max_unpool = custom_rule(_max_unpool_plain, _max_unpool_fwd, _max_unpool_bwd)
