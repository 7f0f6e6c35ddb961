"""Ways to put a correlation together from smaller ones.

Each takes the function that computes the parts, so that one way can use another: a strided input gradient of a grouped
3-D convolution is computed residue by residue, each of them group by group, each group slab by slab.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.kernels.correlation.by_lax import Sliding
from jaxcnn.kernels.sums import sums
from jaxcnn.kernels.windows import in_pairs

_FEW_CHANNELS = 8  # a convolution of fewer is slow


def by_group(f: Callable[..., jax.Array], x: jax.Array, w: jax.Array, groups: int) -> jax.Array:
    """f of the channels of each group, side by side."""
    pairs = zip(jnp.split(x, groups, axis=-1), jnp.split(w, groups, axis=-1), strict=True)
    return jnp.concatenate([f(*pair) for pair in pairs], axis=-1)


def by_dealt_group(f, x, w, groups):
    """The same, with the groups taken apart in one pass: what x comes from is not computed anew for each."""

    def dealt(a):
        return _split_axis(a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups), a.ndim - 1)

    return jnp.concatenate([f(*pair) for pair in zip(dealt(x), dealt(w), strict=True)], axis=-1)


def _split_axis(a, axis):
    """What a has at each place of the axis, in one pass, and not fused with what follows: each a sum along the axis in
    which all but that place are 0."""
    place = lax.broadcasted_iota(np.int32, a.shape, axis)
    return sums(tuple(jnp.where(place == i, a, np.zeros((), a.dtype)) for i in range(a.shape[axis])), (axis,))


# With u - 1 zeros between the entries of x, the place i = u·q + r meets x only with the weights j for which u divides
# i + d·j - low: with g = gcd(d, u) these are j = j0, j0 + u/g, j0 + 2u/g, ..., and they meet x[q + b + t·d/g]. So the
# places of one residue r are a correlation of x itself with every (u/g)th weight.
def by_residue(f, x, w, sliding, groups, padded_once=False, slabs_left_to_f=False):
    """`correlate` with stride 1, one correlation for each residue of the upsampling, interleaved.

    With `padded_once` x is padded for all of them together, where f would pad it for each, and compute as often what x
    comes from. With `slabs_left_to_f` the upsampling of the first axis is left to f.
    """
    size, image, upsampling, ones = w.shape[:-2], x.shape[1:-1], sliding.upsampling, (1,) * (x.ndim - 2)
    places, left_to_f = sliding.places(image, size), ones
    if slabs_left_to_f:
        left_to_f, upsampling = (upsampling[0], *ones[1:]), (1, *upsampling[1:])
        image = ((image[0] - 1) * left_to_f[0] + 1, *image[1:])
    steps = [-(-m // u) for m, u in zip(places, upsampling, strict=True)]
    axes = zip(image, size, steps, sliding.padding, sliding.dilation, upsampling, strict=True)
    along, parts = [dict(_residues(*axis)) for axis in axes], {}
    around = [_largest_padding([pads for _, pads, _ in plans.values()]) if padded_once else (0, 0) for plans in along]
    if padded_once:
        x = lax.optimization_barrier(Sliding(ones, tuple(around), ones, ones).pad(x))
    for residues in itertools.product(*along):
        weights, padding, dilation = zip(*(plans[r] for plans, r in zip(along, residues, strict=True)), strict=True)
        padding = tuple((low - a, high - b) for (low, high), (a, b) in zip(padding, around, strict=True))
        parts[residues] = f(x, w[weights], Sliding(ones, padding, dilation, left_to_f), groups)
    if len(parts) == 1:
        ((residues, part),) = parts.items()
        between = [(r, u - 1 - r, u - 1) for r, u in zip(residues, upsampling, strict=True)]
        result = lax.pad(part, np.zeros((), part.dtype), [(0, 0, 0), *between, (0, 0, 0)])
    else:
        result = _interleave_some(parts, upsampling)
    return result[:, *(slice(m) for m in places)]


def _largest_padding(pads):
    """The least padding on each side that holds all of these."""
    low, high = zip(*pads, strict=True)
    return max(low), max(high)


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
# weight u·t + (u - r). They become u times as many filters, of k / u weights.
def by_subpixel(f, x, w, sliding):
    """`correlate` with stride 1 and without dilation or groups: all residues at once, as channels, interleaved.

    The upsampling divides the size of the filters."""
    rank, upsampling, channels = x.ndim - 2, sliding.upsampling, w.shape[-1]
    places = sliding.places(x.shape[1:-1], w.shape[:-2])
    count = [k // u for k, u in zip(w.shape, upsampling, strict=False)]
    start = [low % u - u for (low, _), u in zip(sliding.padding, upsampling, strict=True)]
    steps = [-(-(m - 1 - c) // u) for m, c, u in zip(places, start, upsampling, strict=True)]
    # To reverse the residues alone, all is reversed, and then the weights of each residue. What w is here is mostly a
    # W†: its own reversal cancels with the first one, and leaves XLA a transposition, which is three times as fast.
    reversed_filters = lax.rev(jnp.swapaxes(w, -2, -1), tuple(range(rank)))
    split = reversed_filters.reshape(*in_pairs(count, upsampling), w.shape[-1], w.shape[-2])
    weights, residues = tuple(range(0, 2 * rank, 2)), range(1, 2 * rank, 2)
    filters = lax.rev(split, weights).transpose(*weights, 2 * rank + 1, *residues, 2 * rank)
    filters = filters.reshape(*count, w.shape[-2], math.prod(upsampling) * channels)
    before = [(low - c) // u - 1 for (low, _), c, u in zip(sliding.padding, start, upsampling, strict=True)]
    axes = zip(before, steps, count, x.shape[1:-1], strict=True)
    padding = tuple((low, q + t - 1 - n - low) for low, q, t, n in axes)
    ones = (1,) * rank
    z = f(x, filters, Sliding(ones, padding, ones, ones))
    z = _interleave(z.reshape(*z.shape[:-1], math.prod(upsampling), channels), upsampling)
    return z[:, *(slice(-c - 1, -c - 1 + m) for c, m in zip(start, places, strict=True))]


def _interleave(parts, upsampling):
    """[N, *Q, U, C] -> [N, *(Q·u), C]: part r = (r_1, r_2, ...) has the places with these residues."""
    batch, *steps, _, channels = parts.shape
    rank = len(steps)
    split = parts.reshape(batch, *steps, *upsampling, channels)
    order = in_pairs(range(1, rank + 1), range(rank + 1, 2 * rank + 1))
    full = [q * u for q, u in zip(steps, upsampling, strict=True)]
    return split.transpose(0, *order, 2 * rank + 1).reshape(batch, *full, channels)


def _interleave_some(parts, upsampling):
    """The same of parts {(r_1, r_2, ...): [N, *Q, C]}, with zeros where there is none."""
    zeros = jnp.zeros_like(next(iter(parts.values())))
    return _interleave(jnp.stack([parts.get(r, zeros) for r in np.ndindex(*upsampling)], axis=-2), upsampling)


def by_swap_over_batch(f, x, dz, sliding):
    """`correlate_over_batch` without dilation: x slides over dz. It meets the entries of the filters from the last on.

    What is slid over has the channels that every product is repeated for; dz may have fewer. Zeros make it as long as
    x on each axis: XLA is slow where what slides is longer than what it slides over.
    """
    image, places = x.shape[1:-1], dz.shape[1:-1]
    missing = [max(n - m, 0) for n, m in zip(image, places, strict=True)]
    axes = zip(image, places, missing, sliding.places(image, places), sliding.stride, sliding.padding, strict=True)
    padding = tuple((s * (k - 1) - low, n - m + low - zeros) for n, m, zeros, k, s, (low, _) in axes)
    dz = lax.pad(dz, np.zeros((), dz.dtype), [(0, 0, 0), *((0, zeros, 0) for zeros in missing), (0, 0, 0)])
    dw = f(dz, x, sliding=replace(sliding, padding=padding))
    return jnp.swapaxes(lax.rev(dw, tuple(range(len(places)))), -1, -2)


# A slab is an image of one rank less: what lies at one place d of a spatial axis, the first where nothing else is said.
# It meets the slab k of a filter at the place j = (d + low - k·dilation) / stride. So all slabs d of one residue of the
# stride are correlated at once with all slabs k that they meet, as so many more filters, and a place gets the sum of
# what its slabs made.
def by_slab(f, x, w, sliding, dtype):
    """`correlate` without groups: one correlation of slabs of x for each residue of the stride along the first axis.

    What f makes of them is summed in its dtype. Of few channels, or of volumes of which many slabs meet few places, the
    slabs that a place sees are more channels of one image.
    """
    places, rest = sliding.places(x.shape[1:-1], w.shape[:-2])[0], sliding.along(slice(1, None))
    firsts, step = [k * sliding.dilation[0] for k in range(len(w))], sliding.stride[0]
    if _prefers_slabs_as_channels(x, places, step):
        slabs = _slabs_of_places(x, sliding, firsts, step, places)
        z = f(_joined(slabs), jnp.concatenate(list(w), axis=-2), rest)
        return z.reshape(x.shape[0], places, *z.shape[1:]).astype(dtype)
    terms = []
    for slabs, starts in _slabs_of_residues(x, sliding, firsts, step):
        z = f(_joined(slabs), jnp.concatenate([w[k] for k in starts], axis=-1), rest)
        z = z.reshape(*slabs.shape[:2], *z.shape[1:])
        parts = zip(jnp.split(z, len(starts), axis=-1), starts.values(), strict=True)
        terms += [_shifted(part, -start, places) for part, start in parts]
    return functools.reduce(operator.add, terms).astype(dtype)


# With u - 1 zeros between the slabs and stride 1, what the slab d makes with the slab k of a filter is for the place
# j = u·d + low - k·dilation: all of one k have one residue.
def by_upsampled_slab(f, x, w, sliding, dtype):
    """`correlate` with stride 1 along the first axis and without groups: all slabs of x with all of the filters, the
    sums for each residue of the upsampling of that axis, interleaved."""
    places, rest = sliding.places(x.shape[1:-1], w.shape[:-2])[0], sliding.along(slice(1, None))
    upsampling, others = sliding.upsampling[0], len(rest.stride)
    steps = -(-places // upsampling)
    z = f(_joined(x), jnp.concatenate(list(w), axis=-1), rest)
    terms = {}
    for k, part in enumerate(jnp.split(z.reshape(*x.shape[:2], *z.shape[1:]), len(w), axis=-1)):
        start, residue = divmod(sliding.padding[0][0] - k * sliding.dilation[0], upsampling)
        terms.setdefault(residue, []).append(_shifted(part, start, steps))
    parts = {(r, *(0,) * others): functools.reduce(operator.add, some).astype(dtype) for r, some in terms.items()}
    return _interleave_some(parts, (upsampling, *(1,) * others))[:, :places]


def by_slab_over_batch(f, x, dz, sliding):
    """`correlate_over_batch` without groups, of the slabs of the last axis, or of the first where filters are shorter.

    XLA transposes the images so that their batch comes last, here with the places of that axis; those of the last axis
    lie side by side already.
    """
    size = sliding.places(x.shape[1:-1], dz.shape[1:-1])
    if size[0] < size[-1]:
        return _by_first_axis_over_batch(f, x, dz, sliding)
    dw = _by_first_axis_over_batch(f, jnp.moveaxis(x, -2, 1), jnp.moveaxis(dz, -2, 1), sliding.last_axis_first())
    return jnp.moveaxis(dw, 0, -3)


def _by_first_axis_over_batch(f, x, dz, sliding):
    """The slabs of dz are moved to those of x, once for each slab of the filter.

    Where dz is so much larger than x that its copies would cost more, and as in `by_slab`, the slabs of x that a place
    sees are more channels of one image.
    """
    size, rest = sliding.places(x.shape[1:-1], dz.shape[1:-1])[0], sliding.along(slice(1, None))
    firsts, step = [k * sliding.stride[0] for k in range(size)], sliding.dilation[0]
    if dz.shape[-1] >= 4 * x.shape[-1] or _prefers_slabs_as_channels(x, dz.shape[1], step):
        slabs = _slabs_of_places(x, sliding, firsts, step, dz.shape[1])
        return jnp.stack(jnp.split(f(_joined(slabs), _joined(dz), rest), size, axis=-2))
    entries = {}
    for slabs, starts in _slabs_of_residues(x, sliding, firsts, step):
        moved = [_shifted(dz, start, slabs.shape[1]) for start in starts.values()]
        dw = f(_joined(slabs), _joined(jnp.concatenate(moved, axis=-1)), rest)
        entries |= zip(starts, jnp.split(dw, len(starts), axis=-1), strict=True)
    return jnp.stack([entries[k] for k in range(size)])


def _prefers_slabs_as_channels(x, places, step):
    """Whether there are few channels, or more than a fifth of the slabs of volumes meet no place."""
    return x.shape[-1] < _FEW_CHANNELS or (x.ndim > 4 and 5 * places * step < 4 * x.shape[1])


def _slabs_of_places(x, sliding, firsts, step, count):
    """[N, count, *S, len(firsts)·C]: from each of `firsts` on every `step`-th slab of x, side by side."""
    (low, high), between = sliding.padding[0], sliding.upsampling[0] - 1
    x = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), (low, high, between), *((0, 0, 0),) * (x.ndim - 2)])
    slabs = [lax.slice_in_dim(x, first, first + step * (count - 1) + 1, step, axis=1) for first in firsts]
    return jnp.concatenate(slabs, axis=-1)


def _slabs_of_residues(x, sliding, firsts, step):
    """The slabs of x of each residue of the step, with {k: the slab of these at place 0} for all k that meet them."""
    between = sliding.upsampling[0] - 1
    missing = max(step - ((x.shape[1] - 1) * (between + 1) + 1), 0)  # no residue is without a slab
    x = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), (0, missing, between), *((0, 0, 0),) * (x.ndim - 2)])
    meet = {}
    for k, first in enumerate(firsts):
        start, residue = divmod(first - sliding.padding[0][0], step)
        meet.setdefault(residue, {})[k] = start
    return [(lax.slice_in_dim(x, residue, None, step, axis=1), starts) for residue, starts in meet.items()]


def _shifted(x, by, count):
    """x with its slabs moved on by so many, zeros for what is not there, cut or filled to `count` slabs."""
    around = [(0, 0, 0), (by, count - by - x.shape[1], 0), *((0, 0, 0),) * (x.ndim - 2)]
    return lax.pad(x, np.zeros((), x.dtype), around)


def _joined(slabs):
    """[N, D, *S, C] as images [N·D, *S, C]."""
    return slabs.reshape(slabs.shape[0] * slabs.shape[1], *slabs.shape[2:])
