"""Channels into places and back, each the backward pass of the other."""

import math

import jax

from jaxcnn.contract import arguments, window_arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.contract.rules import custom_rule


def pixel_shuffle(x: jax.Array, factor: PerAxis) -> jax.Array:
    """Turns ΠF channels into one that is F times as long along the spatial axes.

        Y[F·i + j, c] = X[i, (c, j)],        (c, j) the channel c·ΠF + j, with j counted row by row

    Args:
        x: images [N, *S, C·ΠF].
        factor: F, an int or one per spatial axis.

    Returns:
        y [N, *(S·F), C], in the dtype of x.

    Raises:
        TypeError: x is no floating-point array, factor is no int.
        ValueError: x has no spatial axis, a factor is less than 1, ΠF does not divide the channels.

    Gradient: ∇_X R = pixel_unshuffle(∇_Y R | F).

    Source: Shi et al., Real-time single image and video super-resolution using an efficient sub-pixel convolutional
        neural network, 2016; the order of the channels is PyTorch's.

    >>> import jax.numpy as jnp
    >>> pixel_shuffle(jnp.arange(8.0).reshape(1, 1, 2, 4), 2)[0, :, :, 0]
    Array([[0., 1., 4., 5.],
           [2., 3., 6., 7.]], dtype=float32)
    """
    (x,) = arguments.floating("pixel_shuffle", x=x)
    arguments.images("pixel_shuffle", x)
    factor = window_arguments.one_per_axis("pixel_shuffle", "factor", factor, x.ndim - 2)
    divides = x.shape[-1] % math.prod(factor) == 0
    expected = f"such that their product divides the {x.shape[-1]} channels of x"
    arguments.require(divides, "pixel_shuffle", "factor", expected, factor)
    return _pixel_shuffle(x, factor)


def pixel_unshuffle(x: jax.Array, factor: PerAxis) -> jax.Array:
    """Turns every block of F entries into ΠF channels: the way back from `pixel_shuffle`.

        Y[i, (c, j)] = X[F·i + j, c],        (c, j) the channel c·ΠF + j, with j counted row by row

    Args:
        x: images [N, *(S·F), C].
        factor: F, an int or one per spatial axis.

    Returns:
        y [N, *S, C·ΠF], in the dtype of x.

    Raises:
        TypeError: x is no floating-point array, factor is no int.
        ValueError: x has no spatial axis, a factor is less than 1 or does not divide its axis.

    Gradient: ∇_X R = pixel_shuffle(∇_Y R | F).

    Source: as for `pixel_shuffle`.

    >>> import jax.numpy as jnp
    >>> pixel_unshuffle(jnp.arange(4.0).reshape(1, 2, 2, 1), 2)
    Array([[[[0., 1., 2., 3.]]]], dtype=float32)
    """
    (x,) = arguments.floating("pixel_unshuffle", x=x)
    arguments.images("pixel_unshuffle", x)
    factor = window_arguments.one_per_axis("pixel_unshuffle", "factor", factor, x.ndim - 2)
    divides = all(n % f == 0 for n, f in zip(x.shape[1:-1], factor, strict=True))
    expected = f"[N, *S, C] with S multiples of factor {factor}"
    names = [(f, n) for n, f in zip(x.shape[1:-1], factor, strict=True) if arguments.is_symbolic(n) and n % f != 0]
    multiples, sizes = (", ".join(each) for each in ([f"{f}*{n}" for f, n in names], [str(n) for _, n in names]))
    hint = f": export with {multiples} in the place of {sizes}" if names else ""
    arguments.require(divides, "pixel_unshuffle", "x", expected, arguments.describe(x) + hint)
    return _pixel_unshuffle(x, factor)


def _pixel_shuffle_plain(x, factor):
    """[N, *S, C, *F] -> [N, S1, F1, S2, F2, ..., C] -> [N, *(S·F), C]."""
    n, *spatial, channels = x.shape
    rank, channels = len(factor), channels // math.prod(factor)
    split = x.reshape(n, *spatial, channels, *factor)
    order = [axis for place in range(1, rank + 1) for axis in (place, place + 1 + rank)]
    y_shape = (n, *(s * f for s, f in zip(spatial, factor, strict=True)), channels)
    return split.transpose(0, *order, rank + 1).reshape(y_shape)


def _pixel_shuffle_fwd(x, factor):
    return _pixel_shuffle_plain(x, factor), None


def _pixel_shuffle_bwd(factor, _, dy):
    return (_pixel_unshuffle_plain(dy, factor),)


_pixel_shuffle = custom_rule(_pixel_shuffle_plain, _pixel_shuffle_fwd, _pixel_shuffle_bwd)


def _pixel_unshuffle_plain(x, factor):
    """[N, S1, F1, S2, F2, ..., C] -> [N, *S, C, *F] -> [N, *S, C·ΠF]."""
    n, *spatial, channels = x.shape
    places = [s // f for s, f in zip(spatial, factor, strict=True)]
    split = x.reshape(n, *(size for pair in zip(places, factor, strict=True) for size in pair), channels)
    last = split.ndim - 1
    blocks = split.transpose(0, *range(1, last, 2), last, *range(2, last, 2))
    return blocks.reshape(n, *places, channels * math.prod(factor))


def _pixel_unshuffle_fwd(x, factor):
    return _pixel_unshuffle_plain(x, factor), None


def _pixel_unshuffle_bwd(factor, _, dy):
    return (_pixel_shuffle_plain(dy, factor),)


_pixel_unshuffle = custom_rule(_pixel_unshuffle_plain, _pixel_unshuffle_fwd, _pixel_unshuffle_bwd)
