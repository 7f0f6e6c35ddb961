"""Losses of yes-or-no labels, any number of which may hold at once.

Lecture: "Big Picture: What to Train": each logit is one example of a loss L(θ_b, v_b).
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.contract import arguments
from jaxcnn.contract.rules import custom_rule
from jaxcnn.ops.losses.labels import binary_labels, marked
from jaxcnn.ops.losses.reduction import REDUCTIONS, masked, product, reduce, spread


def sigmoid_cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    pos_weight: jax.Array | None = None,
    where: jax.Array | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Cross-entropy between labels v and the probabilities σ(logits), entry by entry, stable for large logits.

        L = -a v log σ(z) - (1 - v) log(1 - σ(z)),        z = logits

    Args:
        logits: any shape.
        labels: of the shape of the logits: bools, integers 0 or 1, or probabilities in the dtype of the logits.
        pos_weight: a, in the dtype of the logits: [], or [C] along the last axis; None for 1. Above 1 it raises the
            share of what is found, below 1 the share of what is right among it.
        where: the entries that count, bools of the shape of the logits; None for all. The others may hold anything,
            NaN too.
        ignore_index: an int: integer labels that are it do not count, as by `where`; None for no such label.
        reduction: "mean" over the entries that count (0 if there are none), "sum", or "none".

    Returns:
        A scalar, or the shape of the logits for "none", in their dtype. Half precision is computed in float32.

    Raises:
        TypeError: logits is no floating-point array, labels is of no dtype above, pos_weight is of another dtype, where
            is not of bools, ignore_index is no int.
        ValueError: shapes disagree, the reduction is unknown, labels that are no integers have an ignore_index, or an
            integer label that counts is neither 0 nor 1. Under `jit` labels have no values to look at: there, loss and
            gradient of such an entry are NaN, and with the loss the mean and the sum.

    Gradient: dz = ((1 - v) σ(z) - a v σ(-z)) dL; labels and pos_weight carry no gradient. Keeps logits and labels.

    Source: as torch.nn.functional.binary_cross_entropy_with_logits.

    >>> round(float(sigmoid_cross_entropy(jnp.array([0.0, 1e4]), jnp.array([1, 1]))), 3)
    0.347
    """
    function = "sigmoid_cross_entropy"
    (logits,) = arguments.floating(function, logits=logits)
    labels, where = binary_labels(function, labels, where, ignore_index, logits, probabilities=True)
    if pos_weight is not None:
        logits, pos_weight = arguments.floating(function, logits=logits, pos_weight=pos_weight)
        fits = pos_weight.ndim == 0 or (logits.ndim > 0 and pos_weight.shape == logits.shape[-1:])
        expected = f"one weight [] or one per class {list(logits.shape[-1:])}"
        arguments.require(fits, function, "pos_weight", expected, arguments.describe(pos_weight))
    reduction = arguments.choice(function, "reduction", reduction, REDUCTIONS)
    return _sigmoid_cross_entropy(logits, labels, pos_weight, where, reduction)


def _sigmoid_cross_entropy_plain(logits, labels, pos_weight, where, reduction):
    z, yes, no = _binary_terms(logits, labels, pos_weight, where)
    losses = product(yes, _softplus(-z)) + product(no, _softplus(z))
    return reduce(marked(losses, labels, where), reduction, where)


def _sigmoid_cross_entropy_fwd(logits, labels, pos_weight, where, reduction):
    loss = _sigmoid_cross_entropy_plain(logits, labels, pos_weight, where, reduction)
    return loss, (logits, labels, pos_weight, where)


def _sigmoid_cross_entropy_bwd(reduction, residuals, dloss):
    """With -log σ(z) = softplus(-z) and -log(1 - σ(z)) = softplus(z), whose derivative is σ(z)."""
    logits, labels, pos_weight, where = residuals
    z, yes, no = _binary_terms(logits, labels, pos_weight, where)
    dlosses = marked(spread(dloss, z.shape, reduction, where), labels, where)
    dlogits = (no * lax.logistic(z) - yes * lax.logistic(-z)) * dlosses
    return dlogits, None, None, None


_sigmoid_cross_entropy = custom_rule(
    _sigmoid_cross_entropy_plain, _sigmoid_cross_entropy_fwd, _sigmoid_cross_entropy_bwd, wide=True
)


def _binary_terms(logits, labels, pos_weight, where):
    """z, a v, and 1 - v."""
    z = masked(logits, where)
    v = lax.stop_gradient(masked(labels, where)).astype(z.dtype)
    if pos_weight is None:
        return z, v, 1 - v
    return z, product(v, jnp.broadcast_to(lax.stop_gradient(pos_weight), z.shape)), 1 - v


def _softplus(z):
    return jnp.logaddexp(z, 0.0)


def focal(
    logits: jax.Array,
    labels: jax.Array,
    *,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
    where: jax.Array | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Cross-entropy in which entries that are already right weigh little, for the many easy negatives of a detector.

        L = -a q^γ log(1 - q),        q = σ(-z) for label 1, σ(z) for label 0: the probability of the wrong answer,
                                      a = α for label 1, 1 - α for label 0,        z = logits

    Args:
        logits: any shape.
        labels: of the shape of the logits: bools, or integers 0 or 1.
        gamma: γ, a Python number from 0; with 0 it is `sigmoid_cross_entropy`, weighted by a.
        alpha: α, a Python number from 0 to 1, or None for a = 1.
        where: the entries that count, bools of the shape of the logits; None for all. The others may hold anything,
            NaN too.
        ignore_index: an int: integer labels that are it do not count, as by `where`; None for no such label.
        reduction: "mean" over the entries that count (0 if there are none), "sum", or "none".

    Returns:
        A scalar, or the shape of the logits for "none", in their dtype. Half precision is computed in float32.

    Raises:
        TypeError: logits is no floating-point array, labels is neither of bools nor of integers, where is not of bools,
            gamma or alpha is no number, ignore_index no int.
        ValueError: shapes disagree, the reduction is unknown, gamma or alpha is out of range, labels of bools have an
            ignore_index, or a label that counts is neither 0 nor 1. Under `jit` it gives NaN, as for
            `sigmoid_cross_entropy`.

    Gradient: dz = a q^γ (q - γ (1 - q) log(1 - q)) dL for label 0, and minus this for label 1; labels carry no
    gradient. Keeps logits and labels.

    Source: Lin et al., Focal loss for dense object detection, 2017. As torchvision.ops.sigmoid_focal_loss.

    >>> round(float(focal(jnp.array([0.0, 1e4]), jnp.array([1, 1]), alpha=None)), 3)
    0.087
    """
    (logits,) = arguments.floating("focal", logits=logits)
    labels, where = binary_labels("focal", labels, where, ignore_index, logits)
    gamma = arguments.number("focal", "gamma", gamma, 0)
    alpha = alpha if alpha is None else arguments.number("focal", "alpha", alpha, 0, 1)
    return _focal(logits, labels, where, gamma, alpha, arguments.choice("focal", "reduction", reduction, REDUCTIONS))


def _focal_plain(logits, labels, where, gamma, alpha, reduction):
    z, _, a = _focal_terms(logits, labels, where, alpha)
    losses = a * _wrong_to_the(gamma, z) * _softplus(z)
    return reduce(marked(losses, labels, where), reduction, where)


def _focal_fwd(logits, labels, where, gamma, alpha, reduction):
    return _focal_plain(logits, labels, where, gamma, alpha, reduction), (logits, labels, where)


def _focal_bwd(gamma, alpha, reduction, residuals, dloss):
    """With q = σ(z) and dq/dz = q (1 - q): d(-q^γ log(1 - q))/dz = q^γ (q - γ (1 - q) log(1 - q))."""
    logits, labels, where = residuals
    z, sign, a = _focal_terms(logits, labels, where, alpha)
    right = lax.logistic(-z)
    slope = _wrong_to_the(gamma, z) * (lax.logistic(z) + gamma * product(right, _softplus(z)))
    dlosses = marked(spread(dloss, z.shape, reduction, where), labels, where)
    return sign * a * slope * dlosses, None, None


_focal = custom_rule(_focal_plain, _focal_fwd, _focal_bwd, wide=True, apart=True)


def _focal_terms(logits, labels, where, alpha):
    """z with its sign turned for label 1, so that σ(z) is the probability of the wrong answer; the sign; and a."""
    positive = labels.astype(bool)
    sign = jnp.where(positive, -1.0, 1.0).astype(logits.dtype)
    a = jnp.ones_like(sign) if alpha is None else jnp.where(positive, alpha, 1 - alpha).astype(sign.dtype)
    return sign * masked(logits, where), sign, a


def _wrong_to_the(gamma, z):
    """q^γ = exp(γ log σ(z)), which has all its derivatives where q is 0."""
    return jnp.exp(-gamma * _softplus(-z)) if gamma else jnp.ones_like(z)
