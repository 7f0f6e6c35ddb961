"""Losses against numbers of PyTorch, against loops in NumPy, and where they could overflow, divide by zero, or be asked
about labels that do not exist."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import quick

import jaxcnn as jc

Z = np.array([[1.5, -0.5, 0.25], [-1.0, 2.0, 0.5], [0.75, 0.5, -2.0], [3.0, -1.0, 1.0]])
V = np.array([2, 1, 0, 1])
A = np.array([0.5, 2.0, 1.5])
Q = np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]])
SOFT = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.5]])
HARD = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0], [1, 0, 0]])
Y = np.array([[1.0, -1.0, 0.5], [-2.5, 2.25, 0.5], [0.0, 0.5, 1.0], [0.5, -1.5, 4.0]])
LOG_P = Z - np.log(np.sum(np.exp(Z), axis=1, keepdims=True))


def cross_entropy(labels, **options):
    return lambda z: jc.softmax_cross_entropy(z, labels, **options)


# The loss and the last row of its gradient, by torch 2.13.0 in float64 at Z: the functions of torch.nn.functional that
# the docstrings name, and for focal the source of torchvision's.
TORCH = {
    "cross_entropy": (cross_entropy(V), 1.6493605552, [0.216703333, -0.24603094, 0.029327607]),
    "cross_entropy weight": (
        cross_entropy(V, class_weights=A),
        1.9128395603,
        [0.2889377774, -0.3280412533, 0.0391034759],
    ),
    "cross_entropy label_smoothing": (
        cross_entropy(V, label_smoothing=0.1),
        1.6576938886,
        [0.2083699997, -0.2293642733, 0.0209942736],
    ),
    "cross_entropy weight label_smoothing": (
        cross_entropy(V, class_weights=A, label_smoothing=0.1),
        1.8917765425,
        [0.2765287404, -0.3059954338, 0.0294666934],
    ),
    "cross_entropy ignore_index": (
        cross_entropy(np.array([2, 1, -100, 1]), class_weights=A, label_smoothing=0.1, ignore_index=-100),
        1.9708966521,
        [0.3016677168, -0.3338132005, 0.0321454837],
    ),
    "cross_entropy probabilities": (cross_entropy(Q), 2.0118605552, [0.154203333, -0.05853094, -0.095672393]),
    "cross_entropy probabilities weight label_smoothing": (
        cross_entropy(Q, class_weights=A, label_smoothing=0.1),
        2.4778279063,
        [0.2647724857, -0.1237257469, -0.1410467388],
    ),
    "nll_loss": (lambda z: jc.nll(z, V), -0.5, [0, -0.25, 0]),
    "nll_loss weight": (lambda z: jc.nll(z, V, class_weights=A), -0.4583333333, [0, -0.3333333333, 0]),
    "kl_div batchmean of log_softmax": (
        lambda z: jc.kl_divergence(jc.log_softmax(z), jnp.asarray(Q)),
        1.3347591441,
        [0.154203333, -0.05853094, -0.095672393],
    ),
    "binary_cross_entropy_with_logits": (
        lambda z: jc.sigmoid_cross_entropy(z, SOFT),
        0.4648902577,
        [-0.0039521561, 0.0224117851, 0.0192548816],
    ),
    "binary_cross_entropy_with_logits pos_weight": (
        lambda z: jc.sigmoid_cross_entropy(z, SOFT, pos_weight=A),
        0.5153278677,
        [-0.001976078, 0.0224117851, 0.0136519353],
    ),
    "sigmoid_focal_loss": (lambda z: jc.focal(z, HARD), 0.1112868772, [-6.5598e-06, 0.0032863206, 0.0480146702]),
    "sigmoid_focal_loss alpha=-1 gamma=1.5": (
        lambda z: jc.focal(z, HARD, alpha=None, gamma=1.5),
        0.2030339532,
        [-0.0001005709, 0.007118415, 0.0656762688],
    ),
    "mse_loss": (lambda z: jc.mean_squared_error(z, Y), 2.328125, [0.4166666667, 0.0833333333, -0.5]),
    "l1_loss": (lambda z: jc.mean_absolute_error(z, Y), 1.0625, [0.0833333333, 0.0833333333, -0.0833333333]),
    "huber_loss": (lambda z: jc.huber(z, Y), 0.7265625, [0.0833333333, 0.0416666667, -0.0833333333]),
    "huber_loss delta=0.4": (
        lambda z: jc.huber(z, Y, delta=0.4),
        0.3602083333,
        [0.0333333333, 0.0333333333, -0.0333333333],
    ),
    "multi_margin_loss": (lambda z: jc.hinge(z, V), 0.9375, [0.0833333333, -0.1666666667, 0.0833333333]),
    "multi_margin_loss margin=0.3": (
        lambda z: jc.hinge(z, V, margin=0.3),
        0.6833333333,
        [0.0833333333, -0.1666666667, 0.0833333333],
    ),
}


@pytest.mark.parametrize("name", TORCH)
def test_loss_and_gradient_are_those_of_torch(name):
    f, loss, last_row = TORCH[name]
    got, gradient = quick(jax.value_and_grad(f))(Z)
    np.testing.assert_allclose(got, loss, rtol=1e-9)
    np.testing.assert_allclose(gradient[-1], last_row, rtol=0, atol=1e-10)


def test_gradient_of_kl_divergence_by_q_is_that_of_torch():
    """At q = 0, where torch has NaN, it is 0."""
    gradient = jax.grad(jc.kl_divergence, argnums=1)(jnp.asarray(LOG_P), jnp.asarray(Q))
    np.testing.assert_allclose(gradient[-1], [-0.0608406832, 0.9391593168, 0.612446112], rtol=0, atol=1e-10)
    np.testing.assert_allclose(gradient[1], [1.0603278242, 0, 0], rtol=0, atol=1e-10)


# Each loss as the sum in its docstring, for one example: an entry, or the scores [K] and label of one.


def softmax_example(z, v, smoothing=0.0, weights=(1, 1, 1, 1, 1)):
    p, total = np.exp(z) / sum(np.exp(z)), 0.0
    for k in range(len(z)):
        target = v[k] if np.ndim(v) else float(k == v)
        total -= weights[k] * ((1 - smoothing) * target + smoothing / len(z)) * np.log(p[k])
    return total


def sigmoid_example(z, v, a=1.0):
    p = 1 / (1 + np.exp(-z))
    return -a * v * np.log(p) - (1 - v) * np.log(1 - p)


def focal_example(z, v, gamma, alpha):
    p = 1 / (1 + np.exp(-z))
    return -alpha * (1 - p) ** gamma * np.log(p) if v else -(1 - alpha) * p**gamma * np.log(1 - p)


def hinge_example(z, v, margin):
    return sum(max(0.0, margin - z[v] + z[k]) for k in range(len(z)) if k != v) / len(z)


def huber_example(y, target, delta):
    d = abs(y - target)
    return d * d / 2 if d <= delta else delta * (d - delta / 2)


def kl_example(log_p, q):
    return sum(q[k] * (np.log(q[k]) - log_p[k]) for k in range(len(q)) if q[k] > 0)


def examples(f, shape, *arrays):
    return np.array([f(*(a[i] for a in arrays)) for i in np.ndindex(*shape)]).reshape(shape)


def reduced(losses, where, reduction, weights=None):
    total, denominator, kept = 0.0, 0.0, np.zeros(losses.shape)
    for i in np.ndindex(*losses.shape):
        if where is None or where[i]:
            kept[i] = losses[i]
            total += losses[i]
            denominator += 1 if weights is None else weights[i]
    return {"none": kept, "sum": total, "mean": total / denominator if denominator else 0.0}[reduction]


rng = np.random.default_rng(3)
N, S, K = 3, 4, 5
logits, others = rng.normal(size=(2, N, S, K))
classes = rng.integers(0, K, size=(N, S))
soft = rng.dirichlet(np.ones(K), size=(N, S))
soft[1, 2] = np.eye(K)[3]
bits = rng.integers(0, 2, size=(N, S, K))
weights = rng.random(K) + 0.5
some, none_at_all = rng.random((N, S)) < 0.6, np.zeros((N, S), bool)
log_p = np.log(rng.dirichlet(np.ones(K), size=(N, S)))

LOOPS = {
    "softmax_cross_entropy": (
        lambda **o: jc.softmax_cross_entropy(logits, classes, **o),
        lambda: examples(softmax_example, (N, S), logits, classes),
        None,
    ),
    "softmax_cross_entropy weights smoothing": (
        lambda **o: jc.softmax_cross_entropy(logits, classes, class_weights=weights, label_smoothing=0.3, **o),
        lambda: examples(lambda z, v: softmax_example(z, v, 0.3, weights), (N, S), logits, classes),
        weights[classes],
    ),
    "softmax_cross_entropy soft": (
        lambda **o: jc.softmax_cross_entropy(logits, soft, class_weights=weights, label_smoothing=0.3, **o),
        lambda: examples(lambda z, v: softmax_example(z, v, 0.3, weights), (N, S), logits, soft),
        None,
    ),
    "nll": (
        lambda **o: jc.nll(log_p, classes, class_weights=weights, **o),
        lambda: examples(lambda z, v: -weights[v] * z[v], (N, S), log_p, classes),
        weights[classes],
    ),
    "kl_divergence": (
        lambda **o: jc.kl_divergence(log_p, soft, **o),
        lambda: examples(kl_example, (N, S), log_p, soft),
        None,
    ),
    "hinge": (
        lambda **o: jc.hinge(logits, classes, margin=0.7, **o),
        lambda: examples(lambda z, v: hinge_example(z, v, 0.7), (N, S), logits, classes),
        None,
    ),
    "sigmoid_cross_entropy": (
        lambda **o: jc.sigmoid_cross_entropy(logits, soft, pos_weight=weights, **o),
        lambda: examples(sigmoid_example, (N, S, K), logits, soft, np.broadcast_to(weights, (N, S, K))),
        None,
    ),
    "focal": (
        lambda **o: jc.focal(logits, bits, gamma=1.5, alpha=0.3, **o),
        lambda: examples(lambda z, v: focal_example(z, v, 1.5, 0.3), (N, S, K), logits, bits),
        None,
    ),
    "mean_squared_error": (
        lambda **o: jc.mean_squared_error(logits, others, **o),
        lambda: examples(lambda y, t: (y - t) ** 2, (N, S, K), logits, others),
        None,
    ),
    "mean_absolute_error": (
        lambda **o: jc.mean_absolute_error(logits, others, **o),
        lambda: examples(lambda y, t: abs(y - t), (N, S, K), logits, others),
        None,
    ),
    "huber": (
        lambda **o: jc.huber(logits, others, delta=0.6, **o),
        lambda: examples(lambda y, t: huber_example(y, t, 0.6), (N, S, K), logits, others),
        None,
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loss_is_the_sum_of_the_docstring(name):
    f, loop, share = LOOPS[name]
    losses = loop()
    for mask in (None, some, none_at_all):
        where = mask if mask is None or losses.ndim == 2 else np.broadcast_to(mask[..., None], losses.shape)
        for reduction in ("mean", "sum", "none"):
            got = f(where=where, reduction=reduction)
            np.testing.assert_allclose(got, reduced(losses, where, reduction, share), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("labels", [classes, soft], ids=["classes", "distributions"])
@pytest.mark.parametrize("where", [None, some, none_at_all], ids=["all", "some", "none"])
@pytest.mark.parametrize("smooth", [0, 0.5])
def test_dice_is_the_sum_of_the_docstring(labels, where, smooth):
    losses = np.zeros((N, K))
    for n, k in np.ndindex(N, K):
        overlap, total = smooth, smooth
        for s in range(S):
            if where is None or where[n, s]:
                v = labels[n, s, k] if labels.ndim == 3 else float(labels[n, s] == k)
                overlap += 2 * soft[n, s, k] * v
                total += soft[n, s, k] + v
        losses[n, k] = 1 - overlap / total if total else 0.0
    for reduction in ("mean", "sum", "none"):
        got = jc.dice(soft, labels, smooth=smooth, where=where, reduction=reduction)
        np.testing.assert_allclose(got, reduced(losses, None, reduction), rtol=1e-12, atol=1e-14)


def test_softmax_cross_entropy_is_nll_of_log_softmax():
    got = jc.softmax_cross_entropy(logits, classes, class_weights=weights)
    np.testing.assert_allclose(got, jc.nll(jc.log_softmax(jnp.asarray(logits)), classes, class_weights=weights))


def test_unfocused_focal_is_sigmoid_cross_entropy():
    got = jc.focal(logits, bits, gamma=0, alpha=None)
    np.testing.assert_allclose(got, jc.sigmoid_cross_entropy(logits, bits), rtol=1e-12)


def test_binary_labels_are_bools_integers_or_probabilities():
    for labels in (bits.astype(bool), bits.astype(np.uint8), bits.astype(float)):
        assert jc.sigmoid_cross_entropy(logits, labels) == jc.sigmoid_cross_entropy(logits, bits)
    assert jc.focal(logits, bits.astype(bool)) == jc.focal(logits, bits)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint32, np.int64])
def test_labels_of_any_integer_dtype(dtype):
    """With more classes than the small ones can count."""
    z, labels = jnp.asarray(rng.normal(size=(3, 300))), np.array([0, 5, 127])
    for loss in (jc.softmax_cross_entropy, jc.hinge, jc.nll):
        np.testing.assert_allclose(jax.jit(loss)(z, labels.astype(dtype)), loss(z, labels), rtol=1e-12)


INF = np.inf
# Loss and gradient of one example, in float32.
EXTREMES = {
    "right by 1e4": (jc.softmax_cross_entropy, [1e4, -1e4], 0, 0, [0, 0]),
    "wrong by 1e4": (jc.softmax_cross_entropy, [1e4, -1e4], 1, 2e4, [1, -1]),
    "forbidden class": (jc.softmax_cross_entropy, [0, 0, -INF], 0, np.log(2), [-0.5, 0.5, 0]),
    "forbidden label": (jc.softmax_cross_entropy, [0, -INF], 1, INF, [1, -1]),
    "forbidden class, distribution": (jc.softmax_cross_entropy, [0, 0, -INF], [0.5, 0.5, 0], np.log(2), [0, 0, 0]),
    "nll": (jc.nll, [-1e4, -INF], 0, 1e4, [-1, 0]),
    "nll, impossible": (jc.nll, [0, -INF], 1, INF, [0, -1]),
    "kl": (jc.kl_divergence, [0, -INF], [1, 0], 0, [-1, 0]),
    "kl, impossible": (jc.kl_divergence, [0, -INF], [0, 1], INF, [0, -1]),
    "hinge": (jc.hinge, [1e4, -1e4], 1, (2e4 + 1) / 2, [0.5, -0.5]),
    "hinge, forbidden class": (jc.hinge, [0, -INF], 0, 0, [0, 0]),
    "sigmoid": (jc.sigmoid_cross_entropy, [1e4, 1e4, -1e4, -1e4], [1, 0, 1, 0], 5e3, [0, 0.25, -0.25, 0]),
    "sigmoid, certain": (jc.sigmoid_cross_entropy, [INF, -INF], [1, 0], 0, [0, 0]),
    "sigmoid, impossible": (jc.sigmoid_cross_entropy, [INF, -INF], [0, 1], INF, [0.5, -0.5]),
    "focal": (jc.focal, [1e4, 1e4, -1e4, -1e4], [True, False, True, False], 2.5e3, [0, 0.1875, -0.0625, 0]),
    "focal, certain": (jc.focal, [INF, -INF], [True, False], 0, [0, 0]),
    "focal, impossible": (jc.focal, [INF, -INF], [False, True], INF, [0.375, -0.125]),
    "squares": (jc.mean_squared_error, [1e4, -1e4], [0, 0], 1e8, [1e4, -1e4]),
    "magnitudes": (jc.mean_absolute_error, [INF, -1e4], [0, 0], INF, [0.5, -0.5]),
    "huber": (jc.huber, [1e30, -INF], [0, 0], INF, [0.5, -0.5]),
    "dice": (jc.dice, [[[0, 1]]], [[[0, 1]]], 0, [[[0.5e5, -0.25]]]),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_values(name):
    f, scores, labels, loss, gradient = EXTREMES[name]
    labels = np.asarray(labels)
    labels = labels if labels.dtype == bool or not labels.ndim else labels.astype(np.float32)
    got, dz = quick(jax.value_and_grad(f))(np.asarray(scores, np.float32), labels)
    np.testing.assert_allclose(got, loss, rtol=1e-6)
    np.testing.assert_allclose(dz, gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", EXTREMES)
def test_jax_debug_nans_has_nothing_to_say(name):
    """Nor an operation of forward and backward pass outside `jit` gives a NaN that would be left out later."""
    f, scores, labels, *_ = EXTREMES[name]
    labels = np.asarray(labels)
    labels = labels if labels.dtype == bool or not labels.ndim else labels.astype(np.float32)
    with jax.debug_nans(True):
        assert jax.grad(f)(jnp.asarray(scores, jnp.float32), labels).shape == np.shape(scores)


@pytest.mark.parametrize(
    "f", [jc.softmax_cross_entropy, jc.nll, jc.hinge, jc.dice, jc.sigmoid_cross_entropy, jc.focal, jc.huber]
)
def test_jax_debug_nans_has_nothing_to_say_of_what_is_left_out(f):
    by_entry = f in (jc.sigmoid_cross_entropy, jc.focal, jc.huber)
    kept = np.broadcast_to(some[..., None], soft.shape) if by_entry else some
    z = jnp.asarray(np.where(some[..., None], soft, np.nan), jnp.bfloat16)
    labels, options = np.where(kept, bits if by_entry else classes, -1), {"ignore_index": -1}
    if f is jc.huber:
        labels, options = z, {"where": kept}
    with jax.debug_nans(True):
        gradient = jax.grad(f)(z, labels, **options)
    assert not np.any(np.where(some[..., None], 0, gradient.astype(float)))


def _dice_of_one_image(p, v, where=None, **options):
    return jc.dice(p[None], v[None], where=None if where is None else where[None], **options)


BY_EXAMPLE = {
    "softmax_cross_entropy": lambda z, v, **o: jc.softmax_cross_entropy(z, v, label_smoothing=0.2, **o),
    "softmax_cross_entropy weights": lambda z, v, **o: jc.softmax_cross_entropy(
        z, v, label_smoothing=0.2, class_weights=weights, **o
    ),
    "nll": lambda z, v, **o: jc.nll(z, v, class_weights=weights, **o),
    "hinge": jc.hinge,
    "sigmoid_cross_entropy": lambda z, v, **o: jc.sigmoid_cross_entropy(z, v, pos_weight=weights[1], **o),
    "focal": lambda z, v, **o: jc.focal(z, v, alpha=0.3, **o),
    "dice": _dice_of_one_image,
}


def _examples(name):
    """Scores and labels of some examples, along one axis, and the number of classes."""
    if name in ("sigmoid_cross_entropy", "focal"):
        return jnp.asarray(logits.ravel()), bits.ravel(), 2
    return jnp.asarray(soft.reshape(-1, K)), classes.ravel(), K


@pytest.mark.parametrize("name", BY_EXAMPLE)
def test_label_that_is_no_class_is_an_error_outside_jit_and_nan_inside(name):
    """NaN in the loss and the gradient of its example only, which for dice is its image."""
    f, (z, good, n) = BY_EXAMPLE[name], _examples(name)
    if name == "dice":
        f, z, good = jc.dice, z[:, None], good[:, None]
    others = np.arange(len(good)) != 4
    gradients = jax.grad(f), jax.grad(jc.derived(f))
    compiled = quick(lambda z, v: (f(z, v, reduction="none"), *(g(z, v) for g in gradients), f(z, v)))
    for outside, dtype in ((-1, int), (n, int), (2**31 - 1, np.int32), (99, np.int8), (255, np.uint8)):
        labels = good.astype(dtype)
        labels[4] = outside
        expected = f"labels must be from 0 to {n - 1} or left out by ignore_index, got {outside}$"
        with pytest.raises(ValueError, match=expected):
            f(z, labels)
        losses, gradient, derived, mean = compiled(z, labels)
        np.testing.assert_allclose(losses[others], compiled(z, good)[0][others], rtol=1e-12)
        np.testing.assert_allclose(gradient, derived, rtol=1e-12)
        assert np.isfinite(gradient[others]).all()
        assert np.isnan(losses[4]).all()
        assert np.isnan(gradient[4]).all()
        assert np.isnan(mean)


def test_a_batch_without_a_class_has_no_loss_of_0():
    """Be the weights of all classes 0."""
    for options in ({}, {"class_weights": np.zeros(K)}):
        assert np.isnan(jax.jit(lambda v, options=options: jc.nll(log_p, v, **options))(0 * classes + K))


@pytest.mark.parametrize("name", BY_EXAMPLE)
def test_ignored_labels_are_as_if_their_examples_were_not_there(name):
    """Value, gradient and second order are those of the others alone, whatever the scores of the ignored are."""
    f, (z, good, n) = BY_EXAMPLE[name], _examples(name)
    t = jnp.asarray(rng.normal(size=z.shape))
    for ignored, dtype, mask in ((-1, np.int8, False), (255, np.uint8, True), (n - 1, int, False)):
        labels, where = good.astype(dtype), np.arange(len(good)) % 5 != 2
        labels[[0, 4, 7]] = ignored
        kept = (labels != ignored) & (where if mask else True)
        options = {"ignore_index": ignored, **({"where": where} if mask else {})}

        def orders(z, v, t, options):
            gradient = jax.grad(f)
            return f(z, v, **options), *jax.jvp(lambda z: gradient(z, v, **options), (z,), (t,))

        expected = quick(partial(orders, options={}))(z[kept], good[kept], t[kept])
        compiled = quick(partial(orders, options=options))
        for garbage in (np.nan, -np.inf):
            got = compiled(jnp.where(kept.reshape(-1, *(1,) * (z.ndim - 1)), z, garbage), labels, t)
            np.testing.assert_allclose(got[0], expected[0], rtol=1e-12)
            for slopes, right in zip(got[1:], expected[1:], strict=True):
                np.testing.assert_allclose(slopes[kept], right, rtol=1e-11, atol=1e-14)
                assert not np.any(slopes[~kept])
        np.testing.assert_allclose(f(z, labels, **options), expected[0], rtol=1e-12)


def test_ignore_index_that_no_label_can_be():
    """-1 among unsigned labels is not 255: a label of 255 is an error still."""
    labels = np.array([0, 2, 1, 0], np.uint8)
    assert jc.nll(Z, labels, ignore_index=np.int64(-1)) == jc.nll(Z, labels)
    labels[3] = 255
    with pytest.raises(ValueError, match=r"labels must be from 0 to 2 or left out by ignore_index=-1, got 255$"):
        jc.nll(Z, labels, ignore_index=-1)
    assert np.isnan(jax.jit(lambda v: jc.nll(Z, v, ignore_index=-1))(labels))


def test_all_labels_ignored():
    def nothing(z):
        return jc.softmax_cross_entropy(z, np.full(4, -1), class_weights=A, label_smoothing=0.1, ignore_index=-1)

    loss, gradient = quick(jax.value_and_grad(nothing))(np.full((4, 3), np.nan))
    assert loss == 0
    assert not np.any(gradient)


def test_ignored_labels_under_vmap_and_scan():
    def loss(z, v):
        return jc.softmax_cross_entropy(z, v, ignore_index=-1)

    def scanned(*args):
        return jax.lax.scan(lambda carry, args: (carry, jax.grad(loss)(*args)), None, args)[1]

    labels = np.where(some, classes, -1)
    expected = [quick(jax.grad(loss))(logits[i], labels[i]) for i in range(N)]
    np.testing.assert_allclose(quick(jax.vmap(jax.grad(loss)))(logits, labels), expected, rtol=1e-12)
    np.testing.assert_allclose(quick(scanned)(logits, labels), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "f",
    [
        lambda a, z: jc.softmax_cross_entropy(z, np.array([0, 2, 0, 2]), class_weights=a),
        lambda a, z: jc.nll(z, np.array([0, 2, 0, 2]), class_weights=a),
        lambda a, z: jc.sigmoid_cross_entropy(z, HARD * [1, 0, 1], pos_weight=a),
    ],
    ids=["softmax_cross_entropy", "nll", "sigmoid_cross_entropy"],
)
def test_infinite_weight_of_a_class_that_no_label_has(f):
    """As one over the number of its examples is: it counts as any other weight does."""
    gradient = quick(jax.value_and_grad(f, argnums=1))
    infinite, one = (gradient(np.array([0.5, a, 2.0]), Z) for a in (np.inf, 1.0))
    np.testing.assert_array_equal(infinite[0], one[0])
    np.testing.assert_array_equal(infinite[1], one[1])


def _with_labels(f, labels):
    return lambda z, where: f(z, labels, where=where)


MASKED = {
    "softmax_cross_entropy": _with_labels(jc.softmax_cross_entropy, classes),
    "soft": lambda z, where: jc.softmax_cross_entropy(z, z, label_smoothing=0.1, where=where),
    "nll": _with_labels(jc.nll, classes),
    "kl_divergence": lambda z, where: jc.kl_divergence(z, jax.lax.stop_gradient(jnp.exp(2 * z)), where=where),
    "hinge": _with_labels(jc.hinge, classes),
    "dice": lambda z, where: jc.dice(z, z, where=where),
    "sigmoid_cross_entropy": _with_labels(jc.sigmoid_cross_entropy, bits),
    "focal": _with_labels(jc.focal, bits),
    "mean_squared_error": lambda z, where: jc.mean_squared_error(z, 2 * z, where=where),
    "mean_absolute_error": lambda z, where: jc.mean_absolute_error(z, 2 * z, where=where),
    "huber": lambda z, where: jc.huber(z, 2 * z, where=where),
}


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("mask", [some, none_at_all], ids=["some", "none"])
def test_what_is_masked_out_may_hold_anything(name, mask):
    """NaN and infinity there change neither loss nor gradient, which is 0 there, and without any example both are 0."""
    f, per_entry = MASKED[name], name in list(MASKED)[6:]
    where = jnp.asarray(np.broadcast_to(mask[..., None], logits.shape) if per_entry else mask)
    z = jnp.asarray(log_p)
    compiled = quick(jax.value_and_grad(f))
    expected = compiled(z, where)
    assert np.isfinite(expected[0])
    assert (expected[0] != 0) == mask.any()
    for garbage in (np.nan, np.inf, -np.inf):
        got = compiled(np.where(mask[..., None], z, garbage), where)
        np.testing.assert_allclose(got[0], expected[0], rtol=1e-12)
        np.testing.assert_allclose(got[1], expected[1], rtol=1e-12, atol=1e-15)
        assert not np.any(np.where(mask[..., None], 0, got[1]))


def test_mean_over_weights_that_sum_to_zero_is_zero():
    def nothing(z):
        return jc.softmax_cross_entropy(z, classes, class_weights=np.zeros(K))

    loss, gradient = jax.value_and_grad(nothing)(jnp.asarray(logits))
    assert loss == 0
    assert not np.any(gradient)


def test_mean_counts_more_examples_than_float32_can():
    """Ones summed up in float32 stop at 2^24."""
    n = 2**24 + 2**20
    y = jnp.ones(n, jnp.float32)
    gradient = jax.jit(jax.grad(lambda y: jc.mean_squared_error(y, jnp.zeros_like(y), where=y > 0)))(y)
    np.testing.assert_allclose(gradient[:3], 2 / n, rtol=1e-6)


def test_half_precision_is_computed_in_float32():
    """256 equal losses of 300 have a sum, and squares, that float16 cannot hold."""
    y = jnp.full((256,), 600.0, jnp.float16)
    assert jc.mean_absolute_error(y, 0 * y) == 600
    z = jnp.full((256, 3), 600.0, jnp.bfloat16)
    np.testing.assert_allclose(float(jc.softmax_cross_entropy(z, np.zeros(256, int))), np.log(3), rtol=4e-3)


@pytest.mark.parametrize(
    ("f", "bytes_per_example"),
    [
        (lambda z: jc.softmax_cross_entropy(z, classes.astype(np.uint8)), 4 * K + 1),
        (lambda z: jc.nll(z, classes.astype(np.uint8)), 1),
        (lambda z: jc.hinge(z, classes.astype(np.uint8)), K + 1),
        (lambda z: jc.sigmoid_cross_entropy(z, bits.astype(bool)), 5 * K),
        (lambda z: jc.focal(z, bits.astype(bool)), 5 * K),
        (lambda z: jc.huber(z, others.astype(np.float32)), 4 * K),
        (lambda z: jc.dice(z, classes.astype(np.uint8)), 1 + 2 * 4 * K / S),
    ],
    ids=["softmax_cross_entropy", "nll", "hinge", "sigmoid_cross_entropy", "focal", "huber", "dice"],
)
def test_what_is_kept_for_the_backward_pass(f, bytes_per_example):
    _, vjp = jax.vjp(f, jnp.asarray(logits, jnp.float32))
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(vjp)) == bytes_per_example * N * S


@pytest.mark.parametrize("name", LOOPS)
def test_nan_is_not_hidden(name, monkeypatch):
    for array in ("logits", "log_p"):
        monkeypatch.setitem(globals(), array, np.full((N, S, K), np.nan))
    assert np.isnan(LOOPS[name][0]())
