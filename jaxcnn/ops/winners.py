"""Where the maximum of each window is, and how a gradient gets back to it.

`max_pooling.py` says what max-pooling and its backward pass are; this file knows three ways to compute them. All agree
on who wins: the first of the largest entries, the last axis fastest; a NaN before all; never the padding.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.ops.shapes import sum_dtype
from jaxcnn.ops.windows import (
    FEW_ENTRIES,
    entries,
    in_pairs,
    inside_image,
    joined_blocks,
    over_blocks,
    positions,
    windows_of_places,
)


def max_and_winner(x, window):
    """The maximum of each window of x [N, *S, C], and which entry it is, for `add_at_winner`: both [N, *M, C]."""
    if window.volume <= FEW_ENTRIES and window.side_by_side:
        y = window_max(x, window)
        return y, _winner_in_block(lax.stop_gradient(x), lax.stop_gradient(y), window)
    if window.volume <= FEW_ENTRIES:
        return _winner_by_entry(x, window)
    return window_max(x, window), _winner_by_place(lax.stop_gradient(x), window)


def add_at_winner(dy, winner, window):
    """dx [N, *S, C]: each dy [N, *M, C] added to the entry that won its window."""
    if window.volume <= FEW_ENTRIES and window.side_by_side:
        return _add_in_block(dy, winner, window)
    if window.volume <= FEW_ENTRIES:
        return _add_by_entry(dy, winner, window)
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
    return entry if window.volume <= FEW_ENTRIES else _smallest(_place_of_entry(entry, window), window)


def place_of_winner(winner, window):
    """Where in the image the winners are: the flat index into its spatial axes [N, *M, C], int32."""
    return winner.astype(jnp.int32) if window.volume > FEW_ENTRIES else _place_of_entry(winner, window)


def _place_of_entry(entry, window):
    entry = jnp.unravel_index(entry.astype(jnp.int32), window.size)
    place = jnp.zeros_like(entry[0])
    for axis, (k, p, n) in enumerate(zip(entry, positions(window), window.image, strict=True), start=1):
        start = p[:, 0].reshape([-1 if a == axis else 1 for a in range(place.ndim)]).astype(np.int32)
        place = place * n + start + window.dilation[axis - 1] * k
    return place


def window_max(x, window):
    """The maximum of each window of x [N, *S, C]: [N, *M, C]. JAX derives no gradient of a dilated `reduce_window`."""
    if max(window.dilation) > 1 and window.volume <= FEW_ENTRIES:
        return _winner_by_entry(x, window)[0]
    if max(window.dilation) > 1:
        return take_from_place(x, _winner_by_place(lax.stop_gradient(x), window))
    return _reduce_windows(x, np.array(-np.inf, x.dtype), lax.max, window)


def _winner_in_block(x, y, window):
    """The first entry of each window that is y, its maximum, or NaN."""
    covered = tuple(slice(m * k) for m, k in zip(window.output, window.size, strict=True))
    blocks = x[:, *covered].reshape(x.shape[0], *in_pairs(window.output, window.size), x.shape[-1])
    wins = (blocks == over_blocks(y, window)) | jnp.isnan(blocks)
    entry = jnp.where(wins, _entry_in_block(window, np.int32), np.int32(window.volume))
    within = tuple(range(2, entry.ndim - 1, 2))
    return jnp.min(entry, axis=within).astype(np.min_scalar_type(-window.volume))


def _add_in_block(dy, winner, window):
    """dx: dy at the winner of its block, 0 elsewhere and in the remainder that no window covers."""
    wins = over_blocks(winner, window) == _entry_in_block(window, winner.dtype)
    return joined_blocks(jnp.where(wins, over_blocks(dy, window), np.zeros((), dy.dtype)), window)


def _entry_in_block(window, dtype):
    """Which entry of its window each place of a block is."""
    entry = np.arange(window.volume, dtype=dtype)
    return entry.reshape(1, *in_pairs((1,) * len(window.size), window.size), 1)


# A small window is visited entry by entry, in a handful of passes over memory, each of them vectorised.
def _winner_by_entry(x, window):
    """y [N, *M, C], and which entry k of its window each y is: the first one that is largest, a NaN before all."""
    lowest = np.array(-np.inf, x.dtype)
    y = jnp.full((x.shape[0], *window.output, x.shape[-1]), lowest)
    winner = jnp.broadcast_to(_first_inside(window), y.shape)
    for k, x_k in enumerate(entries(x, window, lowest)):
        larger = (x_k > y) | (jnp.isnan(x_k) & ~jnp.isnan(y))
        y, winner = jnp.where(larger, x_k, y), jnp.where(larger, jnp.array(k, winner.dtype), winner)
    return y, winner


# A place adds up what comes from the windows that it won: for each entry k, of the window in which it is entry k. To
# move each dy to its place instead, k maps added up, is up to 15 times slower where XLA fuses it with the search for
# the winner.
def _add_by_entry(dy, winner, window):
    """dx[j] = Σ_k dy[i] [winner[i] = k], i the window in which place j is entry k."""
    zero, nobody = np.zeros((), dy.dtype), np.array(-1, winner.dtype)
    shares = zip(windows_of_places(winner, window, nobody), windows_of_places(dy, window, zero), strict=True)
    dx = jnp.zeros((dy.shape[0], *window.image, dy.shape[-1]), sum_dtype(dy.dtype))
    for k, (won_by, share) in enumerate(shares):
        dx = dx + jnp.where(won_by == k, share, zero).astype(dx.dtype)
    return dx.astype(dy.dtype)


def _first_inside(window):
    """The first entry of each window that lies inside the image [*M, 1]: it wins where nothing is larger than -inf."""
    firsts = np.meshgrid(*(inside.argmax(axis=1) for inside in inside_image(window)), indexing="ij")
    first = np.ravel_multi_index(firsts, window.size)
    return first.astype(np.min_scalar_type(-window.volume))[..., None]


# A large window is searched by XLA, which returns the place of the winner in the image, and dy is added there.
def _winner_by_place(x, window):
    """The place of the first largest entry of each window [N, *M, C], flat in the spatial axes, a NaN before all."""
    nowhere = math.prod(window.image)
    place = jnp.arange(nowhere, dtype=jnp.int32).reshape(1, *window.image, 1)

    def first_largest(a, b):
        (value_a, place_a), (value_b, place_b) = a, b
        nan_a, nan_b = value_a != value_a, value_b != value_b
        b_larger = (value_b > value_a) & ~nan_a | nan_b & ~nan_a
        tie = (value_a == value_b) | nan_a & nan_b
        b_wins = b_larger | tie & (place_b < place_a)
        return jnp.where(b_wins, value_b, value_a), jnp.where(b_wins, place_b, place_a)

    start = np.array(-np.inf, x.dtype), np.array(nowhere, np.int32)
    winner = _reduce_windows((x, jnp.broadcast_to(place, x.shape)), start, first_largest, window)[1]
    return _smallest(winner, window)


def _smallest(place, window):
    """Places in the image in as few bytes as they take: they are what the backward pass keeps."""
    return place.astype(np.min_scalar_type(math.prod(window.image)))


# Per image and channel, so that XLA sees that images do not mix: otherwise it gathers a batch spread over devices.
def add_at_place(dy, place, image):
    """dx [N, *image, C], where dx[n, place[n, i, c], c] += dy[n, i, c]; places outside the image get nothing."""

    def add(dy, place):
        nothing = jnp.zeros(math.prod(image), dy.dtype)
        return nothing.at[place].add(dy, mode="drop", wrap_negative_indices=False)

    dy_wide = dy.astype(sum_dtype(dy.dtype))
    dx = _per_image_and_channel(add)(_flat(dy_wide), _flat(place))
    return dx.reshape(dy.shape[0], *image, dy.shape[-1]).astype(dy.dtype)


def take_from_place(x, place):
    """x[n, place[n, i, c], c] [N, *M, C], the transpose of `add_at_place`; 0 for places outside the image."""

    def take(x, place):
        return x.at[place].get(mode="fill", fill_value=0, wrap_negative_indices=False)

    return _per_image_and_channel(take)(_flat(x), _flat(place)).reshape(place.shape)


def _per_image_and_channel(f):
    return jax.vmap(jax.vmap(f, in_axes=1, out_axes=1))


def _flat(a):
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
