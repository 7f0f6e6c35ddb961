"""Where the maximum of each window is, and how a gradient gets back to it.

`max_pooling.py` says what max-pooling and its backward pass are. This file knows the ways to compute them. The *winner*
of a window is the first of its largest entries, the last axis fastest. A NaN is larger than all numbers. The padding
never wins. All ways agree on that.
"""

import functools
import math
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.contract.arguments import require
from jaxcnn.contract.geometry import Window
from jaxcnn.contract.precision import sum_dtype
from jaxcnn.contract.sharding import mesh_axes
from jaxcnn.kernels.unfused import unfused
from jaxcnn.kernels.windows import (
    FEW_ENTRIES,
    alternating,
    entries,
    entries_per_map,
    joined_blocks,
    maps_per_entry,
    maps_per_window,
    one_per_block,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Entry:
    """The winner of each window, as the flat index k of an entry of the window: [N, *M, C]."""

    number: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Place:
    """The winner of each window, as the flat index j of a place of the image: [N, *M, C]."""

    number: jax.Array


Winner = Entry | Place


def winner_type(window: Window) -> type[Winner]:
    """Entry for windows whose entries are few enough for a loop that is written out, else Place."""
    return Entry if window.volume <= FEW_ENTRIES else Place


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def max_and_winner(x: jax.Array, window: Window) -> tuple[jax.Array, Winner]:
    """The maximum of each window of x [N, *S, C], [N, *M, C], and the winner of each, for `add_at_winner`."""
    if _is_single(window):
        return _single_max_and_winner(x, window)
    if winner_type(window) is Place and not _has_short_sides(window):
        y, place = _largest_by_place(x, window)
        return y, Place(_narrowed(place, window))
    y, entry = _largest_by_block(x, window) if window.side_by_side else _largest_by_axis(x, window)
    return y, winner_of_entry(entry, window)


@max_and_winner.defjvp
def _max_and_winner_jvp(window, primals, tangents):
    """The tangent of a maximum is that of the entry that won. A winner is an integer, so its tangent is of float0."""
    (x,), (dx,) = primals, tangents
    y, winner = max_and_winner(x, window)
    no_tangent = jax.tree.map(lambda number: np.zeros(number.shape, jax.dtypes.float0), winner)
    return (y, winner), (take_from_winner(dx, winner, window), no_tangent)


def add_at_winner(dy: jax.Array, winner: Winner, window: Window) -> jax.Array:
    """dx[j] = Σ_i dy[i] [winner[i] = k] over the windows i that place j is in, k its entry there: [N, *S, C]."""
    if _is_single(window):
        return _add_to_box(dy, winner.number, window)
    if isinstance(winner, Place):
        return add_at_place(dy, winner.number, window.image)
    if window.side_by_side:
        return _add_to_blocks(dy, winner.number, window)
    # A place is then in fewer windows than a window has entries. To add by window was 1.6 to 2.2 times as fast when it
    # was added (commit 19e038a, no machine noted).
    fewer_windows = max(window.stride) > 1 and max(window.dilation) == 1
    return (_add_by_window if fewer_windows else _add_by_entry)(dy, winner.number, window)


def take_from_winner(x: jax.Array, winner: Winner, window: Window) -> jax.Array:
    """y[i] = x[j], j the place that won window i: [N, *S, C] -> [N, *M, C]. It is the transpose of `add_at_winner`."""
    if isinstance(winner, Place):
        return take_from_place(x, winner.number)
    y = jnp.zeros(winner.number.shape, x.dtype)
    for k, x_k in enumerate(entries(x, window, np.zeros((), x.dtype))):
        y = jnp.where(winner.number == k, x_k, y)
    return y


def winner_of_entry(entry: jax.Array, window: Window) -> Winner:
    """The winners, given the entry k [N, *M, C] that wins each window."""
    if winner_type(window) is Entry:
        return Entry(entry)
    return Place(_narrowed(_place_of_entry(entry, window), window))


def place_of_winner(winner: Winner, window: Window) -> jax.Array:
    """The places that won, as flat indices [N, *M, C] of `dtype_of_places`."""
    if isinstance(winner, Place):
        return winner.number.astype(dtype_of_places(window.image))
    return _place_of_entry(winner.number, window)


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


def _place_of_entry(entry, window):
    """The place j of the entry k [N, *M, C] of each window, both as flat indices."""
    dtype = dtype_of_places(window.image)
    entry = jnp.unravel_index(entry.astype(dtype), window.size)
    place = jnp.zeros_like(entry[0])
    axes = zip(entry, window.image, window.stride, window.padding, window.dilation, strict=True)
    for axis, (k, n, s, (low, _), d) in enumerate(axes, start=1):
        place = place * n + (s * lax.broadcasted_iota(dtype, place.shape, axis) + d * k - low)
    return place


def window_max(x, window):
    """The maximum of each window of x [N, *S, C]: [N, *M, C]."""
    if _is_single(window):
        return _single_max(x, window)
    if max(window.dilation) > 1:  # JAX derives no gradient of a dilated `reduce_window`
        return max_and_winner(x, window)[0]
    reduce_windows = partial(_reduce_windows, start=lowest(x.dtype), larger=lax.max, window=window)
    # XLA's `reduce_window` is as fast as ours for windows side by side of more than 16 entries, or with 9 to 23
    # channels, which fill one or two vectors. 1 to 30 times is what ours gained elsewhere, on 2 cores of an AMD EPYC.
    few_vectors = x.shape[-1] in range(9, 24)
    fast = window.side_by_side and (window.volume > 16 or few_vectors)
    if fast or not _has_short_sides(window):
        return reduce_windows(x)
    return lax.platform_dependent(x, cpu=partial(_max_by_axis, window=window), default=reduce_windows)


def max_of_symbolic(x, window):
    """`window_max` of an image of symbolic size. JAX's derivative of it goes to the first maximum as well."""
    padded = lax.pad(x, lowest(x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in window.padding), (0, 0, 0)])
    return _reduce_windows(padded, lowest(x.dtype), lax.max, replace(window, padding=((0, 0),) * len(window.size)))


def lowest(dtype):
    """The maximum of no entries: -inf, or the least number of a dtype that has no infinity."""
    infinity = np.array(-np.inf).astype(dtype)
    return infinity if np.isinf(infinity) else np.array(jnp.finfo(dtype).min, dtype)


def _has_short_sides(window):
    """Whether the loops over all axes together are short enough to unroll."""
    return sum(window.size) <= FEW_ENTRIES


# The only window, for instance one over the whole image, is a reduction of a box: of its entries inside the image.
def _is_single(window):
    """Whether there is one window only."""
    return all(m == 1 for m in window.output)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _single_max(x, window):
    """The maximum of the only window: [N, *1, C]."""
    box = _box_of_entries(x, window)
    y = lax.reduce(box, lowest(x.dtype), lax.max, tuple(range(1, x.ndim - 1)))
    return y.reshape(x.shape[0], *window.output, x.shape[-1])


@_single_max.defjvp
def _single_max_jvp(window, primals, tangents):
    (x,), (dx,) = primals, tangents
    y, winner = max_and_winner(x, window)
    return y, take_from_winner(dx, winner, window)


def _single_max_and_winner(x, window):
    """The maximum of the only window, and its winner."""
    y, box, number = _single_max(x, window), _box_of_entries(x, window), _box_candidates(window)
    last = np.array(np.iinfo(number.dtype).max, number.dtype)
    is_largest = (box == y) | (box != box)
    first = lax.reduce(jnp.where(is_largest, number, last), last, lax.min, tuple(range(1, x.ndim - 1)))
    return y, winner_type(window)(first.reshape(y.shape))


def _add_to_box(dy, number, window):
    """dx [N, *S, C] of the only window: dy at the winner, 0 elsewhere."""
    zero = np.zeros((), dy.dtype)
    box = jnp.where(_box_candidates(window) == number, dy, zero)
    axes = zip(_box_axes(window), window.image, strict=True)
    pads = [(first, n - 1 - (first + d * (count - 1)), d - 1) for (first, _, count, d), n in axes]
    return lax.pad(box, zero, [(0, 0, 0), *pads, (0, 0, 0)])


def _box_of_entries(x, window):
    """The entries of the only window that are inside the image, [N, *box, C]."""
    ends = [(first, first + d * (count - 1) + 1, d) for first, _, count, d in _box_axes(window)]
    return x[:, *(slice(*axis) for axis in ends)]


def _box_candidates(window):
    """The number of the winner, for each entry of the box that might win: [1, *box, 1]."""
    is_place = winner_type(window) is Place
    dtype = _narrow_dtype(window) if is_place else _dtype_of_entries(window)
    box = list(_box_axes(window))
    shape, lengths = (1, *(count for _, _, count, _ in box), 1), window.image if is_place else window.size
    number = jnp.zeros(shape, dtype)
    for axis, (length, (first, entry, _, d)) in enumerate(zip(lengths, box, strict=True), start=1):
        index = lax.broadcasted_iota(dtype, shape, axis)
        number = number * length + (first + d * index if is_place else entry + index)
    return number


def _box_axes(window):
    """For each axis (place, entry, count, step) of the only window: `entry` is its first entry inside the image and
    `place` the place of that entry. `count` entries are inside, `step` places apart."""
    axes = zip(window.image, window.size, window.padding, window.dilation, strict=True)
    for n, k, (low, _), d in axes:
        entry = max(-(-low // d), 0)
        count = min((n - 1 + low) // d, k - 1) - entry + 1
        yield d * entry - low, entry, count, 1 if count == 1 else d


def _add_to_blocks(dy, entry, window):
    """dx [N, *S, C] of windows side by side: dy at the winner of each block, 0 elsewhere and in the remainder."""
    wins = one_per_block(entry, window) == _block_entries(window, entry.dtype)
    return joined_blocks(jnp.where(wins, one_per_block(dy, window), np.zeros((), dy.dtype)), window)


def _block_entries(window, dtype):
    """The entry k that each place of a block is: [1, 1, k_1, 1, k_2, ..., 1]."""
    entry = np.arange(window.volume, dtype=dtype)
    return entry.reshape(1, *alternating((1,) * len(window.size), window.size), 1)


# A window is searched axis by axis, the last axis first. The winner of the window is in the first row that holds a
# largest entry, and it is the winner of that row.
def _largest_by_axis(x, window):
    """The maximum y of each window, and the entry k that won: both [N, *M, C]."""
    y, entry, volume = x, jnp.zeros(x.shape, _dtype_of_entries(window)), 1
    for axis, window_along in _axis_windows(window):
        values, numbers = entries(y, window_along, lowest(x.dtype)), entries(entry, window_along, entry.dtype.type(0))
        y, entry = next(values), next(numbers)
        for k, (y_k, entry_k) in enumerate(zip(values, numbers, strict=True), start=1):
            wins = (y_k > y) | (jnp.isnan(y_k) & ~jnp.isnan(y))
            start, end = _range_beginning_with(k, window_along, axis - 1)
            if start < end:  # the first entry inside the image wins against the padding before it, even if it is -inf
                i = lax.broadcasted_iota(np.int32, y.shape, axis)
                wins |= (start <= i) & (i < end)
            y, entry = jnp.where(wins, y_k, y), jnp.where(wins, entry_k + entry.dtype.type(k * volume), entry)
        volume *= window.size[axis - 1]
    return y, entry


def _range_beginning_with(k, window, axis):
    """(start, end) along an axis: the windows i of start <= i < end have k as their first entry inside the image."""
    s, d, (low, _) = window.stride[axis], window.dilation[axis], window.padding[axis]
    return max(-((d * k - low) // s), 0), min(-((d * (k - 1) - low) // s), window.output[axis])


def _largest_by_block(x, window):
    """`_largest_by_axis` of windows side by side: XLA reduces each axis of the blocks in one loop over the channels."""
    dtype = _dtype_of_entries(window)
    start = lowest(x.dtype), np.array(np.iinfo(dtype).max, dtype)
    y = x[:, *(slice(m * k) for m, k in zip(window.output, window.size, strict=True))]
    entry, volume = jnp.zeros(y.shape, dtype), 1
    for axis, window_along in _axis_windows(window):
        k, m = window_along.size[axis - 1], window_along.output[axis - 1]
        y, entry = (a.reshape(*a.shape[:axis], m, k, *a.shape[axis + 1 :]) for a in (y, entry))
        entry += volume * lax.broadcasted_iota(dtype, entry.shape, axis + 1)
        y, entry = lax.reduce((y, entry), start, first_largest, (axis + 1,))
        volume *= k
    return y, entry


def _max_by_axis(x, window):
    """The maximum of each window, one axis after the other: [N, *M, C]."""
    for _, window_along in _axis_windows(window):
        x = functools.reduce(_larger, entries(x, window_along, lowest(x.dtype)))
    return x


def _larger(a, b):
    """The larger of a and b, with the derivative of a where they are equal. That of `jnp.maximum` is half of each."""
    return jnp.where((a >= b) | jnp.isnan(a), a, b)


def _axis_windows(window):
    """For each spatial axis, the last one first: its number in [N, *S, C], and the window along it. The image of that
    window is what the windows along the axes behind it have made."""
    image = list(window.image)
    for i in reversed(range(len(image))):
        yield i + 1, replace(_window_along(window, i), image=tuple(image))
        image[i] = window.output[i]


def _window_along(window, i):
    """The window along axis i, of size 1 along the others."""

    def one_axis(values, rest):
        return tuple(value if axis == i else rest for axis, value in enumerate(values))

    return replace(
        window,
        size=one_axis(window.size, 1),
        stride=one_axis(window.stride, 1),
        padding=one_axis(window.padding, (0, 0)),
        dilation=one_axis(window.dilation, 1),
    )


def _dtype_of_entries(window):
    """The smallest signed dtype of entries, in which -1 is no entry."""
    return np.min_scalar_type(-window.volume)


# Each place adds up the dy of the windows that it won. The other way is to move each dy to the place that won, and to
# add up as many maps as a window has entries. XLA fuses the other way with the search for the winner. The other way was
# up to 15 times slower when this was added (commit 895fdd6, no machine noted).
def _add_by_entry(dy, entry, window):
    """dx[j] = Σ_k dy[i] [entry[i] = k], i the window whose entry k is place j; `entry` holds the winners."""
    return _sum_of_won(maps_per_entry, range(window.volume), dy, entry, window)


def _add_by_window(dy, entry, window):
    """dx[j] = Σ_i dy[i] [entry[i] = k] over the windows i that place j is in, k its entry there; `entry` holds the
    winners. With a stride a place is in fewer windows than a window has entries."""
    return _sum_of_won(maps_per_window, entries_per_map(window, entry.dtype), dy, entry, window)


def _sum_of_won(maps, entries_of_maps, dy, entry, window):
    """At each place the sum of dy over the maps in which the place won.

    A map gives each place one window. The place won if it is the entry that won that window.
    """
    zero, nobody = np.zeros((), dy.dtype), np.array(-1, entry.dtype)
    winners, shares = maps(store(entry), window, nobody), maps(dy, window, zero)
    dx = jnp.zeros((dy.shape[0], *window.image, dy.shape[-1]), sum_dtype(dy.dtype))
    for k, winner, share in zip(entries_of_maps, winners, shares, strict=True):
        dx = dx + jnp.where(winner == k, share, zero).astype(dx.dtype)
    return dx.astype(dy.dtype)


def _identity(a):
    return a


def store(a):
    """a, which a CPU computes once and stores. Otherwise XLA computes it anew at each place that a window covers.

    On a mesh it is a as it is, so that XLA splits its computation as it splits the image.
    """
    if mesh_axes(a):
        return a
    # To store it was 1.1 to 3 times as fast when it was measured (commit 0e9fdfa, no machine noted).
    return lax.platform_dependent(a, cpu=partial(unfused, _identity), default=_identity)


# XLA's `reduce_window` searches a large window. It returns the place that won.
def _largest_by_place(x, window):
    """The maximum y of each window, and the place j that won: both [N, *M, C]."""
    nowhere, dtype = math.prod(window.image), dtype_of_places(window.image)
    place = lax.iota(dtype, nowhere).reshape(1, *window.image, 1)
    start = lowest(x.dtype), np.array(nowhere, dtype)
    return _reduce_windows((x, jnp.broadcast_to(place, x.shape)), start, first_largest, window)


def first_largest(a, b):
    """Of two pairs (value, index) the one that wins: the larger value, a NaN before all, of equal ones the lower
    index."""
    (value_a, place_a), (value_b, place_b) = a, b
    nan_a, nan_b = value_a != value_a, value_b != value_b
    b_larger = (value_b > value_a) & ~nan_a | nan_b & ~nan_a
    tie = (value_a == value_b) | nan_a & nan_b
    b_wins = b_larger | tie & (place_b < place_a)
    return jnp.where(b_wins, value_b, value_a), jnp.where(b_wins, place_b, place_a)


def _narrowed(place, window):
    """The places in the smallest dtype that holds them, since the backward pass keeps them."""
    return place.astype(_narrow_dtype(window))


def _narrow_dtype(window):
    """The smallest dtype of places. ValueError if `dtype_of_places` has none."""
    dtype_of_places(window.image)
    return np.min_scalar_type(math.prod(window.image))


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


def _reduce_windows(x, start, larger, window):
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
