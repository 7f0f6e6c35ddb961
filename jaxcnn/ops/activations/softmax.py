"""Softmax and its logarithm: activations of a whole row, with the sums over it in their backward passes.

A row is what lies along the axis, the last one by default; or along several axes, whose entries are a row together. A
row that holds NaN or inf, or nothing but -inf, is NaN; a single -inf is a share of 0.

Half precision is computed in float32 and rounded once; a derivative that is had from Y is that of the rounded Y.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.contract import arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.contract.rules import custom_rule


def softmax(z: jax.Array, axis: PerAxis = -1) -> jax.Array:
    """Softmax over an axis, by default the last.

        y_i = exp(z_i) / Σ_j exp(z_j)

    Args:
        z: any shape with at least one axis.
        axis: an int or several, counted from the end if negative; the sums are over all of them.

    Returns:
        y, of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array, axis is no int.
        ValueError: z has no such axis, or an axis comes twice.

    Gradient: dz_i = y_i (dy_i - Σ_j y_j dy_j). Keeps z and y: a CPU uses y, a GPU and a TPU z.

    Source: Bridle, Probabilistic interpretation of feedforward classification network outputs, 1990.

    >>> softmax(jnp.array([1.0, 1.0, 1.0, 1.0]))
    Array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """
    return _softmax(*_rows("softmax", z, axis))


def _rows(function, z, axis):
    (z,) = arguments.floating(function, z=z)
    arguments.require(z.ndim > 0, function, "z", "[..., K] with at least 1 axis", arguments.describe(z))
    return z, arguments.axes(function, "axis", axis, z.ndim)


def _softmax_plain(z, axes):
    e, total = _exponentials(z, axes)
    return e / total


def _exponentials(z, axes):
    """e = exp(z), but for a factor for each row, and its sum over the row."""
    e = jnp.exp(_shifted(z, axes))
    return e, _row_sum(e, axes)


def _shifted(z, axes):
    """z less its largest entry, which leaves the softmax as it is and exp(z) finite."""
    return z - lax.stop_gradient(jnp.max(z, axis=axes, keepdims=True, initial=-jnp.inf))


def _row_sum(a, axes):
    return jnp.sum(a, axis=axes, keepdims=True)


def _softmax_fwd(z, axes):
    y = _softmax_plain(z, axes)
    return y, (z, y)


def _softmax_bwd(axes, residuals, dy):
    return (_dz_by_platform(_softmax_dz_by_y, _softmax_dz_by_z, axes, residuals, dy),)


def _softmax_dz_by_y(y, dy, axes):
    return y * (dy - _row_sum(y * dy, axes))


def _softmax_dz_by_z(z, dy, axes):
    """With y = e/Σ e. Where the sum over y dy is divided rather than y, it is made along with the sum of e."""
    e, total = _exponentials(z, axes)
    return e / total * (dy - _row_sum(e * dy, axes) / total)


# What is computed with y waits until y is stored. From z and dy XLA computes dz in one kernel on a GPU, and moves less
# on a TPU. On a CPU the exponentials, which are computed once more, cost more than that.
def _dz_by_platform(by_y, by_z, axes, residuals, dy):
    """by_y(y, dy, axes) on a CPU, by_z(z, dy, axes) elsewhere. XLA drops the array that is not used."""

    def cpu(z, y, dy):
        return by_y(y, dy, axes)

    def other(z, y, dy):
        return by_z(z, dy, axes)

    return lax.platform_dependent(*residuals, dy, cpu=cpu, default=other)


_softmax = custom_rule(_softmax_plain, _softmax_fwd, _softmax_bwd, wide=True)


def log_softmax(z: jax.Array, axis: PerAxis = -1) -> jax.Array:
    """Logarithm of the softmax over an axis, by default the last, stable for large z.

        y_i = z_i - log Σ_j exp(z_j)

    Args:
        z: any shape with at least one axis.
        axis: an int or several, counted from the end if negative; the sums are over all of them.

    Returns:
        y, of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array, axis is no int.
        ValueError: z has no such axis, or an axis comes twice.

    Gradient: dz_i = dy_i - exp(y_i) Σ_j dy_j. Keeps z and y: a CPU uses y, a GPU and a TPU z.

    Source: as for `softmax`.

    >>> round(float(log_softmax(jnp.array([1e4, 1e4]))[0]), 3)
    -0.693
    """
    return _log_softmax(*_rows("log_softmax", z, axis))


def _log_softmax_plain(z, axes):
    shifted = _shifted(z, axes)
    return shifted - jnp.log(jnp.sum(jnp.exp(shifted), axis=axes, keepdims=True))


def _log_softmax_fwd(z, axes):
    y = _log_softmax_plain(z, axes)
    return y, (z, y)


def _log_softmax_bwd(axes, residuals, dy):
    return (_dz_by_platform(_log_softmax_dz_by_y, _log_softmax_dz_by_z, axes, residuals, dy),)


def _log_softmax_dz_by_y(y, dy, axes):
    return dy - jnp.exp(y) * _row_sum(dy, axes)


def _log_softmax_dz_by_z(z, dy, axes):
    e, total = _exponentials(z, axes)
    return dy - e / total * _row_sum(dy, axes)


_log_softmax = custom_rule(_log_softmax_plain, _log_softmax_fwd, _log_softmax_bwd, wide=True)
