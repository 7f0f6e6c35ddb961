"""Ways to put a correlation together from smaller ones, or from products.

Each takes the function that computes the parts, so that one way can use another: a strided input gradient of a grouped
3-D convolution is computed residue by residue, each of them group by group, each group slab by slab.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.ops.correlation_by_lax import Sliding
from jaxcnn.ops.shapes import sum_dtype

_FEW_CHANNELS = 8  # a convolution of fewer is slow


def by_group(f: Callable[..., jax.Array], x: jax.Array, w: jax.Array, groups: int) -> jax.Array:
    """f of the channels of each group, side by side."""
    pairs = zip(jnp.split(x, groups, axis=-1), jnp.split(w, groups, axis=-1), strict=True)
    return jnp.concatenate([f(*pair) for pair in pairs], axis=-1)


# With u - 1 zeros between the entries of x, the place i = u·q + r meets x only with the weights j for which u divides
# i + d·j - low: with g = gcd(d, u) these are j = j0, j0 + u/g, j0 + 2u/g, ..., and they meet x[q + b + t·d/g]. So the
# places of one residue r are a correlation of x itself with every (u/g)th weight.
def by_residue(f, x, w, sliding, groups, axes=None):
    """`correlate` with stride 1, one correlation for each residue of the upsampling, interleaved.

    Of the upsampling of the first `axes` spatial axes; the parts do the rest. Without `axes`, of all.
    """
    size, ones = w.shape[:-2], (1,) * (x.ndim - 2)
    upsampling = (*sliding.upsampling[:axes], *ones[axes:]) if axes else sliding.upsampling
    rest = tuple(both // u for both, u in zip(sliding.upsampling, upsampling, strict=True))
    lengths = [v * (n - 1) + 1 for n, v in zip(x.shape[1:-1], rest, strict=True)]
    places = sliding.places(x.shape[1:-1], size)
    steps = [-(-m // u) for m, u in zip(places, upsampling, strict=True)]
    each = zip(lengths, size, steps, sliding.padding, sliding.dilation, upsampling, strict=True)
    along = [dict(_residues(*axis)) for axis in each]
    parts = {}
    for residues in itertools.product(*along):
        weights, padding, dilation = zip(*(plans[r] for plans, r in zip(along, residues, strict=True)), strict=True)
        parts[residues] = f(x, w[weights], Sliding(ones, padding, dilation, rest), groups)
    if len(parts) == 1:
        ((residues, part),) = parts.items()
        between = [(r, u - 1 - r, u - 1) for r, u in zip(residues, upsampling, strict=True)]
        result = lax.pad(part, np.zeros((), part.dtype), [(0, 0, 0), *between, (0, 0, 0)])
    else:
        zeros = jnp.zeros_like(next(iter(parts.values())))
        result = _interleave(jnp.stack([parts.get(r, zeros) for r in np.ndindex(*upsampling)], axis=-2), upsampling)
    return result[:, *(slice(m) for m in places)]


def _residues(n, k, m, pads, d, u):
    """Along an axis, for each residue with weights: these, the padding for m places, the dilation."""
    g = math.gcd(d, u)
    for r in range(u):
        for first in (j for j in range(min(k, u)) if (r + d * j - pads[0]) % u == 0):
            weights = slice(first, None, u // g)
            low, reach = -((r + d * first - pads[0]) // u), d // g * (len(range(k)[weights]) - 1)
            yield r, (weights, (low, m + reach - n - low), d // g)
            break


# The same with one convolution. Counted from a place c where u divides c - low, the residues are r = 1, ..., u, so that
# all of them begin to meet x at the same entry: i = u·q + r + c meets x[q + t + 1 - a], a = (low - c) / u, with the
# weight u·t + (u - r). They become u times as many filters, of ceil(k / u) weights; where u divides k none is zero.
def by_subpixel(f, x, w, sliding):
    """`correlate` with stride 1 and without dilation or groups: all residues at once, as channels, interleaved."""
    rank, upsampling, channels = x.ndim - 2, sliding.upsampling, w.shape[-1]
    places = sliding.places(x.shape[1:-1], w.shape[:-2])
    count = [-(-k // u) for k, u in zip(w.shape, upsampling, strict=False)]
    start = [low % u - u for (low, _), u in zip(sliding.padding, upsampling, strict=True)]
    steps = [-(-(m - 1 - c) // u) for m, c, u in zip(places, start, upsampling, strict=True)]
    fill = [(0, t * u - k, 0) for k, t, u in zip(w.shape, count, upsampling, strict=False)]
    filled = lax.pad(w, np.zeros((), w.dtype), [*fill, (0, 0, 0), (0, 0, 0)])
    split = filled.reshape(*(n for pair in zip(count, upsampling, strict=True) for n in pair), *w.shape[-2:])
    weights, residues = range(0, 2 * rank, 2), tuple(range(1, 2 * rank, 2))
    filters = lax.rev(split, residues).transpose(*weights, 2 * rank, *residues, 2 * rank + 1)
    filters = filters.reshape(*count, w.shape[-2], math.prod(upsampling) * channels)
    before = [(low - c) // u - 1 for (low, _), c, u in zip(sliding.padding, start, upsampling, strict=True)]
    axes = zip(before, steps, count, x.shape[1:-1], strict=True)
    padding = tuple((low, q + t - 1 - n - low) for low, q, t, n in axes)
    ones = (1,) * rank
    z = f(x, filters, Sliding(ones, padding, ones, ones))
    z = _interleave(z.reshape(*z.shape[:-1], math.prod(upsampling), channels), upsampling)
    return z[:, *(slice(-c - 1, -c - 1 + m) for c, m in zip(start, places, strict=True))]


# The places i = count·q + r, r = 0, ..., count - 1, of one step q see the columns from stride·count·q - low on. With as
# many columns as a step takes as channels, step q is a place, and its results are count times as many channels, from
# the filters shifted by stride·r. These hold zeros, so that what is not finite in a column reaches all places of a step
# that sees it.
def by_columns(f, x, w, sliding, count):
    """`correlate` without groups, upsampling or dilation along the last axis: `count` places there at a time."""
    *size, k, channels, filters = w.shape
    (*strides, stride), (*pads, (low, _)) = sliding.stride, sliding.padding
    places = sliding.places(x.shape[1:-1], w.shape[:-2])[-1]
    steps, block = -(-places // count), stride * count
    seen = -(-(block - stride + k) // block)
    columns, zero = (steps - 1 + seen) * block, np.zeros((), x.dtype)
    x = lax.pad(x, zero, [*((0, 0, 0),) * (x.ndim - 2), (low, columns - x.shape[-2] - low, 0), (0, 0, 0)])
    shifts = [(stride * r, seen * block - k - stride * r, 0) for r in range(count)]
    w = jnp.stack([lax.pad(w, zero, [*((0, 0, 0),) * len(size), shift, *((0, 0, 0),) * 2]) for shift in shifts], -2)
    sliding = replace(sliding, stride=(*strides, 1), padding=(*pads, (0, 0)))
    blocks = x.reshape(*x.shape[:-2], columns // block, block * channels)
    z = f(blocks, w.reshape(*size, seen, block * channels, count * filters), sliding)
    return z.reshape(*z.shape[:-2], steps * count, filters)[..., :places, :]


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


def _interleave(parts, upsampling):
    """[N, *Q, U, C] -> [N, *(Q·u), C]: part r = (r_1, r_2, ...) has the places with these residues."""
    batch, *steps, _, channels = parts.shape
    rank = len(steps)
    split = parts.reshape(batch, *steps, *upsampling, channels)
    order = [axis for pair in zip(range(1, rank + 1), range(rank + 1, 2 * rank + 1), strict=True) for axis in pair]
    full = [q * u for q, u in zip(steps, upsampling, strict=True)]
    return split.transpose(0, *order, 2 * rank + 1).reshape(batch, *full, channels)


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


def by_slab(f, x, w, sliding, dtype):
    """`correlate` without groups: slabs across the first spatial axis are images of one rank less; what f makes of them
    is summed in its dtype.

    Of few channels, the slabs that one place sees are more channels of one image.
    """
    places, rest = sliding.places(x.shape[1:-1], w.shape[:-2])[0], sliding.along(slice(1, None))
    slabs = _slabs(x, sliding, [k * sliding.dilation[0] for k in range(len(w))], sliding.stride[0], places)
    if x.shape[-1] < _FEW_CHANNELS:
        total = f(jnp.concatenate(slabs, axis=-1), jnp.concatenate(list(w), axis=-2), rest)
    else:
        total = functools.reduce(operator.add, [f(slab, w_k, rest) for slab, w_k in zip(slabs, w, strict=True)])
    return total.reshape(x.shape[0], places, *total.shape[1:]).astype(dtype)


def by_slab_over_batch(f, x, dz, sliding):
    """`correlate_over_batch` without groups: each slab of the filters comes from one slab of the images per place.

    Of few channels, the slabs that one place sees are more channels of one image.
    """
    size, rest = sliding.places(x.shape[1:-1], dz.shape[1:-1])[0], sliding.along(slice(1, None))
    slabs = _slabs(x, sliding, [k * sliding.stride[0] for k in range(size)], sliding.dilation[0], dz.shape[1])
    dz = dz.reshape(-1, *dz.shape[2:])
    if x.shape[-1] >= _FEW_CHANNELS:
        return jnp.stack([f(slab, dz, rest) for slab in slabs])
    dw = f(jnp.concatenate(slabs, axis=-1), dz, rest)
    return jnp.stack(jnp.split(dw, size, axis=-2))


def _slabs(x, sliding, firsts, step, count):
    """x [N, D, *S, C] along D, `count` entries from each of `firsts` on: [N·count, *S, C] each, padded along D only."""
    (low, high), between = sliding.padding[0], sliding.upsampling[0] - 1
    x = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), (low, high, between), *((0, 0, 0),) * (x.ndim - 2)])
    slabs = [lax.slice_in_dim(x, first, first + step * (count - 1) + 1, step, axis=1) for first in firsts]
    return [slab.reshape(-1, *slab.shape[2:]) for slab in slabs]


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
