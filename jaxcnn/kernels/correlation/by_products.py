"""Correlations as products, where a convolution is slow: of arrays, entry by entry of the filter, or of matrices."""

import functools
import itertools
import math
import operator
from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.contract.precision import sum_dtype
from jaxcnn.contract.sharding import mesh_axes
from jaxcnn.kernels.sums import sums
from jaxcnn.kernels.windows import in_pairs

_MANY_TERMS = 16  # fewer additions of one entry after the other overlap with those of the next entry


def by_entry(x, w, sliding, groups, arithmetic):
    """`correlate` as a sum of products of arrays, one for each entry of the filters and each channel of a group.

    x is padded once, behind a barrier, so that XLA does not test every entry of every product for the border.
    """
    *size, shared, filters = w.shape
    each, dtype = filters // groups, _dtype_of_sums(x, arithmetic)
    # A loop over the filters of a group is fast, but of one filter there is no such loop: over the groups, the channels
    # of a group are neighbours, and to sum neighbours is slow. So each channel is a depthwise sum of its own.
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
        grouped = _strided(padded, first, sliding.stride, places).reshape(x.shape[0], *places, groups, shared)
        seen += lax.split(lax.convert_element_type(grouped, dtype), (1,) * shared, axis=x.ndim)
    terms = [a * weight for a, weight in zip(seen, lax.split(weights, (1,) * len(weights)), strict=True)]
    return _sum_in_four(terms).reshape(x.shape[0], *places, filters).astype(arithmetic.dtype or x.dtype)


def _sum_in_four(terms):
    """The sum of the terms. Many are summed in four parts: an addition waits for the one before it in its part only."""
    parts = _split_evenly(terms, -(-len(terms) // 4)) if len(terms) > _MANY_TERMS else [terms]
    return functools.reduce(lax.add, [functools.reduce(lax.add, part) for part in parts])


def by_entry_over_batch(x, dz, sliding, arithmetic):
    """`correlate_over_batch` of each channel of x with its own channels of dz: [*K, 1, O].

    dw[k] = Σ_n Σ_i dz[n, i] x[n, d·i + s·k - low], one product of dz and a slice of x for every k. As many sums as the
    filter has entries in one pass over both; the batch comes last, so that devices exchange sums only.
    """
    products = _products_of_entries(x, dz, sliding, arithmetic)
    entries = [jnp.sum(a, axis=0) for a in sums(products, tuple(range(1, x.ndim - 1)))]
    return _filters_of_channels(entries, x, dz, sliding).astype(arithmetic.dtype or x.dtype)


# In a loop over all places XLA sums one number at a time. A loop over few rows for few entries is unrolled, and several
# channels are taken at once: as measured, with 8 * 9 products, but not with 9 * 11.
_ROWS, _ENTRIES = 8, 9


def by_entry_and_rows_over_batch(x, dz, sliding, arithmetic):
    """The same with a few rows summed first, for a few entries of the filter at a time, and then these sums."""
    rows = _rows_at_once(dz.shape[1])
    blocks = dz.shape[1] // rows if dz.shape[1] > rows else 0  # one block alone needs no reshape
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
    """At most 8: the most that divide the rows, or what leaves many for the remainder."""
    dividing = [count for count in range(_ROWS // 2, _ROWS + 1) if rows % count == 0]
    return max(dividing, default=-(-rows // -(-rows // _ROWS)))


def _split_evenly(items, most):
    """The items in parts of at most so many, about equally long."""
    count = -(-len(items) // most)
    ends = [len(items) * i // count for i in range(count + 1)]
    return [items[first:last] for first, last in itertools.pairwise(ends)]


def _products_of_entries(x, dz, sliding, arithmetic):
    """For each entry of the filters the products of dz, as [N, *M, m, C], with what it meets."""
    places, channels, dtype = dz.shape[1:-1], x.shape[-1], _dtype_of_sums(x, arithmetic)
    padded = lax.optimization_barrier(sliding.pad(x))
    dz = dz.reshape(dz.shape[0], *places, channels, dz.shape[-1] // channels)
    dz = jnp.swapaxes(dz, -1, -2).astype(dtype)
    products = []
    for entry in np.ndindex(*sliding.places(x.shape[1:-1], places)):
        first = [k * s for k, s in zip(entry, sliding.stride, strict=True)]
        seen = lax.convert_element_type(_strided(padded, first, sliding.dilation, places), dtype)
        products.append(dz * lax.expand_dims(seen, (x.ndim - 1,)))
    return tuple(products)


def _filters_of_channels(entries, x, dz, sliding):
    """The filters [*K, 1, O] from their entries [m, C]."""
    size = sliding.places(x.shape[1:-1], dz.shape[1:-1])
    return jnp.stack(entries).swapaxes(-1, -2).reshape(*size, 1, dz.shape[-1])


def _dtype_of_sums(x, arithmetic):
    """The wider of what sums over x are accumulated in and what is asked for."""
    own = sum_dtype(x.dtype)
    return max(own, jnp.dtype(arithmetic.dtype or own), key=lambda dtype: dtype.itemsize)


def _strided(x, first, step, count):
    """Every step-th entry of x along the spatial axes, `count` of them from `first` on."""
    last = [f + s * (m - 1) + 1 for f, s, m in zip(first, step, count, strict=True)]
    return lax.slice(x, (0, *first, 0), (x.shape[0], *last, x.shape[-1]), (1, *step, 1))


# One entry x meets weight j at the place i = low - j: the reversed filter, from low - (k - 1) on.
def by_one_entry(x, w, sliding, arithmetic):
    """`correlate` of images of one entry, with stride 1 and without dilation or groups: a product of matrices."""
    places = sliding.places(x.shape[1:-1], w.shape[:-2])
    rank = len(places)
    vectors = x.reshape(x.shape[0], x.shape[-1])
    z = _product(vectors, lax.rev(w, tuple(range(rank))), (1,), (rank,), arithmetic)
    before = [low - (k - 1) for (low, _), k in zip(sliding.padding, w.shape, strict=False)]
    around = [(low, m - k - low, 0) for low, m, k in zip(before, places, w.shape, strict=False)]
    return lax.pad(z, np.zeros((), z.dtype), [(0, 0, 0), *around, (0, 0, 0)])


def by_one_place_over_batch(x, dz, sliding, arithmetic):
    """`correlate_over_batch` without groups for dz of one place: a product of matrices, [K·C, N] [N, O].

    The images are transposed first, behind a barrier: the product that transposes them itself is slow for small ones.
    """
    rank = x.ndim - 2
    size = sliding.places(x.shape[1:-1], (1,) * rank)
    seen = _strided(sliding.pad(x), (0,) * rank, sliding.stride, size)
    rows = lax.optimization_barrier(seen.reshape(x.shape[0], math.prod(seen.shape[1:])).T)
    dw = _product(rows, dz.reshape(dz.shape[0], dz.shape[-1]), (1,), (0,), arithmetic)
    return dw.reshape(*size, x.shape[-1], dz.shape[-1])


def by_shifts(x, w, sliding, arithmetic):
    """`correlate` without stride, upsampling or groups: one product of matrices, [N·S, C] [C, K·O].

    What each entry of the filters has made of x is then moved to its place, and added.
    """
    *size, channels, filters = w.shape
    places, dtype = sliding.places(x.shape[1:-1], size), arithmetic.dtype or x.dtype
    wide = replace(arithmetic, dtype=arithmetic.dtype or sum_dtype(x.dtype))
    z = _product(x, jnp.moveaxis(w, -2, 0).reshape(channels, math.prod(size) * filters), (x.ndim - 1,), (0,), wide)
    parts = zip(np.ndindex(*size), jnp.split(z, math.prod(size), axis=-1), strict=True)
    axes = list(zip(sliding.dilation, sliding.padding, places, x.shape[1:-1], strict=True))
    terms = []
    for entry, part in parts:
        around = [(low - k * d, m + k * d - low - n, 0) for k, (d, (low, _), m, n) in zip(entry, axes, strict=True)]
        terms.append(lax.pad(part, np.zeros((), z.dtype), [(0, 0, 0), *around, (0, 0, 0)]))
    return functools.reduce(operator.add, terms).astype(dtype)


def by_product(x, w, sliding, arithmetic):
    """`correlate` without groups: for each entry of the filters a product of matrices, [N·M, C] [C, O]; their sum."""
    places, size = sliding.places(x.shape[1:-1], w.shape[:-2]), w.shape[:-2]
    padded, dtype = sliding.pad(x), arithmetic.dtype or x.dtype
    wide = replace(arithmetic, dtype=arithmetic.dtype or sum_dtype(x.dtype))
    terms = []
    for entry in np.ndindex(*size):
        first = [k * d for k, d in zip(entry, sliding.dilation, strict=True)]
        terms.append(_product(_strided(padded, first, sliding.stride, places), w[entry], (x.ndim - 1,), (0,), wide))
    return functools.reduce(operator.add, terms).astype(dtype)


def by_product_over_batch(x, dz, sliding, arithmetic):
    """`correlate_over_batch` without groups: each entry of the filters is a product of matrices, [C, N·M] [N·M, O]."""
    places, size = dz.shape[1:-1], sliding.places(x.shape[1:-1], dz.shape[1:-1])
    padded = sliding.pad(x)
    few = dz.shape[-1] < x.shape[-1]  # then the matrix has these as rows: 1.1 to 6 times
    entries = []
    for entry in np.ndindex(*size):
        first = [k * s for k, s in zip(entry, sliding.stride, strict=True)]
        seen = _strided(padded, first, sliding.dilation, places)
        entries.append(_product_over_places(*((dz, seen) if few else (seen, dz)), arithmetic))
    dw = jnp.stack(entries).reshape(*size, *entries[0].shape)
    return jnp.swapaxes(dw, -1, -2) if few else dw


def by_patch(x, w, sliding, arithmetic):
    """`correlate` where the filters lie side by side: a product of matrices, [N·M, K·C] [K·C, O]."""
    patches = _patches(sliding.pad(x), w.shape[:-2], sliding.places(x.shape[1:-1], w.shape[:-2]))
    return _product(patches, w.reshape(math.prod(w.shape[:-1]), w.shape[-1]), (x.ndim - 1,), (0,), arithmetic)


def by_patch_over_batch(x, dz, sliding, arithmetic):
    """`correlate_over_batch` for filters that lie side by side: a product of matrices, [K·C, N·M] [N·M, O]."""
    size = sliding.places(x.shape[1:-1], dz.shape[1:-1])
    patches = _patches(sliding.pad(x), size, dz.shape[1:-1])
    return _product_over_places(patches, dz, arithmetic).reshape(*size, x.shape[-1], dz.shape[-1])


def _patches(x, size, places):
    """What each of the places sees of x [N, *S, C], side by side: [N, *M, K·C]."""
    rank = len(size)
    x = x[:, *(slice(m * k) for m, k in zip(places, size, strict=True))]
    blocks = x.reshape(x.shape[0], *in_pairs(places, size), x.shape[-1])
    blocks = blocks.transpose(0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
    return blocks.reshape(x.shape[0], *places, math.prod(size) * x.shape[-1])


def _product_over_places(a, b, arithmetic):
    """The product of a [N, *M, C] and b [N, *M, O] that sums over all but the channels: [C, O].

    XLA sums over the rows of matrices as they lie; to sum over several axes it transposes first.
    """
    if not mesh_axes(a, b):  # where rows are split over devices, it would gather them
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
