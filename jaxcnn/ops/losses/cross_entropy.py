"""Losses of a distribution over classes.

Lecture: "Big Picture: What to Train": the empirical risk R = 1/B Σ_b L(θ_b, v_b). The backward pass of a network starts
here, with ∇_θ R.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.contract import arguments
from jaxcnn.contract.rules import custom_rule
from jaxcnn.ops.losses.labels import class_labels, distribution, mask, unknown
from jaxcnn.ops.losses.reduction import REDUCTIONS, masked, product, reduce, spread


def softmax_cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    label_smoothing: float = 0.0,
    class_weights: jax.Array | None = None,
    where: jax.Array | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Cross-entropy between labels v and the softmax p of the logits, stable for large logits.

        L = -Σ_k u_k log p_k,        u_k = a_k ((1 - ε) v_k + ε / K),        p = exp(logits) / Σ exp(logits)

    Args:
        logits: [..., K], such as [N, K], or [N, *S, K] for the pixels of a segmentation. -inf forbids a class.
        labels: classes 0 to K - 1, integers [...], or distributions over the classes [..., K] in the dtype of the
            logits.
        label_smoothing: ε, a Python number from 0 to 1: the share of the label that is spread over all classes.
        class_weights: a [K], in the dtype of the logits; None for all 1.
        where: the examples that count, bools [...]; None for all. The others may hold anything, NaN too.
        ignore_index: an int, be it a class or not: integer labels that are it do not count, as by `where`; None for no
            such label.
        reduction: "mean" over the examples that count, "sum", or "none". With integer labels and class weights the
            mean is over the sum of the weights a of the labels rather than over their number. It is 0 over nothing.

    Returns:
        A scalar, or [...] for "none", in the dtype of the logits. Half precision is computed in float32.

    Raises:
        TypeError: logits is no floating-point array, labels is neither integer nor of the dtype of the logits,
            class_weights is of another dtype, where is not of bools, label_smoothing is no number, ignore_index no int.
        ValueError: shapes disagree, the reduction is unknown, label_smoothing is not within [0, 1], labels that are no
            integers have an ignore_index, or an integer label of an example that counts is no class. Under `jit` labels
            have no values to look at: there, the loss of such an example is NaN, with it the mean and the sum, and so
            is the gradient by its logits.

    Gradient: dlogits = (p Σ_k u_k - u) times dL of the example, 1/B of dR for the mean over B; labels and weights carry
    no gradient. Keeps the logits and the labels.

    Source: lecture, "Big Picture: What to Train"; label smoothing: Szegedy et al., Rethinking the inception
        architecture for computer vision, 2016. As torch.nn.functional.cross_entropy, whose ignore_index is -100 unless
        it is given, and whose mean over nothing is NaN.

    >>> round(float(softmax_cross_entropy(jnp.array([[0.0, 0.0], [0.0, 100.0]]), jnp.array([0, 1]))), 3)
    0.347
    >>> softmax_cross_entropy(jnp.array([[0.0, 0.0], [jnp.nan, 0.0]]), jnp.array([0, -1]), ignore_index=-1).round(3)
    Array(0.693, dtype=float32)
    """
    function = "softmax_cross_entropy"
    (logits,) = arguments.floating(function, logits=logits)
    labels, where = class_labels(function, labels, where, ignore_index, logits, distributions=True)
    class_weights = _checked_class_weights(function, class_weights, logits=logits)
    label_smoothing = arguments.number(function, "label_smoothing", label_smoothing, 0, 1)
    reduction = arguments.choice(function, "reduction", reduction, REDUCTIONS)
    return _softmax_cross_entropy(logits, labels, class_weights, where, label_smoothing, reduction)


def _softmax_cross_entropy_plain(logits, labels, class_weights, where, smoothing, reduction):
    log_p = _log_probabilities(logits, where)
    u = _targets(labels, class_weights, where, log_p, smoothing)
    losses = -jnp.sum(product(u, log_p), axis=-1)
    shares = _shares(labels, class_weights, where, log_p)
    return reduce(losses, reduction, where, shares)


def _softmax_cross_entropy_fwd(logits, labels, class_weights, where, smoothing, reduction):
    loss = _softmax_cross_entropy_plain(logits, labels, class_weights, where, smoothing, reduction)
    return loss, (logits, labels, class_weights, where)


def _softmax_cross_entropy_bwd(smoothing, reduction, residuals, dloss):
    """With log p_k = logits_k - log Σ exp(logits): d(-u_k log p_k)/dlogits_j = u_k (p_j - 1[j = k]), summed over k."""
    logits, labels, class_weights, where = residuals
    p = jnp.exp(_log_probabilities(logits, where))
    u = _targets(labels, class_weights, where, p, smoothing)
    shares = _shares(labels, class_weights, where, p)
    dlosses = spread(dloss, logits.shape[:-1], reduction, where, shares)
    dlogits = (p * jnp.sum(u, axis=-1, keepdims=True) - u) * dlosses[..., None]
    return dlogits, None, None, None


_softmax_cross_entropy = custom_rule(
    _softmax_cross_entropy_plain, _softmax_cross_entropy_fwd, _softmax_cross_entropy_bwd, wide=True
)


def _log_probabilities(logits, where):
    return jax.nn.log_softmax(masked(logits, where), axis=-1)


def _targets(labels, class_weights, where, like, smoothing=0.0):
    """u_k = a_k ((1 - ε) v_k + ε / K), of the shape [..., K] and the dtype of `like`; 0 for what `where` leaves out."""
    classes = like.shape[-1]
    u = distribution(labels, classes, like.dtype, where)
    if smoothing:
        u = masked((1 - smoothing) * u + smoothing / classes, where)
    if class_weights is None:
        return u
    return product(u, jnp.broadcast_to(lax.stop_gradient(class_weights), like.shape))


def _shares(labels, class_weights, where, like):
    """How much each example counts in the mean, None for 1: integer labels as their class, 1 where they are none."""
    if class_weights is None or not jnp.issubdtype(labels.dtype, jnp.integer):
        return None
    weights = jnp.sum(_targets(labels, class_weights, where, like), axis=-1)
    return jnp.where(unknown(labels, like.shape[-1], where), 1.0, weights)


def nll(
    log_p: jax.Array,
    labels: jax.Array,
    *,
    class_weights: jax.Array | None = None,
    where: jax.Array | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Negative log-likelihood of the labels v, for a network that returns log-probabilities.

        L = -a_v log p_v

    Args:
        log_p: [..., K].
        labels: classes 0 to K - 1, integers [...].
        class_weights, where, ignore_index, reduction: as for `softmax_cross_entropy`; the mean is over the sum of the
            weights a_v.

    Returns:
        A scalar, or [...] for "none", in the dtype of log_p. Half precision is computed in float32.

    Raises:
        TypeError, ValueError: as `softmax_cross_entropy`; under `jit` a label that is no class gives NaN as there.

    Gradient: dlog_p_k = -a_v dL for k = v, else 0; labels and weights carry no gradient. Keeps the labels.

    Source: as torch.nn.functional.nll_loss. `nll(log_softmax(z), v)` is `softmax_cross_entropy(z, v)`.

    >>> nll(jnp.array([[-1.0, -2.0], [-3.0, -4.0]]), jnp.array([0, 1]))
    Array(2.5, dtype=float32)
    """
    (log_p,) = arguments.floating("nll", log_p=log_p)
    labels, where = class_labels("nll", labels, where, ignore_index, log_p, argument="log_p")
    class_weights = _checked_class_weights("nll", class_weights, log_p=log_p)
    reduction = arguments.choice("nll", "reduction", reduction, REDUCTIONS)
    return _nll(log_p, labels, class_weights, where, log_p.shape[-1], reduction)


def _nll_plain(log_p, labels, class_weights, where, classes, reduction):
    log_p = masked(log_p, where)
    losses = -jnp.sum(product(_targets(labels, class_weights, where, log_p), log_p), axis=-1)
    return reduce(losses, reduction, where, _shares(labels, class_weights, where, log_p))


def _nll_fwd(log_p, labels, class_weights, where, classes, reduction):
    return _nll_plain(log_p, labels, class_weights, where, classes, reduction), (labels, class_weights, where)


def _nll_bwd(classes, reduction, residuals, dloss):
    labels, class_weights, where = residuals
    like = jax.ShapeDtypeStruct((*labels.shape, classes), dloss.dtype)
    shares = _shares(labels, class_weights, where, like)
    dlosses = spread(dloss, labels.shape, reduction, where, shares)
    dlog_p = -_targets(labels, class_weights, where, like) * dlosses[..., None]
    return dlog_p, None, None, None


_nll = custom_rule(_nll_plain, _nll_fwd, _nll_bwd, wide=True)


def kl_divergence(
    log_p: jax.Array, q: jax.Array, *, where: jax.Array | None = None, reduction: str = "mean"
) -> jax.Array:
    """Kullback-Leibler divergence of the distributions p of the network from the distributions q.

        L = KL(q | p) = Σ_k q_k (log q_k - log p_k),        0 log 0 = 0

    Args:
        log_p: [..., K], log-probabilities.
        q: [..., K], probabilities, in the dtype of log_p.
        where: the examples that count, bools [...]; None for all. The others may hold anything, NaN too.
        reduction: "mean" over the examples that count (0 if there are none), "sum", or "none".

    Returns:
        A scalar, or [...] for "none", in the dtype of log_p. Half precision is computed in float32.

    Raises:
        TypeError: an argument is no floating-point array, the dtypes differ, where is not of bools.
        ValueError: shapes disagree, the reduction is unknown.

    Gradient: dlog_p = -q dL; dq = (log q + 1 - log p) dL, 0 where q is 0. Keeps both arguments.

    Source: Kullback and Leibler, On information and sufficiency, 1951. As torch.nn.functional.kl_div, whose "batchmean"
        for [N, K] is the mean here; its "mean" divides by K too, and its "none" is not summed over k.

    >>> round(float(kl_divergence(jnp.log(jnp.array([0.5, 0.5])), jnp.array([1.0, 0.0]))), 3)
    0.693
    """
    function = "kl_divergence"
    log_p, q = arguments.floating(function, log_p=log_p, q=q)
    arguments.require(log_p.ndim > 0, function, "log_p", "[..., K] with at least 1 axis", arguments.describe(log_p))
    same = q.shape == log_p.shape
    arguments.require(same, function, "q", f"of the shape {list(log_p.shape)} of log_p", arguments.describe(q))
    where = mask(function, where, log_p.shape[:-1])
    return _kl_divergence(log_p, q, where, arguments.choice(function, "reduction", reduction, REDUCTIONS))


def _kl_divergence_plain(log_p, q, where, reduction):
    q, log_ratio = _log_ratio(log_p, q, where)
    return reduce(jnp.sum(q * log_ratio, axis=-1), reduction, where)


def _kl_divergence_fwd(log_p, q, where, reduction):
    return _kl_divergence_plain(log_p, q, where, reduction), (log_p, q, where)


def _kl_divergence_bwd(reduction, residuals, dloss):
    log_p, q, where = residuals
    q, log_ratio = _log_ratio(log_p, q, where)
    dlosses = spread(dloss, log_p.shape[:-1], reduction, where)[..., None]
    # At q = 0 the derivative of q log q is -inf, and counts as 0. `log_ratio` is 0 there, as log 0 is not computed.
    dq = jnp.where(q == 0, 0.0, (log_ratio + 1) * dlosses)
    return -q * dlosses, dq, None


_kl_divergence = custom_rule(_kl_divergence_plain, _kl_divergence_fwd, _kl_divergence_bwd, wide=True)


def _log_ratio(log_p, q, where):
    """q and log q - log p, 0 where q is 0."""
    log_p, q = masked(log_p, where), masked(q, where)
    nothing = q == 0
    log_q = jnp.log(jnp.where(nothing, 1.0, q))
    return q, jnp.where(nothing, 0.0, log_q - jnp.where(nothing, 0.0, log_p))


def _checked_class_weights(function, class_weights, **scores):
    if class_weights is None:
        return None
    array, class_weights = arguments.floating(function, **scores, class_weights=class_weights)
    classes = array.shape[-1]
    fits = class_weights.shape == (classes,)
    expected = f"one weight per class, [{classes}]"
    arguments.require(fits, function, "class_weights", expected, arguments.describe(class_weights))
    return class_weights
