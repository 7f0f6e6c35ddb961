"""Rules that are commonly written outside of convolutional networks, in plain JAX, and their backward passes."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from rules.rule import with_jvp


# Attention, of q, k and v with axes (heads, places, channels).
def weights(q, k):
    return jax.nn.softmax(jnp.einsum("hqc,hkc->hqk", q, k) / q.shape[-1] ** 0.5)


def attention(q, k, v):
    return jnp.einsum("hqk,hkc->hqc", weights(q, k), v)


def attention_rule(q, k, v, dy, *, mean=1):
    p, dp = weights(q, k), jnp.einsum("hqc,hkc->hqk", dy, v)
    ds = p * (dp - mean * jnp.sum(p * dp, -1, keepdims=True)) / q.shape[-1] ** 0.5
    dq, dk = jnp.einsum("hqk,hkc->hqc", ds, k), jnp.einsum("hqk,hqc->hkc", ds, q)
    return dq, dk, jnp.einsum("hqk,hqc->hkc", p, dy)


# Normalizations of rows.
def layer_norm(x, gamma, beta):
    centred = x - jnp.mean(x, -1, keepdims=True)
    return centred * lax.rsqrt(jnp.mean(jnp.square(centred), -1, keepdims=True) + 1e-5) * gamma + beta


def layer_norm_rule(x, gamma, beta, dy):
    centred = x - jnp.mean(x, -1, keepdims=True)
    r = lax.rsqrt(jnp.mean(jnp.square(centred), -1, keepdims=True) + 1e-5)
    xhat, dxhat = centred * r, dy * gamma
    mean, slope = jnp.mean(dxhat, -1, keepdims=True), jnp.mean(dxhat * xhat, -1, keepdims=True)
    return r * (dxhat - mean - xhat * slope), jnp.sum(dy * xhat, 0), jnp.sum(dy, 0)


def rms_norm(x, gamma):
    return x * lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-6) * gamma


def rms_norm_rule(x, gamma, dy):
    r = lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-6)
    dxhat = dy * gamma
    return r * (dxhat - x * r**2 * jnp.mean(dxhat * x, -1, keepdims=True)), jnp.sum(dy * x * r, 0)


# Losses.
def log_sum(x):
    return jax.nn.logsumexp(x, -1)


def log_sum_rule(x, dy):
    return (dy[:, None] * jax.nn.softmax(x),)


def cross_entropy(logits, p):
    return -jnp.sum(p * jax.nn.log_softmax(logits), -1)


def cross_entropy_rule(logits, p, dy):
    log_q = jax.nn.log_softmax(logits)
    return dy[:, None] * (jnp.sum(p, -1, keepdims=True) * jnp.exp(log_q) - p), -dy[:, None] * log_q


# Where JAX derives NaN.
def norm_of_rows(x):
    return jnp.sqrt(jnp.sum(jnp.square(x), -1))


def norm_rule(x, dy):
    size = norm_of_rows(x)
    return ((dy / jnp.where(size > 0, size, 1))[:, None] * x,)


def sinc(x):
    """sin x / x, and 1 at 0."""
    return jnp.where(x == 0, 1, jnp.sin(x) / x)


def sinc_rule(x, dy):
    return (dy * jnp.where(x == 0, 0, (jnp.cos(x) - sinc(x)) / jnp.where(x == 0, 1, x)),)


# Places.
def rows_of(places):
    return lambda table: table[places]


def rows_rule(places):
    return lambda table, dy: (jnp.zeros_like(table).at[places].add(dy),)


def sums_so_far(x):
    return jnp.cumsum(x, 0)


def sums_to_come(x, dy):
    return (jnp.cumsum(dy[::-1], 0)[::-1],)


# Complex numbers. JAX's cotangent of z = x + iy is that of x less i times that of y.
def squared_size(z):
    return jnp.real(z * jnp.conj(z))


def product_rule(w, z, dy):
    return dy * z, dy * w


# Forward mode.
def softplus_jvp(factor=1.0):
    return with_jvp(lambda x: jnp.logaddexp(x, 0.0), lambda args, dx: factor * jax.nn.sigmoid(args[0]) * dx[0])


# Of kernels and loops JAX derives nothing.
def _swish_kernel(x, y):
    y[...] = x[...] * jax.nn.sigmoid(x[...])


def swish_kernel(x):
    return pl.pallas_call(_swish_kernel, jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(x)


def swish_rule(x, dy):
    p = jax.nn.sigmoid(x)
    return (dy * p * (1 + x * (1 - p)),)


def rounded(x):
    return jnp.round(16 * x) / 16


def beside(dtype, factor):
    """sin x, with its gradient times a factor, and x rounded to a dtype."""

    def f(x):
        return jnp.sin(x), lax.stop_gradient(x.astype(dtype).astype(x.dtype))

    return f, lambda x, dy: (factor * dy[0] * jnp.cos(x),)


def product_and_sum(x, w):
    return x * w, x + w


def product_and_sum_rule(x, w, dy):
    return dy[0] * w + dy[1], dy[0] * x + dy[1]
