"""Layer, group, instance and RMS normalisation, and the one rule behind them and behind batch normalisation.

They differ in the axes that the mean and the variance are taken over. For x [N, *S, C]:

    batch norm      N, S              instance norm   S              RMS norm   C, and no mean
    layer norm      C, or any         group norm      S and the channels of the group

Everything is computed in float32 at least; x, gamma and beta may have different dtypes, y has that of x.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.ops import shapes
from jaxcnn.ops.rules import defvjp
from jaxcnn.ops.shapes import PerAxis
from jaxcnn.ops.sharding import on_any_mesh


def layer_norm(x: jax.Array, gamma: jax.Array, beta: jax.Array, *, axes: PerAxis = -1, eps: float = 1e-5) -> jax.Array:
    """Normalises by the mean and variance over some axes: over the channels of each place, by default.

        y = gamma x̂ + beta,        x̂ = (x - mean) / sqrt(var + eps)

    PyTorch's layer_norm with normalized_shape = x.shape[-d:] is axes = (-d, ..., -1).

    Args:
        x: any shape.
        gamma, beta: scale and shift of every entry along these axes, of the shape that x has there.
        axes: an int or several, counted from the end if negative.
        eps: what keeps the root from zero, at least 0.

    Returns:
        y, of the shape and dtype of x.

    Raises:
        TypeError: an array is not floating-point, gamma and beta differ in dtype, axes are no ints, eps is no number.
        ValueError: x has no such axis, an axis comes twice, gamma or beta is of another shape, eps is negative.

    Gradient: the one of `batch_norm` with dx̂ = gamma dy,

        dx = 1/sqrt(var + eps) · (dx̂ - mean(dx̂) - x̂ mean(dx̂ x̂)),

    the means over `axes`; dbeta = Σ dy and dgamma = Σ dy x̂ over the other axes.

    Source: Ba, Kiros and Hinton, Layer normalization, 2016.

    >>> layer_norm(jnp.array([[1.0, 3.0]]), jnp.ones(2), jnp.zeros(2), eps=0.0)
    Array([[-1.,  1.]], dtype=float32)
    """
    x, axes, gamma, beta = _checked_along("layer_norm", x, axes, gamma=gamma, beta=beta)
    eps = shapes.number("layer_norm", "eps", eps, 0)
    return normalise(x, gamma, beta, axes, eps, None)[0]


def rms_norm(x: jax.Array, gamma: jax.Array, *, axes: PerAxis = -1, eps: float = 1e-5) -> jax.Array:
    """Divides by the root of the mean square over some axes: over the channels of each place, by default.

        y = gamma x̂,        x̂ = x / sqrt(mean(x²) + eps)

    Args:
        x: any shape.
        gamma: scale of every entry along these axes, of the shape that x has there.
        axes: an int or several, counted from the end if negative.
        eps: what keeps the root from zero, at least 0. PyTorch's default is that of the dtype, 1.2e-7 for float32.

    Returns:
        y, of the shape and dtype of x.

    Raises:
        TypeError: an array is not floating-point, axes are no ints, eps is no number.
        ValueError: x has no such axis, an axis comes twice, gamma is of another shape, eps is negative.

    Gradient: that of `layer_norm` without the term of the mean.

    Source: Zhang and Sennrich, Root mean square layer normalization, 2019.

    >>> rms_norm(jnp.array([[3.0, -3.0]]), jnp.ones(2), eps=0.0)
    Array([[ 1., -1.]], dtype=float32)
    """
    x, axes, gamma = _checked_along("rms_norm", x, axes, gamma=gamma)
    return normalise(x, gamma, None, axes, shapes.number("rms_norm", "eps", eps, 0), None)[0]


def group_norm(x: jax.Array, gamma: jax.Array, beta: jax.Array, *, groups: int, eps: float = 1e-5) -> jax.Array:
    """Normalises every group of channels of each image by its mean and variance over all places.

        y = gamma x̂ + beta,        x̂ = (x - mean) / sqrt(var + eps)

    Args:
        x: [N, *S, C], or [N, C].
        gamma, beta: scale and shift of each channel [C].
        groups: into how many the channels are divided; C/groups neighbours make a group.
        eps: what keeps the root from zero, at least 0.

    Returns:
        y, of the shape and dtype of x.

    Raises:
        TypeError: an array is not floating-point, gamma and beta differ in dtype, groups is no int, eps is no number.
        ValueError: x has less than 2 axes, groups does not divide C, gamma or beta is not [C], eps is negative.

    Gradient: that of `layer_norm`, with the means over the places and channels of the group; dbeta = Σ dy and
        dgamma = Σ dy x̂ over the batch and all places.

    Source: Wu and He, Group normalization, 2018.

    >>> x = jnp.array([[1.0, 3.0, 10.0, 30.0]])
    >>> group_norm(x, jnp.ones(4), jnp.zeros(4), groups=2, eps=0.0)
    Array([[-1.,  1., -1.,  1.]], dtype=float32)
    """
    x, gamma, beta, eps = checked("group_norm", x, gamma, beta, eps)
    groups, channels = shapes.integer("group_norm", "groups", groups, 1), x.shape[-1]
    divides = channels % groups == 0
    shapes.require(divides, "group_norm", "groups", f"a divisor of the {channels} channels of x", groups)
    grouped = (groups, channels // groups)
    gamma, beta = (a.reshape((1,) * (x.ndim - 1) + grouped) for a in (gamma, beta))
    axes = (*range(1, x.ndim - 1), x.ndim)
    return normalise(x.reshape(x.shape[:-1] + grouped), gamma, beta, axes, eps, None)[0].reshape(x.shape)


def instance_norm(x: jax.Array, gamma: jax.Array, beta: jax.Array, *, eps: float = 1e-5) -> jax.Array:
    """Normalises every channel of each image by its mean and variance over all places.

        y = gamma x̂ + beta,        x̂ = (x - mean) / sqrt(var + eps)

    Args:
        x: images [N, *S, C].
        gamma, beta: scale and shift of each channel [C].
        eps: what keeps the root from zero, at least 0.

    Returns:
        y, of the shape and dtype of x.

    Raises:
        TypeError: an array is not floating-point, gamma and beta differ in dtype, eps is no number.
        ValueError: x has no spatial axis, gamma or beta is not [C], eps is negative.

    Gradient: that of `layer_norm`, with the means over the places; dbeta = Σ dy and dgamma = Σ dy x̂ over the batch
        and all places.

    Source: Ulyanov et al., Instance normalization: the missing ingredient for fast stylization, 2016.

    >>> instance_norm(jnp.array([[[1.0], [3.0]]]), jnp.ones(1), jnp.zeros(1), eps=0.0)[0, :, 0]
    Array([-1.,  1.], dtype=float32)
    """
    x, gamma, beta, eps = checked("instance_norm", x, gamma, beta, eps)
    shapes.images("instance_norm", x)
    return normalise(x, per_channel(gamma, x), per_channel(beta, x), tuple(range(1, x.ndim - 1)), eps, None)[0]


def _normalise_plain(x, gamma, beta, axes, eps, axis_name):
    """gamma x̂ + beta, and the mean and variance over `axes`, without gradient; where beta is None there is no mean.

    gamma and beta have the rank of x, with length 1 along the axes that share their entries; mean and var have length
    1 along `axes`. With an axis_name they are those of the parts of x on all devices along that axis of the mesh.
    """
    y, mean, var = _with_statistics(x, gamma, beta, axes, eps, axis_name)
    return y, *lax.stop_gradient((mean, var))


normalise = jax.custom_vjp(on_any_mesh(_normalise_plain), nondiff_argnums=(3, 4, 5))


def _normalise_fwd(x, gamma, beta, axes, eps, axis_name):
    y, mean, var = _with_statistics(x, gamma, beta, axes, eps, axis_name)
    return (y, *lax.stop_gradient((mean, var))), (x, gamma, beta, mean, var)


# x̂ depends on x directly, through the mean and through the variance. With M entries along the axes and r = 1/sqrt(var
# + eps): dx̂ = gamma dy; dvar = Σ dx̂ (x - mean) (-r³/2) = -r²/2 Σ dx̂ x̂; dmean = -r Σ dx̂, as Σ (x - mean) = 0; and
# dx = r dx̂ + 2 (x - mean)/M dvar + dmean/M = r (dx̂ - Σ dx̂/M - x̂ Σ (dx̂ x̂)/M). Along the axes where all entries
# share one gamma it comes before the sum: what is summed there, dy and dy x̂, is summed once for dx, dgamma and dbeta.
def _normalise_bwd(axes, eps, axis_name, residuals, cotangents):
    x, gamma, beta, mean, var = residuals
    normalised, r = standardised(x, mean, var, eps)
    mean_apart, var_apart = _apart((mean, var))
    summed, _ = standardised(x, mean_apart, var_apart, eps)
    dy, scale = cotangents[0].astype(r.dtype), gamma.astype(r.dtype)
    shared = tuple(axis for axis in range(x.ndim) if gamma.shape[axis] == 1)
    inner = tuple(axis for axis in shared if axis in axes)
    plain, weighted = _sum(dy, inner), _sum(dy * summed, inner)
    dbeta = None if beta is None else _sum(plain, shared)
    dgamma = _sum(weighted, shared)
    mean_term = 0.0 if beta is None else _mean(scale * plain, x, axes, axis_name)
    variance_term = _mean(scale * weighted, x, axes, axis_name)
    dx = _normalise_dx(scale * dy, normalised, r, mean_term, variance_term)
    return dx, dgamma, dbeta


def _normalise_dx(dnormalised, normalised, r, mean_term, variance_term):
    """dx = r (dx̂ - Σ dx̂/M - x̂ Σ (dx̂ x̂)/M)."""
    return r * (dnormalised - mean_term - normalised * variance_term)


defvjp(normalise, _normalise_fwd, _normalise_bwd)


def _with_statistics(x, gamma, beta, axes, eps, axis_name):
    """y, mean and var; the variance from the differences to the mean, which loses no digits where the mean is large."""
    wide = shapes.wide(x)
    mean = None if beta is None else _mean(wide, x, axes, axis_name)
    var = _mean(jnp.square(wide if mean is None else wide - _apart(mean)), x, axes, axis_name)
    normalised, _ = standardised(x, mean, var, eps)
    y = gamma.astype(wide.dtype) * normalised
    if beta is not None:
        y += beta.astype(wide.dtype)
    return y.astype(x.dtype), mean, var


def standardised(x, mean, var, eps):
    """x̂, and r = 1/sqrt(var + eps), in the dtype of var."""
    r = lax.rsqrt(var + eps)
    wide = x.astype(r.dtype)
    return (wide if mean is None else wide - mean) * r, r


# XLA stores what two passes over x share, such as x - mean, which takes longer than to compute it in each. It sees that
# they share it wherever both come from the same statistics, or from the same barrier behind them.
def _apart(statistics):
    """The same statistics, such that what is computed with them shares nothing with what is computed without."""
    return lax.optimization_barrier(statistics)


def per_channel(a, x):
    """a [C] with axes of length 1 for all others of x."""
    return a.reshape((1,) * (x.ndim - 1) + (-1,))


def checked(function, x, gamma, beta, eps):
    """The checked arguments of a norm with one gamma and one beta per channel."""
    (x,) = shapes.floating(function, x=x)
    gamma, beta = shapes.floating(function, gamma=gamma, beta=beta)
    shapes.require(x.ndim >= 2, function, "x", "[N, *S, C] or [N, C]", shapes.describe(x))
    shapes.vector(function, "gamma", gamma, x.shape[-1])
    shapes.vector(function, "beta", beta, x.shape[-1])
    return x, gamma, beta, shapes.number(function, "eps", eps, 0)


def _checked_along(function, x, axes, **parameters):
    """x, the axes counted from the front, and the parameters along them with length 1 along the others."""
    (x,) = shapes.floating(function, x=x)
    axes = shapes.axes(function, "axes", axes, x.ndim)
    along = tuple(x.shape[axis] for axis in axes)
    arrays = shapes.floating(function, **parameters)
    for name, array in zip(parameters, arrays, strict=True):
        expected = f"of the shape {list(along)} that x has along the axes {axes}"
        shapes.require(array.shape == along, function, name, expected, shapes.describe(array))
    shape = tuple(n if axis in axes else 1 for axis, n in enumerate(x.shape))
    return x, axes, *(array.reshape(shape) for array in arrays)


def _sum(a, axes):
    """The sums along the axes, with length 1 there; an axis of length 1 is its own sum."""
    longer = tuple(axis for axis in axes if a.shape[axis] != 1)
    return jnp.sum(a, axis=longer, keepdims=True) if longer else a


def _mean(a, x, axes, axis_name):
    """The sum of a along the axes for each entry that x has there, 0 if none; on average over the devices."""
    mean = _sum(a, axes) / max(math.prod(x.shape[axis] for axis in axes), 1)
    return mean if axis_name is None else lax.pmean(mean, axis_name)
