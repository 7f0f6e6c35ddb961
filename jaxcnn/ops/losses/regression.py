"""Losses of a difference: squared, absolute, and in between.

Lecture: "Big Picture: What to Train": the empirical risk R = 1/B Σ_b L(θ_b, v_b).

Of d = y - target they are f(d) entry by entry, with dy = f'(d) dL and dtarget = -dy, and keep d.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxcnn.contract import arguments
from jaxcnn.contract.rules import custom_rule
from jaxcnn.ops.losses.labels import mask
from jaxcnn.ops.losses.reduction import REDUCTIONS, masked, reduce, spread


def mean_squared_error(
    y: jax.Array, target: jax.Array, *, where: jax.Array | None = None, reduction: str = "mean"
) -> jax.Array:
    """Squared difference.

        L = (y - target)²

    Args:
        y, target: the same shape and dtype.
        where: the entries that count, bools of the shape of y; None for all. The others may hold anything, NaN too.
        reduction: "mean" over the entries that count (0 if there are none), "sum", or "none".

    Returns:
        A scalar, or the shape of y for "none", in the dtype of y. Half precision is computed in float32.

    Raises:
        TypeError: y or target is no floating-point array, the dtypes differ, where is not of bools.
        ValueError: the shapes differ, the reduction is unknown.

    Gradient: dy = 2 (y - target) dL of the entry, 1/M of dR for the mean over M entries; dtarget = -dy.
        Keeps y - target.

    Source: lecture, "Big Picture: What to Train". As torch.nn.functional.mse_loss.

    >>> mean_squared_error(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0]))
    Array(2., dtype=float32)
    """
    return _compare("mean_squared_error", y, target, where, reduction, _SQUARE)


def mean_absolute_error(
    y: jax.Array, target: jax.Array, *, where: jax.Array | None = None, reduction: str = "mean"
) -> jax.Array:
    """Absolute difference.

        L = |y - target|

    Args:
        y, target, where, reduction: as for `mean_squared_error`.

    Returns:
        A scalar, or the shape of y for "none", in the dtype of y. Half precision is computed in float32.

    Raises:
        TypeError, ValueError: as `mean_squared_error`.

    Gradient: dy = sign(y - target) dL of the entry, 0 where they are equal; dtarget = -dy. Keeps y - target.

    Source: as torch.nn.functional.l1_loss.

    >>> mean_absolute_error(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0]))
    Array(1., dtype=float32)
    """
    return _compare("mean_absolute_error", y, target, where, reduction, _ABSOLUTE)


def huber(
    y: jax.Array, target: jax.Array, *, delta: float = 1.0, where: jax.Array | None = None, reduction: str = "mean"
) -> jax.Array:
    """Squared difference where it is small, absolute where it is large, so that outliers pull no harder than δ.

        L = d² / 2 for |d| <= δ, else δ (|d| - δ / 2),        d = y - target

    Args:
        y, target, where, reduction: as for `mean_squared_error`.
        delta: δ, a Python number above 0.

    Returns:
        A scalar, or the shape of y for "none", in the dtype of y. Half precision is computed in float32.

    Raises:
        TypeError: as `mean_squared_error`, or delta is no number.
        ValueError: as `mean_squared_error`, or delta is not above 0 or not finite.

    Gradient: dy = d, within -δ and δ, times dL of the entry; dtarget = -dy. Keeps d.

    Source: Huber, Robust estimation of a location parameter, 1964. As torch.nn.functional.huber_loss.

    >>> huber(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0]))
    Array(0.75, dtype=float32)
    """
    delta = arguments.number("huber", "delta", delta)
    arguments.require(delta > 0, "huber", "delta", "a number above 0", delta)
    return _compare("huber", y, target, where, reduction, _HUBER, delta)


class _Difference(NamedTuple):
    f: Callable[..., jax.Array]  # d, *options -> loss
    slope: Callable[..., jax.Array]  # d, *options -> f'(d)


def _huber(d, delta):
    c = jnp.clip(d, -delta, delta)
    return c * (d - 0.5 * c)


_SQUARE = _Difference(f=jnp.square, slope=lambda d: 2 * d)
_ABSOLUTE = _Difference(f=jnp.abs, slope=jnp.sign)
_HUBER = _Difference(f=_huber, slope=lambda d, delta: jnp.clip(d, -delta, delta))


def _compare(function, y, target, where, reduction, loss, *options):
    y, target = arguments.floating(function, y=y, target=target)
    same = y.shape == target.shape
    arguments.require(same, function, "target", f"of the shape {list(y.shape)} of y", arguments.describe(target))
    where = mask(function, where, y.shape)
    return _difference(y, target, where, loss, options, arguments.choice(function, "reduction", reduction, REDUCTIONS))


def _difference_plain(y, target, where, loss, options, reduction):
    return reduce(loss.f(_subtract(y, target, where), *options), reduction, where)


def _difference_fwd(y, target, where, loss, options, reduction):
    return _difference_plain(y, target, where, loss, options, reduction), (_subtract(y, target, where), where)


def _difference_bwd(loss, options, reduction, residuals, dloss):
    """dy = f'(y - target) dL, dtarget = -dy."""
    d, where = residuals
    dy = loss.slope(d, *options) * spread(dloss, d.shape, reduction, where)
    return dy, -dy, None


_difference = custom_rule(_difference_plain, _difference_fwd, _difference_bwd, wide=True)


def _subtract(y, target, where):
    return masked(y, where) - masked(target, where)
