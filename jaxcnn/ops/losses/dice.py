"""The dice loss, of the overlap between predicted and true regions.

Lecture: "Big Picture: What to Train": the empirical risk R = 1/B Σ_b L(θ_b, v_b).
"""

import jax
import jax.numpy as jnp

from jaxcnn.contract import arguments
from jaxcnn.contract.rules import custom_rule
from jaxcnn.ops.losses.labels import class_labels, distribution
from jaxcnn.ops.losses.reduction import REDUCTIONS, masked, reduce, spread


def dice(
    p: jax.Array,
    labels: jax.Array,
    *,
    smooth: float = 1e-5,
    where: jax.Array | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Dice loss of a segmentation: how far predicted and true regions are from covering each other.

        L = 1 - (2 Σ p v + s) / (Σ p + Σ v + s),        for each image and class, summed over the pixels

    Args:
        p: probabilities [N, *S, K], such as `softmax(logits)` or, for regions that overlap, `sigmoid(logits)`.
        labels: classes 0 to K - 1, integers [N, *S], or masks or distributions [N, *S, K] in the dtype of p.
        smooth: s, a Python number from 0; with 0, the loss of a class that is nowhere is 0.
        where: the pixels that count, bools [N, *S]; None for all. The others may hold anything, NaN too.
        ignore_index: an int: integer labels that are it do not count, as by `where`; None for no such label.
        reduction: "mean" over all images and classes (0 if there are none), "sum", or "none".

    Returns:
        A scalar, or [N, K] for "none", in the dtype of p. Half precision is computed in float32.

    Raises:
        TypeError: p is no floating-point array, labels is neither integer nor of the dtype of p, where is not of bools,
            smooth is no number, ignore_index no int.
        ValueError: shapes disagree, the reduction is unknown, smooth is negative, labels that are no integers have an
            ignore_index, or an integer label of a pixel that counts is no class. Under `jit` labels have no values to
            look at: there, loss and gradient of the image of such a pixel are NaN.

    Gradient: dp = (D - 2 v) / (Σ p + Σ v + s) dL with D = 1 - L, 0 for pixels that do not count; labels carry no
    gradient. Keeps the labels, and D and its denominator for each image and class.

    Source: Milletari et al., V-Net, 2016, with the sum rather than the sum of squares below. As monai.losses.DiceLoss.

    >>> dice(jnp.array([[[1.0], [1.0], [1.0]]]), jnp.array([[[1.0], [0.0], [0.0]]]), smooth=0)
    Array(0.5, dtype=float32)
    """
    (p,) = arguments.floating("dice", p=p)
    arguments.images("dice", p, "p")
    labels, where = class_labels("dice", labels, where, ignore_index, p, argument="p", distributions=True)
    smooth = arguments.number("dice", "smooth", smooth, 0)
    return _dice(p, labels, where, p.shape[-1], smooth, arguments.choice("dice", "reduction", reduction, REDUCTIONS))


def _dice_plain(p, labels, where, classes, smooth, reduction):
    score, _ = _dice_score(p, labels, where, classes, smooth)
    return reduce(1 - score, reduction)


def _dice_fwd(p, labels, where, classes, smooth, reduction):
    score, total = _dice_score(p, labels, where, classes, smooth)
    return reduce(1 - score, reduction), (labels, where, score, total)


def _dice_bwd(classes, smooth, reduction, residuals, dloss):
    """With D = I / T, I = 2 Σ p v + s and T = Σ p + Σ v + s: -dD/dp = -(2 v T - I) / T² = (D - 2 v) / T."""
    labels, where, score, total = residuals
    dlosses = spread(dloss, score.shape, reduction)
    v = distribution(labels, classes, score.dtype, where)
    shape = (score.shape[0], *(1,) * (v.ndim - 2), classes)
    dp = (score.reshape(shape) - 2 * v) * (dlosses / total).reshape(shape)
    return masked(dp, where), None, None


_dice = custom_rule(_dice_plain, _dice_fwd, _dice_bwd, wide=True)


def _dice_score(p, labels, where, classes, smooth):
    """D and its denominator, [N, K]; both 1 where there is nothing to cover."""
    axes = tuple(range(1, p.ndim - 1))
    v, p = distribution(labels, classes, p.dtype, where), masked(p, where)
    overlap, total = 2 * jnp.sum(p * v, axis=axes) + smooth, jnp.sum(p + v, axis=axes) + smooth
    nothing = total == 0
    total = jnp.where(nothing, 1.0, total)
    return jnp.where(nothing, 1.0, overlap / total), total
