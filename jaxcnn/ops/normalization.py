"""Layer, group, instance and RMS normalisation, and the one rule behind them and behind batch normalisation.

They differ in the axes that the mean and the variance are taken over. For x [N, *S, C]:

    batch norm      N, S              instance norm   S              RMS norm   C, and no mean
    layer norm      C, or any         group norm      S and the channels of the group

Everything is computed in float32 at least. x, gamma and beta may have different dtypes; y has that of x. Entries may be
as large as a quarter of the largest number of the dtype, though their squares are too large for it.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxcnn.contract import arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.contract.kept import STATISTICS
from jaxcnn.contract.norm_arguments import checked, checked_along
from jaxcnn.contract.rules import custom_rule
from jaxcnn.kernels.squares import present, sum_along, sum_devices
from jaxcnn.kernels.statistics import entry_count, inverse_deviation, mean_of_entries, recomputed, standardised


def layer_norm(
    x: jax.Array,
    gamma: jax.Array,
    beta: jax.Array,
    *,
    axes: PerAxis = -1,
    eps: float = 1e-5,
    where: jax.Array | None = None,
) -> jax.Array:
    """Normalises by the mean and variance over some axes: over the channels of each place, by default.

        y = gamma x̂ + beta,        x̂ = (x - mean) / sqrt(var + eps)

    PyTorch's layer_norm with normalized_shape = x.shape[-d:] is axes = (-d, ..., -1).

    Args:
        x: any shape.
        gamma, beta: scale and shift of every entry along these axes, of the shape that x has there.
        axes: an int or several, counted from the end if negative.
        eps: what keeps the root from zero, at least 0.
        where: bools that broadcast to x, such as [N, *S, 1]. An entry where they are False has no part in the
            statistics, even if it is NaN; y and dx are 0 there, as in `jax.nn.softmax`. None leaves nothing out.

    Returns:
        y, of the shape and dtype of x. It is right for entries up to a quarter of the largest number of the dtype,
        8.5e37 in float32. For larger ones 1/sqrt(var) is too small for the dtype.

    Raises:
        TypeError: an array is not floating-point, gamma and beta differ in dtype, axes are no ints, eps is no number,
            where no array of bools.
        ValueError: x has no such axis, an axis comes twice, gamma or beta is of another shape, eps is negative, where
            does not broadcast to x.

    Gradient: the one of `batch_norm` with dx̂ = gamma dy,

        dx = 1/sqrt(var + eps) · (dx̂ - mean(dx̂) - x̂ mean(dx̂ x̂)),

    the means over `axes`; dbeta = Σ dy and dgamma = Σ dy x̂ over the other axes.

    Source: Ba, Kiros and Hinton, Layer normalization, 2016.

    >>> layer_norm(jnp.array([[1.0, 3.0]]), jnp.ones(2), jnp.zeros(2), eps=0.0)
    Array([[-1.,  1.]], dtype=float32)
    """
    x, axes, gamma, beta = checked_along("layer_norm", x, axes, gamma=gamma, beta=beta)
    eps = arguments.number("layer_norm", "eps", eps, 0)
    return normalise(x, gamma, beta, mask("layer_norm", where, x), axes, eps, ())[0]


def rms_norm(
    x: jax.Array, gamma: jax.Array, *, axes: PerAxis = -1, eps: float = 1e-5, where: jax.Array | None = None
) -> jax.Array:
    """Divides by the root of the mean square over some axes: over the channels of each place, by default.

        y = gamma x̂,        x̂ = x / sqrt(mean(x²) + eps)

    Args:
        x: any shape.
        gamma: scale of every entry along these axes, of the shape that x has there.
        axes: an int or several, counted from the end if negative.
        eps: what keeps the root from zero, at least 0. PyTorch's default is that of the dtype, 1.2e-7 for float32.
        where: bools that broadcast to x, such as [N, *S, 1]. An entry where they are False has no part in the
            statistics, even if it is NaN; y and dx are 0 there, as in `jax.nn.softmax`. None leaves nothing out.

    Returns:
        y, of the shape and dtype of x. It is right for entries up to a quarter of the largest number of the dtype,
        8.5e37 in float32. For larger ones 1/sqrt(var) is too small for the dtype.

    Raises:
        TypeError: an array is not floating-point, axes are no ints, eps is no number, where no array of bools.
        ValueError: x has no such axis, an axis comes twice, gamma is of another shape, eps is negative, where does not
            broadcast to x.

    Gradient: that of `layer_norm` without the term of the mean.

    Source: Zhang and Sennrich, Root mean square layer normalization, 2019.

    >>> rms_norm(jnp.array([[3.0, -3.0]]), jnp.ones(2), eps=0.0)
    Array([[ 1., -1.]], dtype=float32)
    """
    x, axes, gamma = checked_along("rms_norm", x, axes, gamma=gamma)
    eps = arguments.number("rms_norm", "eps", eps, 0)
    return normalise(x, gamma, None, mask("rms_norm", where, x), axes, eps, ())[0]


def group_norm(
    x: jax.Array,
    gamma: jax.Array,
    beta: jax.Array,
    *,
    groups: int,
    eps: float = 1e-5,
    where: jax.Array | None = None,
) -> jax.Array:
    """Normalises every group of channels of each image by its mean and variance over all places.

        y = gamma x̂ + beta,        x̂ = (x - mean) / sqrt(var + eps)

    Args:
        x: [N, *S, C], or [N, C].
        gamma, beta: scale and shift of each channel [C].
        groups: how many groups the channels are divided into; C/groups neighbours make a group.
        eps: what keeps the root from zero, at least 0.
        where: bools that broadcast to x, such as [N, *S, 1]. An entry where they are False has no part in the
            statistics, even if it is NaN; y and dx are 0 there, as in `jax.nn.softmax`. None leaves nothing out.

    Returns:
        y, of the shape and dtype of x. It is right for entries up to a quarter of the largest number of the dtype,
        8.5e37 in float32. For larger ones 1/sqrt(var) is too small for the dtype.

    Raises:
        TypeError: an array is not floating-point, gamma and beta differ in dtype, groups is no int, eps is no number,
            where no array of bools.
        ValueError: x has less than 2 axes, groups does not divide C, gamma or beta is not [C], eps is negative, where
            does not broadcast to x.

    Gradient: that of `layer_norm`, with the means over the places and channels of the group; dbeta = Σ dy and
        dgamma = Σ dy x̂ over the batch and all places.

    Source: Wu and He, Group normalization, 2018.

    >>> x = jnp.array([[1.0, 3.0, 10.0, 30.0]])
    >>> group_norm(x, jnp.ones(4), jnp.zeros(4), groups=2, eps=0.0)
    Array([[-1.,  1., -1.,  1.]], dtype=float32)
    """
    x, gamma, beta, eps = checked("group_norm", x, gamma, beta, eps)
    groups, channels = arguments.integer("group_norm", "groups", groups, 1), x.shape[-1]
    divides = channels % groups == 0
    arguments.require(divides, "group_norm", "groups", f"a divisor of the {channels} channels of x", groups)
    where, grouped = mask("group_norm", where, x), (groups, channels // groups)
    gamma, beta = (a.reshape((1,) * (x.ndim - 1) + grouped) for a in (gamma, beta))
    axes = (*range(1, x.ndim - 1), x.ndim)
    if where is not None:
        where = where.reshape(where.shape[:-1] + (grouped if where.shape[-1] == channels else (1, 1)))
    return normalise(x.reshape(x.shape[:-1] + grouped), gamma, beta, where, axes, eps, ())[0].reshape(x.shape)


def instance_norm(
    x: jax.Array, gamma: jax.Array, beta: jax.Array, *, eps: float = 1e-5, where: jax.Array | None = None
) -> jax.Array:
    """Normalises every channel of each image by its mean and variance over all places.

        y = gamma x̂ + beta,        x̂ = (x - mean) / sqrt(var + eps)

    Args:
        x: images [N, *S, C].
        gamma, beta: scale and shift of each channel [C].
        eps: what keeps the root from zero, at least 0.
        where: bools that broadcast to x, such as [N, *S, 1]. An entry where they are False has no part in the
            statistics, even if it is NaN; y and dx are 0 there, as in `jax.nn.softmax`. None leaves nothing out.

    Returns:
        y, of the shape and dtype of x. It is right for entries up to a quarter of the largest number of the dtype,
        8.5e37 in float32. For larger ones 1/sqrt(var) is too small for the dtype.

    Raises:
        TypeError: an array is not floating-point, gamma and beta differ in dtype, eps is no number, where no array of
            bools.
        ValueError: x has no spatial axis, gamma or beta is not [C], eps is negative, where does not broadcast to x.

    Gradient: that of `layer_norm`, with the means over the places; dbeta = Σ dy and dgamma = Σ dy x̂ over the batch
        and all places.

    Source: Ulyanov et al., Instance normalization: the missing ingredient for fast stylization, 2016.

    >>> instance_norm(jnp.array([[[1.0], [3.0]]]), jnp.ones(1), jnp.zeros(1), eps=0.0)[0, :, 0]
    Array([-1.,  1.], dtype=float32)
    """
    x, gamma, beta, eps = checked("instance_norm", x, gamma, beta, eps)
    arguments.images("instance_norm", x)
    gamma, beta, axes = channel_shaped(gamma, x), channel_shaped(beta, x), tuple(range(1, x.ndim - 1))
    return normalise(x, gamma, beta, mask("instance_norm", where, x), axes, eps, ())[0]


def _normalise_plain(x, gamma, beta, where, axes, eps, named):
    """gamma x̂ + beta, and the mean and variance over `axes`, which carry no gradient.

    Args:
        x: any shape.
        gamma, beta: of the rank of x, with length 1 along the axes that share their entries. Where beta is None, the
            mean is neither subtracted nor returned.
        where: bools of the rank of x, or None. An entry that it leaves out is 0, and has no part in mean and var.
        axes: of x; mean and var have length 1 along them.
        eps: what keeps the root from zero.
        named: axes of a mesh or of a `vmap`, each a name and a size. Mean and var are those of the parts of x on all
            devices along them.
    """
    y, mean, var, _ = _normalised_and_statistics(x, gamma, beta, where, axes, eps, named)
    return y, *lax.stop_gradient((mean, var))


def _normalise_fwd(x, gamma, beta, where, axes, eps, named):
    y, mean, var, r = _normalised_and_statistics(x, gamma, beta, where, axes, eps, named)
    return (y, *lax.stop_gradient((mean, var))), (x, gamma, beta, where, mean, r)


# The M entries along the axes have one mean and one r = 1/sqrt(var + eps). x̂ = (x - mean) r depends on x directly,
# through the variance and through the mean:
#
#     dx̂    = gamma dy
#     dvar  = Σ dx̂ (x - mean) (-r³/2) = -r²/2 Σ dx̂ x̂
#     dmean = -r Σ dx̂                                      (the mean has no part in var, as Σ (x - mean) = 0)
#     dx    = r dx̂ + 2 (x - mean)/M dvar + dmean/M = r (dx̂ - Σ dx̂/M - x̂ Σ (dx̂ x̂)/M)
#
# dbeta = Σ dy and dgamma = Σ dy x̂ run over the axes along which entries share one gamma. The sums in dx are those of
# gamma dy and gamma dy x̂. Along the axes that belong to both, gamma is a common factor: dy and dy x̂ are summed there
# once, for dx, dgamma and dbeta. An entry that `where` leaves out has dy = 0 and x̂ = 0, and M does not count it.
def _normalise_bwd(axes, eps, named, residuals, cotangents):
    x, gamma, beta, where, mean, r = residuals
    x, gamma = present(x, where), gamma.astype(r.dtype)
    dy = present(cotangents[0].astype(r.dtype), where)
    xhat = standardised(x, mean, r, where)
    mean_in_sums, r_in_sums = recomputed((mean, r))
    xhat_in_sums = standardised(x, mean_in_sums, r_in_sums, where)
    gamma_axes = tuple(axis for axis in range(x.ndim) if gamma.shape[axis] == 1)
    common_axes = tuple(axis for axis in gamma_axes if axis in axes)
    sum_dy, sum_dy_xhat = sum_along(dy, common_axes), sum_along(dy * xhat_in_sums, common_axes)
    dbeta = None if beta is None else sum_along(sum_dy, gamma_axes)
    dgamma = sum_along(sum_dy_xhat, gamma_axes)
    count = entry_count(x, where, axes, named)
    mean_dxhat = 0.0 if beta is None else sum_devices(sum_along(gamma * sum_dy, axes), named) / count
    mean_dxhat_xhat = sum_devices(sum_along(gamma * sum_dy_xhat, axes), named) / count
    dx = _normalise_dx(gamma * dy, xhat, r, mean_dxhat, mean_dxhat_xhat)
    return present(dx, where), dgamma, dbeta, None


def _normalise_dx(dxhat, xhat, r, mean_dxhat, mean_dxhat_xhat):
    """dx = r (dx̂ - Σ dx̂/M - x̂ Σ (dx̂ x̂)/M)."""
    return r * (dxhat - mean_dxhat - xhat * mean_dxhat_xhat)


def _named_axes(axes, eps, named):
    """The axes, each a name and a size, that the forward and the backward pass sum over."""
    return named


normalise = custom_rule(_normalise_plain, _normalise_fwd, _normalise_bwd, named_axes=_named_axes)


def _normalised_and_statistics(x, gamma, beta, where, axes, eps, named):
    """y, mean, var and r. The variance is that of x - mean, which loses no digits where the mean is large."""
    x, count = present(x, where), entry_count(x, where, axes, named)
    mean = None if beta is None else mean_of_entries(x, count, axes, named)
    r, var = inverse_deviation(x, mean, where, count, axes, eps, named)
    mean, r = checkpoint_name((mean, r), STATISTICS)
    y = gamma.astype(r.dtype) * standardised(x, mean, r, where)
    if beta is not None:
        y += beta.astype(r.dtype)
    return present(y, where).astype(x.dtype), mean, var, r


def channel_shaped(a, x):
    """a [C] with axes of length 1 for all others of x."""
    return a.reshape((1,) * (x.ndim - 1) + (-1,))


def mask(function, where, x):
    """`where`, checked, as bools of the rank of x, or None."""
    if where is None:
        return None
    is_bool = arguments.has_values(where) and where.dtype == bool
    arguments.require(is_bool, function, "where", "an array of bools", arguments.describe(where), TypeError)
    shape = (1,) * (x.ndim - where.ndim) + where.shape
    broadcasts = len(shape) == x.ndim and all(n in (1, m) for n, m in zip(shape, x.shape, strict=True))
    expected = f"bools that broadcast to the shape {list(x.shape)} of x"
    arguments.require(broadcasts, function, "where", expected, arguments.describe(where))
    return jnp.reshape(where, shape)
