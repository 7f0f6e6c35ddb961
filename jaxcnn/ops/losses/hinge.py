"""The hinge loss, of margins between the logit of the label and the others.

Lecture: "Big Picture: What to Train": the empirical risk R = 1/B Σ_b L(θ_b, v_b).
"""

import jax
import jax.numpy as jnp

from jaxcnn.contract import arguments
from jaxcnn.contract.rules import custom_rule
from jaxcnn.ops.losses.labels import class_labels, distribution
from jaxcnn.ops.losses.reduction import REDUCTIONS, masked, product, reduce, spread


def hinge(
    logits: jax.Array,
    labels: jax.Array,
    *,
    margin: float = 1.0,
    where: jax.Array | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Hinge loss of several classes: the logit of the label v has to exceed every other by a margin.

        L = 1/K Σ_{k ≠ v} max(0, m - z_v + z_k),        z = logits

    Args:
        logits: [..., K].
        labels: classes 0 to K - 1, integers [...].
        margin: m, a Python number.
        where: the examples that count, bools [...]; None for all. The others may hold anything, NaN too.
        ignore_index: an int: labels that are it do not count, as by `where`; None for no such label.
        reduction: "mean" over the examples that count (0 if there are none), "sum", or "none".

    Returns:
        A scalar, or [...] for "none", in the dtype of the logits. Half precision is computed in float32.

    Raises:
        TypeError: logits is no floating-point array, labels is not of integers, where is not of bools, margin is no
            number, ignore_index no int.
        ValueError: shapes disagree, the reduction is unknown, or a label of an example that counts is no class. Under
            `jit` labels have no values to look at: there, the loss of such an example is NaN, with it the mean and the
            sum, and so is the gradient by its logits.

    Gradient: dz_k = dL / K for every k ≠ v within the margin, dz_v = -Σ_k dz_k; 0 on the margin itself; labels carry no
    gradient. Keeps one byte for each logit, and the labels.

    Source: Weston and Watkins, Support vector machines for multi-class pattern recognition, 1999. As
        torch.nn.functional.multi_margin_loss with p=1.

    >>> hinge(jnp.array([[2.0, 1.5], [0.0, 3.0]]), jnp.array([0, 1]))
    Array(0.125, dtype=float32)
    """
    (logits,) = arguments.floating("hinge", logits=logits)
    labels, where = class_labels("hinge", labels, where, ignore_index, logits)
    margin = arguments.number("hinge", "margin", margin)
    return _hinge(logits, labels, where, margin, arguments.choice("hinge", "reduction", reduction, REDUCTIONS))


def _hinge_plain(logits, labels, where, margin, reduction):
    classes, excess = logits.shape[-1], _excess(logits, labels, where, margin)
    losses = jnp.sum(jnp.where(excess <= 0, 0.0, excess), axis=-1) / classes
    return reduce(losses, reduction, where)


def _hinge_fwd(logits, labels, where, margin, reduction):
    is_within = _excess(logits, labels, where, margin) > 0
    return _hinge_plain(logits, labels, where, margin, reduction), (is_within, labels, where)


def _hinge_bwd(margin, reduction, residuals, dloss):
    """Each k within the margin adds m - z_v + z_k: +1 to dz_k and -1 to dz_v."""
    is_within, labels, where = residuals
    classes = is_within.shape[-1]
    dlosses = spread(dloss, labels.shape, reduction, where)
    each = jnp.where(is_within, (dlosses / classes)[..., None], 0.0)
    v = distribution(labels, classes, dloss.dtype, where)
    dz = jnp.where(v == 0, each, -v * jnp.sum(each, axis=-1, keepdims=True))
    return dz, None, None


_hinge = custom_rule(_hinge_plain, _hinge_fwd, _hinge_bwd, wide=True)


def _excess(logits, labels, where, margin):
    """m - z_v + z_k, 0 for k = v."""
    z = masked(logits, where)
    v = distribution(labels, z.shape[-1], z.dtype, where)
    z_v = jnp.sum(product(v, z), axis=-1, keepdims=True)
    return jnp.where(v > 0, 0.0, margin - z_v + z)
