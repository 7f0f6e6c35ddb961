"""Losses, and penalties on parameters.

Lecture: "Big Picture: What to Train": the empirical risk R = 1/B Σ_b L(θ_b, v_b), and "We Use Advanced Techniques"
(regularization). The backward pass of a network starts here, with ∇_θ R.
"""

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxcnn.ops import shapes

_REDUCTIONS = ("mean", "sum", "none")


def softmax_cross_entropy(logits: jax.Array, labels: jax.Array, *, reduction: str = "mean") -> jax.Array:
    """Cross-entropy between labels v and the softmax p of the logits, stable for large logits.

        L = -Σ_k v_k log p_k,        p = exp(logits) / Σ exp(logits)

    Args:
        logits: [..., K].
        labels: classes 0 to K - 1, integers [...], or distributions over the classes [..., K] in the dtype of the
            logits.
        reduction: "mean" over all examples (0 if there are none), "sum", or "none".

    Returns:
        A scalar, or [...] for "none", in the dtype of the logits. Half precision is computed in float32.

    Raises:
        TypeError: logits is no floating-point array, labels is neither integer nor of the dtype of the logits.
        ValueError: shapes disagree, the reduction is unknown, or an integer label is out of range. Under `jit` labels
            have no values to look at: there, an example whose label is out of range has loss 0 and gradient 0.

    Gradient: dlogits = (p Σ_k v_k - v) times dL of the example, 1/B of dR for the mean; labels carry no gradient.

    Source: lecture, "Big Picture: What to Train".

    >>> round(float(softmax_cross_entropy(jnp.array([[0.0, 0.0], [0.0, 100.0]]), jnp.array([0, 1]))), 3)
    0.347
    """
    function = "softmax_cross_entropy"
    (logits,) = shapes.floating(function, logits=logits)
    labels = _checked_labels(function, logits, labels)
    return _softmax_cross_entropy(logits, labels, shapes.choice(function, "reduction", reduction, _REDUCTIONS))


def _softmax_cross_entropy_plain(logits, labels, reduction):
    log_p, v = _log_probabilities(logits), jax.lax.stop_gradient(_distribution(labels, logits))
    losses = -jnp.sum(jnp.where(v == 0, 0.0, v * log_p), axis=-1)
    return _reduce(losses, reduction).astype(logits.dtype)


_softmax_cross_entropy = jax.custom_vjp(_softmax_cross_entropy_plain, nondiff_argnums=(2,))


def _softmax_cross_entropy_fwd(logits, labels, reduction):
    return _softmax_cross_entropy_plain(logits, labels, reduction), (logits, labels)


def _softmax_cross_entropy_bwd(reduction, residuals, dloss):
    """With log p_k = logits_k - log Σ exp(logits): d(-v_k log p_k)/dlogits_j = v_k (p_j - 1[j = k]), summed over k."""
    logits, labels = residuals
    p, v = jnp.exp(_log_probabilities(logits)), _distribution(labels, logits)
    dlosses = _spread(dloss.astype(p.dtype), logits.shape[:-1], reduction)
    dlogits = (p * jnp.sum(v, axis=-1, keepdims=True) - v) * dlosses[..., None]
    return dlogits.astype(logits.dtype), None


_softmax_cross_entropy.defvjp(_softmax_cross_entropy_fwd, _softmax_cross_entropy_bwd)


def _checked_labels(function, logits, labels):
    is_array = hasattr(labels, "dtype") and hasattr(labels, "shape")
    expected = f"an array of integers or of {logits.dtype}"
    shapes.require(is_array, function, "labels", expected, shapes.describe(labels), TypeError)
    shapes.require(logits.ndim > 0, function, "logits", "[..., K] with at least 1 axis", shapes.describe(logits))
    values, labels, classes = labels, jnp.asarray(labels), logits.shape[-1]
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        same = labels.dtype == logits.dtype
        shapes.require(same, function, "labels", expected, shapes.describe(labels), TypeError)
        fits = labels.shape == logits.shape
        shapes.require(fits, function, "labels", f"distributions {list(logits.shape)}", shapes.describe(labels))
        return labels
    fits = labels.shape == logits.shape[:-1]
    shapes.require(fits, function, "labels", f"classes {list(logits.shape[:-1])}", shapes.describe(labels))
    if not isinstance(values, jax.core.Tracer):
        outside = [label for label in np.unique(np.asarray(values)) if not 0 <= label < classes]
        shapes.require(not outside, function, "labels", f"from 0 to {classes - 1}", outside[0] if outside else None)
    return labels


def _log_probabilities(logits):
    wide = logits.astype(shapes.sum_dtype(logits.dtype))
    return jax.nn.log_softmax(wide, axis=-1)


def _distribution(labels, logits):
    """Labels as distributions over the classes [..., K]; all zero where a class is out of range."""
    dtype = shapes.sum_dtype(logits.dtype)
    if jnp.issubdtype(labels.dtype, jnp.integer):
        return jax.nn.one_hot(labels, logits.shape[-1], dtype=dtype)
    return labels.astype(dtype)


def mean_squared_error(y: jax.Array, target: jax.Array, *, reduction: str = "mean") -> jax.Array:
    """Squared difference.

        L = (y - target)²

    Args:
        y, target: the same shape and dtype.
        reduction: "mean" over all entries (0 if there are none), "sum", or "none".

    Returns:
        A scalar, or the shape of y for "none", in the dtype of y. Half precision is computed in float32.

    Raises:
        TypeError: an argument is no floating-point array, or the dtypes differ.
        ValueError: the shapes differ, the reduction is unknown.

    Gradient: dy = 2 (y - target) dL of the entry, 1/M of dR for the mean over M entries; dtarget = -dy.

    Source: lecture, "Big Picture: What to Train".

    >>> mean_squared_error(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0]))
    Array(2., dtype=float32)
    """
    function = "mean_squared_error"
    y, target = shapes.floating(function, y=y, target=target)
    same = y.shape == target.shape
    shapes.require(same, function, "target", f"of the shape {list(y.shape)} of y", shapes.describe(target))
    return _mean_squared_error(y, target, shapes.choice(function, "reduction", reduction, _REDUCTIONS))


def _mean_squared_error_plain(y, target, reduction):
    return _reduce(jnp.square(_difference(y, target)), reduction).astype(y.dtype)


_mean_squared_error = jax.custom_vjp(_mean_squared_error_plain, nondiff_argnums=(2,))


def _mean_squared_error_fwd(y, target, reduction):
    return _mean_squared_error_plain(y, target, reduction), y - target


def _mean_squared_error_bwd(reduction, difference, dloss):
    wide = difference.astype(shapes.sum_dtype(difference.dtype))
    dy = 2 * wide * _spread(dloss.astype(wide.dtype), difference.shape, reduction)
    return dy.astype(difference.dtype), -dy.astype(difference.dtype)


_mean_squared_error.defvjp(_mean_squared_error_fwd, _mean_squared_error_bwd)


def _difference(y, target):
    return (y - target).astype(shapes.sum_dtype(y.dtype))


def _reduce(losses, reduction):
    if reduction == "none":
        return losses
    total = jnp.sum(losses)
    return total / max(losses.size, 1) if reduction == "mean" else total


def _spread(dloss, shape, reduction):
    """The backward pass of `_reduce`: to every loss its share of the gradient."""
    if reduction == "none":
        return dloss
    losses = max(int(np.prod(shape)), 1)
    return jnp.broadcast_to(dloss / losses if reduction == "mean" else dloss, shape)


def l2_penalty(params: Any) -> jax.Array:
    """Half the sum of the squares of all parameters.

        R = 1/2 Σ w²

    Added to the loss with a factor λ it is weight decay by λ under plain SGD.

    Args:
        params: a tree of floating-point arrays; pick the part of the model's parameters that is to be penalised.

    Returns:
        A scalar, float64 if a parameter is, else float32.

    Raises:
        TypeError: a leaf is no floating-point array.

    Gradient: dw = w dR.

    Source: lecture, "We Use Advanced Techniques" (regularization).

    >>> l2_penalty({"w": jnp.array([1.0, 2.0])})
    Array(2.5, dtype=float32)
    """
    return _l2_penalty(_checked_tree("l2_penalty", params))


def _l2_penalty_plain(params):
    return _tree_sum(lambda w: 0.5 * jnp.square(w), params)


_l2_penalty = jax.custom_vjp(_l2_penalty_plain)


def _l2_penalty_fwd(params):
    return _l2_penalty_plain(params), params


def _l2_penalty_bwd(params, dpenalty):
    return (jax.tree.map(lambda w: w * dpenalty.astype(w.dtype), params),)


_l2_penalty.defvjp(_l2_penalty_fwd, _l2_penalty_bwd)


def l1_penalty(params: Any) -> jax.Array:
    """Sum of the magnitudes of all parameters.

        R = Σ |w|

    Args:
        params: a tree of floating-point arrays; pick the part of the model's parameters that is to be penalised.

    Returns:
        A scalar, float64 if a parameter is, else float32.

    Raises:
        TypeError: a leaf is no floating-point array.

    Gradient: dw = sign(w) dR, 0 where w is 0.

    Source: lecture, "We Use Advanced Techniques" (regularization).

    >>> l1_penalty({"w": jnp.array([1.0, -2.0])})
    Array(3., dtype=float32)
    """
    return _l1_penalty(_checked_tree("l1_penalty", params))


def _l1_penalty_plain(params):
    return _tree_sum(jnp.abs, params)


_l1_penalty = jax.custom_vjp(_l1_penalty_plain)


def _l1_penalty_fwd(params):
    return _l1_penalty_plain(params), params


def _l1_penalty_bwd(params, dpenalty):
    return (jax.tree.map(lambda w: jnp.sign(w) * dpenalty.astype(w.dtype), params),)


_l1_penalty.defvjp(_l1_penalty_fwd, _l1_penalty_bwd)


def _checked_tree(function, params):
    return jax.tree.map(lambda leaf: shapes.floating(function, params=leaf)[0], params)


def _tree_sum(f, params):
    leaves = jax.tree.leaves(params)
    double = any(leaf.dtype == jnp.float64 for leaf in leaves)
    dtype = jnp.float64 if double else jnp.float32
    return sum((jnp.sum(f(leaf.astype(dtype))) for leaf in leaves), start=jnp.zeros((), dtype))
