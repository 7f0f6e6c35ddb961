"""Where the maximum of each window is, and how a gradient gets back to it.

`max_pooling.py` says what max-pooling and its backward pass are. This file knows the ways to compute them. The *winner*
of a window is the first of its largest entries, the last axis fastest. A NaN is larger than all numbers. The padding
never wins. All ways agree on that.
"""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.contract.geometry import Window
from jaxcnn.contract.precision import sum_dtype
from jaxcnn.kernels.windows import FEW_ENTRIES, entries
from jaxcnn.kernels.winning_entries import (
    add_by_entry,
    add_by_window,
    add_to_blocks,
    dtype_of_entries,
    largest_by_axis,
    largest_by_block,
    max_by_axis,
)
from jaxcnn.kernels.winning_places import (
    add_at_place_within,
    dtype_of_places,
    largest_by_place,
    lowest,
    narrow_dtype,
    narrowed,
    reduce_windows,
    take_from_place,
    windows_of_places,
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
    y, winner = _searched(x, window)
    if image_of_maxima(x, window) is not None:  # a TPU that needs no winner has then no use for the search
        y = lax.platform_dependent(x, y, tpu=lambda x, _: _reduced(x, window), default=lambda _, y: y)
    return y, winner


def _searched(x, window):
    """The maximum of each window, and its winner."""
    if winner_type(window) is Place and not _has_short_sides(window):
        y, place = largest_by_place(x, window)
        return y, Place(narrowed(place, window))
    y, entry = largest_by_block(x, window) if window.side_by_side else largest_by_axis(x, window)
    return y, winner_of_entry(entry, window)


@max_and_winner.defjvp
def _max_and_winner_jvp(window, primals, tangents):
    """The tangent of a maximum is that of the entry that won. A winner is an integer, so its tangent is of float0."""
    (x,), (dx,) = primals, tangents
    y, winner = max_and_winner(x, window)
    no_tangent = jax.tree.map(lambda number: np.zeros(number.shape, jax.dtypes.float0), winner)
    return (y, winner), (take_from_winner(dx, winner, window), no_tangent)


# A TPU has an instruction that searches the windows for their maxima and adds dy there. The ways of a CPU move up to
# six times its bytes, by XLA's count for a v5e. So there the backward pass wants x, and no winners. A program that is
# compiled for one platform holds one of the two ways, and XLA drops what the other would need.
def image_of_maxima(x: jax.Array, window: Window) -> jax.Array | None:
    """x if `add_at_maximum` has a use for it, else None."""
    return None if _is_single(window) or max(window.dilation) > 1 else x


def add_at_maximum(dy: jax.Array, x: jax.Array | None, winner: Winner, window: Window) -> jax.Array:
    """`add_at_winner` for the maxima of x, which is that of `image_of_maxima`."""
    if x is None:
        return add_at_winner(dy, winner, window)
    return lax.platform_dependent(
        dy,
        lax.stop_gradient(x),
        winner,
        tpu=lambda dy, x, _: add_by_search(dy, x, window),
        default=lambda dy, _, winner: add_at_winner(dy, winner, window),
    )


def add_by_search(dy, x, window):
    """dx by XLA's `select-and-scatter`, the derivative of `reduce_window`. A NaN in a window is not found."""
    overlap = any(s < k for s, k in zip(window.stride, window.size, strict=True))
    dtype = sum_dtype(dy.dtype) if overlap else dy.dtype
    return jax.vjp(partial(_reduced, window=window), x.astype(dtype))[1](dy.astype(dtype))[0].astype(dy.dtype)


def _reduced(x, window):
    """The maximum of each window, by XLA's `reduce_window`."""
    return reduce_windows(x, lowest(x.dtype), lax.max, window)


def add_at_winner(dy: jax.Array, winner: Winner, window: Window) -> jax.Array:
    """dx[j] = Σ_i dy[i] [winner[i] = k] over the windows i that place j is in, k its entry there: [N, *S, C]."""
    if _is_single(window):
        return _add_to_box(dy, winner.number, window)
    if isinstance(winner, Place):
        return add_at_place_within(dy, winner.number, window.image, partial(windows_of_places, window))
    if window.side_by_side:
        return add_to_blocks(dy, winner.number, window)
    # A place is then in fewer windows than a window has entries. To add by window was 1.6 to 2.2 times as fast when it
    # was added (commit 19e038a, no machine noted).
    fewer_windows = max(window.stride) > 1 and max(window.dilation) == 1
    return (add_by_window if fewer_windows else add_by_entry)(dy, winner.number, window)


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
    return Place(narrowed(_place_of_entry(entry, window), window))


def place_of_winner(winner: Winner, window: Window) -> jax.Array:
    """The places that won, as flat indices [N, *M, C] of `dtype_of_places`."""
    if isinstance(winner, Place):
        return winner.number.astype(dtype_of_places(window.image))
    return _place_of_entry(winner.number, window)


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
    by_reduction = partial(_reduced, window=window)
    # XLA's `reduce_window` is as fast as ours for windows side by side of more than 16 entries, or with 9 to 23
    # channels, which fill one or two vectors. 1 to 30 times is what ours gained elsewhere, on 2 cores of an AMD EPYC.
    few_vectors = x.shape[-1] in range(9, 24)
    fast = window.side_by_side and (window.volume > 16 or few_vectors)
    if fast or not _has_short_sides(window):
        return by_reduction(x)
    return lax.platform_dependent(x, cpu=partial(max_by_axis, window=window), default=by_reduction)


def max_of_symbolic(x, window):
    """`window_max` of an image of symbolic size. JAX's derivative of it goes to the first maximum as well."""
    padded = lax.pad(x, lowest(x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in window.padding), (0, 0, 0)])
    return reduce_windows(padded, lowest(x.dtype), lax.max, replace(window, padding=((0, 0),) * len(window.size)))


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
    dtype = narrow_dtype(window) if is_place else dtype_of_entries(window)
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
