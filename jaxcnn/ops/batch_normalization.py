"""Batch normalisation. Its rule for training is `_normalise_bwd` of normalization.py; that for inference is here.

Lecture: "We Use Advanced Techniques" (batch normalization, to make the training more stable against feature
variations). Everything is computed in float32 at least. x, gamma and beta may have different dtypes; y has that of x.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.contract import arguments
from jaxcnn.contract.norm_arguments import checked
from jaxcnn.contract.rules import custom_rule
from jaxcnn.kernels.statistics import recomputed, standardised
from jaxcnn.ops.normalization import channel_shaped, mask, normalise


def batch_norm(
    x: jax.Array,
    gamma: jax.Array,
    beta: jax.Array,
    *,
    eps: float = 1e-5,
    axis_name: str | tuple[str, ...] | None = None,
    where: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises every channel by its mean and variance over the batch and all places.

        y = gamma x̂ + beta,        x̂ = (x - mean) / sqrt(var + eps),        var = 1/M Σ (x - mean)²,  M = N · Π S

    Args:
        x: [N, *S, C], or [N, C].
        gamma, beta: scale and shift of each channel [C].
        eps: what keeps the root from zero, at least 0; with 0 a channel of variance 0 is NaN.
        axis_name: inside `shard_map` a device sees its own part of the batch only. With the axes of the mesh over which
            the batch is spread, all devices use the statistics of the whole batch. Under `jit` the batch is whole
            anyway. It may be the axis_name of a `vmap` too, in a model that is written for one example.
        where: bools that broadcast to x, such as [N, *S, 1]. An entry where they are False has no part in the
            statistics, even if it is NaN; y and dx are 0 there, as in `jax.nn.softmax`. None leaves nothing out.

    Returns:
        (y, mean, var): y of the shape and dtype of x; mean and biased var [C], float32 if x has half precision. The two
        are for running averages, and carry no gradient. In an empty batch they are 0. In float32 var is inf for
        entries beyond 1e19. y is right for entries up to a quarter of the largest number of the dtype, 8.5e37 in
        float32. For larger ones 1/sqrt(var) is too small for the dtype.

    Raises:
        TypeError: an array is not floating-point, gamma and beta differ in dtype, eps is no number, axis_name no name,
            where no array of bools.
        ValueError: x has less than 2 axes, gamma or beta is not [C], eps is negative, where does not broadcast to x.
        NameError: there is no axis of that name around.

    Gradient: with the sums over the batch and all places, mean and var being functions of x,

        dbeta = Σ dy,        dgamma = Σ dy x̂,        dx = gamma / sqrt(var + eps) · (dy - dbeta/M - x̂ dgamma/M).

    Source: Ioffe and Szegedy, Batch normalization, 2015.

    >>> y, mean, var = batch_norm(jnp.array([[1.0], [3.0]]), jnp.ones(1), jnp.zeros(1), eps=0.0)
    >>> y[:, 0], mean, var
    (Array([-1.,  1.], dtype=float32), Array([2.], dtype=float32), Array([1.], dtype=float32))
    """
    x, gamma, beta, eps = checked("batch_norm", x, gamma, beta, eps)
    named = _named_sizes("batch_norm", axis_name)
    where, axes = mask("batch_norm", where, x), tuple(range(x.ndim - 1))
    y, mean, var = normalise(x, channel_shaped(gamma, x), channel_shaped(beta, x), where, axes, eps, named)
    return y, mean.reshape(-1), var.reshape(-1)


def _named_sizes(function, axis_name):
    """The name and size of each axis that the batch is spread over."""
    names = axis_name if isinstance(axis_name, tuple) else () if axis_name is None else (axis_name,)
    expected, got = "the name of a mesh axis or a tuple of them", arguments.describe(axis_name)
    arguments.require(all(isinstance(name, str) for name in names), function, "axis_name", expected, got, TypeError)
    try:
        return tuple((name, lax.axis_size(name)) for name in names)
    except NameError:
        expected = "the name of an axis of the `shard_map` or `vmap` around"
        arguments.require(False, function, "axis_name", expected, repr(axis_name), NameError)


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
    x, gamma, beta, eps = checked("batch_norm_inference", x, gamma, beta, eps)
    mean, var = arguments.floating("batch_norm_inference", mean=mean, var=var)
    arguments.vector("batch_norm_inference", "mean", mean, x.shape[-1])
    arguments.vector("batch_norm_inference", "var", var, x.shape[-1])
    return _batch_norm_inference(x, gamma, beta, mean, var, eps)


def _batch_norm_inference_plain(x, gamma, beta, mean, var, eps):
    gamma, beta, mean, var = (_channels_like(a, x) for a in (gamma, beta, mean, var))
    return gamma * standardised(x, mean, lax.rsqrt(var + eps)) + beta


def _batch_norm_inference_fwd(x, gamma, beta, mean, var, eps):
    return _batch_norm_inference_plain(x, gamma, beta, mean, var, eps), (x, gamma, mean, var)


def _batch_norm_inference_bwd(eps, residuals, dy):
    x, gamma, mean, var = residuals
    r = lax.rsqrt(_channels_like(var, x) + eps)
    xhat = standardised(x, _channels_like(mean, x), r)
    gamma_r = _channels_like(gamma, x) * r
    dbeta = _channel_sum(dy)
    dgamma = _channel_sum(dy * xhat)
    dmean = -gamma_r.reshape(-1) * dbeta
    dvar = -0.5 * (gamma_r.reshape(-1) * dgamma) * r.reshape(-1)
    dx = recomputed(gamma_r) * dy
    return dx, dgamma, dbeta, dmean, dvar


_batch_norm_inference = custom_rule(
    _batch_norm_inference_plain, _batch_norm_inference_fwd, _batch_norm_inference_bwd, wide=True
)


def _channels_like(a, x):
    """a [C] with the rank and the dtype of x."""
    return channel_shaped(a, x).astype(x.dtype)


def _channel_sum(a):
    """The sum over the batch and all places [C]."""
    return jnp.sum(a, axis=tuple(range(a.ndim - 1)))
