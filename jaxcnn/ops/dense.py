"""The fully-connected part of a network: `dense`, and `flatten`, which leads into it.

Lecture: "Backward Pass": backpropagate over the FNN till its input, then sort the gradient by reversing the flattening.
"""

import math
import operator

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.contract import arguments
from jaxcnn.contract.geometry import surely
from jaxcnn.contract.rules import custom_rule


def dense(x: jax.Array, w: jax.Array, b: jax.Array | None = None) -> jax.Array:
    """Fully-connected layer.

        y[..., o] = b[o] + Σ_i x[..., i] w[i, o]

    Args:
        x: [..., I], any number of leading axes.
        w: weights [I, O].
        b: biases [O], or None.

    Returns:
        y [..., O], in the dtype of x.

    Raises:
        TypeError: an argument is no floating-point array, or the dtypes differ.
        ValueError: x has no axis, w is not [I, O], b is not [O].

    Gradient: dx = dy wᵀ, dw = xᵀ dy, and db = Σ dy over the leading axes.

    Precision: that of all three products is as for `conv`.

    Source: lecture, "Backward Pass" (the FNN).

    >>> dense(jnp.array([[1.0, 2.0]]), jnp.array([[1.0], [10.0]]), jnp.array([0.5]))
    Array([[21.5]], dtype=float32)
    """
    x, w, b = arguments.floating_and_bias("dense", {"x": x, "w": w}, b)
    arguments.require(x.ndim >= 1, "dense", "x", "[..., I] with at least 1 axis", arguments.describe(x))
    fits = w.ndim == 2 and w.shape[0] == x.shape[-1]
    arguments.require(fits, "dense", "w", f"[I, O] with I = {x.shape[-1]} as x has", arguments.describe(w))
    if b is not None:
        arguments.vector("dense", "b", b, w.shape[1])
    return _dense(x, w, b)


def _dense_plain(x, w, b):
    y = lax.dot_general(x, w, (((x.ndim - 1,), (0,)), ((), ())))
    return y if b is None else y + lax.broadcast(b, y.shape[:-1])


def _dense_fwd(x, w, b):
    return _dense_plain(x, w, b), (x, w, b)


def _dense_bwd(residuals, dy):
    x, w, b = residuals
    leading = tuple(range(dy.ndim - 1))
    dx = lax.dot_general(dy, w, (((dy.ndim - 1,), (1,)), ((), ())))  # [..., O] [I, O] -> [..., I]
    dw = lax.dot_general(x, dy, ((leading, leading), ((), ())))  # [..., I] [..., O] -> [I, O]
    db = None if b is None else jnp.sum(dy, axis=leading)
    return dx, dw, db


_dense = custom_rule(_dense_plain, _dense_fwd, _dense_bwd)


def flatten(x: jax.Array) -> jax.Array:
    """Sorts the entries of every image into one row, the last axis fastest.

        y[n] = (x[n, 0, ..., 0], x[n, 0, ..., 1], ...)

    Args:
        x: [N, ...].

    Returns:
        y [N, D], D the number of entries of one image, in the dtype of x.

    Raises:
        TypeError: x is no floating-point array.
        ValueError: x has no axis.

    Gradient: the reverse reshape: dx = dy sorted into the shape of x.

    Source: lecture, "Backward Pass".

    >>> flatten(jnp.ones((2, 4, 4, 3))).shape
    (2, 48)
    """
    (x,) = arguments.floating("flatten", x=x)
    arguments.require(x.ndim >= 1, "flatten", "x", "[N, ...] with at least 1 axis", arguments.describe(x))
    expected = "[N, ...] of a known size, or one that surely is not negative"
    arguments.require(surely(operator.ge, math.prod(x.shape[1:]), 0), "flatten", "x", expected, arguments.describe(x))
    return _flatten(x, x.shape[1:])


def _flatten_plain(x, image_shape):
    return x.reshape(x.shape[0], math.prod(image_shape))


def _flatten_fwd(x, image_shape):
    return _flatten_plain(x, image_shape), None


def _flatten_bwd(image_shape, _, dy):
    """Reverses the flattening."""
    return (dy.reshape(dy.shape[0], *image_shape),)


_flatten = custom_rule(_flatten_plain, _flatten_fwd, _flatten_bwd)
