"""Custom VJP rules, right ones and wrong ones, of the sizes of real layers: what a checker has to tell apart.

Each is written in plain JAX as a user writes it, and knows nothing of jaxcnn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_RANDOM = np.random.default_rng(0)


@dataclass(frozen=True)
class Rule:
    """A function with a custom VJP, and where to check it."""

    name: str
    f: Callable[..., Any]
    args: tuple[Any, ...]
    said: tuple[str, ...] = ()  # what a report should say of a wrong one


def with_rule(f: Callable[..., Any], bwd: Callable[..., Any]) -> Any:
    """f with bwd(*args, dy) as its backward pass."""
    rule = jax.custom_vjp(f)
    rule.defvjp(lambda *args: (f(*args), args), lambda args, dy: bwd(*args, dy))
    return rule


def normal(*shape: int, dtype: Any = jnp.float32) -> jax.Array:
    return jnp.asarray(_RANDOM.normal(size=shape), dtype)


def whole(low: int, high: int, *shape: int) -> jax.Array:
    """Whole numbers as floats: many of them equal."""
    return jnp.asarray(_RANDOM.integers(low, high, size=shape), jnp.float32)


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


def _border(dx, dw, *_):
    return dx.at[:, 1:-1, 1:-1].set(0).at[:].multiply(-1) + dx, dw


X, W = normal(8, 16, 14, 10), normal(3, 3, 10, 10)
IMAGES, PIXELS = normal(16, 32, 32, 16), normal(100, 100)
A_MILLION = normal(1000, 1000)
GAMMA, BETA, BIAS = 1 + normal(16) / 4, normal(16), normal(16)
TIES = whole(0, 3, 8, 32, 32, 8)
ZEROS = whole(-2, 3, 100, 200)
POSITIVE = abs(normal(64, 32, 32, 4)).astype(jnp.bfloat16)

WRONG = [
    Rule(
        "0.1 % in one entry",
        conv_but(lambda dx, dw, *_: (dx, dw.at[1, 2, 3, 4].multiply(1.001))),
        (X, W),
        ("gradient of w: WRONG: 1 of 900", "[1, 2, 3, 4]", "relative error 1.0e-03", "one entry"),
    ),
    Rule(
        "0.1 % in one entry of a million",
        with_rule(jnp.square, lambda x, dy: ((2 * x * dy).at[314, 159].multiply(1.001),)),
        (A_MILLION,),
        ("1 of 1000000", "[314, 159]"),
    ),
    Rule(
        "shifted by one",
        conv_but(lambda dx, dw, *_: (jnp.roll(dx, 1, 1), dw)),
        (X, W),
        ("gradient of x: WRONG", "shifted by 1 along axis 1"),
    ),
    Rule(
        "filter not flipped",
        conv_but(lambda dx, dw, x, w, dy: (conv(dy, w.swapaxes(2, 3)), dw)),
        (X, W),
        ("gradient of x: WRONG", "everywhere"),
    ),
    Rule(
        "filter gradient flipped",
        conv_but(lambda dx, dw, *_: (dx, jnp.flip(dw, (0, 1)))),
        (X, W),
        ("gradient of w: WRONG", "flipped along axes 0, 1"),
    ),
    Rule(
        "channels not swapped",
        conv_but(lambda dx, dw, x, w, dy: (conv(dy, jnp.flip(w, (0, 1))), dw)),
        (X, W),
        ("gradient of x: WRONG", "everywhere"),
    ),
    Rule(
        "channels of the filter gradient swapped",
        conv_but(lambda dx, dw, *_: (dx, dw.swapaxes(2, 3))),
        (X, W),
        ("gradient of w: WRONG", "axes 2 and 3 swapped"),
    ),
    Rule("border dropped", conv_but(_border), (X, W), ("gradient of x: WRONG", "the border of axes 1, 2")),
    Rule(
        "remainder of the stride dropped",
        with_rule(lambda x: x[:, ::3], lambda x, dy: (jnp.zeros_like(x).at[:, : 3 * 5 : 3].set(dy[:, :5]),)),
        (X,),
        ("one index: 15 of axis 1, the last", "zero instead"),
    ),
    Rule(
        "last image dropped",
        conv_but(lambda dx, dw, *_: (dx.at[-1].set(0), dw)),
        (X, W),
        ("gradient of x: WRONG", "one image: 7 of axis 0, the last, zero instead"),
    ),
    Rule(
        "last image dropped in a sum over images",
        conv_but(lambda dx, dw, x, w, dy: (dx, conv_dw(x[:-1], dy[:-1]))),
        (X, W),
        ("gradient of w: WRONG", "everywhere"),
    ),
    Rule(
        "bias dropped",
        with_rule(add_bias, lambda x, b, dy: (dy, jnp.zeros_like(b))),
        (IMAGES, BIAS),
        ("gradient of b: WRONG", "everywhere, zero instead"),
    ),
    Rule(
        "one channel wrong",
        conv_but(lambda dx, dw, *_: (dx.at[..., 3].multiply(2), dw)),
        (X, W),
        ("one channel: 3 of axis 3, by the factor 2",),
    ),
    Rule(
        "second group dropped",
        conv_but(lambda dx, dw, *_: (dx, dw.at[..., 5:].set(0))),
        (X, W),
        ("last 5 of 10 along axis 3, zero instead",),
    ),
    Rule(
        "batch norm without the term of the mean",
        batch_norm_without(mean=0),
        (IMAGES, GAMMA, BETA),
        ("gradient of x: WRONG", "everywhere"),
    ),
    Rule(
        "batch norm without the term of the variance",
        batch_norm_without(variance=0),
        (IMAGES, GAMMA, BETA),
        ("gradient of x: WRONG", "everywhere"),
    ),
    Rule("wrong sign", conv_but(lambda dx, dw, *_: (-dx, dw)), (X, W), ("everywhere, the opposite sign",)),
    Rule("wrong scale", conv_but(lambda dx, dw, *_: (dx, 1.01 * dw)), (X, W), ("everywhere, by the factor 1.01",)),
    Rule(
        "average in place of a sum",
        conv_but(lambda dx, dw, *_: (dx, dw / 8)),
        (X, W),
        ("gradient of w: WRONG", "everywhere, by the factor 1/8"),
    ),
    Rule(
        "overlapping windows overwrite each other",
        with_rule(mean_pool, overwritten),
        (IMAGES[:, :31, :31],),
        ("gradient of x: WRONG",),
    ),
    Rule("dy to every entry of a tie", with_rule(max_of_patches, every_tie), (TIES,), ("gradient of x: WRONG",)),
    Rule(
        "added up in bfloat16",
        with_rule(add_bias, added_up_in_turn),
        (POSITIVE, normal(4, dtype=jnp.bfloat16)),
        ("gradient of b: WRONG", "in bfloat16, right in float64"),
    ),
    Rule(
        "products in bfloat16",
        conv_but(lambda dx, dw, x, w, dy: (conv_dx(*(a.astype(jnp.bfloat16) for a in (w, dy))).astype(x.dtype), dw)),
        (X, W),
        ("gradient of x: WRONG", "nearly everywhere"),
    ),
    Rule(
        "cotangent of another dtype",
        conv_but(lambda dx, dw, *_: (dx.astype(jnp.bfloat16), dw)),
        (X, W),
        ("gradient of x: WRONG: dtype bfloat16, expected float32",),
    ),
    Rule(
        "not linear: clipped",
        with_rule(jnp.sin, lambda x, dy: (jnp.clip(dy * jnp.cos(x), -10, 10),)),
        (PIXELS,),
        ("it is not linear in dy",),
    ),
    Rule(
        "not linear: the sign of dy",
        with_rule(jnp.sin, lambda x, dy: (jnp.sign(dy) * jnp.cos(x),)),
        (PIXELS,),
        ("gradient of x: WRONG", "everywhere"),
    ),
    Rule(
        "NaN in one channel",
        conv_but(lambda dx, dw, *_: (dx / jnp.ones(10).at[4].set(0).astype(dx.dtype) * 0 + dx, dw)),
        (X, W),
        ("one channel: 4 of axis 3, NaN",),
    ),
    Rule(
        "infinity over infinity in float32",
        with_rule(softplus, overflowing),
        (jnp.linspace(-50, 95, 10000, dtype=jnp.float32),),
        ("in float32, right in float64", "NaN"),
    ),
    Rule("closes over the arguments", closing_over(PIXELS), (PIXELS,), ("it may close over the arguments",)),
    Rule("keeps state outside", keeping_state(), (PIXELS,), ("two calls: WRONG",)),
    Rule(
        "mask drawn anew",
        with_rule(lambda x: dropped(x, jax.random.key(0)), lambda x, dy: (dropped(dy, jax.random.key(1)),)),
        (PIXELS,),
        ("gradient of x: WRONG", "scattered"),
    ),
    Rule(
        "mask drawn by NumPy",
        with_rule(
            lambda x: dropped(x, jax.random.key(0)),
            lambda x, dy: (dy * np.random.randint(0, 2, size=x.shape).astype(dy.dtype),),
        ),
        (PIXELS,),
        ("gradient of x: WRONG", "each trace: WRONG"),
    ),
    Rule("changes from run to run", with_rule(lambda x: 2 * x, noisy), (PIXELS,), ("change from run to run",)),
    Rule(
        "wrong rule of a loop",
        with_rule(halved_while_large, lambda x, dy: (halved_rule(x, dy)[0].at[3, 4].multiply(1.001),)),
        (PIXELS,),
        ("[3, 4]", "relative error 1.0e-03"),
    ),
]

RIGHT = [
    Rule("convolution", conv_but(lambda dx, dw, *_: (dx, dw)), (IMAGES, normal(3, 3, 16, 16))),
    Rule(
        "convolution in bfloat16",
        conv_but(lambda dx, dw, *_: (dx, dw)),
        (IMAGES.astype(jnp.bfloat16), normal(3, 3, 16, 16, dtype=jnp.bfloat16)),
    ),
    Rule("batch norm", batch_norm_without(), (IMAGES, GAMMA, BETA)),
    Rule("mean-pool, overlapping", with_rule(mean_pool, mean_pool_dx), (IMAGES[:, :31, :31],)),
    Rule("relu", with_rule(lambda x: jnp.maximum(x, 0), lambda x, dy: (dy * (x > 0),)), (PIXELS,)),
    Rule("relu at zero", with_rule(lambda x: jnp.maximum(x, 0), lambda x, dy: (dy * (x > 0),)), (ZEROS,)),
    Rule(
        "relu at zero, the derivative 1",
        with_rule(lambda x: jnp.maximum(x, 0), lambda x, dy: (dy * (x >= 0),)),
        (ZEROS,),
    ),
    Rule("absolute value at zero", with_rule(jnp.abs, lambda x, dy: (dy * jnp.where(x < 0, -1, 1),)), (ZEROS,)),
    Rule("max-pool without ties", with_rule(max_of_patches, first_of_ties), (normal(8, 32, 32, 8),)),
    Rule("max-pool with ties, the first takes all", with_rule(max_of_patches, first_of_ties), (TIES,)),
    Rule("max-pool with ties, shared", with_rule(max_pool, lambda x, dy: jax.vjp(max_of_patches, x)[1](dy)), (TIES,)),
    Rule(
        "sum of a million in float32",
        with_rule(lambda x: jnp.sum(jnp.square(x)), lambda x, dy: (2 * x * dy,)),
        (A_MILLION,),
    ),
    Rule("bias: a sum of 16,384 in float32", with_rule(add_bias, added_up_in_turn), (IMAGES, BIAS)),
    Rule(
        "bias: a sum of 65,536 in bfloat16",
        with_rule(add_bias, lambda x, b, dy: (dy, jnp.sum(dy, (0, 1, 2), dtype=jnp.float32).astype(b.dtype))),
        (POSITIVE, normal(4, dtype=jnp.bfloat16)),
    ),
    Rule(
        "a gradient that cancels",
        with_rule(lambda x: jnp.sum(jax.nn.softmax(x)), lambda x, dy: (dy * jnp.zeros_like(x),)),
        (PIXELS,),
    ),
    Rule(
        "softplus",
        with_rule(softplus, lambda x, dy: (dy * jax.nn.sigmoid(x),)),
        (jnp.linspace(-50, 95, 10000, dtype=jnp.float32),),
    ),
    Rule(
        "dropout",
        with_rule(lambda x: dropped(x, jax.random.key(0)), lambda x, dy: (dropped(dy, jax.random.key(0)),)),
        (PIXELS,),
    ),
    Rule("a loop that JAX does not derive", with_rule(halved_while_large, halved_rule), (PIXELS,)),
    Rule(
        "1e-6 beside 1e6",
        with_rule(jnp.exp, lambda x, dy: (dy * jnp.exp(x),)),
        (jnp.linspace(-14, 14, 10000, dtype=jnp.float32),),
    ),
]
