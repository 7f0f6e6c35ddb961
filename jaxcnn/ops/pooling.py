"""Mean-pooling, its p-norms and pooling with weights, and their backward passes.

Lecture: "Backpropagate through Pooling": each derivative of the pooled map gets multiplied with its filter and added to
the corresponding entries of the input map. The filter of max-pooling is one at the maximum and zero elsewhere, that of
mean-pooling is 1/|window| everywhere, that of weighted pooling is learnt.
"""

import jax
import jax.numpy as jnp

from jaxcnn.ops import shapes
from jaxcnn.ops.convolution import convolve, filter_grad, input_grad
from jaxcnn.ops.means import add_shares, inside, window_mean
from jaxcnn.ops.rules import defvjp
from jaxcnn.ops.shapes import Padding, PerAxis
from jaxcnn.ops.sharding import on_any_mesh
from jaxcnn.ops.windows import pooling_window, with_sight


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
        ValueError: the window is larger than the padded image, in ceil_mode by the stride or more, divisor is 0, or
            without count_include_pad the window lies in the padding altogether at some place.

    Gradient: the convolution of dy/|window|, upsampled by s, with the filter that is one everywhere.

    Source: lecture, "Backward Pass: Mean-Pooling".

    >>> mean_pool(jnp.array([1.0, 3.0, 2.0, 0.0]).reshape(1, 4, 1), 2)[0, :, 0]
    Array([2., 1.], dtype=float32)
    """
    function = "mean_pool"
    (x,) = shapes.floating(function, x=x)
    geometry = pooling_window(function, x, window, stride, padding, ceil_mode=ceil_mode)
    if divisor is not None:
        counted = shapes.number(function, "divisor", divisor)
        shapes.require(counted != 0, function, "divisor", "a number other than 0", divisor)
    elif shapes.flag(function, "count_include_pad", count_include_pad):
        counted = shapes.padding_around(function, padding, geometry)
    else:
        geometry = with_sight(function, geometry)
        counted = inside(geometry)
    return _mean_pool(x, geometry, counted)


def _mean_pool_plain(x, window, counted):
    return window_mean(x, window, counted)


_mean_pool = jax.custom_vjp(on_any_mesh(_mean_pool_plain), nondiff_argnums=(1, 2))


def _mean_pool_fwd(x, window, counted):
    return _mean_pool_plain(x, window, counted), None


def _mean_pool_bwd(window, counted, _, dy):
    """∇_X R = Conv(uSample(∇_Y R / |window| | s) | 1), the filter of ones being its own reverse."""
    return (add_shares(dy, window, counted),)


defvjp(_mean_pool, _mean_pool_fwd, _mean_pool_bwd)


def lp_pool(
    x: jax.Array, window: PerAxis, p: float, *, stride: PerAxis | None = None, ceil_mode: bool = False
) -> jax.Array:
    """The p-norm of each window, channel by channel, of entries that are not negative.

        y[n, i, c] = (Σ_k x[n, s·i + k, c]^p)^(1/p)

    The sum for p = 1, closer to the maximum the larger p. It is PyTorch's lp_pool in all: there are no absolute values,
    so y is NaN where the sum is negative or, unless p is whole, an entry is; and where in ceil_mode some of a window
    sticks out, the sum is scaled up as if it were whole.

    Args:
        x: images [N, *S, C].
        window: size of the window, an int or one per spatial axis.
        p: a Python number above 0.
        stride: s, an int or one per spatial axis; the size of the window by default.
        ceil_mode: whether a last window may stick out at the end, as long as it begins in the image.

    Returns:
        y [N, *M, C] with M = floor((S - window) / s) + 1, the ceiling in ceil_mode, in the dtype of x. Half precision
        is summed in float32.

    Raises:
        TypeError: x is no floating-point array, p is no number, a static argument is no int or bool.
        ValueError: the window is larger than the image, in ceil_mode by the stride or more, p is not above 0 or not
            finite.

    Gradient: dx[j] = x[j]^(p-1) Σ_i y[i]^(1-p) dy[i] over the windows i that j is in, 0 from those whose sum is 0.
        Keeps x and y.

    Source: Sermanet et al., Convolutional neural networks applied to house numbers digit classification, 2012; Gulcehre
        et al., Learned-norm pooling for deep feedforward and recurrent neural networks, 2014.

    >>> lp_pool(jnp.array([3.0, 4.0, 1.0, 0.0]).reshape(1, 4, 1), 2, 2)[0, :, 0]
    Array([5., 1.], dtype=float32)
    """
    (x,) = shapes.floating("lp_pool", x=x)
    geometry = pooling_window("lp_pool", x, window, stride, "VALID", ceil_mode=ceil_mode)
    power = shapes.number("lp_pool", "p", p)
    shapes.require(power > 0, "lp_pool", "p", "a number above 0", p)
    return _lp_pool(x, power, geometry)


def _lp_pool_plain(x, p, window):
    wide = shapes.wide(x)
    total = window.volume * window_mean(_to_the(wide, p), window, inside(window))
    return _unless_zero(total, 1 / p).astype(x.dtype)


_lp_pool = jax.custom_vjp(on_any_mesh(_lp_pool_plain), nondiff_argnums=(1, 2))


def _lp_pool_fwd(x, p, window):
    y = _lp_pool_plain(x, p, window)
    return y, (x, y)


# With t = Σ x^p, y = t^(1/p): dy/dx = 1/p t^(1/p - 1) p x^(p-1) = y^(1-p) x^(p-1), and the sum over the windows is that
# of mean-pooling, but for its division by the number of entries.
def _lp_pool_bwd(p, window, residuals, dy):
    """dx = x^(p-1) ⊙ |window| MeanPoolᵀ(y^(1-p) ⊙ dy)."""
    x, y = map(shapes.wide, residuals)
    shares = add_shares(_unless_zero(y, 1 - p) * dy.astype(y.dtype), window, inside(window))
    return ((_to_the(x, p - 1) * window.volume * shares).astype(dy.dtype),)


defvjp(_lp_pool, _lp_pool_fwd, _lp_pool_bwd)


def _to_the(a, power):
    """a^power; a negative base has whole powers only."""
    return a ** (int(power) if power == int(power) else power)


def _unless_zero(a, power):
    """a^power, 0 where a is 0, with a derivative of 0 there."""
    return jnp.where(a == 0, 0.0, _to_the(jnp.where(a == 0, 1.0, a), power))


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
    shapes.not_empty("weighted_pool", "w", size, w.shape)
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
