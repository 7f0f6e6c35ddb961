"""Winners as places of the image: how they are found, and how a gradient gets back to them.

The winner j of a window is the flat index of a place, the last axis fastest. XLA's `reduce_window` finds it, in windows
of any size. A scatter adds dy there, or, on a GPU, each place reads what it has won. `winners.py` says when.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.contract.arguments import require
from jaxcnn.contract.precision import sum_dtype

# Windows that a place may be in. More take a loop of XLA, which compiles once, with some of them in each pass: of a
# longer pass XLA stores parts.
_FEW_CANDIDATES, _CANDIDATES_OF_A_PASS = 36, 16


def dtype_of_places(image, function="max_pool", argument="x"):
    """The dtype of flat indices into an image: int32, or int64 from 2^31 places on.

    JAX has int64 only under jax_enable_x64. ValueError for such an image without it.
    """
    count = math.prod(image)
    dtype = np.dtype(np.int32 if count < 2**31 else np.int64)
    has_numbers = jax.dtypes.canonicalize_dtype(dtype) == dtype
    expected = "of fewer than 2^31 places, or jax_enable_x64 on, to say where a maximum is"
    require(has_numbers, function, argument, expected, f"{count} places")
    return dtype


def narrowed(place, window):
    """The places in the smallest dtype that holds them, since the backward pass keeps them."""
    return place.astype(narrow_dtype(window))


def narrow_dtype(window):
    """The smallest dtype of places. ValueError if `dtype_of_places` has none."""
    dtype_of_places(window.image)
    return np.min_scalar_type(math.prod(window.image))


def lowest(dtype):
    """The maximum of no entries: -inf, or the least number of a dtype that has no infinity."""
    infinity = np.array(-np.inf).astype(dtype)
    return infinity if np.isinf(infinity) else np.array(jnp.finfo(dtype).min, dtype)


# XLA's `reduce_window` searches a large window. It returns the place that won.
def largest_by_place(x, window):
    """The maximum y of each window, and the place j that won: both [N, *M, C]."""
    nowhere, dtype = math.prod(window.image), dtype_of_places(window.image)
    place = lax.iota(dtype, nowhere).reshape(1, *window.image, 1)
    start = lowest(x.dtype), np.array(nowhere, dtype)
    return reduce_windows((x, jnp.broadcast_to(place, x.shape)), start, first_largest, window)


def first_largest(a, b):
    """Of two pairs (value, index) the one that wins: the larger value, a NaN before all, of equal ones the lower
    index."""
    (value_a, place_a), (value_b, place_b) = a, b
    nan_a, nan_b = value_a != value_a, value_b != value_b
    b_larger = (value_b > value_a) & ~nan_a | nan_b & ~nan_a
    tie = (value_a == value_b) | nan_a & nan_b
    b_wins = b_larger | tie & (place_b < place_a)
    return jnp.where(b_wins, value_b, value_a), jnp.where(b_wins, place_b, place_a)


def reduce_windows(x, start, larger, window):
    """`lax.reduce_window`. Negative padding crops first, since JAX derives gradients of a wrong shape from it."""
    crop = [(min(low, 0), min(high, 0), 0) for low, high in window.padding]
    cropped = jax.tree.map(lambda a: lax.pad(a, np.zeros((), a.dtype), [(0, 0, 0), *crop, (0, 0, 0)]), x)
    return lax.reduce_window(
        cropped,
        start,
        larger,
        window_dimensions=(1, *window.size, 1),
        window_strides=(1, *window.stride, 1),
        window_dilation=(1, *window.dilation, 1),
        padding=((0, 0), *((max(low, 0), max(high, 0)) for low, high in window.padding), (0, 0)),
    )


# `vmap` over images and channels shows XLA that they do not mix. Otherwise it gathers a batch that is split over
# devices.
def add_at_place(dy, place, image):
    """dx[n, j, c] = Σ_i dy[n, i, c] [place[n, i, c] = j], [N, *image, C]. A dy whose place is outside the image is
    lost."""

    def add(dy, place):
        nothing = jnp.zeros(math.prod(image), dy.dtype)
        return nothing.at[place].add(dy, mode="drop", wrap_negative_indices=False)

    dy_wide = dy.astype(sum_dtype(dy.dtype))
    dx = _vmap_images_and_channels(add)(_flattened(dy_wide), _flattened(place))
    return dx.reshape(dy.shape[0], *image, dy.shape[-1]).astype(dy.dtype)


# A GPU's scatter adds in another order each time, and one of bfloat16 stores float32 sums. So there each place reads
# which of the windows that it is in it has won.
def add_at_place_within(dy, place, image, candidates):
    """`add_at_place`, where a place is in few windows: along each axis in some of those that `candidates` returns."""

    def scattered(dy, place):
        return add_at_place(dy, place, image)

    def gathered(dy, place):
        return add_by_candidate(dy, place, image, candidates())

    return lax.platform_dependent(dy, place, cpu=scattered, tpu=scattered, default=gathered)


def windows_of_places(window):
    """Of each axis (first, count): place j is in no other windows than first[j], ..., first[j] + count - 1."""
    dtype = dtype_of_places(window.image)
    axes = zip(window.image, window.output, window.extent, window.stride, window.padding, strict=True)
    firsts = [(-((e - 1 - low - lax.iota(dtype, n)) // s), -(-e // s), m) for n, m, e, s, (low, _) in axes]
    return [(jnp.maximum(first, 0), min(count, m)) for first, count, m in firsts]


def add_by_candidate(dy, place, image, candidates):
    """`add_at_place` without a scatter: each place adds up the dy of those of its candidates that it has won.

    `candidates` says of each axis (first, count): first[j], ..., first[j] + count - 1 are those of place j.
    """
    firsts, counts = zip(*candidates, strict=True)
    nowhere, zero = math.prod(image), np.zeros((), dy.dtype)
    index = jnp.zeros((1,) * dy.ndim, place.dtype)
    for axis, n in enumerate(image, start=1):
        index = index * n + lax.broadcasted_iota(place.dtype, [n if a == axis else 1 for a in range(dy.ndim)], axis)

    def add(dx, number):
        winner, share = place, dy
        for axis in reversed(range(len(image))):
            number, offset = divmod(number, counts[axis]) if axis else (0, number)
            of_place = (slice(None),) * (axis + 1) + (firsts[axis] + offset,)
            winner = winner.at[of_place].get(mode="fill", fill_value=nowhere, wrap_negative_indices=False)
            share = share.at[of_place].get(mode="clip", wrap_negative_indices=False)
        return dx + jnp.where(winner == index, share, zero).astype(dx.dtype)

    total, dx = math.prod(counts), jnp.zeros_like(dy, sum_dtype(dy.dtype), (dy.shape[0], *image, dy.shape[-1]))
    passes = 1 if total <= _FEW_CANDIDATES else -(-total // _CANDIDATES_OF_A_PASS)
    each = -(-total // passes)

    def add_some(i, dx):
        for number in range(each):
            dx = add(dx, i * each + number)
        return dx

    return (add_some(0, dx) if passes == 1 else lax.fori_loop(0, passes, add_some, dx)).astype(dy.dtype)


def take_from_place(x, place):
    """y[n, i, c] = x[n, place[n, i, c], c], [N, *M, C]; 0 for a place outside the image. It is the transpose of
    `add_at_place`."""

    def take(x, place):
        return x.at[place].get(mode="fill", fill_value=0, wrap_negative_indices=False)

    return _vmap_images_and_channels(take)(_flattened(x), _flattened(place)).reshape(place.shape)


def _vmap_images_and_channels(f):
    """f of vectors [S] and [M], for each image and channel of arrays [N, S, C] and [N, M, C]."""
    return jax.vmap(jax.vmap(f, in_axes=1, out_axes=1))


def _flattened(a):
    """[N, *S, C] -> [N, Π S, C]."""
    return a.reshape(a.shape[0], math.prod(a.shape[1:-1]), a.shape[-1])
