"""Correlations without a convolution: as products of arrays, one for each entry of the filter, or of matrices."""

import functools
import itertools
import math
import operator
from dataclasses import astuple, replace
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.contract.precision import sum_dtype
from jaxcnn.contract.sharding import mesh_axes
from jaxcnn.kernels.sums import sums
from jaxcnn.kernels.unfused import unfused
from jaxcnn.kernels.windows import alternating

# A sum of more terms is added up in four parts. Each addition waits for the one before it. A processor fills the
# waiting with additions for the next place only if the sum is short. The number bounds what counts as short.
# It was set by hand, in commit e70bc98.
_MANY_TERMS = 16


def by_entry(x, w, sliding, groups, arithmetic):
    """`correlate` as a sum of products of arrays, one for each entry of the filters and each channel of a group.

    x is padded once, behind a barrier. Without the barrier XLA fuses the padding into each product, and tests for every
    number of it whether it lies in the border.
    """
    *size, shared, filters = w.shape
    each, dtype = filters // groups, _dtype_of_sums(x, arithmetic)
    # XLA's fast loop runs over the filters of a group. With one filter for each group the loop runs over the groups,
    # and each of its steps sums the channels of a group, which are neighbours in memory. That is slow. So the sum is
    # made of one depthwise correlation for each channel of a group.
    if shared > 1 and each == 1:
        part = partial(by_entry, sliding=sliding, groups=groups, arithmetic=replace(arithmetic, dtype=dtype))
        x = x.reshape(*x.shape[:-1], groups, shared)
        parts = [part(x[..., i], w[..., i : i + 1, :]) for i in range(shared)]
        return functools.reduce(operator.add, parts).astype(arithmetic.dtype or x.dtype)
    places = sliding.places(x.shape[1:-1], size)
    padded = lax.optimization_barrier(sliding.pad(x))
    weights = w.reshape(math.prod(size) * shared, *(1,) * (x.ndim - 2), groups, each).astype(dtype)
    seen = []
    for entry in np.ndindex(*size):
        first = [k * d for k, d in zip(entry, sliding.dilation, strict=True)]
        grouped = strided(padded, first, sliding.stride, places).reshape(x.shape[0], *places, groups, shared)
        seen += lax.split(lax.convert_element_type(grouped, dtype), (1,) * shared, axis=x.ndim)
    terms = [a * weight for a, weight in zip(seen, lax.split(weights, (1,) * len(weights)), strict=True)]
    return _sum_in_four(terms).reshape(x.shape[0], *places, filters).astype(arithmetic.dtype or x.dtype)


def _sum_in_four(terms):
    """The sum of the terms, of more than `_MANY_TERMS` in four parts that do not wait for each other."""
    parts = _split_evenly(terms, -(-len(terms) // 4)) if len(terms) > _MANY_TERMS else [terms]
    return functools.reduce(lax.add, [functools.reduce(lax.add, part) for part in parts])


def by_entry_over_batch(x, dz, sliding, arithmetic):
    """`correlate_over_batch` of each channel of x with its own channels of dz: [*K, 1, O].

    dw[k] = Σ_n Σ_i dz[n, i] x[n, d·i + s·k - low], one product of dz and a slice of x for every k. One pass over both
    arrays makes the sums of all k. It sums over the places first and over the batch last: devices among which the batch
    is split exchange sums only.
    """
    products = _products_of_entries(x, dz, sliding, arithmetic)
    entries = [jnp.sum(a, axis=0) for a in sums(products, tuple(range(1, x.ndim - 1)))]
    return _filters_of_channels(entries, x, dz, sliding).astype(arithmetic.dtype or x.dtype)


# XLA's CPU compiler unrolls a loop over a few rows for a few entries of the filter, and LLVM then vectorises it over
# the channels. A loop over all places is not unrolled, and sums one number at a time. When this was added (commit
# 48f8eeb), loops of 8 rows and 9 entries, 72 products, were vectorised, and loops of 9 rows and 11 entries were not.
_ROWS, _ENTRIES = 8, 9


def by_entry_and_rows_over_batch(x, dz, sliding, arithmetic):
    """`by_entry_over_batch` in two steps: sums of at most 8 rows for at most 9 entries of the filter, and their
    sums."""
    rows = _rows_at_once(dz.shape[1])
    blocks = dz.shape[1] // rows if dz.shape[1] > rows else 0  # a single block needs no reshape: it is the remainder
    remainder = dz.shape[1] - blocks * rows
    entries = []
    for some in _split_evenly(_products_of_entries(x, dz, sliding, arithmetic), _ENTRIES):
        parts = []
        if blocks:
            whole = tuple(a[:, : blocks * rows].reshape(a.shape[0], blocks, rows, *a.shape[2:]) for a in some)
            parts.append(sums(whole, (2,)))
        if remainder:
            parts.append(sums(tuple(a[:, blocks * rows :] for a in some), (1,)))
        totals = ([jnp.sum(a, axis=tuple(range(a.ndim - 2))) for a in part] for part in parts)
        entries += [functools.reduce(operator.add, entry_sums) for entry_sums in zip(*totals, strict=True)]
    return _filters_of_channels(entries, x, dz, sliding).astype(arithmetic.dtype or x.dtype)


def _rows_at_once(rows):
    """How many rows are summed at once: 4 to 8 that divide the rows, the most of these, or blocks about equally
    long."""
    dividing = [count for count in range(_ROWS // 2, _ROWS + 1) if rows % count == 0]
    return max(dividing, default=-(-rows // -(-rows // _ROWS)))


def _split_evenly(items, most):
    """The items in parts of at most `most` items, about equally long."""
    count = -(-len(items) // most)
    ends = [len(items) * i // count for i in range(count + 1)]
    return [items[first:last] for first, last in itertools.pairwise(ends)]


def _products_of_entries(x, dz, sliding, arithmetic):
    """For each entry of the filters: dz times the entries of x that this entry meets, [N, *M, m, C]."""
    places, channels, dtype = dz.shape[1:-1], x.shape[-1], _dtype_of_sums(x, arithmetic)
    padded = lax.optimization_barrier(sliding.pad(x))
    dz = dz.reshape(dz.shape[0], *places, channels, dz.shape[-1] // channels)
    dz = jnp.swapaxes(dz, -1, -2).astype(dtype)
    products = []
    for entry in np.ndindex(*sliding.places(x.shape[1:-1], places)):
        first = [k * s for k, s in zip(entry, sliding.stride, strict=True)]
        seen = lax.convert_element_type(strided(padded, first, sliding.dilation, places), dtype)
        products.append(dz * lax.expand_dims(seen, (x.ndim - 1,)))
    return tuple(products)


def _filters_of_channels(entries, x, dz, sliding):
    """The filters [*K, 1, C·m], given [m, C] for each of their entries."""
    size = sliding.places(x.shape[1:-1], dz.shape[1:-1])
    return jnp.stack(entries).swapaxes(-1, -2).reshape(*size, 1, dz.shape[-1])


def _dtype_of_sums(x, arithmetic):
    """The wider of two dtypes: that in which sums over x are accumulated, and that of the result."""
    accumulator = sum_dtype(x.dtype)
    return max(accumulator, jnp.dtype(arithmetic.dtype or accumulator), key=lambda dtype: dtype.itemsize)


def strided(x, first, step, count):
    """`count` entries of x along each spatial axis, from `first` on every `step`-th."""
    last = [f + s * (m - 1) + 1 for f, s, m in zip(first, step, count, strict=True)]
    return lax.slice(x, (0, *first, 0), (x.shape[0], *last, x.shape[-1]), (1, *step, 1))


# The only entry x meets the weight j for the place i = low - j. So the result is x times the reversed filter, which
# begins at the place low - (k - 1).
def by_one_entry(x, w, sliding, arithmetic):
    """`correlate` of images of one entry, with stride 1 and without dilation or groups: a product of matrices,
    [N, C] [C, K·O]."""
    places = sliding.places(x.shape[1:-1], w.shape[:-2])
    rank = len(places)
    vectors = x.reshape(x.shape[0], x.shape[-1])
    z = _product(vectors, lax.rev(w, tuple(range(rank))), (1,), (rank,), arithmetic)
    lows = [low - (k - 1) for (low, _), k in zip(sliding.padding, w.shape, strict=False)]
    pads = [(low, m - k - low, 0) for low, m, k in zip(lows, places, w.shape, strict=False)]
    return lax.pad(z, np.zeros((), z.dtype), [(0, 0, 0), *pads, (0, 0, 0)])


def by_one_place_over_batch(x, dz, sliding, arithmetic):
    """`correlate_over_batch` without groups for dz of one place: a product of matrices, [K·C, N] [N, O].

    The images are transposed first, behind a barrier: XLA's product that transposes a small matrix itself is slow.
    """
    rank = x.ndim - 2
    size = sliding.places(x.shape[1:-1], (1,) * rank)
    seen = strided(sliding.pad(x), (0,) * rank, sliding.stride, size)
    rows = lax.optimization_barrier(seen.reshape(x.shape[0], math.prod(seen.shape[1:])).T)
    dw = _product(rows, dz.reshape(dz.shape[0], dz.shape[-1]), (1,), (0,), arithmetic)
    return dw.reshape(*size, x.shape[-1], dz.shape[-1])


def by_shifts(x, w, sliding, arithmetic):
    """`correlate` without stride, upsampling or groups: one product of matrices, [N·S, C] [C, K·O].

    The product holds for each entry of the filters an array [N, *S, O]. Each is moved to its place, and they are added.
    The sum is stored: fused with what reads it, in the backward pass too, the product would lie in memory instead.
    """
    *size, channels, filters = w.shape
    places, dtype = sliding.places(x.shape[1:-1], size), arithmetic.dtype or x.dtype
    wide = replace(arithmetic, dtype=arithmetic.dtype or sum_dtype(x.dtype))
    z = _product(x, jnp.moveaxis(w, -2, 0).reshape(channels, math.prod(size) * filters), (x.ndim - 1,), (0,), wide)
    axes = list(zip(sliding.dilation, sliding.padding, places, x.shape[1:-1], strict=True))

    def moved_and_added(z):
        terms = []
        for entry, part in zip(np.ndindex(*size), jnp.split(z, math.prod(size), axis=-1), strict=True):
            pads = [(low - k * d, m + k * d - low - n, 0) for k, (d, (low, _), m, n) in zip(entry, axes, strict=True)]
            terms.append(lax.pad(part, np.zeros((), z.dtype), [(0, 0, 0), *pads, (0, 0, 0)]))
        return functools.reduce(operator.add, terms).astype(dtype)

    return unfused(moved_and_added, z)


def by_product(x, w, sliding, arithmetic):
    """`correlate` without groups: the sum of one product of matrices for each entry of the filters, [N·M, C] [C, O]."""
    places, size = sliding.places(x.shape[1:-1], w.shape[:-2]), w.shape[:-2]
    padded, dtype = sliding.pad(x), arithmetic.dtype or x.dtype
    wide = replace(arithmetic, dtype=arithmetic.dtype or sum_dtype(x.dtype))
    terms = []
    for entry in np.ndindex(*size):
        first = [k * d for k, d in zip(entry, sliding.dilation, strict=True)]
        terms.append(_product(strided(padded, first, sliding.stride, places), w[entry], (x.ndim - 1,), (0,), wide))
    return functools.reduce(operator.add, terms).astype(dtype)


def by_product_over_batch(x, dz, sliding, arithmetic):
    """`correlate_over_batch` without groups: each entry of the filters is a product of matrices, [C, N·M] [N·M, O]."""
    places, size = dz.shape[1:-1], sliding.places(x.shape[1:-1], dz.shape[1:-1])
    padded = sliding.pad(x)
    few = dz.shape[-1] < x.shape[-1]  # the smaller number of channels becomes the rows of the matrix: 1.1 to 6 times
    entries = []
    for entry in np.ndindex(*size):
        first = [k * s for k, s in zip(entry, sliding.stride, strict=True)]
        seen = strided(padded, first, sliding.dilation, places)
        entries.append(product_over_places(*((dz, seen) if few else (seen, dz)), arithmetic))
    dw = jnp.stack(entries).reshape(*size, *entries[0].shape)
    return jnp.swapaxes(dw, -1, -2) if few else dw


def by_met_product_over_batch(x, dz, sliding, arithmetic):
    """`by_product_over_batch` without upsampling, of what each entry of the filters meets of the image, without zeros.

    One product waits for the one before it, so that the memory of their matrices is used again.
    """
    image, places = x.shape[1:-1], dz.shape[1:-1]
    size, rest = sliding.places(image, places), list(zip(image, places, *astuple(sliding)[:3], strict=True))
    entries = []
    for entry in np.ndindex(*size):
        ranges = [_met(k, *axis) for k, axis in zip(entry, rest, strict=True)]
        if all(count > 0 for _, _, count in ranges):
            first, start, count = zip(*ranges, strict=True)
            seen = strided(x, start, sliding.dilation, count)
            of_dz = strided(dz, first, (1,) * len(count), count)
            entries.append(product_over_places(seen, of_dz, arithmetic))
            x, dz, entries[-1] = lax.optimization_barrier((x, dz, entries[-1]))
        else:
            entries.append(jnp.zeros((x.shape[-1], dz.shape[-1]), arithmetic.dtype or x.dtype))
    return jnp.stack(entries).reshape(*size, x.shape[-1], dz.shape[-1])


def _met(k, n, m, d, pads, s):
    """For the entry k along an axis: the first place that meets the image, what it meets, and how many places do."""
    offset = d * k - pads[0]  # the place i meets x[s·i + offset]
    first = max(-(offset // s), 0)
    count = min((n - 1 - offset) // s + 1, m) - first
    return first, s * first + offset, count


def by_patch(x, w, sliding, arithmetic, stored=False):
    """`correlate` where the places of a filter lie side by side: a product of matrices, [N·M, K·C] [K·C, O].

    `stored` patches are put together before the product.
    """
    patches = _patches(sliding.pad(x), w.shape[:-2], sliding.places(x.shape[1:-1], w.shape[:-2]), stored)
    return _product(patches, w.reshape(math.prod(w.shape[:-1]), w.shape[-1]), (x.ndim - 1,), (0,), arithmetic)


def by_patch_over_batch(x, dz, sliding, arithmetic, stored=False):
    """`correlate_over_batch` for filters whose places lie side by side: a product of matrices, [K·C, N·M] [N·M, O].

    `stored` patches are put together before the product.
    """
    size = sliding.places(x.shape[1:-1], dz.shape[1:-1])
    patches = _patches(sliding.pad(x), size, dz.shape[1:-1], stored)
    return product_over_places(patches, dz, arithmetic).reshape(*size, x.shape[-1], dz.shape[-1])


def _patches(x, size, places, stored):
    """For each place the entries of x [N, *S, C] that it sees, as one vector: [N, *M, K·C]."""
    rank = len(size)
    x = x[:, *(slice(m * k) for m, k in zip(places, size, strict=True))]
    blocks = x.reshape(x.shape[0], *alternating(places, size), x.shape[-1])
    blocks = blocks.transpose(0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
    patches = blocks.reshape(x.shape[0], *places, math.prod(size) * x.shape[-1])
    return lax.optimization_barrier(patches) if stored else patches


def product_over_places(a, b, arithmetic):
    """The product of a [N, *M, C] and b [N, *M, O] that sums over all but the channels: [C, O].

    XLA sums over the rows of matrices as they lie in memory. It transposes arrays first to sum over several axes.
    """
    if not mesh_axes(a, b):  # a reshape makes XLA gather rows that are split over devices
        a, b = (array.reshape(math.prod(array.shape[:-1]), array.shape[-1]) for array in (a, b))
    summed = tuple(range(a.ndim - 1))
    return _product(a, b, summed, summed, arithmetic)


def _product(a, b, a_axes, b_axes, arithmetic):
    return lax.dot_general(
        a,
        b,
        ((a_axes, b_axes), ((), ())),
        precision=arithmetic.precision,
        preferred_element_type=arithmetic.dtype,
    )
