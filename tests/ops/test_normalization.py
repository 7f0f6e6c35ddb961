"""The norms against NumPy in float64, at the edges of what they are given, and as the same function in other words."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from compilation import quick, quick_vjp

import jaxcnn as jc
from jaxcnn import check

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 5, 6)) + 3
GAMMA, BETA = RNG.normal(size=6), RNG.normal(size=6)


def standardised(x, axes, eps):
    x = np.asarray(x, np.float64)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


NORMS = {
    "batch": lambda x, gamma, beta, eps=1e-5: jc.batch_norm(x, gamma, beta, eps=eps)[0],
    "layer": jc.layer_norm,
    "group": lambda x, gamma, beta, eps=1e-5: jc.group_norm(x, gamma, beta, groups=2, eps=eps),
    "instance": jc.instance_norm,
}
every_norm = pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)


def test_values_are_those_of_numpy():
    eps = 0.1
    expected = {
        "batch": standardised(X, (0, 1, 2), eps),
        "layer": standardised(X, (3,), eps),
        "group": standardised(X.reshape(2, 3, 5, 2, 3), (1, 2, 4), eps).reshape(X.shape),
        "instance": standardised(X, (1, 2), eps),
    }
    for name, norm in NORMS.items():
        y = quick(partial(norm, eps=eps))(X, GAMMA, BETA)
        np.testing.assert_allclose(y, GAMMA * expected[name] + BETA, rtol=1e-12, atol=1e-12, err_msg=name)
    root = np.sqrt(np.mean(X**2, -1, keepdims=True) + eps)
    np.testing.assert_allclose(jc.rms_norm(X, GAMMA, eps=eps), GAMMA * X / root, rtol=1e-12)


def test_local_response_norm_is_its_sum():
    for size in (1, 2, 5, 6, 9):
        d = np.full(X.shape, 2.0)
        for i in range(6):
            for j in range(max(i - size // 2, 0), min(i + (size - 1) // 2, 5) + 1):
                d[..., i] += 0.3 / size * X[..., j] ** 2
        y = quick(partial(jc.local_response_norm, size=size, alpha=0.3, beta=0.6, k=2.0))(X)
        np.testing.assert_allclose(y, X / d**0.6, rtol=1e-12)


def test_some_norms_are_others():
    flat = X.reshape(2, -1, 6)
    one_image, one, zero = X[:1], np.ones(6), np.zeros(6)
    ones, zeros = np.ones((3, 5, 6)), np.zeros((3, 5, 6))

    def pairs():
        return [
            (jc.group_norm(X, GAMMA, BETA, groups=6), jc.instance_norm(X, GAMMA, BETA)),
            (jc.group_norm(X, one, zero, groups=1), jc.layer_norm(X, ones, zeros, axes=(1, 2, 3))),
            (jc.instance_norm(one_image, GAMMA, BETA), jc.batch_norm(one_image, GAMMA, BETA)[0]),
            (jc.instance_norm(flat, GAMMA, BETA), jc.instance_norm(X, GAMMA, BETA).reshape(flat.shape)),
            (jc.layer_norm(X, GAMMA, BETA, axes=3), jc.layer_norm(X, GAMMA, BETA)),
        ]

    for a, b in quick(pairs)():
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@every_norm
def test_without_variance_y_is_beta_and_gradients_are_finite(norm):
    x = jnp.full((2, 3, 5, 6), 1000.25)
    y, vjp = quick_vjp(norm, x, GAMMA, BETA)
    np.testing.assert_array_equal(y, np.broadcast_to(BETA, x.shape))
    assert all(np.isfinite(g).all() for g in vjp(jnp.asarray(X)))
    assert check.gradients(norm, x, GAMMA, BETA)


@every_norm
def test_a_batch_of_one(norm):
    assert check.gradients(norm, X[:1], GAMMA, BETA)


@every_norm
def test_variance_keeps_its_digits_where_the_mean_is_large(norm):
    """In float32, with a mean 10,000 times the standard deviation: E[x²] - mean² would have none left."""
    x = jnp.asarray(np.round(RNG.normal(size=(4, 8, 8, 6)) * 64) / 64 + 1e4, jnp.float32)
    one, zero = jnp.ones(6, jnp.float32), jnp.zeros(6, jnp.float32)
    expected = quick(norm)(*(np.asarray(a, np.float64) for a in (x, one, zero)))
    np.testing.assert_allclose(quick(norm)(x, one, zero), expected, atol=5e-3)


@every_norm
def test_half_precision_with_parameters_in_float32(norm):
    x, gamma, beta = jnp.asarray(X, jnp.bfloat16), jnp.asarray(GAMMA, jnp.float32), jnp.asarray(BETA, jnp.float32)
    y, vjp = quick_vjp(norm, x, gamma, beta)
    assert y.dtype == jnp.bfloat16
    assert [g.dtype for g in vjp(y)] == [jnp.bfloat16, jnp.float32, jnp.float32]
    expected = quick(norm)(*(np.asarray(a, np.float64) for a in (x, gamma, beta)))
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=2**-8, atol=1e-5)


def test_weight_norm_sets_the_length_of_each_filter():
    v = RNG.normal(size=(3, 2, 4, 5))
    g = np.arange(1.0, 6.0)
    w = jc.weight_norm(v, g)
    np.testing.assert_allclose(np.linalg.norm(np.asarray(w).reshape(-1, 5), axis=0), g, rtol=1e-12)
    np.testing.assert_allclose(jc.weight_norm(7 * v, g), w, rtol=1e-12)
    dv, _ = quick_vjp(jc.weight_norm, v, g)[1](jnp.ones(v.shape))
    np.testing.assert_allclose(np.sum(dv * v, (0, 1, 2)), 0, atol=1e-12)


def test_spectral_norm_finds_the_largest_singular_value():
    w = RNG.normal(size=(3, 2, 4, 5))
    u, step = np.ones(5), quick(jc.spectral_norm)
    for _ in range(60):
        y, u = step(w, u)
    largest = np.linalg.svd(w.reshape(-1, 5), compute_uv=False)[0]
    np.testing.assert_allclose(y, w / largest, rtol=1e-8)
    np.testing.assert_allclose(np.linalg.norm(u), 1, rtol=1e-12)
    for again, same in zip(jc.spectral_norm(w, u, iterations=0), (y, u), strict=True):
        np.testing.assert_allclose(again, same, rtol=1e-8)


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_gradient_of_spectral_norm_takes_the_directions_as_constants(iterations):
    w, u = RNG.normal(size=(3, 2, 4, 5)), RNG.normal(size=5)
    report = check.gradients(lambda w, u: jc.spectral_norm(w, u, iterations=iterations), w, u)
    assert report, report
    _, vjp = quick_vjp(jc.spectral_norm, w, u)
    np.testing.assert_array_equal(vjp((jnp.ones(w.shape), jnp.ones(5)))[1], 0)
