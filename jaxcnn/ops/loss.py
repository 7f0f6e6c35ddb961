"""Losses of a difference, of margins, and of an overlap.

Lecture: "Big Picture: What to Train": the empirical risk R = 1/B Σ_b L(θ_b, v_b).

The losses of a difference d = y - target are f(d) entry by entry, with dy = f'(d) dL and dtarget = -dy, and keep d.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxcnn.ops import shapes
from jaxcnn.ops.labels import class_labels, counted, distribution, mask
from jaxcnn.ops.reduction import REDUCTIONS, masked, reduce, spread
from jaxcnn.ops.rules import defvjp
from jaxcnn.ops.sharding import on_any_mesh


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
    delta = shapes.number("huber", "delta", delta)
    shapes.require(delta > 0, "huber", "delta", "a number above 0", delta)
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
    y, target = shapes.floating(function, y=y, target=target)
    same = y.shape == target.shape
    shapes.require(same, function, "target", f"of the shape {list(y.shape)} of y", shapes.describe(target))
    where = mask(function, where, y.shape)
    return _difference(y, target, where, loss, options, shapes.choice(function, "reduction", reduction, REDUCTIONS))


def _difference_plain(y, target, where, loss, options, reduction):
    return reduce(loss.f(_subtract(y, target, where), *options), reduction, where).astype(y.dtype)


_difference = jax.custom_vjp(on_any_mesh(_difference_plain), nondiff_argnums=(3, 4, 5))


def _difference_fwd(y, target, where, loss, options, reduction):
    return _difference_plain(y, target, where, loss, options, reduction), (_subtract(y, target, where), where)


def _difference_bwd(loss, options, reduction, residuals, dloss):
    """dy = f'(y - target) dL, dtarget = -dy."""
    d, where = residuals
    dy = loss.slope(d, *options) * spread(dloss.astype(d.dtype), d.shape, reduction, where)
    return dy.astype(dloss.dtype), -dy.astype(dloss.dtype), None


defvjp(_difference, _difference_fwd, _difference_bwd)


def _subtract(y, target, where):
    dtype = shapes.sum_dtype(y.dtype)
    return masked(y.astype(dtype) - target.astype(dtype), where)


def hinge(
    logits: jax.Array,
    labels: jax.Array,
    *,
    margin: float = 1.0,
    where: jax.Array | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Hinge loss of several classes: the logit of the label v has to exceed every other by a margin.

        L = 1/K Σ_{k ≠ v} max(0, m - z_v + z_k),        z = logits

    Args:
        logits: [..., K].
        labels: classes 0 to K - 1, integers [...].
        margin: m, a Python number.
        where: the examples that count, bools [...]; None for all. The others may hold anything, NaN too.
        reduction: "mean" over the examples that count (0 if there are none), "sum", or "none".

    Returns:
        A scalar, or [...] for "none", in the dtype of the logits. Half precision is computed in float32.

    Raises:
        TypeError: logits is no floating-point array, labels is not of integers, where is not of bools, margin is no
            number.
        ValueError: shapes disagree, the reduction is unknown, or a label of an example that counts is out of range.
            Under `jit` such an example is masked out: it has loss 0 and gradient 0 and no part in the mean.

    Gradient: dz_k = dL / K for every k ≠ v within the margin, dz_v = -Σ_k dz_k; 0 on the margin itself; labels carry no
    gradient. Keeps one byte for each logit, and the labels.

    Source: Weston and Watkins, Support vector machines for multi-class pattern recognition, 1999. As
        torch.nn.functional.multi_margin_loss with p=1.

    >>> hinge(jnp.array([[2.0, 1.5], [0.0, 3.0]]), jnp.array([0, 1]))
    Array(0.125, dtype=float32)
    """
    (logits,) = shapes.floating("hinge", logits=logits)
    labels, where = class_labels("hinge", labels, where, logits)
    margin = shapes.number("hinge", "margin", margin)
    return _hinge(logits, labels, where, margin, shapes.choice("hinge", "reduction", reduction, REDUCTIONS))


def _hinge_plain(logits, labels, where, margin, reduction):
    classes, excess = logits.shape[-1], _excess(logits, labels, where, margin)
    losses = jnp.sum(jnp.where(excess <= 0, 0.0, excess), axis=-1) / max(classes, 1)
    return reduce(losses, reduction, counted(labels, classes, where)).astype(logits.dtype)


_hinge = jax.custom_vjp(on_any_mesh(_hinge_plain), nondiff_argnums=(3, 4))


def _hinge_fwd(logits, labels, where, margin, reduction):
    within = _excess(logits, labels, where, margin) > 0
    return _hinge_plain(logits, labels, where, margin, reduction), (within, labels, where)


def _hinge_bwd(margin, reduction, residuals, dloss):
    """Each k within the margin adds m - z_v + z_k: +1 to dz_k and -1 to dz_v."""
    within, labels, where = residuals
    classes, dtype = within.shape[-1], shapes.sum_dtype(dloss.dtype)
    dlosses = spread(dloss.astype(dtype), labels.shape, reduction, counted(labels, classes, where))
    each = jnp.where(within, (dlosses / max(classes, 1))[..., None], 0.0)
    is_label = distribution(labels, classes, dtype) > 0
    dz = jnp.where(is_label, -jnp.sum(each, axis=-1, keepdims=True), each)
    return dz.astype(dloss.dtype), None, None


defvjp(_hinge, _hinge_fwd, _hinge_bwd)


def _excess(logits, labels, where, margin):
    """m - z_v + z_k, 0 for k = v."""
    z = masked(shapes.wide(logits), where)
    is_label = distribution(labels, z.shape[-1], z.dtype) > 0
    z_v = jnp.sum(jnp.where(is_label, z, 0.0), axis=-1, keepdims=True)
    return jnp.where(is_label, 0.0, margin - z_v + z)


def dice(
    p: jax.Array,
    labels: jax.Array,
    *,
    smooth: float = 1e-5,
    where: jax.Array | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Dice loss of a segmentation: how far predicted and true regions are from covering each other.

        L = 1 - (2 Σ p v + s) / (Σ p + Σ v + s),        for each image and class, summed over the pixels

    Args:
        p: probabilities [N, *S, K], such as `softmax(logits)` or, for regions that overlap, `sigmoid(logits)`.
        labels: classes 0 to K - 1, integers [N, *S], or masks or distributions [N, *S, K] in the dtype of p.
        smooth: s, a Python number from 0; with 0, the loss of a class that is nowhere is 0.
        where: the pixels that count, bools [N, *S]; None for all. The others may hold anything, NaN too.
        reduction: "mean" over all images and classes (0 if there are none), "sum", or "none".

    Returns:
        A scalar, or [N, K] for "none", in the dtype of p. Half precision is computed in float32.

    Raises:
        TypeError: p is no floating-point array, labels is neither integer nor of the dtype of p, where is not of bools,
            smooth is no number.
        ValueError: shapes disagree, the reduction is unknown, smooth is negative, or an integer label of a pixel that
            counts is out of range. Under `jit` such a pixel is masked out.

    Gradient: dp = (D - 2 v) / (Σ p + Σ v + s) dL with D = 1 - L, 0 for pixels that are masked out; labels carry no
    gradient. Keeps the labels, and D and its denominator for each image and class.

    Source: Milletari et al., V-Net, 2016, with the sum rather than the sum of squares below. As monai.losses.DiceLoss.

    >>> dice(jnp.array([[[1.0], [1.0], [1.0]]]), jnp.array([[[1.0], [0.0], [0.0]]]), smooth=0)
    Array(0.5, dtype=float32)
    """
    (p,) = shapes.floating("dice", p=p)
    shapes.images("dice", p, "p")
    labels, where = class_labels("dice", labels, where, p, argument="p", distributions=True)
    smooth = shapes.number("dice", "smooth", smooth, 0)
    return _dice(p, labels, where, p.shape[-1], smooth, shapes.choice("dice", "reduction", reduction, REDUCTIONS))


def _dice_plain(p, labels, where, classes, smooth, reduction):
    score, _ = _dice_score(p, labels, where, classes, smooth)
    return reduce(1 - score, reduction).astype(p.dtype)


_dice = jax.custom_vjp(on_any_mesh(_dice_plain), nondiff_argnums=(3, 4, 5))


def _dice_fwd(p, labels, where, classes, smooth, reduction):
    score, total = _dice_score(p, labels, where, classes, smooth)
    return reduce(1 - score, reduction).astype(p.dtype), (labels, where, score, total)


def _dice_bwd(classes, smooth, reduction, residuals, dloss):
    """With D = I / T, I = 2 Σ p v + s and T = Σ p + Σ v + s: -dD/dp = -(2 v T - I) / T² = (D - 2 v) / T."""
    labels, where, score, total = residuals
    dlosses = spread(dloss.astype(score.dtype), score.shape, reduction)
    v, kept = _regions(labels, classes, where, score.dtype)
    per_image = (score.shape[0], *(1,) * (v.ndim - 2), classes)
    dp = (score.reshape(per_image) - 2 * v) * (dlosses / total).reshape(per_image)
    return masked(dp, kept).astype(dloss.dtype), None, None


defvjp(_dice, _dice_fwd, _dice_bwd)


def _dice_score(p, labels, where, classes, smooth):
    """D and its denominator, [N, K]; both 1 where there is nothing to cover."""
    dtype, axes = shapes.sum_dtype(p.dtype), tuple(range(1, p.ndim - 1))
    v, kept = _regions(labels, classes, where, dtype)
    p = masked(p.astype(dtype), kept)
    overlap, total = 2 * jnp.sum(p * v, axis=axes) + smooth, jnp.sum(p + v, axis=axes) + smooth
    nothing = total == 0
    total = jnp.where(nothing, 1.0, total)
    return jnp.where(nothing, 1.0, overlap / total), total


def _regions(labels, classes, where, dtype):
    """The true regions [N, *S, K], 0 where a pixel does not count, and which pixels do."""
    kept = counted(labels, classes, where)
    return masked(distribution(labels, classes, dtype), kept), kept
