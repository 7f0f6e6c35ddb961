"""Batch normalisation, for training and for inference.

Lecture: "We Use Advanced Techniques" (batch normalization, to make the training more stable against feature
variations). Everything is computed in float32 at least; x, gamma and beta may have different dtypes, y has that of x.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.ops import shapes


def batch_norm(
    x: jax.Array, gamma: jax.Array, beta: jax.Array, *, eps: float = 1e-5
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises every channel by its mean and variance over the batch and all places.

        y = gamma x̂ + beta,        x̂ = (x - mean) / sqrt(var + eps),        var = 1/M Σ (x - mean)²,  M = N · Π S

    Args:
        x: [N, *S, C], or [N, C].
        gamma, beta: scale and shift of each channel [C].
        eps: what keeps the root from zero, at least 0.

    Returns:
        (y, mean, var): y of the shape and dtype of x; mean and biased var [C], float32 if x has half precision. For
        running averages; they carry no gradient. In an empty batch they are 0.

    Raises:
        TypeError: an array is not floating-point, gamma and beta differ in dtype, eps is no number.
        ValueError: x has less than 2 axes, gamma or beta is not [C], eps is negative.

    Gradient: with the sums over the batch and all places, mean and var being functions of x,

        dbeta = Σ dy,        dgamma = Σ dy x̂,        dx = gamma / sqrt(var + eps) · (dy - dbeta/M - x̂ dgamma/M).

    Source: Ioffe and Szegedy, Batch normalization, 2015.

    >>> y, mean, var = batch_norm(jnp.array([[1.0], [3.0]]), jnp.ones(1), jnp.zeros(1), eps=0.0)
    >>> y[:, 0], mean, var
    (Array([-1.,  1.], dtype=float32), Array([2.], dtype=float32), Array([1.], dtype=float32))
    """
    x, gamma, beta, eps = _checked("batch_norm", x, gamma, beta, eps)
    return _batch_norm(x, gamma, beta, eps)


def _batch_norm_plain(x, gamma, beta, eps):
    y, mean, var = _normalise(x, gamma, beta, eps)
    return y, lax.stop_gradient(mean), lax.stop_gradient(var)


_batch_norm = jax.custom_vjp(_batch_norm_plain, nondiff_argnums=(3,))


def _batch_norm_fwd(x, gamma, beta, eps):
    y, mean, var = _normalise(x, gamma, beta, eps)
    return (y, lax.stop_gradient(mean), lax.stop_gradient(var)), (x, gamma, beta, mean, var)


# x̂ depends on x directly, through the mean and through the variance. Per channel, with M entries and r = 1/sqrt(var
# + eps): dx̂ = gamma dy; dvar = Σ dx̂ (x - mean) (-r³/2) = -r²/2 Σ dx̂ x̂; dmean = -r Σ dx̂, as Σ (x - mean) = 0; and
# dx = r dx̂ + 2 (x - mean)/M dvar + dmean/M = r (dx̂ - Σ dx̂/M - x̂ Σ (dx̂ x̂)/M).
def _batch_norm_bwd(eps, residuals, cotangents):
    x, gamma, beta, mean, var = residuals
    dy, _, _ = cotangents
    normalised, r = _normalised(x, mean, var, eps)
    count = _count(x)
    wide_dy = dy.astype(normalised.dtype)
    dbeta = _channel_sum(wide_dy)
    dgamma = _channel_sum(wide_dy * normalised)
    dx = _channels(gamma, x) * r * (wide_dy - _channels(dbeta / count, x) - normalised * _channels(dgamma / count, x))
    return dx.astype(x.dtype), dgamma.astype(gamma.dtype), dbeta.astype(beta.dtype)


_batch_norm.defvjp(_batch_norm_fwd, _batch_norm_bwd)


def batch_norm_inference(
    x: jax.Array, gamma: jax.Array, beta: jax.Array, mean: jax.Array, var: jax.Array, *, eps: float = 1e-5
) -> jax.Array:
    """Normalises every channel by a given mean and variance.

        y = gamma x̂ + beta,        x̂ = (x - mean) / sqrt(var + eps)

    Args:
        x: [N, *S, C], or [N, C].
        gamma, beta, mean, var: [C], var not negative.
        eps: what keeps the root from zero, at least 0.

    Returns:
        y, of the shape and dtype of x.

    Raises:
        TypeError: an array is not floating-point, gamma and beta or mean and var differ in dtype, eps is no number.
        ValueError: x has less than 2 axes, an argument is not [C], eps is negative.

    Gradient: with r = 1/sqrt(var + eps) and the sums over the batch and all places, dx = gamma r dy, dbeta = Σ dy,
        dgamma = Σ dy x̂, dmean = -gamma r dbeta, dvar = -gamma r²/2 dgamma.

    Source: Ioffe and Szegedy, Batch normalization, 2015.

    >>> one, zero = jnp.ones(1), jnp.zeros(1)
    >>> batch_norm_inference(jnp.array([[1.0], [3.0]]), one, zero, 2 * one, one, eps=0.0)[:, 0]
    Array([-1.,  1.], dtype=float32)
    """
    x, gamma, beta, eps = _checked("batch_norm_inference", x, gamma, beta, eps)
    mean, var = shapes.floating("batch_norm_inference", mean=mean, var=var)
    shapes.vector("batch_norm_inference", "mean", mean, x.shape[-1])
    shapes.vector("batch_norm_inference", "var", var, x.shape[-1])
    return _batch_norm_inference(x, gamma, beta, mean, var, eps)


def _batch_norm_inference_plain(x, gamma, beta, mean, var, eps):
    normalised, _ = _normalised(x, mean, var, eps)
    return (_channels(gamma, x) * normalised + _channels(beta, x)).astype(x.dtype)


_batch_norm_inference = jax.custom_vjp(_batch_norm_inference_plain, nondiff_argnums=(5,))


def _batch_norm_inference_fwd(x, gamma, beta, mean, var, eps):
    return _batch_norm_inference_plain(x, gamma, beta, mean, var, eps), (x, gamma, beta, mean, var)


def _batch_norm_inference_bwd(eps, residuals, dy):
    x, gamma, beta, mean, var = residuals
    normalised, r = _normalised(x, mean, var, eps)
    wide_dy = dy.astype(normalised.dtype)
    slope = _channels(gamma, x) * r
    dbeta = _channel_sum(wide_dy)
    dgamma = _channel_sum(wide_dy * normalised)
    dmean = -slope.reshape(-1) * dbeta
    dvar = -0.5 * (slope * r).reshape(-1) * dgamma
    dx = slope * wide_dy
    return (
        dx.astype(x.dtype),
        dgamma.astype(gamma.dtype),
        dbeta.astype(beta.dtype),
        dmean.astype(mean.dtype),
        dvar.astype(var.dtype),
    )


_batch_norm_inference.defvjp(_batch_norm_inference_fwd, _batch_norm_inference_bwd)


def _normalise(x, gamma, beta, eps):
    """y, mean and var; the variance from the differences to the mean, which loses no digits where the mean is large."""
    wide, count = x.astype(shapes.sum_dtype(x.dtype)), _count(x)
    mean = _channel_sum(wide) / count
    var = _channel_sum(jnp.square(wide - _channels(mean, x))) / count
    return _batch_norm_inference_plain(x, gamma, beta, mean, var, eps), mean, var


def _normalised(x, mean, var, eps):
    """x̂, and r = 1/sqrt(var + eps) as [1, ..., 1, C]."""
    r = lax.rsqrt(_channels(var, x) + eps)
    return (x.astype(r.dtype) - _channels(mean, x)) * r, r


def _channels(a, x):
    """a [C] in the dtype that x is computed in, with axes of length 1 for all others of x."""
    return a.astype(shapes.sum_dtype(x.dtype)).reshape((1,) * (x.ndim - 1) + (-1,))


def _channel_sum(a):
    return jnp.sum(a, axis=tuple(range(a.ndim - 1)))


def _count(x):
    """How many entries a channel has; 1 for an empty batch, whose sums are 0."""
    return max(math.prod(x.shape[:-1]), 1)


def _checked(function, x, gamma, beta, eps):
    (x,) = shapes.floating(function, x=x)
    gamma, beta = shapes.floating(function, gamma=gamma, beta=beta)
    shapes.require(x.ndim >= 2, function, "x", "[N, *S, C] or [N, C]", shapes.describe(x))
    shapes.vector(function, "gamma", gamma, x.shape[-1])
    shapes.vector(function, "beta", beta, x.shape[-1])
    return x, gamma, beta, shapes.number(function, "eps", eps, 0)
