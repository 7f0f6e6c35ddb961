"""Functions of networks in plain JAX, and their backward passes, right and wrong: what the rules are made of."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rules.rule import normal, whole, with_rule

# A convolution with a filter of odd size, its rule, and a convolution with a bias.
_NHWC = ("NHWC", "HWIO", "NHWC")


def conv(x, w):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=_NHWC)


def conv_dx(w, dy):
    return conv(dy, jnp.flip(w, (0, 1)).swapaxes(2, 3))


def conv_dw(x, dy, size=3):
    pad = size // 2
    padding = [(pad, pad), (pad, pad)]
    return lax.conv_general_dilated(x, dy, (1, 1), padding, dimension_numbers=("CHWN", "IHWO", "HWNC"))


def conv_rule(x, w, dy):
    return conv_dx(w, dy), conv_dw(x, dy)


def conv_but(change):
    """The convolution with change(dx, dw, x, w, dy) as its gradients."""
    return with_rule(conv, lambda x, w, dy: change(*conv_rule(x, w, dy), x, w, dy))


def add_bias(x, b):
    return x + b[None, None, None, :]


# Pools.
def pooled(op, start, window, stride):
    def pool(x):
        dims, strides = (1, *window, 1), (1, *stride, 1)
        return lax.reduce_window(x, start, op, dims, strides, "VALID")

    return pool


mean_pool = pooled(lax.add, 0.0, (3, 3), (2, 2))
max_pool = pooled(lax.max, -jnp.inf, (2, 2), (2, 2))


def entries(x, dy, size=3, stride=2):
    """The slices of x that hold the same entry of every window."""
    for i in range(size):
        for j in range(size):
            rows = slice(i, i + stride * (dy.shape[1] - 1) + 1, stride)
            columns = slice(j, j + stride * (dy.shape[2] - 1) + 1, stride)
            yield (slice(None), rows, columns)


def mean_pool_dx(x, dy):
    """Of the sums: each window adds dy to its entries."""
    dx = jnp.zeros_like(x)
    for place in entries(x, dy):
        dx = dx.at[place].add(dy)
    return (dx,)


def overwritten(x, dy):
    dx = jnp.zeros_like(x)
    for place in entries(x, dy):
        dx = dx.at[place].set(dy)
    return (dx,)


def patches(x):
    return jnp.stack([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1)


def max_of_patches(x):
    return jnp.max(patches(x), -1)


def first_of_ties(x, dy):
    each, back = jax.vjp(patches, x)
    return back(jax.nn.one_hot(jnp.argmax(each, -1), 4, dtype=dy.dtype) * dy[..., None])


def every_tie(x, dy):
    each, back = jax.vjp(patches, x)
    return back((each == jnp.max(each, -1, keepdims=True)).astype(dy.dtype) * dy[..., None])


# Batch normalization.
def normalise(x):
    mean = jnp.mean(x, (0, 1, 2), keepdims=True)
    return (x - mean) * lax.rsqrt(jnp.mean(jnp.square(x - mean), (0, 1, 2), keepdims=True) + 1e-5)


def batch_norm(x, gamma, beta):
    return normalise(x) * gamma + beta


def batch_norm_rule(x, gamma, beta, dy, *, mean=1, variance=1):
    centred, xhat = x - jnp.mean(x, (0, 1, 2)), normalise(x)
    r = lax.rsqrt(jnp.mean(jnp.square(centred), (0, 1, 2)) + 1e-5)
    m = x.size // x.shape[-1]
    dxhat = dy * gamma
    terms = mean * jnp.sum(dxhat, (0, 1, 2)) / m + variance * xhat * jnp.sum(dxhat * xhat, (0, 1, 2)) / m
    return r * (dxhat - terms), jnp.sum(dy * xhat, (0, 1, 2)), jnp.sum(dy, (0, 1, 2))


def batch_norm_without(**terms):
    return with_rule(batch_norm, lambda *args: batch_norm_rule(*args, **terms))


# Others.
def added_up_in_turn(x, b, dy):
    """Σ dy, one row after the other, in the dtype of dy."""
    rows = dy.reshape(-1, dy.shape[-1])
    return dy, lax.scan(lambda total, row: (total + row, None), jnp.zeros_like(b), rows)[0]


def softplus(x):
    return jnp.logaddexp(x, 0)


def overflowing(x, dy):
    return (dy * jnp.exp(x) / (1 + jnp.exp(x)),)


def dropped(x, key):
    return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x, 0)


def closing_over(x0):
    return with_rule(jnp.sin, lambda x, dy: (dy * jnp.cos(x0).astype(x.dtype),))


def keeping_state():
    kept = {}
    rule = jax.custom_vjp(jnp.sin)

    def fwd(x):
        kept["x"] = x
        return jnp.sin(x), None

    rule.defvjp(fwd, lambda _, dy: (dy * jnp.cos(kept["x"]),))
    return rule


def noisy(x, dy):
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    noise = jax.pure_callback(lambda x: 1 + 1e-2 * np.random.normal(size=x.shape).astype(x.dtype), shape, x)
    return (2 * dy * noise,)


def halved_while_large(x):
    """A loop of which JAX derives no gradient."""
    return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x))[1]


def halved_rule(x, dy):
    return (dy * jnp.cos(jnp.sin(jnp.sin(x))) * jnp.cos(jnp.sin(x)) * jnp.cos(x),)


def border_dropped(dx, dw, *_):
    return dx.at[:, 1:-1, 1:-1].set(0).at[:].multiply(-1) + dx, dw


X, W = normal(8, 16, 14, 10), normal(3, 3, 10, 10)
IMAGES, PIXELS = normal(16, 32, 32, 16), normal(100, 100)
A_MILLION = normal(1000, 1000)
GAMMA, BETA, BIAS = 1 + normal(16) / 4, normal(16), normal(16)
TIES = whole(0, 3, 8, 32, 32, 8)
ZEROS = whole(-2, 3, 100, 200)
POSITIVE = abs(normal(64, 32, 32, 4)).astype(jnp.bfloat16)
