"""Dropout.

Lecture: "We Use Advanced Techniques" (dropout, to reduce the impact of overfitting).
"""

import jax
import jax.numpy as jnp

from jaxcnn.ops import shapes


def dropout(key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """Drops each entry with probability `rate` and scales the others, so that the mean stays.

        y = m ⊙ x / (1 - rate),        m = 0 with probability rate, else 1

    Args:
        key: a JAX random key; the same key drops the same entries.
        x: any shape.
        rate: the share that is dropped, a Python number from 0 to 1.

    Returns:
        y, of the shape and dtype of x.

    Raises:
        TypeError: x is no floating-point array, key is no random key, rate is no number.
        ValueError: rate is not within [0, 1].

    Gradient: dx = m ⊙ dy / (1 - rate). The mask is drawn again from the key rather than kept.

    Source: Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, 2014.

    >>> sorted(set(dropout(jax.random.key(0), jnp.ones(100), 0.5).tolist()))
    [0.0, 2.0]
    """
    (x,) = shapes.floating("dropout", x=x)
    _check_key("dropout", key)
    return _dropout(key, x, shapes.number("dropout", "rate", rate, 0, 1))


def _dropout_plain(key, x, rate):
    if rate == 1:
        return jnp.zeros_like(x)
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), 0.0)


_dropout = jax.custom_vjp(_dropout_plain, nondiff_argnums=(2,))


def _dropout_fwd(key, x, rate):
    return _dropout_plain(key, x, rate), key


def _dropout_bwd(rate, key, dy):
    """Linear with a diagonal Jacobian: the backward pass is the forward pass."""
    return None, _dropout_plain(key, dy, rate)


_dropout.defvjp(_dropout_fwd, _dropout_bwd)


def _check_key(function, key):
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    raw = dtype == jnp.uint32 and shape in ((2,), (4,))  # threefry, rbg
    shapes.require(typed or raw, function, "key", "one JAX random key", shapes.describe(key), TypeError)
