"""Pooling between the maximum and the mean; how far from either is learnt.

Lecture: "Backpropagate through Pooling": each derivative of the pooled map gets multiplied with its filter and added to
the corresponding entries of the input map. Here the filter depends on the window and on a parameter, which has a
derivative of its own.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.contract import arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.contract.geometry import trimmed
from jaxcnn.contract.precision import widen
from jaxcnn.contract.rules import custom_rule
from jaxcnn.contract.window_arguments import Padding, pooling_window, require_seen
from jaxcnn.kernels.means import add_shares, window_mean
from jaxcnn.kernels.windows import FEW_ENTRIES, entries, fold_entries, fold_windows
from jaxcnn.kernels.winners import add_at_maximum, image_of_maxima, max_and_winner, window_max


def mixed_pool(
    x: jax.Array,
    share: jax.Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """A share of the maximum of each window and the rest of its mean, channel by channel.

        y = a max_pool(x) + (1 - a) mean_pool(x)

    Args:
        x: images [N, *S, C].
        share: a, one per channel [C] or one for all []; it is learnt and may leave [0, 1].
        window: size of the window, an int or one per spatial axis.
        stride: an int or one per spatial axis; the size of the window by default.
        padding: as for `conv`; what is added never is the maximum and counts as zeros in the mean.

    Returns:
        y [N, *M, C] with the M of `max_pool`, in the dtype of x. Half precision is computed in float32.

    Raises:
        TypeError: an argument is no floating-point array, the dtypes differ, a static argument is no int.
        ValueError: share is neither [C] nor [], the window is larger than the padded image, or lies in the padding
            altogether at some place.

    Gradient: dx = that of `max_pool` for a dy plus that of `mean_pool` for (1 - a) dy; da = Σ dy (max - mean) over the
        entries that share it. Keeps max - mean, and where the maximum is in one byte (more in a window of more than 64
        entries), both of the size of y; and x, of which `max_pool` says when it is dropped.

    Source: Lee, Gallagher and Tu, Generalizing pooling functions in convolutional neural networks: mixed, gated, and
        tree, 2016.

    >>> mixed_pool(jnp.array([1.0, 3.0, 2.0, 0.0]).reshape(1, 4, 1), jnp.array(0.5), 2)[0, :, 0]
    Array([2.5, 1.5], dtype=float32)
    """
    x, share = arguments.floating("mixed_pool", x=x, share=share)
    arguments.known_image("mixed_pool", x)
    checked = require_seen("mixed_pool", pooling_window("mixed_pool", x, window, stride, padding))
    arguments.one_or_per_channel("mixed_pool", "share", share, x, "share")
    return _mixed_pool(x, share, checked)


def _mixed_pool_plain(x, share, window):
    mean = window_mean(widen(x), window, window.padding)
    return _mix(widen(window_max(x, trimmed(window))), mean, share).astype(x.dtype)


def _mix(maximum, mean, share):
    share = jnp.broadcast_to(widen(share), mean.shape)
    return share * maximum + (1 - share) * mean


def _mixed_pool_fwd(x, share, window):
    maximum, winner = max_and_winner(x, trimmed(window))
    maximum, mean = widen(maximum), window_mean(widen(x), window, window.padding)
    kept = share, image_of_maxima(x, trimmed(window)), winner, (maximum - mean).astype(x.dtype)
    return _mix(maximum, mean, share).astype(x.dtype), kept


def _mixed_pool_bwd(window, residuals, dy):
    """dx = MaxPoolᵀ(a ⊙ dy) + MeanPoolᵀ((1 - a) ⊙ dy), da = Σ dy (max - mean)."""
    share, x, winner, difference = residuals
    wide = widen(dy)
    maximum_share = jnp.broadcast_to(widen(share), dy.shape) * wide
    dx = add_at_maximum(maximum_share, x, winner, trimmed(window))
    dx = dx + add_shares(wide - maximum_share, window, window.padding)
    return dx, _sum_over_shared(wide * widen(difference), share)


_mixed_pool = custom_rule(_mixed_pool_plain, _mixed_pool_fwd, _mixed_pool_bwd)


def softmax_pool(
    x: jax.Array,
    temperature: jax.Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """The mean of each window, weighted with the softmax of its entries, channel by channel.

        y = Σ_k p_k x_k,        p_k = exp(x_k / T) / Σ_l exp(x_l / T)

    The maximum for T to 0, the mean for T to infinity.

    Args:
        x: images [N, *S, C].
        temperature: T, above 0, one per channel [C] or one for all []; it is learnt.
        window: size of the window, an int or one per spatial axis.
        stride: an int or one per spatial axis; the size of the window by default.
        padding: as for `conv`; what is added has no weight, and neither has an entry of -inf.

    Returns:
        y [N, *M, C] with the M of `max_pool`, in the dtype of x. Half precision is computed in float32, and nothing
        overflows, as only x_k - max_l x_l is divided by T. A NaN or +inf in a window makes its result NaN.

    Raises:
        TypeError: an argument is no floating-point array, the dtypes differ, a static argument is no int.
        ValueError: temperature is neither [C] nor [], the window is larger than the padded image, or lies in the
            padding altogether at some place; a temperature is not above 0. Under `jit` it has no value to look at.

    Gradient: dx_k = p_k (1 + (x_k - y) / T) dy, summed over the windows that an entry is in; dT = -Σ dy Var / T² over
        what shares it, Var = Σ_k p_k (x_k - y)². Keeps x, and of each window its maximum, Σ_k exp((x_k - max) / T) and
        y - max. A GPU computes these three again from x, so that a program of both passes does not keep them there.

    Source: Gao, Xiang and Wang, LIP: local importance-based pooling, 2019, of which this is the case that an entry is
        its own importance; Boltzmann's operator.

    >>> x = jnp.array([1.0, 3.0]).reshape(1, 2, 1)
    >>> [round(float(softmax_pool(x, jnp.array(t), 2)[0, 0, 0]), 2) for t in (0.1, 1.0, 100.0)]
    [3.0, 2.76, 2.01]
    """
    x, scale = arguments.floating("softmax_pool", x=x, temperature=temperature)
    arguments.known_image("softmax_pool", x)
    checked = require_seen("softmax_pool", pooling_window("softmax_pool", x, window, stride, padding))
    arguments.one_or_per_channel("softmax_pool", "temperature", scale, x, "temperature")
    arguments.positive("softmax_pool", "temperature", temperature)
    return _softmax_pool(x, scale, trimmed(checked))


def _softmax_pool_plain(x, temperature, window):
    maximum, _, rest = _soft_maximum(x, temperature, window)
    return (maximum + rest).astype(x.dtype)


def _softmax_pool_fwd(x, temperature, window):
    maximum, total, rest = _soft_maximum(x, temperature, window)
    return (maximum + rest).astype(x.dtype), (x, temperature, maximum.astype(x.dtype), total, rest)


# With t = x - max and p = exp(t/T) / Σ exp(t/T), of one window: ∂p_k/∂x_j = p_k ([j = k] - p_j) / T. So ∂y/∂x_j =
# p_j + Σ_k x_k p_k ([j = k] - p_j) / T = p_j (1 + (x_j - y) / T), where x - y = t - (y - max) loses no digits. And
# ∂p_k/∂T = -p_k (x_k - y) / T², so ∂y/∂T = -Σ_k p_k t_k (x_k - y) / T², as Σ_k p_k (x_k - y) = 0.
def _softmax_pool_bwd(window, residuals, dy):
    """dx_k = p_k (1 + (x_k - y) / T) dy over the windows, dT = -Σ dy Var / T²."""
    ways = _gradients_by_place, _gradients_by_entry, _gradients_anew
    by_place, by_entry, anew = (partial(way, window=window) for way in ways)
    at_places = window.side_by_side or max(window.stride) == 1 or window.volume > FEW_ENTRIES
    return lax.platform_dependent(residuals, dy, cpu=by_place, tpu=by_place if at_places else by_entry, default=anew)


def _gradients_by_place(residuals, dy, window):
    """Every place adds up what comes from the windows that it is in, one after the other."""
    x, temperature, maximum, total, rest = residuals
    wide, scale = widen(x), jnp.broadcast_to(widen(temperature), x.shape)
    zero, infinity = np.zeros((), wide.dtype), np.array(np.inf, wide.dtype)
    seen = [(widen(maximum), infinity), (widen(dy) / total, zero), (rest, zero)]

    def add(sums, max_i, dy_i, rest_i):
        dx, dscale = sums
        dx_i, dscale_i = _terms(wide, max_i, dy_i, rest_i, scale)
        return dx + dx_i, dscale - dscale_i

    dx, dscale = fold_windows(add, (jnp.zeros_like(wide),) * 2, seen, window)
    return dx, _sum_over_shared(dscale / scale, temperature)


# On a TPU that stores less where windows overlap and have a stride, by XLA's estimate 0.7 times as long.
def _gradients_by_entry(residuals, dy, window):
    """Every window gives to its entries, one after the other."""
    x, temperature, maximum, total, rest = residuals
    share, scale = widen(dy) / total, jnp.broadcast_to(widen(temperature), dy.shape)

    def entries_of(wide):
        return tuple(entries(wide, window, np.array(-np.inf, wide.dtype)))

    values, add_up = jax.vjp(entries_of, widen(x))
    dx, dscale = zip(*(_terms(x_k, widen(maximum), share, rest, scale) for x_k in values), strict=True)
    return *add_up(dx), -_sum_over_shared(sum(dscale) / scale, temperature)


# A GPU would read as many bytes of what is kept as of x. With u = t / T, dT = -Σ dy Var(u). E(u²) - E(u)² loses at most
# the digits of |window|: Var(u) is at least E(u)² / |window|, since u is 0 at the maximum, which has the largest p.
def _gradients_anew(residuals, dy, window):
    """The gradients from x and the temperature alone, that of the temperature window by window."""
    x, temperature, *_ = residuals
    x = lax.optimization_barrier(x)  # or XLA finds that the forward pass has computed the same, and keeps that
    maximum, total, mean, square = _soft_means(x, temperature, window, jnp.divide, _squared_ratio)
    rest = mean * jnp.broadcast_to(widen(temperature), mean.shape)
    dx, dtemperature = _gradients_by_place((x, temperature, maximum, total, rest), dy, window)
    if window.volume <= FEW_ENTRIES:  # of more, the difference of the two squares could lose many digits
        dtemperature = -_sum_over_shared(widen(dy) * (square - jnp.square(mean)), temperature)
    return dx, dtemperature


def _terms(x, maximum, share, rest, scale):
    """What a window adds to dx and to -T dT, at one of its entries; share is dy / Σ_k exp((x_k - max) / T)."""
    t, e = _exp(x - maximum, scale)
    return share * e * (1 + (t - rest) / scale), share * e * (t / scale) * (t - rest)


_softmax_pool = custom_rule(_softmax_pool_plain, _softmax_pool_fwd, _softmax_pool_bwd)


def _soft_maximum(x, temperature, window):
    """Of each window its maximum, Σ_k exp((x_k - max) / T), and y - max."""
    return _soft_means(x, temperature, window, _unscaled)


def _soft_means(x, temperature, window, *moments):
    """Of each window its maximum, Σ_k exp(t_k / T) with t = x - max, and Σ_k p_k f(t_k, T) for each f of `moments`."""
    x = widen(x)
    maximum = window_max(lax.stop_gradient(x), window)  # y is the same whatever is subtracted
    scale = jnp.broadcast_to(widen(temperature), maximum.shape)

    def add(sums, _, x_k):
        total, *weighted = sums
        t, e = _exp(x_k - maximum, scale)
        return total + e, *(so_far + e * moment(t, scale) for so_far, moment in zip(weighted, moments, strict=True))

    nothing = (jnp.zeros_like(maximum),) * (1 + len(moments))
    total, *weighted = fold_entries(add, nothing, x, window, np.array(-np.inf, x.dtype))
    return maximum, total, *(each / total for each in weighted)


def _unscaled(t, scale):
    return t


def _squared_ratio(t, scale):
    return jnp.square(t / scale)


def _exp(t, scale):
    """t and exp(t / T); both 0 where t is so low that exp has no number for it, and so are their derivatives."""
    is_in_range = t > -1000 * scale
    t = jnp.where(is_in_range, t, 0.0)
    return t, jnp.where(is_in_range, jnp.exp(t / scale), 0.0)


def _sum_over_shared(terms, parameter):
    """The gradient of a parameter [C] or [] from the terms [..., C] that it is in."""
    return jnp.sum(terms, axis=tuple(range(terms.ndim - parameter.ndim)))
