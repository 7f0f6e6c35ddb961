"""Where the maximum of each window is, and how a gradient gets back to it.

`max_pooling.py` says what max-pooling and its backward pass are; this file knows the ways to compute them. All agree
on who wins: the first of the largest entries, the last axis fastest; a NaN before all; never the padding.
"""

import functools
import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.contract.arguments import require
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


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def max_and_winner(x, window):
    """The maximum of each window of x [N, *S, C], and which entry it is, for `add_at_winner`: both [N, *M, C]."""
    if _is_single(window):
        return _single_max_and_winner(x, window)
    if not _has_short_sides(window):
        y, place = _largest_by_place(x, window)
        return y, _narrowed(place, window)
    y, entry = _largest_by_block(x, window) if window.side_by_side else _largest_by_axis(x, window)
    return y, winner_of_entry(entry, window)


@max_and_winner.defjvp
def _max_and_winner_jvp(window, primals, tangents):
    """A maximum moves as the entry that it is."""
    (x,), (dx,) = primals, tangents
    y, winner = max_and_winner(x, window)
    return (y, winner), (take_from_winner(dx, winner, window), np.zeros(winner.shape, jax.dtypes.float0))


def add_at_winner(dy, winner, window):
    """dx [N, *S, C]: each dy [N, *M, C] added to the entry that won its window."""
    if _is_single(window):
        return _add_to_box(dy, winner, window)
    if window.volume <= FEW_ENTRIES and window.side_by_side:
        return _add_to_blocks(dy, winner, window)
    if window.volume <= FEW_ENTRIES:
        by_window = max(window.stride) > 1 and max(window.dilation) == 1  # fewer windows than entries: 1.6 to 2.2 times
        return (_add_by_window if by_window else _add_by_entry)(dy, winner, window)
    return add_at_place(dy, winner, window.image)


def take_from_winner(x, winner, window):
    """y [N, *M, C]: the entry of x [N, *S, C] that won each window, the transpose of `add_at_winner`."""
    if window.volume > FEW_ENTRIES:
        return take_from_place(x, winner)
    y = jnp.zeros(winner.shape, x.dtype)
    for k, x_k in enumerate(entries(x, window, np.zeros((), x.dtype))):
        y = jnp.where(winner == k, x_k, y)
    return y


def winner_of_entry(entry, window):
    """What `add_at_winner` takes where entry k [N, *M, C] of each window wins."""
    return entry if window.volume <= FEW_ENTRIES else _narrowed(_place_of_entry(entry, window), window)


def place_of_winner(winner, window):
    """Where in the image the winners are: the flat index into its spatial axes [N, *M, C], of `dtype_of_places`."""
    is_place = window.volume > FEW_ENTRIES
    return winner.astype(dtype_of_places(window.image)) if is_place else _place_of_entry(winner, window)


def dtype_of_places(image, function="max_pool", argument="x"):
    """int32, and for an image of 2^31 places and more int64, which JAX has under jax_enable_x64 alone."""
    count = math.prod(image)
    dtype = np.dtype(np.int32 if count < 2**31 else np.int64)
    has_numbers = jax.dtypes.canonicalize_dtype(dtype) == dtype
    expected = "of fewer than 2^31 places, or jax_enable_x64 on, to say where a maximum is"
    require(has_numbers, function, argument, expected, f"{count} places")
    return dtype


def _place_of_entry(entry, window):
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
    by_windows = partial(_reduce_windows, start=lowest(x.dtype), larger=lax.max, window=window)
    # XLA's own search is as fast for large blocks, and for the channels of one or two vectors.
    few_vectors = x.shape[-1] in range(9, 24)
    fast = window.side_by_side and (window.volume > 16 or few_vectors)
    if fast or not _has_short_sides(window):
        return by_windows(x)
    return lax.platform_dependent(x, cpu=partial(_max_by_axis, window=window), default=by_windows)  # 1 to 30 times


def max_of_symbolic(x, window):
    """`window_max` of an image of symbolic size, with JAX's derivative: it, too, goes to the first maximum."""
    padded = lax.pad(x, lowest(x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in window.padding), (0, 0, 0)])
    return _reduce_windows(padded, lowest(x.dtype), lax.max, replace(window, padding=((0, 0),) * len(window.size)))


def lowest(dtype):
    """The maximum of nothing: -inf, or the least number of a dtype that has no infinity."""
    infinity = np.array(-np.inf).astype(dtype)
    return infinity if np.isinf(infinity) else np.array(jnp.finfo(dtype).min, dtype)


def _has_short_sides(window):
    """Whether the loops over all axes together are short enough to unroll."""
    return sum(window.size) <= FEW_ENTRIES


# A window that has one place, as one over the whole image, is a reduction of the box of its entries inside the image.
def _is_single(window):
    return all(m == 1 for m in window.output)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _single_max(x, window):
    """The maximum of a window that is alone: [N, *1, C]."""
    box = _box_of_entries(x, window)
    y = lax.reduce(box, lowest(x.dtype), lax.max, tuple(range(1, x.ndim - 1)))
    return y.reshape(x.shape[0], *window.output, x.shape[-1])


@_single_max.defjvp
def _single_max_jvp(window, primals, tangents):
    (x,), (dx,) = primals, tangents
    y, winner = max_and_winner(x, window)
    return y, take_from_winner(dx, winner, window)


def _single_max_and_winner(x, window):
    """And the number of the first entry that is the maximum, or equally a NaN."""
    y, box, number = _single_max(x, window), _box_of_entries(x, window), _box_candidates(window)
    last = np.array(np.iinfo(number.dtype).max, number.dtype)
    is_largest = (box == y) | (box != box)
    first = lax.reduce(jnp.where(is_largest, number, last), last, lax.min, tuple(range(1, x.ndim - 1)))
    return y, first.reshape(y.shape)


def _add_to_box(dy, winner, window):
    """dx: dy at the winner, 0 elsewhere."""
    zero = np.zeros((), dy.dtype)
    box = jnp.where(_box_candidates(window) == winner, dy, zero)
    axes = zip(_box_axes(window), window.image, strict=True)
    around = [(first, n - 1 - (first + d * (count - 1)), d - 1) for (first, _, count, d), n in axes]
    return lax.pad(box, zero, [(0, 0, 0), *around, (0, 0, 0)])


def _box_of_entries(x, window):
    ends = [(first, first + d * (count - 1) + 1, d) for first, _, count, d in _box_axes(window)]
    return x[:, *(slice(*axis) for axis in ends)]


def _box_candidates(window):
    """What stands for each entry of the box as a winner, [1, *box, 1]: its number, or its place in the image."""
    is_place = window.volume > FEW_ENTRIES
    dtype = _narrow_dtype(window) if is_place else _dtype_of_entries(window)
    box = list(_box_axes(window))
    shape, lengths = (1, *(count for _, _, count, _ in box), 1), window.image if is_place else window.size
    number = jnp.zeros(shape, dtype)
    for axis, (length, (first, entry, _, d)) in enumerate(zip(lengths, box, strict=True), start=1):
        along = lax.broadcasted_iota(dtype, shape, axis)
        number = number * length + (first + d * along if is_place else entry + along)
    return number


def _box_axes(window):
    """For each axis, of the entries of the only window inside the image: the first one's place and its number, how many
    there are, and how far apart."""
    axes = zip(window.image, window.size, window.padding, window.dilation, strict=True)
    for n, k, (low, _), d in axes:
        entry = max(-(-low // d), 0)
        count = min((n - 1 + low) // d, k - 1) - entry + 1
        yield d * entry - low, entry, count, 1 if count == 1 else d


def _add_to_blocks(dy, winner, window):
    """dx: dy at the winner of its block, 0 elsewhere and in the remainder that no window covers."""
    wins = one_per_block(winner, window) == _block_entries(window, winner.dtype)
    return joined_blocks(jnp.where(wins, one_per_block(dy, window), np.zeros((), dy.dtype)), window)


def _block_entries(window, dtype):
    """Which entry of its window each place of a block is."""
    entry = np.arange(window.volume, dtype=dtype)
    return entry.reshape(1, *alternating((1,) * len(window.size), window.size), 1)


# A window is searched axis by axis, the last one first: the first of its largest entries lies in the first row that has
# one, and is the first one there.
def _largest_by_axis(x, window):
    """y [N, *M, C], and which entry k of its window each y is: the first one that is largest, a NaN before all."""
    y, entry, volume = x, jnp.zeros(x.shape, _dtype_of_entries(window)), 1
    for axis, along in _axis_windows(window):
        values, numbers = entries(y, along, lowest(x.dtype)), entries(entry, along, entry.dtype.type(0))
        y, entry = next(values), next(numbers)
        for k, (y_k, entry_k) in enumerate(zip(values, numbers, strict=True), start=1):
            wins = (y_k > y) | (jnp.isnan(y_k) & ~jnp.isnan(y))
            start, end = _range_beginning_with(k, along, axis - 1)
            if start < end:  # nothing that is larger than the padding precedes
                place = lax.broadcasted_iota(np.int32, y.shape, axis)
                wins |= (start <= place) & (place < end)
            y, entry = jnp.where(wins, y_k, y), jnp.where(wins, entry_k + entry.dtype.type(k * volume), entry)
        volume *= window.size[axis - 1]
    return y, entry


def _range_beginning_with(k, window, axis):
    """From which place of a window on, and up to which, its first entry inside the image is k."""
    s, d, (low, _) = window.stride[axis], window.dilation[axis], window.padding[axis]
    return max(-((d * k - low) // s), 0), min(-((d * (k - 1) - low) // s), window.output[axis])


def _largest_by_block(x, window):
    """The same where windows are side by side: XLA reduces each axis of blocks in one loop over the channels."""
    dtype = _dtype_of_entries(window)
    start = lowest(x.dtype), np.array(np.iinfo(dtype).max, dtype)
    y = x[:, *(slice(m * k) for m, k in zip(window.output, window.size, strict=True))]
    entry, volume = jnp.zeros(y.shape, dtype), 1
    for axis, along in _axis_windows(window):
        k, m = along.size[axis - 1], along.output[axis - 1]
        y, entry = (a.reshape(*a.shape[:axis], m, k, *a.shape[axis + 1 :]) for a in (y, entry))
        entry += volume * lax.broadcasted_iota(dtype, entry.shape, axis + 1)
        y, entry = lax.reduce((y, entry), start, first_largest, (axis + 1,))
        volume *= k
    return y, entry


def _max_by_axis(x, window):
    """The maximum of each window [N, *M, C]."""
    for _, along in _axis_windows(window):
        x = functools.reduce(_larger, entries(x, along, lowest(x.dtype)))
    return x


def _larger(a, b):
    """The maximum, of equal ones the first: the derivative of `jnp.maximum` would give half to each."""
    return jnp.where((a >= b) | jnp.isnan(a), a, b)


def _axis_windows(window):
    """Each axis of an array [N, *S, C], the last first, with the window along it over what those before it leave."""
    image = list(window.image)
    for i in reversed(range(len(image))):
        yield i + 1, replace(_window_along(window, i), image=tuple(image))
        image[i] = window.output[i]


def _window_along(window, i):
    """The window along axis i, and of length 1 along the others."""

    def alone(values, other):
        return tuple(value if axis == i else other for axis, value in enumerate(values))

    return replace(
        window,
        size=alone(window.size, 1),
        stride=alone(window.stride, 1),
        padding=alone(window.padding, (0, 0)),
        dilation=alone(window.dilation, 1),
    )


def _dtype_of_entries(window):
    return np.min_scalar_type(-window.volume)


# A place adds up what comes from the windows that it won. To move each dy to its place instead, as many maps added up
# as a window has entries, is up to 15 times slower where XLA fuses it with the search for the winner.
def _add_by_entry(dy, winner, window):
    """dx[j] = Σ_k dy[i] [winner[i] = k], i the window in which place j is entry k."""
    return _sum_of_won(maps_per_entry, range(window.volume), dy, winner, window)


def _add_by_window(dy, winner, window):
    """dx[j] = Σ_i dy[i] [winner[i] = k], k the entry of window i that place j is. With a stride a place is in fewer
    windows than a window has entries."""
    return _sum_of_won(maps_per_window, entries_per_map(window, winner.dtype), dy, winner, window)


def _sum_of_won(maps, numbers, dy, winner, window):
    """The sum of the dy that each place sees, of those whose winner has the number that the place has."""
    zero, nobody = np.zeros((), dy.dtype), np.array(-1, winner.dtype)
    winners, shares = maps(store(winner), window, nobody), maps(dy, window, zero)
    dx = jnp.zeros((dy.shape[0], *window.image, dy.shape[-1]), sum_dtype(dy.dtype))
    for number, won_by, share in zip(numbers, winners, shares, strict=True):
        dx = dx + jnp.where(won_by == number, share, zero).astype(dx.dtype)
    return dx.astype(dy.dtype)


def _identity(a):
    return a


def store(winner):
    """The winners in memory: on a CPU, XLA would search for that of a window anew at every place that it covers.

    Not on a mesh, where XLA is to split the search as it splits the image.
    """
    if mesh_axes(winner):
        return winner
    return lax.platform_dependent(winner, cpu=partial(unfused, _identity), default=_identity)  # 1.1 to 3 times


# A large window is searched by XLA, which returns the place of the winner in the image, and dy is added there.
def _largest_by_place(x, window):
    """y [N, *M, C], and the place of the first largest entry of each window, flat in the spatial axes."""
    nowhere, dtype = math.prod(window.image), dtype_of_places(window.image)
    place = lax.iota(dtype, nowhere).reshape(1, *window.image, 1)
    start = lowest(x.dtype), np.array(nowhere, dtype)
    return _reduce_windows((x, jnp.broadcast_to(place, x.shape)), start, first_largest, window)


def first_largest(a, b):
    """Of two (value, where it is) the larger value, a NaN before all, and of equal ones the first."""
    (value_a, place_a), (value_b, place_b) = a, b
    nan_a, nan_b = value_a != value_a, value_b != value_b
    b_larger = (value_b > value_a) & ~nan_a | nan_b & ~nan_a
    tie = (value_a == value_b) | nan_a & nan_b
    b_wins = b_larger | tie & (place_b < place_a)
    return jnp.where(b_wins, value_b, value_a), jnp.where(b_wins, place_b, place_a)


def _narrowed(place, window):
    """Places in the image in as few bytes as they take: they are what the backward pass keeps."""
    return place.astype(_narrow_dtype(window))


def _narrow_dtype(window):
    dtype_of_places(window.image)
    return np.min_scalar_type(math.prod(window.image))


# Per image and channel, so that XLA sees that images do not mix: otherwise it gathers a batch spread over devices.
def add_at_place(dy, place, image):
    """dx [N, *image, C], where dx[n, place[n, i, c], c] += dy[n, i, c]; places outside the image get nothing."""

    def add(dy, place):
        nothing = jnp.zeros(math.prod(image), dy.dtype)
        return nothing.at[place].add(dy, mode="drop", wrap_negative_indices=False)

    dy_wide = dy.astype(sum_dtype(dy.dtype))
    dx = _vmap_images_and_channels(add)(_flattened(dy_wide), _flattened(place))
    return dx.reshape(dy.shape[0], *image, dy.shape[-1]).astype(dy.dtype)


def take_from_place(x, place):
    """x[n, place[n, i, c], c] [N, *M, C], the transpose of `add_at_place`; 0 for places outside the image."""

    def take(x, place):
        return x.at[place].get(mode="fill", fill_value=0, wrap_negative_indices=False)

    return _vmap_images_and_channels(take)(_flattened(x), _flattened(place)).reshape(place.shape)


def _vmap_images_and_channels(f):
    return jax.vmap(jax.vmap(f, in_axes=1, out_axes=1))


def _flattened(a):
    return a.reshape(a.shape[0], math.prod(a.shape[1:-1]), a.shape[-1])


def _reduce_windows(x, start, larger, window):
    """`lax.reduce_window`; negative padding crops first, since JAX derives wrong shapes from it there."""
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
