"""Winners as entries of their windows: how they are found, and how a gradient gets back to them.

The winner k of a window is the flat index of an entry, the last axis fastest. All loops over entries are written out,
so these ways are for windows of few entries. `winners.py` chooses among them.
"""

import functools
from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.contract.precision import sum_dtype
from jaxcnn.contract.sharding import mesh_axes
from jaxcnn.kernels.unfused import unfused
from jaxcnn.kernels.windows import (
    alternating,
    entries,
    entries_per_map,
    joined_blocks,
    maps_per_entry,
    maps_per_window,
    one_per_block,
)
from jaxcnn.kernels.winning_places import first_largest, lowest


# A window is searched axis by axis, the last axis first. The winner of the window is in the first row that holds a
# largest entry, and it is the winner of that row.
def largest_by_axis(x, window):
    """The maximum y of each window, and the entry k that won: both [N, *M, C]."""
    y, entry, volume = x, jnp.zeros(x.shape, dtype_of_entries(window)), 1
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


def largest_by_block(x, window):
    """`largest_by_axis` of windows side by side: XLA reduces each axis of the blocks in one loop over the channels."""
    dtype = dtype_of_entries(window)
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


def max_by_axis(x, window):
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


def dtype_of_entries(window):
    """The smallest signed dtype of entries, in which -1 is no entry."""
    return np.min_scalar_type(-window.volume)


def add_to_blocks(dy, entry, window):
    """dx [N, *S, C] of windows side by side: dy at the winner of each block, 0 elsewhere and in the remainder."""
    wins = one_per_block(entry, window) == _block_entries(window, entry.dtype)
    return joined_blocks(jnp.where(wins, one_per_block(dy, window), np.zeros((), dy.dtype)), window)


def _block_entries(window, dtype):
    """The entry k that each place of a block is: [1, 1, k_1, 1, k_2, ..., 1]."""
    entry = np.arange(window.volume, dtype=dtype)
    return entry.reshape(1, *alternating((1,) * len(window.size), window.size), 1)


# Each place adds up the dy of the windows that it won. The other way is to move each dy to the place that won, and to
# add up as many maps as a window has entries. XLA fuses the other way with the search for the winner. The other way was
# up to 15 times slower when this was added (commit 895fdd6, no machine noted).
def add_by_entry(dy, entry, window):
    """dx[j] = Σ_k dy[i] [entry[i] = k], i the window whose entry k is place j; `entry` holds the winners."""
    return _sum_of_won(maps_per_entry, range(window.volume), dy, entry, window)


def add_by_window(dy, entry, window):
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


def store(a):
    """a, which a CPU computes once and stores. Otherwise XLA computes it anew at each place that a window covers.

    On a mesh it is a as it is, so that XLA splits its computation as it splits the image.
    """
    if mesh_axes(a):
        return a
    # To store it was 1.1 to 3 times as fast when it was measured (commit 0e9fdfa, no machine noted).
    return lax.platform_dependent(a, cpu=partial(unfused, _identity), default=_identity)


def _identity(a):
    return a
