"""Correlations as products, where a convolution is slow: of arrays, entry by entry of the filter, or of matrices."""

import functools
import math
import operator
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.ops.shapes import sum_dtype


def by_entry(x, w, sliding, groups, arithmetic):
    """`correlate` of groups of one channel, or with one filter: a sum over the entries of w of products with x.

    x is padded once, behind a barrier, so that XLA does not test every entry of every product for the border.
    """
    *size, shared, filters = w.shape
    channels, each = x.shape[-1], filters // groups
    places = sliding.places(x.shape[1:-1], size)
    dtype = sum_dtype(x.dtype)
    grouped = jnp.swapaxes(w.reshape(*size, shared, groups, each), -3, -2).astype(dtype)
    weights = grouped.reshape(*size, *(1,) * (x.ndim - 1), channels, each)
    padded = lax.optimization_barrier(sliding.pad(x))
    terms = []
    for entry in np.ndindex(*size):
        first = [k * d for k, d in zip(entry, sliding.dilation, strict=True)]
        seen = _every(padded, first, sliding.stride, places).astype(dtype)
        terms.append(seen * weights[entry][..., 0] if each == 1 else seen[..., None] * weights[entry])
    total = functools.reduce(operator.add, terms)
    if shared > 1:
        total = jnp.sum(total.reshape(*total.shape[:-1], groups, shared), axis=-1)
    return total.reshape(x.shape[0], *places, filters).astype(arithmetic.dtype or x.dtype)


@partial(jax.jit, static_argnames=("sliding", "arithmetic"), inline=True)  # one pass outside jit as well
def by_entry_over_batch(x, dz, sliding, arithmetic):
    """`correlate_over_batch` of each channel of x with its own channels of dz: [*K, 1, O].

    dw[k] = Σ_n Σ_i dz[n, i] x[n, d·i + s·k - low], one product of dz and a slice of x for every k. As many sums as the
    filter has entries in one pass over both; the batch comes last, so that devices exchange sums only.
    """
    batch, *places, filters = dz.shape
    channels, dtype = x.shape[-1], sum_dtype(x.dtype)
    size = sliding.places(x.shape[1:-1], places)
    padded = lax.optimization_barrier(sliding.pad(x))
    dz = dz.reshape(batch, *places, channels, filters // channels).astype(dtype)
    products = []
    for entry in np.ndindex(*size):
        first = [k * s for k, s in zip(entry, sliding.stride, strict=True)]
        products.append(dz * _every(padded, first, sliding.dilation, places).astype(dtype)[..., None])
    sums = jnp.stack(_sums_over_places(tuple(products)))
    return jnp.sum(sums, axis=1).reshape(*size, 1, filters).astype(arithmetic.dtype or x.dtype)


def _every(x, first, step, count):
    """Every step-th entry of x along the spatial axes, `count` of them from `first` on."""
    last = [f + s * (m - 1) + 1 for f, s, m in zip(first, step, count, strict=True)]
    return lax.slice(x, (0, *first, 0), (x.shape[0], *last, x.shape[-1]), (1, *step, 1))


@jax.custom_jvp
def _sums_over_places(maps: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """The sum of each map [N, *M, C, m] over its places, [N, C, m], all in one pass."""
    zeros = tuple(np.zeros((), a.dtype) for a in maps)
    places = range(1, maps[0].ndim - 2)
    return tuple(lax.reduce(maps, zeros, lambda a, b: tuple(u + v for u, v in zip(a, b, strict=True)), places))


@_sums_over_places.defjvp
def _sums_over_places_jvp(primals, tangents):
    """Linear; XLA's reduction of many operands has no derivative worth its cost."""
    (maps,), (dmaps,) = primals, tangents
    places = tuple(range(1, maps[0].ndim - 2))
    return _sums_over_places(maps), tuple(jnp.sum(a, axis=places) for a in dmaps)


# One entry x meets weight j at the place i = low - j: the reversed filter, from low - (k - 1) on.
def of_one_entry(x, w, sliding, arithmetic):
    """`correlate` of images of one entry, with stride 1 and without dilation or groups: a product of matrices."""
    places = sliding.places(x.shape[1:-1], w.shape[:-2])
    rank = len(places)
    vectors = x.reshape(x.shape[0], x.shape[-1])
    z = _product(vectors, lax.rev(w, tuple(range(rank))), (1,), (rank,), arithmetic)
    before = [low - (k - 1) for (low, _), k in zip(sliding.padding, w.shape, strict=False)]
    around = [(low, m - k - low, 0) for low, m, k in zip(before, places, w.shape, strict=False)]
    return lax.pad(z, np.zeros((), z.dtype), [(0, 0, 0), *around, (0, 0, 0)])


def by_shifts(x, w, sliding, arithmetic):
    """`correlate` without stride, upsampling or groups: one product of matrices, [N·S, C] [C, K·O].

    What each entry of the filters has made of x is then moved to its place, and added.
    """
    *size, channels, _ = w.shape
    places, dtype = sliding.places(x.shape[1:-1], size), arithmetic.dtype or x.dtype
    wide = replace(arithmetic, dtype=arithmetic.dtype or sum_dtype(x.dtype))
    z = _product(x, jnp.moveaxis(w, -2, 0).reshape(channels, -1), (x.ndim - 1,), (0,), wide)
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
        terms.append(_product(_every(padded, first, sliding.stride, places), w[entry], (x.ndim - 1,), (0,), wide))
    return functools.reduce(operator.add, terms).astype(dtype)


def by_product_over_batch(x, dz, sliding, arithmetic):
    """`correlate_over_batch` without groups: each entry of the filters is a product of matrices, [C, N·M] [N·M, O]."""
    places, size = dz.shape[1:-1], sliding.places(x.shape[1:-1], dz.shape[1:-1])
    padded, summed = sliding.pad(x), tuple(range(x.ndim - 1))
    entries = []
    for entry in np.ndindex(*size):
        first = [k * s for k, s in zip(entry, sliding.stride, strict=True)]
        entries.append(_product(_every(padded, first, sliding.dilation, places), dz, summed, summed, arithmetic))
    return jnp.stack(entries).reshape(*size, *entries[0].shape)


def _product(a, b, a_axes, b_axes, arithmetic):
    return lax.dot_general(
        a,
        b,
        ((a_axes, b_axes), ((), ())),
        precision=arithmetic.precision,
        preferred_element_type=arithmetic.dtype,
    )
