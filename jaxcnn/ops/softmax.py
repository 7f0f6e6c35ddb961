"""Softmax and its logarithm: activations of a whole row, with the sums over it in their backward passes.

Half precision is computed in float32 and rounded once; a derivative that is had from Y is that of the rounded Y.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.ops import shapes
from jaxcnn.ops.rules import defvjp
from jaxcnn.ops.sharding import on_any_mesh


def softmax(z: jax.Array) -> jax.Array:
    """Softmax over the last axis.

        y_i = exp(z_i) / Σ_j exp(z_j)

    Args:
        z: [..., K].

    Returns:
        y, of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array.
        ValueError: z has no axis.

    Gradient: dz_i = y_i (dy_i - Σ_j y_j dy_j). Keeps y.

    Source: Bridle, Probabilistic interpretation of feedforward classification network outputs, 1990.

    >>> softmax(jnp.array([1.0, 1.0, 1.0, 1.0]))
    Array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """
    return _softmax(_rows("softmax", z))


def _rows(function, z):
    (z,) = shapes.floating(function, z=z)
    shapes.require(z.ndim > 0, function, "z", "[..., K] with at least 1 axis", shapes.describe(z))
    return z


def _softmax_plain(z):
    e = jnp.exp(_shifted(shapes.wide(z)))
    return (e / jnp.sum(e, axis=-1, keepdims=True)).astype(z.dtype)


def _shifted(z):
    """z less its largest entry, which leaves the softmax as it is and exp(z) finite."""
    return z - lax.stop_gradient(jnp.max(z, axis=-1, keepdims=True, initial=-jnp.inf))


_softmax = jax.custom_vjp(on_any_mesh(_softmax_plain))


def _softmax_fwd(z):
    y = _softmax_plain(z)
    return y, y


def _softmax_bwd(y, dy):
    wide_y, wide_dy = shapes.wide(y), shapes.wide(dy)
    dz = wide_y * (wide_dy - jnp.sum(wide_y * wide_dy, axis=-1, keepdims=True))
    return (dz.astype(dy.dtype),)


defvjp(_softmax, _softmax_fwd, _softmax_bwd)


def log_softmax(z: jax.Array) -> jax.Array:
    """Logarithm of the softmax over the last axis, stable for large z.

        y_i = z_i - log Σ_j exp(z_j)

    Args:
        z: [..., K].

    Returns:
        y, of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array.
        ValueError: z has no axis.

    Gradient: dz_i = dy_i - exp(y_i) Σ_j dy_j. Keeps y.

    Source: as for `softmax`.

    >>> round(float(log_softmax(jnp.array([1e4, 1e4]))[0]), 3)
    -0.693
    """
    return _log_softmax(_rows("log_softmax", z))


def _log_softmax_plain(z):
    shifted = _shifted(shapes.wide(z))
    return (shifted - jnp.log(jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True))).astype(z.dtype)


_log_softmax = jax.custom_vjp(on_any_mesh(_log_softmax_plain))


def _log_softmax_fwd(z):
    y = _log_softmax_plain(z)
    return y, y


def _log_softmax_bwd(y, dy):
    dz = shapes.wide(dy) - jnp.exp(shapes.wide(y)) * jnp.sum(shapes.wide(dy), axis=-1, keepdims=True)
    return (dz.astype(dy.dtype),)


defvjp(_log_softmax, _log_softmax_fwd, _log_softmax_bwd)
