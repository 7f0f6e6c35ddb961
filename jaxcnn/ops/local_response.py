"""Local response normalisation, over neighbouring channels."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.contract import arguments
from jaxcnn.contract.rules import custom_rule
from jaxcnn.kernels.squares import compute_unless, limits


def local_response_norm(
    x: jax.Array, *, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> jax.Array:
    """Divides every entry by a power of the mean square of the channels around it, as PyTorch does.

        y_i = x_i d_i^-β,        d_i = k + α/size Σ x_j²  over  i - floor(size/2) <= j <= i + floor((size - 1)/2)

    Channels outside count as 0.

    Args:
        x: [..., C].
        size: over how many channels.
        alpha, beta, k: α, β and k, not negative. With k = 0, where all squares are 0, y is NaN.

    Returns:
        y, of the shape and dtype of x; half precision is computed in float32.

    Raises:
        TypeError: x is no floating-point array, size is no int, alpha, beta or k is no number.
        ValueError: x has no axis, size is less than 1, alpha, beta or k is negative.

    Gradient: dx_j = d_j^-β dy_j - 2 α β/size · x_j Σ_i dy_i x_i d_i^-(β+1), over the i that have j around them.

    Source: Krizhevsky et al., ImageNet classification with deep convolutional neural networks, 2012 (without the mean).

    >>> local_response_norm(jnp.array([[1.0, 2.0]]), size=1, alpha=1.0, beta=1.0)
    Array([[0.5, 0.4]], dtype=float32)
    """
    function = "local_response_norm"
    (x,) = arguments.floating(function, x=x)
    arguments.require(x.ndim >= 1, function, "x", "[..., C] with at least 1 axis", arguments.describe(x))
    size = arguments.integer(function, "size", size, 1)
    arguments.require(size < arguments.LONGEST, function, "size", "below 2^48", size)
    alpha, beta, k = (
        arguments.number(function, name, value, 0) for name, value in (("alpha", alpha), ("beta", beta), ("k", k))
    )
    return _local_response_norm(x, size, alpha / size, beta, k)


def _local_response_norm_plain(x, size, slope, beta, k):
    d, c = _divisor(x, size, slope, k)
    return x * (c**beta * d**-beta) * c**beta


def _local_response_norm_fwd(x, size, slope, beta, k):
    return _local_response_norm_plain(x, size, slope, beta, k), x


# The derivative of y_i by x_j, through d_i, is -β x_i d_i^-(β+1) · 2 slope x_j, for all i that have j around them. In
# channels, i - low <= j <= i + high is the same as j - high <= i <= j + low: dx is a sum of the same kind with
# the two ends exchanged.
def _local_response_norm_bwd(size, slope, beta, k, x, dy):
    d, c = _divisor(x, size, slope, k)
    power, part = c**beta * d**-beta * c**beta, limits(x.dtype)[2] ** 0.5
    low, high = _reach(size)
    # x_j x_i/d_i is near 1. But x_j alone may be too large for the dtype, and x_i/d_i too small: x_j is multiplied by
    # `part`, which is less than 1, and x_i/d_i divided by it.
    neighbours = _sum_around(dy * power * (x * (c * (c / part) / d)), high, low)
    return (power * dy - 2 * slope * beta * (part * x) * neighbours,)


_local_response_norm = custom_rule(
    _local_response_norm_plain, _local_response_norm_fwd, _local_response_norm_bwd, wide=True, apart=True
)


def _divisor(x, size, slope, k):
    """c² d, and c. The factor c is 1, or a small number where d is too large for the dtype."""

    def divisor_of(c, x):
        return k * c * c + slope * _sum_around(jnp.square(c * x), *_reach(size))

    _, largest, shrink = limits(x.dtype)
    d = divisor_of(1.0, x)
    fine = d <= largest
    c = jnp.where(fine, np.ones((), x.dtype), np.asarray(shrink, x.dtype))
    return jnp.where(fine, d, compute_unless(fine, d, partial(divisor_of, shrink), x)), c


def _reach(size):
    """How many channels before an entry, and how many after it, are around it."""
    return size // 2, (size - 1) // 2


def _sum_around(a, low, high):
    """The sum of every entry, the `low` entries in front of it and the `high` behind it, along the last axis."""
    others = a.ndim - 1
    window, padding = (1,) * others + (low + 1 + high,), [(0, 0)] * others + [(low, high)]
    return lax.reduce_window(a, 0.0, lax.add, window, (1,) * a.ndim, padding)
