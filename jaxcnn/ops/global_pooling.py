"""Pooling of whole images: over all places, or into a given number of regions.

Lecture: "Backpropagation through Pooling". The rules are those of `max_pooling.py` and `mean_pooling.py`; only the
windows differ in size."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.contract import arguments
from jaxcnn.contract.rules import custom_rule, plain_op
from jaxcnn.kernels.axis_sums import sum_terms, transposed
from jaxcnn.kernels.regions import (
    add_at_place_of_region,
    block_size,
    mean_of_blocks,
    place_of_maximum,
    region_means,
    region_window,
    share_in_blocks,
)
from jaxcnn.kernels.winners import (
    Place,
    add_at_maximum,
    image_of_maxima,
    max_and_winner,
    place_of_winner,
    window_max,
    winner_type,
)
from jaxcnn.kernels.winning_places import dtype_of_places, take_from_place

Regions = int | Sequence[int | None] | np.ndarray | None


def global_mean_pool(x: jax.Array) -> jax.Array:
    """The mean of every channel over all places.

        y[n, c] = 1/|S| Σ_i x[n, i, c]

    Args:
        x: images [N, *S, C] with at least one place.

    Returns:
        y [N, C], in the dtype of x. Half precision is summed in float32.

    Raises:
        TypeError: x is no floating-point array.
        ValueError: x has no spatial axis, or one without entries.

    Gradient: dx = dy / |S| at every place.

    Source: lecture, "Backward Pass: Mean-Pooling"; Lin et al., Network in network, 2014.

    >>> global_mean_pool(jnp.array([1.0, 3.0, 2.0, 0.0]).reshape(1, 2, 2, 1))
    Array([[1.5]], dtype=float32)
    """
    x = _checked_images("global_mean_pool", x)
    return _global_mean_pool(x, x.shape[1:-1])


def _global_mean_pool_plain(x, image):
    return jnp.mean(x, axis=tuple(range(1, x.ndim - 1)))


def _global_mean_pool_fwd(x, image):
    return _global_mean_pool_plain(x, image), None


def _global_mean_pool_bwd(image, _, dy):
    """Every place has the same share."""
    places = tuple(range(1, len(image) + 1))
    return (jnp.broadcast_to(jnp.expand_dims(dy / math.prod(image), places), (dy.shape[0], *image, dy.shape[1])),)


_global_mean_pool = custom_rule(_global_mean_pool_plain, _global_mean_pool_fwd, _global_mean_pool_bwd)


def global_max_pool(x: jax.Array) -> jax.Array:
    """The maximum of every channel over all places.

        y[n, c] = max_i x[n, i, c]

    Args:
        x: images [N, *S, C] with at least one place.

    Returns:
        y [N, C], in the dtype of x. A NaN is the maximum.

    Raises:
        TypeError: x is no floating-point array.
        ValueError: x has no spatial axis, or one without entries.

    Gradient: dy goes to the place of the maximum, to the first one (the last axis fastest) where several tie. Keeps
        the places.

    Source: lecture, "Backpropagation: Max-Pooling".

    >>> global_max_pool(jnp.array([1.0, 3.0, 2.0, 0.0]).reshape(1, 2, 2, 1))
    Array([[3.]], dtype=float32)
    """
    x = _checked_images("global_max_pool", x)
    image = x.shape[1:-1]
    if any(map(arguments.is_symbolic, image)):
        return _max_of_symbolic(x)
    return _max_of_regions(x, image, (1,) * len(image), "global_max_pool").reshape(x.shape[0], x.shape[-1])


@plain_op
def _max_of_symbolic(x):
    """With the gradient that JAX derives of an entry that is taken."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    first = jnp.argmax(lax.stop_gradient(flat), axis=1, keepdims=True)
    return jnp.take_along_axis(flat, first, axis=1)[:, 0]


def adaptive_max_pool(x: jax.Array, shape: Regions, *, return_indices: bool = False) -> Any:
    """The maximum of each of `shape` regions that cover the image evenly, channel by channel.

        y[n, i, c] = max x[n, j, c] over floor(i S / M) <= j < ceil((i + 1) S / M), on each axis

    Args:
        x: images [N, *S, C] with at least one place.
        shape: M, how many regions there are, an int or one per spatial axis, None for as many as places; neighbours
            overlap where M does not divide S.
        return_indices: whether to return where the maxima are as well.

    Returns:
        y [N, *M, C], in the dtype of x; with return_indices (y, indices), indices of the shape of y, flat in the
        spatial axes of x, as PyTorch's: int32, or int64 for an image of 2^31 places and more. A NaN is the maximum.

    Raises:
        TypeError: x is no floating-point array, shape is no int, return_indices is no bool.
        ValueError: x has no spatial axis or one without entries, shape is less than 1 or has not one entry for each; as
            `max_pool`, of 2^31 places and more without jax_enable_x64.

    Gradient: that of `max_pool`. Keeps the places of the maxima; and x where the regions divide the image, of which
        `max_pool` says when it is dropped.

    Source: lecture, "Backpropagation: Max-Pooling".

    >>> adaptive_max_pool(jnp.array([1.0, 3.0, 2.0, 0.0, 5.0]).reshape(1, 5, 1), (2,))[0, :, 0]
    Array([3., 5.], dtype=float32)
    """
    x = _checked_images("adaptive_max_pool", x)
    image = x.shape[1:-1]
    arguments.known_image("adaptive_max_pool", x)
    shape = _regions_shape("adaptive_max_pool", shape, image)
    y = _max_of_regions(x, image, shape, "adaptive_max_pool")
    if not arguments.flag("adaptive_max_pool", "return_indices", return_indices):
        return y
    return y, _indices(lax.stop_gradient(x), image, shape)


@plain_op
def _indices(x, image, shape):
    dtype_of_places(image, "adaptive_max_pool")
    window = region_window(image, shape)
    return place_of_winner(max_and_winner(x, window)[1], window) if window else place_of_maximum(x, shape)


def _max_of_regions_plain(x, image, shape, function):
    window = region_window(image, shape)
    return window_max(x, window) if window else take_from_place(x, place_of_maximum(lax.stop_gradient(x), shape))


def _max_of_regions_fwd(x, image, shape, function):
    window = region_window(image, shape)
    if window is None or winner_type(window) is Place:
        dtype_of_places(image, function)
    if window:
        y, winner = max_and_winner(x, window)
        return y, (image_of_maxima(x, window), winner)
    place = place_of_maximum(lax.stop_gradient(x), shape)
    return take_from_place(x, place), (None, Place(place))


def _max_of_regions_bwd(image, shape, function, residuals, dy):
    """dx[j] = Σ_i dy[i] [winner[i] = j] over the regions i that place j is in."""
    x, winner = residuals
    window = region_window(image, shape)
    if window:
        return (add_at_maximum(dy, x, winner, window),)
    return (add_at_place_of_region(dy, winner.number, image, shape),)


_max_of_regions = custom_rule(_max_of_regions_plain, _max_of_regions_fwd, _max_of_regions_bwd)


def adaptive_mean_pool(x: jax.Array, shape: Regions) -> jax.Array:
    """The mean of each of `shape` regions that cover the image evenly, channel by channel.

        y[n, i, c] = mean of x[n, j, c] over floor(i S / M) <= j < ceil((i + 1) S / M), on each axis

    Args:
        x: images [N, *S, C] with at least one place.
        shape: M, how many regions there are, an int or one per spatial axis, None for as many as places; neighbours
            overlap where M does not divide S.

    Returns:
        y [N, *M, C], in the dtype of x. Half precision is summed in float32.

    Raises:
        TypeError: x is no floating-point array, shape is no int.
        ValueError: x has no spatial axis or one without entries, shape is less than 1 or has not one entry for each.

    Gradient: along each axis y = A x with a matrix A [M, S] of shares, so dx = Aᵀ dy. Shares of zero are left out: a
        NaN reaches the regions that it is in.

    Source: lecture, "Backward Pass: Mean-Pooling".

    >>> adaptive_mean_pool(jnp.array([1.0, 3.0, 2.0, 0.0, 4.0]).reshape(1, 5, 1), (2,))[0, :, 0]
    Array([2., 2.], dtype=float32)
    """
    x = _checked_images("adaptive_mean_pool", x)
    image = x.shape[1:-1]
    shape = _regions_shape("adaptive_mean_pool", shape, image)
    if any(n % m != 0 for n, m in zip(image, shape, strict=True)):
        arguments.known_image(
            "adaptive_mean_pool", x, expected=f"[N, *S, C] of a known size, or of multiples of {shape}"
        )
    return _adaptive_mean_pool(x, image, shape)


# Along an axis y = A x with a matrix A [M, S] of shares. Where M divides S, the regions are blocks of S/M side by side.
def _adaptive_mean_pool_plain(x, image, shape):
    """The means of blocks, on all axes that have them at once; then those of regions, axis by axis."""
    y = mean_of_blocks(x, [block_size(n, m) for n, m in zip(image, shape, strict=True)])
    for axis, m in enumerate(shape, start=1):
        if y.shape[axis] != m:
            y = sum_terms(y, region_means(y.shape[axis], m), axis)
    return y


def _adaptive_mean_pool_fwd(x, image, shape):
    return _adaptive_mean_pool_plain(x, image, shape), None


def _adaptive_mean_pool_bwd(image, shape, _, dy):
    """dx = Aᵀ dy along each axis, the last step backwards first."""
    blocks = [block_size(n, m) for n, m in zip(image, shape, strict=True)]
    dx = dy
    for axis, (n, m, block) in enumerate(zip(image, shape, blocks, strict=True), start=1):
        if n // block != m:
            dx = sum_terms(dx, transposed(region_means(n, m), n), axis)
    return (share_in_blocks(dx, blocks),)


_adaptive_mean_pool = custom_rule(
    _adaptive_mean_pool_plain, _adaptive_mean_pool_fwd, _adaptive_mean_pool_bwd, wide=True
)


def _checked_images(function: str, x: Any) -> jax.Array:
    (x,) = arguments.floating(function, x=x)
    arguments.images(function, x)
    has_places = 0 not in x.shape[1:-1]
    arguments.require(has_places, function, "x", "[N, *S, C] with at least one place", arguments.describe(x))
    return x


def _regions_shape(function: str, shape: Any, image: tuple[int, ...]) -> tuple[int, ...]:
    several = arguments.options(shape)
    several = [shape] * len(image) if several is None else several
    expected = f"an int of at least 1 and below 2^31, or {len(image)} of them or of None, one per spatial axis"
    arguments.require(len(several) == len(image), function, "shape", expected, tuple(several))
    counts = [m if m is None else arguments.integer(function, "shape", m, 1, expected=expected) for m in several]
    arguments.require(all(m is None or m < 2**31 for m in counts), function, "shape", expected, tuple(several))
    return tuple(n if m is None else m for n, m in zip(image, counts, strict=True))
