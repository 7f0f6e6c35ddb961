"""Lp-pooling: the p-norm of each window.

The power of a small or a large entry may lie beyond its dtype where the norm and its gradient do not. So the entries of
a window are divided by the largest of them before they are raised to a power.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxcnn.contract import arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.contract.geometry import trimmed
from jaxcnn.contract.rules import custom_rule
from jaxcnn.contract.window_arguments import pooling_window
from jaxcnn.kernels.means import add_shares, divisor, image_only, window_mean
from jaxcnn.kernels.windows import FEW_ENTRIES, fold_entries, fold_windows
from jaxcnn.kernels.winners import window_max
from jaxcnn.kernels.winning_entries import store


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

    Gradient: dx[j] = Σ_i (x[j] / y[i])^(p-1) dy[i] over the windows i that j is in, 0 from those whose sum is 0 or that
        nobody uses; for p < 1 infinite at an entry of 0 beside others. A second derivative that is infinite there, as
        for p = 1.5, counts as 0. No power of a large or small entry leaves the dtype, however far apart they are, and
        dx is right where y is inf as it is beyond the dtype while the entries are not. Keeps x and y.

    Source: Sermanet et al., Convolutional neural networks applied to house numbers digit classification, 2012; Gulcehre
        et al., Learned-norm pooling for deep feedforward and recurrent neural networks, 2014.

    >>> lp_pool(jnp.array([3.0, 4.0, 1.0, 0.0]).reshape(1, 4, 1), 2, 2)[0, :, 0]
    Array([5., 1.], dtype=float32)
    """
    (x,) = arguments.floating("lp_pool", x=x)
    arguments.known_image("lp_pool", x)
    checked = pooling_window("lp_pool", x, window, stride, "VALID", ceil_mode=ceil_mode)
    power = arguments.number("lp_pool", "p", p)
    arguments.require(power > 0, "lp_pool", "p", "a number above 0", p)
    return _lp_pool(x, power, checked)


def _lp_pool_plain(x, p, window):
    return _norm(x, p, window, _power, _plain_quotient_power)


def _lp_pool_fwd(x, p, window):
    y = _norm(x, p, window, _smooth_power, _share)
    return y, (x, y)


# With t = Σ x^p, y = t^(1/p): dy/dx = 1/p t^(1/p - 1) p x^(p-1) = (x/y)^(p-1). Where windows overlap, that is cheaper
# as x^(p-1) y^(1-p), as long as neither power leaves the numbers that there are.
def _lp_pool_bwd(p, window, residuals, dy):
    """dx = Σ_i (x / y_i)^(p-1) dy_i over the windows i that a place is in, but for those of which y is 0."""
    x, y = residuals
    args = x, store(y), dy

    def factored_dx(x, y, dy):
        shares = float(window.volume) * add_shares(_power_unless_zero(y, 1 - p) * dy, window, image_only(window))
        return _multiplied(shares, _smooth_power(x, p - 1), x, p)

    def ratio_dx(x, y, dy):
        return _add_shares_of(x, y, jnp.ones_like(y), dy, p, window)

    def part_of(is_infinite):
        """The part of y that is taken, such that it is within the dtype where the entries are."""
        part = 2.0 ** -min(math.ceil(math.log2(window.volume) / p) + 1, 60)
        return jnp.where(is_infinite, np.array(part, x.dtype), 1.0)

    def scaled_ratio_dx(x, y, dy):
        part = part_of(jnp.isinf(y))
        norm = _scaled_norm(x, p, window, _share, part)
        return _add_shares_of(x, norm, part, dy, p, window)

    def signed_ratio_dx(x, y, dy):
        """The same. A GPU stores one array for it: the norm, below 0 where it is a part of y."""
        is_infinite = jnp.isinf(y)
        norm = _scaled_norm(x, p, window, _share, part_of(is_infinite), FEW_ENTRIES)
        norm = jnp.where(is_infinite, -norm, norm)
        return _add_shares_of(x, jnp.abs(norm), part_of(norm < 0), dy, p, window)

    def robust_dx(x, y, dy):
        return lax.cond(jnp.any(jnp.isinf(y)), scaled_ratio_dx, ratio_dx, x, y, dy)

    if _overlap(window):
        return (lax.cond(_is_moderate(*args, p), factored_dx, robust_dx, *args),)
    # Where a place is in one window, the scaled ratio is one kernel more. A condition would store its arguments.
    gpu = signed_ratio_dx
    return (lax.platform_dependent(*args, cpu=robust_dx, cuda=gpu, rocm=gpu, default=scaled_ratio_dx),)


_lp_pool = custom_rule(_lp_pool_plain, _lp_pool_fwd, _lp_pool_bwd, wide=True)


def _is_moderate(x, y, dy, p):
    """Whether x^(p-1) y^(1-p) dy and its derivative are within the dtype, factor by factor."""
    info = jnp.finfo(x.dtype)
    most = float(info.max) ** (0.5 / max(abs(p - 1), 1))
    least = 1 / most if p < 2 else min(float(info.tiny) ** (1 / (p - 1)), 1e-12)  # smaller ones are common
    fits_x = _all(_is_between(x, 0.0 if p == 1 else least, most))
    return fits_x & _all(_is_between(y, 1 / most, most) & _is_between(dy, 0.0, most))


def _add_shares_of(x, y, part, dy, p, window):
    """Σ_i (x part_i / y_i)^(p-1) dy_i over the windows i that a place is in."""

    def add(dx, y_i, part_i, dy_i):
        is_zero = y_i == 0
        share = _share(jnp.where(is_zero, 1.0, x), jnp.where(is_zero, 1.0, y_i), part_i, p - 1)
        return dx + _multiplied(jnp.where(is_zero, 0.0, dy_i), share, x, p)

    zero, one = np.array([0, 1], x.dtype)
    seen = [(y, zero), (part, one), (_scaled_to_whole(dy, window), zero)]
    return fold_windows(add, jnp.zeros_like(x), seen, trimmed(window), 1)


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _share(x, y, part, q, k=0):
    """(x part/y)^q (part/y)^k, 0 where x is unless q is whole; no factor leaves the dtype where the product does not.

    JAX would divide by y^2, and by powers of x alone.
    """
    if k == 0:
        return _quotient_power(x, y, part, q)
    first = q // 2 if q == int(q) else q / 2
    root = (jnp.sqrt(part) / jnp.sqrt(y)) ** k
    return (_quotient_power(x, y, part, first) * root) * (_quotient_power(x, y, part, q - first) * root)


@partial(_share.defjvp, symbolic_zeros=True)
def _share_jvp(q, k, primals, tangents):
    """∂/∂x = q (x/y)^(q-1) / y^(k+1), ∂/∂y = -(q + k) (x/y)^q / y^(k+1), the latter for y/part."""
    (x, y, part), (dx, dy, _) = primals, tangents
    tangent = jnp.zeros_like(x)
    if q != 0 and not isinstance(dx, SymbolicZero):
        tangent += q * _share(x, y, part, q - 1, k + 1) * dx
    if q + k != 0 and not isinstance(dy, SymbolicZero):
        tangent -= (q + k) * _share(x, y, part, q, k + 1) * (dy / part)
    return _share(x, y, part, q, k), tangent


def _quotient_power(x, y, part, q):
    """(x part/y)^q, 0 where x is unless q is whole."""
    if q == int(q) or q > 2:
        return _smooth_power(_divided(x * part, y), q)
    is_zero = (x == 0) & ~jnp.isnan(y)
    # The ratio may be too small for the dtype where its power is not: then that of a multiple by a power of 2.
    exponent = jnp.finfo(x.dtype).maxexp // 2
    is_small = jnp.abs(x) * part < y * 2.0 ** (-1.5 * exponent)
    large, small, factor = (np.array(2.0**e, x.dtype) for e in (exponent, -exponent, -exponent * q))
    ratio = x * jnp.where(is_small, large * part, part) / jnp.where(is_small, small * y, y)
    power = jnp.where(is_zero, 1.0, ratio) ** q
    return jnp.where(is_zero, 0.0, power * jnp.where(is_small, factor, 1.0) * jnp.where(is_small, factor, 1.0))


def _divided(x, y):
    """x/y, of whose square XLA does not make x^2 y^-2, as it would where it knows y."""
    return jnp.where(jnp.isnan(x), x, x / y)


def _plain_quotient_power(x, y, part, p):
    """The same with an infinite derivative at 0. The power of a ratio that is too small counts for a p near 0 only."""
    return _quotient_power(x, y, part, p) if p < 0.25 else _power(_divided(x * part, y), p)


# The entries of a window are divided by the largest of them, m: their powers do not overflow, and those that underflow
# are too small to count. As y is the same whatever m is, m has no derivative. Where windows overlap, that takes a power
# for each of their entries, and is left out where all sums have their digits without it.
def _norm(x, p, window, raised, quotient_power):
    """y = m (Σ (x/m)^p)^(1/p)."""

    def unscaled(x):
        return _power_unless_zero(float(window.volume) * window_mean(raised(x, p), window, image_only(window)), 1 / p)

    def scaled(x, few):
        return _scaled_norm(x, p, window, quotient_power, 1.0, few)

    if not _overlap(window):
        return scaled(x, FEW_ENTRIES)
    info = jnp.finfo(x.dtype)
    logs = math.log(info.tiny / info.eps), math.log(info.max) - math.log(window.volume)
    least, most = (math.exp(np.clip(log / p, math.log(info.tiny), math.log(info.max) - 1)) for log in logs)
    return lax.cond(_all(_is_between(x, least, most)), unscaled, partial(scaled, few=1), x)


def _scaled_norm(x, p, window, quotient_power, part, few=1):
    """part m (Σ (x/m)^p)^(1/p)."""
    largest = float(jnp.finfo(x.dtype).max) / (4 if p < 32 else 1)  # whose reciprocal is within the dtype
    m = window_max(jnp.abs(lax.stop_gradient(x)), trimmed(window))
    is_zero = m == 0
    scale = jnp.where(is_zero | ~jnp.isfinite(m), 1.0, jnp.minimum(m, largest))

    def add(total, _, x_k):
        return total + quotient_power(jnp.where(is_zero, 1.0, x_k), scale, 1.0, p)

    total = fold_entries(add, jnp.zeros_like(m), x, trimmed(window), np.zeros((), x.dtype), few)
    return jnp.where(is_zero, 0.0, scale * part * _power_unless_zero(_scaled_to_whole(total, window), 1 / p))


def _is_between(a, least, most):
    """Whether each entry is 0 or its size between the two."""
    size = jnp.abs(lax.stop_gradient(a))
    return (size == 0) | ((size > least) & (size < most))


def _all(a):
    """Whether all entries [..., C] hold, channel by channel first, which XLA does for many at once."""
    return jnp.all(jnp.all(a, axis=tuple(range(a.ndim - 1))))


def _overlap(window):
    """Whether a place may be in several windows."""
    return any(k > s for k, s in zip(window.size, window.stride, strict=True))


def _scaled_to_whole(total, window):
    """The sum of each window. It is scaled up as if the entries outside the image were as large as those inside."""
    return total * (float(window.volume) / divisor(window, image_only(window), total.dtype))


def _power(a, power):
    """a^power; a negative base has whole powers only."""
    return a ** (int(power) if power == int(power) else power)


def _power_unless_zero(a, power):
    """a^power, 0 where a is 0, with a derivative of 0 there."""
    return jnp.where(a == 0, 0.0, _power(jnp.where(a == 0, 1.0, a), power))


def _smooth_power(a, power):
    """a^power, with a derivative of 0 at 0 unless power is whole: an infinite one would leave no number beside it."""
    return _power(a, power) if power == int(power) else _power_unless_zero(a, power)


def _multiplied(dy, slope, x, p):
    """dy times the slope at x, which is infinite where x is 0 if p < 1; a dy of 0 is nobody's and stays 0."""
    product = dy * slope
    if p >= 1:
        return product
    infinite = (x == 0) & (dy != 0)
    return jnp.where(infinite, lax.stop_gradient(dy) * np.array(np.inf, dy.dtype), product)
