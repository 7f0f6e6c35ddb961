"""The windows of an image one entry at a time: from the image to the windows, and from the windows to the image.

An *entry* is an index within a window, k; a *place* is an index within an image, j. A window has an index i of its own.
Flat indices count the last axis fastest. Along an axis the entry k of the window i is the place j = s·i + d·k - low.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

# Entries of a window. A loop over more is left to XLA: unrolled, it takes seconds to compile: 14 s for a
# `softmax_pool` with a window of 16 when this was added (commit f147d55).
FEW_ENTRIES = 64


def entries(x, window, fill):
    """For each entry k, in order, an array [N, *M, C]: x at the entry k of each window, `fill` in the padding."""
    padded = _padded(x, window, fill)
    for offset in np.ndindex(window.size):
        first = [o * d for o, d in zip(offset, window.dilation, strict=True)]
        last = [f + s * (m - 1) + 1 for f, m, s in zip(first, window.output, window.stride, strict=True)]
        yield lax.slice(padded, (0, *first, 0), (x.shape[0], *last, x.shape[-1]), (1, *window.stride, 1))


def fold_entries(step, start, x, window, fill, few=FEW_ENTRIES):
    """start, changed by step(so far, k, x_k) for each x_k of `entries`. More than `few` are visited in a loop of
    XLA."""
    if window.volume <= few:
        for k, x_k in enumerate(entries(x, window, fill)):
            start = step(start, k, x_k)
        return start
    padded = _padded(x, window, fill)
    spanned = [s * (m - 1) + 1 for m, s in zip(window.output, window.stride, strict=True)]

    def visit(so_far, k, offset):
        first = [o * d for o, d in zip(offset, window.dilation, strict=True)]
        return step(so_far, k, _dynamic_box(padded, first, spanned)[:, *(slice(None, None, s) for s in window.stride)])

    return _fold_offsets(visit, start, window)


def maps_per_entry(y, window, fill):
    """For each entry k a map [N, *S, C]: at place j the y [N, *M, C] of the window whose entry k is j.

    It is `fill` where there is no such window. Let u = uSample(y | s), with `fill` between and around. The map of
    the entry k is u at low + j - d·k, a slice of u.
    """
    upsampled = _upsampled(y, window, fill)
    for offset in np.ndindex(window.size):
        first = [e - 1 - d * k for k, e, d in zip(offset, window.extent, window.dilation, strict=True)]
        last = [f + n for f, n in zip(first, window.image, strict=True)]
        yield lax.slice(upsampled, (0, *first, 0), (y.shape[0], *last, y.shape[-1]))


def _upsampled(y, window, fill):
    """uSample(y | s), with `fill` between and around."""
    pads = [(low, high, s - 1) for (low, high), s in zip(window.input_grad_padding, window.stride, strict=True)]
    return lax.pad(y, fill, [(0, 0, 0), *pads, (0, 0, 0)])


def maps_per_window(y, window, fill):
    """For r = 0, 1, ... a map [N, *S, C]: at place j the y [N, *M, C] of the window r before the last that j is in.

    The map is `fill` where j is in no more windows. The window has no dilation. Along an axis the place j is in the
    windows (low + j) // s - r for all r with (low + j) % s + s·r < k. Of s places in a row, min(s, k - s·r) fulfil this
    inequality for a given r. So the map of r holds each y that many times, and then `fill` at the rest of the s places.
    There are ceil(k / s) maps, while `maps_per_entry` makes k. A map does not tell which entry of its window a place
    is: `entries_per_map` does."""
    axes = list(zip(window.image, window.output, window.size, window.stride, window.padding, strict=True))
    singles = y.reshape(y.shape[0], *(length for m in window.output for length in (m, 1)), y.shape[-1])
    for offset in _window_offsets(window):
        shape, gaps, shift = [], [], []
        for r, (n, m, k, s, (low, _)) in zip(offset, axes, strict=True):
            times = min(s, k - s * r)
            shape += [m, times]
            gaps += [(0, 0, 0), (0, s - times, 0)]
            shift += [(s * r - low, n - s * m - (s * r - low), 0)]
        repeated = jnp.broadcast_to(singles, (y.shape[0], *shape, y.shape[-1]))
        blocks = lax.pad(repeated, fill, [(0, 0, 0), *gaps, (0, 0, 0)])
        joined = blocks.reshape(y.shape[0], *(s * m for _, m, _, s, _ in axes), y.shape[-1])
        yield lax.pad(joined, fill, [(0, 0, 0), *shift, (0, 0, 0)])


def entries_per_map(window, dtype):
    """For each map of `maps_per_window` the entries [1, *S, 1]: which entry of the map's window each place is.

    It is any entry where the map is `fill`. The program sums it from one vector for each axis, so it holds no image.
    """
    axes = list(zip(window.image, window.size, window.stride, window.padding, strict=True))
    for offset in _window_offsets(window):
        entry = jnp.zeros((1,) * (len(axes) + 2), dtype)
        for i, (r, (n, k, s, (low, _))) in enumerate(zip(offset, axes, strict=True), start=1):
            vector = np.minimum((low + np.arange(n)) % s + s * r, k - 1) * math.prod(window.size[i:])
            entry = entry + jnp.asarray(np.expand_dims(vector, [a for a in range(len(axes) + 2) if a != i]), dtype)
        yield entry


def _window_offsets(window):
    """The r of each map of `maps_per_window`, one number for each axis."""
    return np.ndindex(*(-(-k // s) for k, s in zip(window.size, window.stride, strict=True)))


def fold_windows(step, start, arrays, window, few=FEW_ENTRIES):
    """start, changed by step(so far, y_i, ...) at each place for each window i that the place is in.

    `arrays` are pairs (y [N, *M, C], its `fill`). If a place is in more than `few` windows, they are visited in a
    loop of XLA over the entries that the place may be.
    """
    maps_of_a_place = math.prod(-(-k // s) for k, s in zip(window.size, window.stride, strict=True))
    if maps_of_a_place <= few:
        for y_i in zip(*(maps_per_window(y, window, fill) for y, fill in arrays), strict=True):
            start = step(start, *y_i)
        return start
    upsampled = [_upsampled(y, window, fill) for y, fill in arrays]

    def visit(so_far, _, offset):
        first = [e - 1 - d * k for k, e, d in zip(offset, window.extent, window.dilation, strict=True)]
        return step(so_far, *(_dynamic_box(y, first, window.image) for y in upsampled))

    return _fold_offsets(visit, start, window)


# Windows side by side are blocks of the image. A reshape of the image to [N, M_1, k_1, M_2, k_2, ..., C] has an axis
# for the windows and an axis for their entries, for each spatial axis. Only a remainder of the image is in no window.
def one_per_block(y, window):
    """[N, *M, C] -> [N, M_1, 1, M_2, 1, ..., C]: the y of each window, which broadcasts to its entries."""
    return y.reshape(y.shape[0], *alternating(window.output, (1,) * len(window.size)), y.shape[-1])


def joined_blocks(blocks, window):
    """[N, M_1, k_1, M_2, k_2, ..., C] -> [N, *S, C]: the image of these blocks, with zeros in the remainder."""
    covered = [m * k for m, k in zip(window.output, window.size, strict=True)]
    remainder = [(0, n - c, 0) for n, c in zip(window.image, covered, strict=True)]
    image = blocks.reshape(blocks.shape[0], *covered, blocks.shape[-1])
    return lax.pad(image, np.zeros((), image.dtype), [(0, 0, 0), *remainder, (0, 0, 0)])


def alternating(outer, inner):
    """[outer_1, inner_1, outer_2, inner_2, ...]"""
    return [length for pair in zip(outer, inner, strict=True) for length in pair]


def _fold_offsets(visit, start, window):
    """start, changed by visit(so far, k, offset of entry k) for each entry k, in a loop of XLA, which compiles once."""
    offsets = np.indices(window.size, np.int32).reshape(len(window.size), -1)
    return lax.scan(lambda so_far, k: (visit(so_far, *k), None), start, (np.arange(window.volume), tuple(offsets)))[0]


def _dynamic_box(a, first, size):
    """[N, *S, C] -> [N, *size, C]: the box of a that begins at `first`, which may be traced."""
    for axis, (start, length) in enumerate(zip(first, size, strict=True), start=1):
        a = lax.dynamic_slice_in_dim(a, start, length, axis)
    return a


def _padded(x, window, fill):
    """x with its padding, or without what negative padding crops."""
    return lax.pad(x, fill, [(0, 0, 0), *((low, high, 0) for low, high in window.padding), (0, 0, 0)])
