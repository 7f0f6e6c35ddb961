"""Pooling of whole images: over all places, or into a given number of regions.

Lecture: "Backpropagation through Pooling". The rules are those of `max_pooling.py` and `mean_pooling.py`; only the
windows differ in size."""

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.contract import arguments
from jaxcnn.contract.geometry import Window
from jaxcnn.contract.precision import sum_dtype
from jaxcnn.contract.rules import custom_rule, plain_op
from jaxcnn.kernels.axis_sums import Terms, sum_terms, transposed
from jaxcnn.kernels.unfused import unfused
from jaxcnn.kernels.windows import alternating
from jaxcnn.kernels.winners import (
    Place,
    add_at_place,
    add_at_winner,
    dtype_of_places,
    lowest,
    max_and_winner,
    place_of_winner,
    take_from_place,
    window_max,
    winner_type,
)

_FEW_REGIONS = 16  # regions that a place is in; each is one more pass over all places to compile

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

    Gradient: that of `max_pool`. Keeps the places of the maxima.

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
    window = _region_window(image, shape)
    return place_of_winner(max_and_winner(x, window)[1], window) if window else _place_of_maximum(x, shape)


def _max_of_regions_plain(x, image, shape, function):
    window = _region_window(image, shape)
    return window_max(x, window) if window else take_from_place(x, _place_of_maximum(lax.stop_gradient(x), shape))


def _max_of_regions_fwd(x, image, shape, function):
    window = _region_window(image, shape)
    if window is None or winner_type(window) is Place:
        dtype_of_places(image, function)
    if window:
        return max_and_winner(x, window)
    place = _place_of_maximum(lax.stop_gradient(x), shape)
    return take_from_place(x, place), Place(place)


def _max_of_regions_bwd(image, shape, function, winner, dy):
    """dx[j] = Σ_i dy[i] [winner[i] = j] over the regions i that place j is in."""
    window = _region_window(image, shape)
    if window:
        return (add_at_winner(dy, winner, window),)
    scattered = partial(add_at_place, image=image)
    axes = [_regions_of_places(n, m) for n, m in zip(image, shape, strict=True)]
    if math.prod(map(len, axes)) > _FEW_REGIONS:
        return (scattered(dy, winner.number),)
    return (
        lax.platform_dependent(dy, winner.number, cpu=scattered, default=partial(_add_region_by_region, axes=axes)),
    )


_max_of_regions = custom_rule(_max_of_regions_plain, _max_of_regions_fwd, _max_of_regions_bwd)


# A GPU's scatter of bfloat16 stores float32 sums, and adds in another order each time.
def _add_region_by_region(dy, place, axes):
    """dx [N, *S, C]: each place adds up the dy of those regions that it is in and has won."""
    dtype, image = place.dtype, [regions.shape[1] for regions in axes]
    own_place, zero = jnp.zeros((1,) * dy.ndim, dtype), np.zeros((), dy.dtype)
    for axis, n in enumerate(image, start=1):
        own_place = own_place * n + lax.broadcasted_iota(dtype, [n if a == axis else 1 for a in range(dy.ndim)], axis)
    dx = jnp.zeros((dy.shape[0], *image, dy.shape[-1]), sum_dtype(dy.dtype))
    for regions in itertools.product(*axes):
        maximum, share = place, dy
        for axis, region in enumerate(regions, start=1):
            maximum = jnp.take(maximum, region, axis=axis, mode="fill", fill_value=-1)
            share = jnp.take(share, region, axis=axis, mode="clip")
        dx = dx + jnp.where(maximum == own_place, share, zero).astype(dx.dtype)
    return dx.astype(dy.dtype)


def _regions_of_places(n, m):
    """Which of m regions each of n places is in, one after the other: [K, n]; m, which is no region, for no more."""
    j = np.arange(n)
    first, end = j * m // n, -(-(j + 1) * m // n)
    k = np.arange(np.max(end - first))[:, None]
    return np.where(first + k < end, first + k, m).astype(np.int32)


def _place_of_maximum(x, shape):
    """Where the first maximum of each region is [N, *M, C], flat in the spatial axes; a NaN before all."""
    axes = list(zip(x.shape[1:-1], shape, strict=True))
    few_regions = all(m * m <= n for n, m in axes)  # 1.5 to 3 times as fast
    return _place_axis_by_axis(x, axes) if few_regions else _place_among_all(x, axes)


def _place_axis_by_axis(x, axes):
    """One region after the other, each searched along one axis, the last one first."""
    dtype = dtype_of_places(x.shape[1:-1], "adaptive_max_pool")
    nowhere, place, step = np.array(np.iinfo(dtype).max, dtype), jnp.zeros((1,) * x.ndim, dtype), 1
    for axis, (n, m) in reversed(list(enumerate(axes, start=1))):
        shape = [n if a == axis else 1 for a in range(x.ndim)]
        place, step = place + step * lax.broadcasted_iota(dtype, shape, axis), step * n
        largest, places = [], []
        for first, end in _regions(n, m):
            region, places_of_region = (lax.slice_in_dim(a, first, end, axis=axis) for a in (x, place))
            y = jnp.expand_dims(lax.reduce(region, lowest(x.dtype), lax.max, (axis,)), axis)
            candidates = jnp.where((region == y) | (region != region), places_of_region, nowhere)
            largest.append(y)
            places.append(jnp.expand_dims(lax.reduce(candidates, nowhere, lax.min, (axis,)), axis))
        x, place = lax.concatenate(largest, axis), lax.concatenate(places, axis)
    return place


def _place_among_all(x, axes):
    """All regions at once, as rows of one table: the last place of a region again until all are as long."""
    dtype = dtype_of_places(x.shape[1:-1], "adaptive_max_pool")
    ends = [jnp.asarray(_regions(n, m).T, dtype) for n, m in axes]
    places: Any = unfused(
        partial(_table_of_places, x.shape[1:-1]), *ends
    )  # or XLA divides anew for every entry and channel
    flat = x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1])
    regions = flat.at[:, places].get(mode="promise_in_bounds", wrap_negative_indices=False)  # [N, M, L, C]
    winner = lax.argmax(regions, axis=2, index_dtype=dtype)
    place = jnp.take_along_axis(places[None], winner, axis=2)
    return place.reshape(x.shape[0], *(m for _, m in axes), x.shape[-1])


def _table_of_places(image, *ends):
    """The places [M, L] of all regions, from where they begin and end [2, m] on each axis."""
    places = jnp.zeros((1, 1), ends[0].dtype)
    for n, (first, end) in zip(image, ends, strict=True):
        longest = np.max(np.diff(_regions(n, len(first))))
        entries = jnp.minimum(first[:, None] + lax.iota(first.dtype, longest)[None], end[:, None] - 1)
        places = places[:, None, :, None] * n + entries[None, :, None, :]
        places = places.reshape(places.shape[0] * len(first), -1)
    return places


def _regions(n, m):
    """Where each of m regions on an axis of n begins and ends."""
    region = np.arange(m)
    return np.stack([region * n // m, -(-(region + 1) * n // m)], axis=1)


def _region_window(image, shape):
    """The window whose places are the regions. None if the regions do not divide the image."""
    if any(n % m for n, m in zip(image, shape, strict=True)):
        return None
    size, rank = tuple(n // m for n, m in zip(image, shape, strict=True)), len(image)
    return Window(image, size, size, ((0, 0),) * rank, (1,) * rank, (1,) * rank)


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
    y = _mean_of_blocks(x, [_block(n, m) for n, m in zip(image, shape, strict=True)])
    for axis, m in enumerate(shape, start=1):
        if y.shape[axis] != m:
            y = sum_terms(y, _shares(y.shape[axis], m), axis)
    return y


def _adaptive_mean_pool_fwd(x, image, shape):
    return _adaptive_mean_pool_plain(x, image, shape), None


def _adaptive_mean_pool_bwd(image, shape, _, dy):
    """dx = Aᵀ dy along each axis, the last step backwards first."""
    blocks = [_block(n, m) for n, m in zip(image, shape, strict=True)]
    dx = dy
    for axis, (n, m, block) in enumerate(zip(image, shape, blocks, strict=True), start=1):
        if n // block != m:
            dx = sum_terms(dx, transposed(_shares(n, m), n), axis)
    return (_share_in_blocks(dx, blocks),)


_adaptive_mean_pool = custom_rule(
    _adaptive_mean_pool_plain, _adaptive_mean_pool_fwd, _adaptive_mean_pool_bwd, wide=True
)


def _block(n, m):
    """How many places of an axis of n make one of m regions, where these lie side by side; else 1."""
    return n // m if n % m == 0 else 1


def _mean_of_blocks(x, blocks):
    """[N, *(M·B), C] -> [N, M_1, B_1, M_2, B_2, ..., C] -> [N, *M, C]."""
    outer = [n // b for n, b in zip(x.shape[1:-1], blocks, strict=True)]
    split = x.reshape(x.shape[0], *alternating(outer, blocks), x.shape[-1])
    return jnp.mean(split, axis=tuple(range(2, split.ndim - 1, 2)))


def _share_in_blocks(dy, blocks):
    """`_mean_of_blocks` transposed: each entry, divided, at every place of its block."""
    outer = dy.shape[1:-1]
    single = (dy / math.prod(blocks)).reshape(dy.shape[0], *alternating(outer, [1] * len(outer)), dy.shape[-1])
    repeated = jnp.broadcast_to(single, (dy.shape[0], *alternating(outer, blocks), dy.shape[-1]))
    return repeated.reshape(dy.shape[0], *(m * b for m, b in zip(outer, blocks, strict=True)), dy.shape[-1])


def _shares(n, m):
    """The means of m regions of n places as sums."""
    i = np.arange(m)
    first, end = i * n // m, -(-(i + 1) * n // m)
    length = (end - first)[:, None]
    k = np.arange(np.max(length))
    return Terms(np.where(k < length, first[:, None] + k, 0), (k < length) / length)


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
