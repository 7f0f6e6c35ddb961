"""Downsampling and upsampling, the resampling units of the lecture, each the backward pass of the other.

Lecture: "Backpropagation: Resampling". A layer with stride s is the layer with stride one, then `downsample` by s.
"""

import operator

import jax
import numpy as np
from jax import lax

from jaxcnn.contract import arguments, window_arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.contract.geometry import surely
from jaxcnn.contract.rules import custom_rule


def downsample(x: jax.Array, factor: PerAxis) -> jax.Array:
    """Keeps every `factor`-th entry of each spatial axis, the first one included.

        dSample(X | S)[i] = X[S·i]

    Args:
        x: images [N, *S, C].
        factor: an int or one per spatial axis.

    Returns:
        y [N, *M, C] with M = ceil(S / factor), in the dtype of x.

    Raises:
        TypeError: x is no floating-point array, factor is no int.
        ValueError: x has no spatial axis, a factor is less than 1.

    Gradient: ∇_X R = uSample(∇_Z R | S), with the shape of x.

    Source: lecture, "Backpropagation through Downsampling".

    >>> import jax.numpy as jnp
    >>> downsample(jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1), 2)[0, :, :, 0]
    Array([[1., 3.],
           [7., 9.]], dtype=float32)
    """
    (x,) = arguments.floating("downsample", x=x)
    arguments.images("downsample", x)
    factor = window_arguments.one_per_axis("downsample", "factor", factor, x.ndim - 2)
    pairs = zip(factor, x.shape[1:-1], strict=True)
    factor = tuple(max(n, 1) if surely(operator.gt, f, n) else f for f, n in pairs)  # to the first place alone
    return _downsample(x, factor, x.shape[1:-1])


def upsample(x: jax.Array, factor: PerAxis, *, shape: tuple[int, ...] | None = None) -> jax.Array:
    """Puts factor - 1 zeros between the entries of each spatial axis.

        uSample(X | S)[S·i] = X[i], and zero elsewhere

    Args:
        x: images [N, *S, C].
        factor: an int or one per spatial axis.
        shape: the spatial shape of the result. By default it ends with the last entry of x, S = (S - 1)·factor + 1; up
            to factor - 1 more zeros may follow.

    Returns:
        y [N, *shape, C], in the dtype of x.

    Raises:
        TypeError: x is no floating-point array, factor or shape are no ints.
        ValueError: x has no spatial axis, a factor is less than 1, `downsample` does not lead back from shape to x.

    Gradient: ∇_X R = dSample(∇_Z R | S).

    Source: lecture, "Backpropagation through Upsampling".

    >>> import jax.numpy as jnp
    >>> upsample(jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1), 2)[0, :, :, 0]
    Array([[1., 0., 2.],
           [0., 0., 0.],
           [3., 0., 4.]], dtype=float32)
    """
    (x,) = arguments.floating("upsample", x=x)
    arguments.images("upsample", x)
    spatial = x.shape[1:-1]
    factor = window_arguments.one_per_axis("upsample", "factor", factor, len(spatial))
    if shape is None:
        shape = tuple(max(f * (n - 1) + 1, 0) for n, f in zip(spatial, factor, strict=True))
        arguments.short("upsample", "factor", shape, factor)
    shape = arguments.shape("upsample", "shape", shape)
    fits = len(shape) == len(spatial) and all(-(-m // f) == n for m, n, f in zip(shape, spatial, factor, strict=True))
    expected = f"a spatial shape that downsampling by {factor} takes to {spatial}"
    arguments.require(fits, "upsample", "shape", expected, shape)
    axes = zip(factor, spatial, shape, strict=True)
    return _upsample(x, tuple(max(m, 1) if surely(operator.le, n, 1) else f for f, n, m in axes), shape)


def _downsample_plain(x, factor, shape):
    del shape  # of x, for the backward pass
    return lax.slice(x, (0,) * x.ndim, x.shape, (1, *factor, 1))


def _downsample_fwd(x, factor, shape):
    return _downsample_plain(x, factor, shape), None


def _downsample_bwd(factor, shape, _, dz):
    """∇_X R = uSample(∇_Z R | S): the entries that were dropped have no part in the loss."""
    return (_upsample_plain(dz, factor, shape),)


_downsample = custom_rule(_downsample_plain, _downsample_fwd, _downsample_bwd)


def _upsample_plain(x, factor, shape):
    def zeros_behind(n, f, m):
        return m - (f * (n - 1) + 1) if n > 0 else m

    inner = [(0, zeros_behind(n, f, m), f - 1) for n, f, m in zip(x.shape[1:-1], factor, shape, strict=True)]
    return lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *inner, (0, 0, 0)])


def _upsample_fwd(x, factor, shape):
    return _upsample_plain(x, factor, shape), None


def _upsample_bwd(factor, shape, _, dz):
    """∇_X R = dSample(∇_Z R | S): the zeros in between depend on nothing."""
    return (_downsample_plain(dz, factor, shape),)


_upsample = custom_rule(_upsample_plain, _upsample_fwd, _upsample_bwd)
