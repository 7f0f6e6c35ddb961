"""The windows of an image one entry at a time: from the image to the windows, and from the windows to the image."""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

FEW_ENTRIES = 64  # beyond, an unrolled loop over the entries takes seconds to compile


def entries(x, window, outside):
    """For each entry k of the window, the last axis fastest, x at that entry of all places [N, *M, C]."""
    padded = _padded(x, window, outside)
    for offset in np.ndindex(window.size):
        first = [o * d for o, d in zip(offset, window.dilation, strict=True)]
        last = [f + s * (m - 1) + 1 for f, m, s in zip(first, window.output, window.stride, strict=True)]
        yield lax.slice(padded, (0, *first, 0), (x.shape[0], *last, x.shape[-1]), (1, *window.stride, 1))


def fold_entries(step, start, x, window, outside, few=FEW_ENTRIES):
    """What step(so far, k, x_k) makes of start, one of the `entries` after the other: of many in a loop of XLA."""
    if window.volume <= few:
        for k, x_k in enumerate(entries(x, window, outside)):
            start = step(start, k, x_k)
        return start
    padded = _padded(x, window, outside)
    spanned = [s * (m - 1) + 1 for m, s in zip(window.output, window.stride, strict=True)]

    def visit(so_far, k, offset):
        first = [o * d for o, d in zip(offset, window.dilation, strict=True)]
        return step(so_far, k, _dynamic_box(padded, first, spanned)[:, *(slice(None, None, s) for s in window.stride)])

    return _fold_offsets(visit, start, window)


def maps_per_entry(y, window, outside):
    """For each entry k of the window, the y [N, *M, C] of that window in which a place is entry k: [N, *S, C].

    `outside` where there is no such window. With u = uSample(y | s), in which `outside` is between and around, this is
    u at low + j - d·k for the place j: one slice of u for each k.
    """
    upsampled = _upsampled(y, window, outside)
    for offset in np.ndindex(window.size):
        first = [e - 1 - d * k for k, e, d in zip(offset, window.extent, window.dilation, strict=True)]
        last = [f + n for f, n in zip(first, window.image, strict=True)]
        yield lax.slice(upsampled, (0, *first, 0), (y.shape[0], *last, y.shape[-1]))


def _upsampled(y, window, outside):
    pads = [(low, high, s - 1) for (low, high), s in zip(window.input_grad_padding, window.stride, strict=True)]
    return lax.pad(y, outside, [(0, 0, 0), *pads, (0, 0, 0)])


def maps_per_window(y, window, outside):
    """The y [N, *M, C] of every window that a place is in, one after the other: [N, *S, C], without dilation.

    `outside` where there is no more. Along an axis place j is in the windows (low + j) // s - r for all r with
    (low + j) % s + s·r < k: for each r, y repeated as often as that holds, and `outside` up to s times. These are
    ceil(k / s) maps, where `maps_per_entry` has k; but they do not say which entry of its window a place is.
    """
    axes = list(zip(window.image, window.output, window.size, window.stride, window.padding, strict=True))
    single = y.reshape(y.shape[0], *(length for m in window.output for length in (m, 1)), y.shape[-1])
    for offset in _window_offsets(window):
        shape, more, shift = [], [], []
        for r, (n, m, k, s, (low, _)) in zip(offset, axes, strict=True):
            times = min(s, k - s * r)
            shape += [m, times]
            more += [(0, 0, 0), (0, s - times, 0)]
            shift += [(s * r - low, n - s * m - (s * r - low), 0)]
        repeated = jnp.broadcast_to(single, (y.shape[0], *shape, y.shape[-1]))
        blocks = lax.pad(repeated, outside, [(0, 0, 0), *more, (0, 0, 0)])
        joined = blocks.reshape(y.shape[0], *(s * m for _, m, _, s, _ in axes), y.shape[-1])
        yield lax.pad(joined, outside, [(0, 0, 0), *shift, (0, 0, 0)])


def entries_per_map(window, dtype):
    """For each map of `maps_per_window`, which entry of its window a place is: [1, *S, 1].

    Any entry where that map has `outside`. Summed from one vector for each axis, so that programs hold no images.
    """
    axes = list(zip(window.image, window.size, window.stride, window.padding, strict=True))
    for offset in _window_offsets(window):
        number = jnp.zeros((1,) * (len(axes) + 2), dtype)
        for i, (r, (n, k, s, (low, _))) in enumerate(zip(offset, axes, strict=True), start=1):
            along = np.minimum((low + np.arange(n)) % s + s * r, k - 1) * math.prod(window.size[i:])
            number = number + jnp.asarray(np.expand_dims(along, [a for a in range(len(axes) + 2) if a != i]), dtype)
        yield number


def _window_offsets(window):
    """For each of these maps, how many strides before a place's last window the one that it shows is, on each axis."""
    return np.ndindex(*(-(-k // s) for k, s in zip(window.size, window.stride, strict=True)))


def fold_windows(step, start, seen, window, few=FEW_ENTRIES):
    """What step(so far, y_i, ...) makes of start, one of the windows i that a place is in after the other.

    `seen`: the maps y [N, *M, C], each with what is `outside`. Where a place is in many windows, there is a loop of XLA
    over all entries that it may be in them.
    """
    at_once = math.prod(-(-k // s) for k, s in zip(window.size, window.stride, strict=True))
    if at_once <= few:
        for y_i in zip(*(maps_per_window(y, window, outside) for y, outside in seen), strict=True):
            start = step(start, *y_i)
        return start
    upsampled = [_upsampled(y, window, outside) for y, outside in seen]

    def visit(so_far, _, offset):
        first = [e - 1 - d * k for k, e, d in zip(offset, window.extent, window.dilation, strict=True)]
        return step(so_far, *(_dynamic_box(y, first, window.image) for y in upsampled))

    return _fold_offsets(visit, start, window)


# Windows side by side are blocks of the image, and no place but those of the remainder is in none: a reshape to
# [N, M_1, k_1, M_2, k_2, ..., C] tells the entries of a window from those of the others.
def one_per_block(y, window):
    """y [N, *M, C] of every window, with an axis of length 1 for the entries within."""
    return y.reshape(y.shape[0], *alternating(window.output, (1,) * len(window.size)), y.shape[-1])


def joined_blocks(blocks, window):
    """The image [N, *S, C] of which these are the blocks, with zeros in the remainder that no window covers."""
    covered = [m * k for m, k in zip(window.output, window.size, strict=True)]
    remainder = [(0, n - c, 0) for n, c in zip(window.image, covered, strict=True)]
    image = blocks.reshape(blocks.shape[0], *covered, blocks.shape[-1])
    return lax.pad(image, np.zeros((), image.dtype), [(0, 0, 0), *remainder, (0, 0, 0)])


def alternating(outer, inner):
    """outer_1, inner_1, outer_2, inner_2, ..."""
    return [length for pair in zip(outer, inner, strict=True) for length in pair]


def _fold_offsets(visit, start, window):
    """What visit(so far, k, offset of entry k) makes of start, in a loop of XLA, which has one body to compile."""
    offsets = np.indices(window.size, np.int32).reshape(len(window.size), -1)
    return lax.scan(lambda so_far, k: (visit(so_far, *k), None), start, (np.arange(window.volume), tuple(offsets)))[0]


def _dynamic_box(a, first, size):
    """a [N, *S, C] from a place on that may be traced: [N, *size, C]."""
    for axis, (start, length) in enumerate(zip(first, size, strict=True), start=1):
        a = lax.dynamic_slice_in_dim(a, start, length, axis)
    return a


def _padded(x, window, outside):
    return lax.pad(x, outside, [(0, 0, 0), *((low, high, 0) for low, high in window.padding), (0, 0, 0)])
