"""Stochastic pooling: an entry of each window, drawn in proportion to its size, and the mean over the draws.

Lecture: "Backpropagate through Pooling": each derivative of the pooled map gets multiplied with its filter and added to
the corresponding entries of the input map. The filter is one at the entry that was drawn and zero elsewhere.
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
from jaxcnn.kernels.means import add_shares, divisor, image_only, window_mean
from jaxcnn.kernels.windows import FEW_ENTRIES, fold_entries, fold_windows
from jaxcnn.kernels.winners import add_at_winner, take_from_winner, window_max, winner_of_entry


@arguments.key_first
def stochastic_pool(
    key: jax.Array,
    x: jax.Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """One entry of each window, drawn with a probability that is proportional to it, channel by channel.

        y = x_k with probability p_k = max(x_k, 0) / Σ_l max(x_l, 0)

    Where no entry of a window is positive, each of those inside the image is as likely as the other.

    Args:
        key: a JAX random key; the same key draws the same entries.
        x: images [N, *S, C].
        window: size of the window, an int or one per spatial axis.
        stride: an int or one per spatial axis; the size of the window by default.
        padding: as for `conv`; what is added is never drawn.

    Returns:
        y [N, *M, C] with the M of `max_pool`, in the dtype of x. An infinite entry or a NaN comes before all others.

    Raises:
        TypeError: key is no random key, x is no floating-point array, a static argument is no int.
        ValueError: the window is larger than the padded image, or lies in the padding altogether at some place.

    Gradient: each dy goes to the entry that was drawn; the probabilities have none. Keeps which entry that is, in one
        byte (in more if the window has more than 64 entries), and nothing else.

    Source: Zeiler and Fergus, Stochastic pooling for regularization of deep convolutional neural networks, 2013.

    >>> x = jnp.array([1.0, 3.0, 2.0, 0.0]).reshape(1, 4, 1)
    >>> stochastic_pool(jax.random.key(0), x, 2)[0, :, 0]
    Array([3., 2.], dtype=float32)
    """
    arguments.random_key("stochastic_pool", key)
    return _stochastic_pool(key, *_checked("stochastic_pool", x, window, stride, padding))


def _stochastic_pool_plain(key, x, window):
    return take_from_winner(x, _draw(key, lax.stop_gradient(x), window), window)


def _stochastic_pool_fwd(key, x, window):
    drawn = _draw(key, x, window)
    return take_from_winner(x, drawn, window), drawn


def _stochastic_pool_bwd(window, drawn, dy):
    """dx[j] = Σ_i dy[i] [drawn[i] = k] over the windows i that place j is in, k its entry there."""
    return None, add_at_winner(dy, drawn, window)


_stochastic_pool = custom_rule(_stochastic_pool_plain, _stochastic_pool_fwd, _stochastic_pool_bwd)


# A number u that is uniform in [0, Σ w) lies in the interval [w_1 + ... + w_(k-1), w_1 + ... + w_k) with probability
# w_k / Σ w. The weights are divided by the largest of them, so that their sum is finite. If the largest is 0, all
# entries inside the image have the same weight.
def _draw(key, x, window):
    """The entry of each window that is drawn: it is the winner of the window, as `add_at_winner` takes it."""
    x = widen(x)
    positive = jnp.where(jnp.isnan(x), np.inf, jnp.maximum(x, 0.0))
    largest = window_max(positive, window)
    zero = jnp.zeros_like(largest)

    def fold_weights(step, start):
        def weigh(so_far, k, w):
            share = jnp.maximum(w / jnp.where(largest == 0, 1.0, largest), 0.0)
            return step(so_far, k, jnp.where(w == largest, 1.0, share))

        return fold_entries(weigh, start, positive, window, np.array(-1.0, positive.dtype))

    def draw(so_far, k, w):
        drawn, below = so_far
        return jnp.where((w > 0) & (below <= u), jnp.asarray(k, drawn.dtype), drawn), below + w

    total = fold_weights(lambda total, _, w: total + w, zero)
    # In float32 whatever the dtype of x is: the same key draws the same.
    u = jax.random.uniform(key, largest.shape, jnp.float32).astype(largest.dtype) * total
    drawn, _ = fold_weights(draw, (zero.astype(np.min_scalar_type(-window.volume)), zero))
    return winner_of_entry(drawn, window)


def stochastic_pool_inference(
    x: jax.Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """The mean of what `stochastic_pool` draws: of each window, weighted with its positive entries.

        y = Σ_k p_k x_k = Σ_k w_k² / Σ_k w_k,        w = max(x, 0)

    Where no entry of a window is positive, the mean of those inside the image.

    Args:
        x: images [N, *S, C].
        window: size of the window, an int or one per spatial axis.
        stride: an int or one per spatial axis; the size of the window by default.
        padding: as for `conv`; what is added has no weight.

    Returns:
        y [N, *M, C] with the M of `max_pool`, in the dtype of x. Half precision is summed in float32.

    Raises:
        TypeError: x is no floating-point array, a static argument is no int.
        ValueError: the window is larger than the padded image, or lies in the padding altogether at some place.

    Gradient: dx_k = (2 x_k - y) / Σ_l w_l dy for a positive entry, 0 for others, summed over the windows that it is in;
        where none is positive that of the mean. Keeps x, y and of each window the mean of w.

    Source: Zeiler and Fergus, Stochastic pooling for regularization of deep convolutional neural networks, 2013.

    >>> stochastic_pool_inference(jnp.array([1.0, 3.0, -2.0, 0.0]).reshape(1, 4, 1), 2)[0, :, 0]
    Array([ 2.5, -1. ], dtype=float32)
    """
    return _stochastic_pool_inference(*_checked("stochastic_pool_inference", x, window, stride, padding))


def _stochastic_pool_inference_plain(x, window):
    return _expectation(x, window)[0]


def _stochastic_pool_inference_fwd(x, window):
    y, mean = _expectation(x, window)
    return y, (x, y, mean)


# With M the mean over the entries of a window that are inside the image, y = M(w²) / M(w). So for a positive entry
# ∂y/∂x_k = m (2 x_k - y) / M(w) with m = ∂M/∂w_k, one over the number of these entries.
def _stochastic_pool_inference_bwd(window, residuals, dy):
    """dx = Σ_i m_i dy_i [x > 0] (2x - y_i) / M(w)_i over the windows i that a place is in; a window of M(w) = 0 gives
    m_i dy_i."""
    by_means, by_windows = (partial(way, window=window) for way in (_add_by_means, _add_by_windows))
    if window.volume > FEW_ENTRIES:
        return (by_means(residuals, dy),)
    tpu = by_windows if window.side_by_side else by_means
    return (lax.platform_dependent(residuals, dy, cpu=by_means, tpu=tpu, default=by_windows),)


# In (2x - y_i) / M(w)_i the 2x belongs to the place, the rest to the window.
def _add_by_means(residuals, dy, window):
    """dx = [x > 0] (2x ⊙ Mᵀ(dy / M(w)) - Mᵀ(y ⊙ dy / M(w))), and Mᵀ(dy) from the windows where M(w) = 0."""
    x, y, mean = residuals
    positive = mean > 0
    g = jnp.where(positive, dy / jnp.where(positive, mean, 1.0), 0.0)

    def spread(a):
        return add_shares(a, window, image_only(window))

    positive_part = 2 * x * spread(g) - spread(g * y)
    other_part = spread(jnp.where(positive, 0.0, dy))
    return jnp.where(x > 0, positive_part, 0.0) + other_part


# It is one kernel of a GPU, where means would be stored first.
def _add_by_windows(residuals, dy, window):
    """The same one window of a place after the other."""
    x, y, mean = residuals
    zero = np.zeros((), x.dtype)
    seen = [(y, zero), (mean, zero), (dy / divisor(window, image_only(window), dy.dtype), zero)]

    def add(dx, y_i, mean_i, dy_i):
        positive = mean_i > 0
        slope = (2 * x - y_i) / jnp.where(positive, mean_i, 1.0)
        return dx + dy_i * jnp.where(positive, jnp.where(x > 0, slope, 0.0), 1.0)

    return fold_windows(add, jnp.zeros_like(x), seen, window)


_stochastic_pool_inference = custom_rule(
    _stochastic_pool_inference_plain,
    _stochastic_pool_inference_fwd,
    _stochastic_pool_inference_bwd,
    wide=True,
    apart=True,  # or a GPU stores a bfloat16 y in float32 as well
)


def _expectation(x, window):
    """y, and the mean of w over the entries of each window that are inside the image."""
    w = jnp.where(x <= 0, 0.0, x)  # a NaN stays
    largest = window_max(lax.stop_gradient(w), window)
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1.0)

    def add(sums, _, w_k):
        total, squares = sums
        share = w_k / scale  # its square does not overflow, and y is the same whatever the scale is
        return total + share, squares + share * share

    total, squares = fold_entries(add, (jnp.zeros_like(scale),) * 2, w, window, np.zeros((), w.dtype))
    plain_mean = window_mean(x, window, image_only(window))
    y = jnp.where(total == 0, plain_mean, scale * (squares / jnp.where(total == 0, 1.0, total)))
    return y, scale * (total / divisor(window, image_only(window), w.dtype))


def _checked(function, x, size, stride, padding):
    """x and the checked window of this size."""
    (x,) = arguments.floating(function, x=x)
    arguments.known_image(function, x)
    return x, trimmed(require_seen(function, pooling_window(function, x, size, stride, padding)))
