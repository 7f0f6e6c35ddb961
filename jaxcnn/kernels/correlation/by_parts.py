"""Ways to put a correlation together from smaller ones.

Each way takes the function f that computes the parts, so that ways combine. A strided input gradient of a grouped 3-D
convolution is computed residue by residue, each residue group by group, and each group slab by slab.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.kernels.correlation.by_lax import Sliding
from jaxcnn.kernels.sums import sums
from jaxcnn.kernels.unfused import after, unfused
from jaxcnn.kernels.windows import alternating

_FEW_CHANNELS = 8  # of an image; with fewer, slabs become channels, since XLA is slow for so few


def by_group(f: Callable[..., jax.Array], x: jax.Array, w: jax.Array, groups: int) -> jax.Array:
    """f of each group of channels, the results side by side. XLA may compute what x comes from anew for each group."""
    pairs = zip(jnp.split(x, groups, axis=-1), jnp.split(w, groups, axis=-1), strict=True)
    return jnp.concatenate([f(*pair) for pair in pairs], axis=-1)


def by_dealt_group(f, x, w, groups):
    """`by_group` with the groups split in one pass, so that XLA computes what x comes from once."""

    def dealt(a):
        return _split_axis(a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups), a.ndim - 1)

    return jnp.concatenate([f(*pair) for pair in zip(dealt(x), dealt(w), strict=True)], axis=-1)


def _split_axis(a, axis):
    """The arrays a[..., i, ...] for each i of the axis, read in one pass and not fused with what follows.

    Each is the sum along the axis of an array that is a at i and 0 elsewhere.
    """
    place = lax.broadcasted_iota(np.int32, a.shape, axis)
    return sums(tuple(jnp.where(place == i, a, np.zeros((), a.dtype)) for i in range(a.shape[axis])), (axis,))


# There are u - 1 zeros between the entries of x. At the place i = u·q + r the weight j meets an entry of x, and no
# zero, if u divides i + d·j - low. Let g = gcd(d, u), and let j0 be the first weight of which that is true. The weights
# that meet entries are j = j0 + t·u/g for t = 0, 1, 2, .... The weight of t meets x[q + b + t·d/g], where
# b = (r + d·j0 - low) / u is a whole number. So the places of one residue r are a correlation of x, without zeros, with
# every (u/g)-th weight.
def by_residue(f, x, w, sliding, groups, padded_once=False, skip_first=False):
    """`correlate` with stride 1: one correlation for each residue of the upsampling, the results interleaved.

    With `padded_once` x is padded once for all residues. Otherwise f pads x for each, and XLA may compute what x comes
    from as often. With `skip_first` the upsampling of the first axis is left to f.
    """
    size, image, upsampling, ones = w.shape[:-2], x.shape[1:-1], sliding.upsampling, (1,) * (x.ndim - 2)
    places, left_to_f = sliding.places(image, size), ones
    if skip_first:
        left_to_f, upsampling = (upsampling[0], *ones[1:]), (1, *upsampling[1:])
        image = ((image[0] - 1) * left_to_f[0] + 1, *image[1:])
    steps = [-(-m // u) for m, u in zip(places, upsampling, strict=True)]
    axes = zip(image, size, steps, sliding.padding, sliding.dilation, upsampling, strict=True)
    plans, parts = [dict(_residues(*axis)) for axis in axes], {}
    widest = [_largest_padding([pads for _, pads, _ in plan.values()]) if padded_once else (0, 0) for plan in plans]
    if padded_once:
        x = lax.optimization_barrier(Sliding(ones, tuple(widest), ones, ones).pad(x))
    for residues in itertools.product(*plans):
        weights, padding, dilation = zip(*(plan[r] for plan, r in zip(plans, residues, strict=True)), strict=True)
        padding = tuple((low - a, high - b) for (low, high), (a, b) in zip(padding, widest, strict=True))
        parts[residues] = f(x, w[weights], Sliding(ones, padding, dilation, left_to_f), groups)
    if len(parts) == 1:
        ((residues, part),) = parts.items()
        pads = [(r, u - 1 - r, u - 1) for r, u in zip(residues, upsampling, strict=True)]
        result = lax.pad(part, np.zeros((), part.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    else:
        result = _interleave_some(parts, upsampling)
    return result[:, *(slice(m) for m in places)]


def _largest_padding(pads):
    """On each side the largest of several paddings (low, high)."""
    low, high = zip(*pads, strict=True)
    return max(low), max(high)


def _residues(n, k, m, pads, d, u):
    """Along an axis, for each residue that meets weights: the residue, and (its weights as a slice, the padding that
    makes m places, the dilation)."""
    g = math.gcd(d, u)
    for r in range(u):
        for first in (j for j in range(min(k, u)) if (r + d * j - pads[0]) % u == 0):
            weights = slice(first, None, u // g)
            low, reach = -((r + d * first - pads[0]) // u), d // g * (len(range(k)[weights]) - 1)
            yield r, (weights, (low, m + reach - n - low), d // g)
            break


# One convolution computes all residues. Let c be a place for which u divides c - low, and write a place as
# i = u·q + r + c with r = 1, ..., u. It meets x[q + t + 1 - a], a = (low - c) / u, with the weight u·t + (u - r). So
# all residues r begin to meet x at the same entry. They are u times as many filters, of k / u weights each.
def by_subpixel(f, x, w, sliding):
    """`correlate` with stride 1 and without dilation or groups: one correlation whose filters are those of all
    residues, interleaved.

    The upsampling divides the size of the filters.
    """
    rank, upsampling, channels = x.ndim - 2, sliding.upsampling, w.shape[-1]
    places = sliding.places(x.shape[1:-1], w.shape[:-2])
    count = [k // u for k, u in zip(w.shape, upsampling, strict=False)]
    start = [low % u - u for (low, _), u in zip(sliding.padding, upsampling, strict=True)]
    steps = [-(-(m - 1 - c) // u) for m, c, u in zip(places, start, upsampling, strict=True)]
    # The residues alone are to be reversed. So the whole filter is reversed, and then the weights of each residue back.
    # w is mostly a W†, which is a reversed filter: XLA cancels that reversal with the first one here, and a
    # transposition is left. It was three times as fast when it was added (commit d19bd36).
    reversed_filters = lax.rev(jnp.swapaxes(w, -2, -1), tuple(range(rank)))
    split = reversed_filters.reshape(*alternating(count, upsampling), w.shape[-1], w.shape[-2])
    weights, residues = tuple(range(0, 2 * rank, 2)), range(1, 2 * rank, 2)
    filters = lax.rev(split, weights).transpose(*weights, 2 * rank + 1, *residues, 2 * rank)
    filters = filters.reshape(*count, w.shape[-2], math.prod(upsampling) * channels)
    lows = [(low - c) // u - 1 for (low, _), c, u in zip(sliding.padding, start, upsampling, strict=True)]
    axes = zip(lows, steps, count, x.shape[1:-1], strict=True)
    padding = tuple((low, q + t - 1 - n - low) for low, q, t, n in axes)
    ones = (1,) * rank
    z = f(x, filters, Sliding(ones, padding, ones, ones))
    z = _interleave(z.reshape(*z.shape[:-1], math.prod(upsampling), channels), upsampling)
    return z[:, *(slice(-c - 1, -c - 1 + m) for c, m in zip(start, places, strict=True))]


def _interleave(parts, upsampling):
    """[N, *Q, U, C] -> [N, *(Q·u), C]: part r = (r_1, r_2, ...) holds the places q·u + r."""
    batch, *steps, _, channels = parts.shape
    rank = len(steps)
    split = parts.reshape(batch, *steps, *upsampling, channels)
    order = alternating(range(1, rank + 1), range(rank + 1, 2 * rank + 1))
    full = [q * u for q, u in zip(steps, upsampling, strict=True)]
    return split.transpose(0, *order, 2 * rank + 1).reshape(batch, *full, channels)


def _interleave_some(parts, upsampling):
    """`_interleave` of parts {(r_1, r_2, ...): [N, *Q, C]}, with zeros for a part that is not there."""
    zeros = jnp.zeros_like(next(iter(parts.values())))
    return _interleave(jnp.stack([parts.get(r, zeros) for r in np.ndindex(*upsampling)], axis=-2), upsampling)


# A slab is an image of one rank less: the part of x at one place d of a spatial axis, the first axis unless said
# otherwise. The slab d meets the slab k of a filter for the place j = (d + low - k·dilation) / stride. Whether that is
# a whole number depends on d modulo the stride, its residue. So one correlation takes all slabs d of one residue as
# images, and all slabs k that they meet as filters. A place is the sum of the results of its slabs.
def by_slab(f, x, w, sliding, dtype):
    """`correlate` without groups: one correlation f of slabs of x for each residue of the stride along the first axis.

    The results of f are summed in the dtype that f returns. The sum is stored: fused with what reads it, in the
    backward pass too, the results of f would lie in memory instead, which are several times as large. Where
    `_prefers_slabs_as_channels` holds, there is one correlation: the slabs that a place sees are channels of one image.
    """
    places, rest = sliding.places(x.shape[1:-1], w.shape[:-2])[0], sliding.restricted(slice(1, None))
    firsts, step = [k * sliding.dilation[0] for k in range(len(w))], sliding.stride[0]
    if _prefers_slabs_as_channels(x, places, step):
        slabs = _slabs_of_places(x, sliding, firsts, step, places)
        z = f(_joined(slabs), jnp.concatenate(list(w), axis=-2), rest)
        return z.reshape(x.shape[0], places, *z.shape[1:]).astype(dtype)
    residues, results = _slabs_of_residues(x, sliding, firsts, step), []
    for slabs, starts in residues:
        z = f(_joined(slabs), jnp.concatenate([w[k] for k in starts], axis=-1), rest)
        results.append(z.reshape(*slabs.shape[:2], *z.shape[1:]))

    def moved_and_added(*results):
        terms = []
        for z, (_, starts) in zip(results, residues, strict=True):
            parts = zip(jnp.split(z, len(starts), axis=-1), starts.values(), strict=True)
            terms += [_shifted(part, -start, places) for part, start in parts]
        return functools.reduce(operator.add, terms).astype(dtype)

    return unfused(moved_and_added, *results)


# With u - 1 zeros between the slabs and stride 1, the slab d meets the slab k of a filter for the place
# j = u·d + low - k·dilation. Modulo u that depends on k alone: all places that the slab k makes have one residue.
def by_upsampled_slab(f, x, w, sliding, dtype):
    """`correlate` with stride 1 along the first axis and without groups: one correlation f of all slabs of x with all
    slabs of the filters. The sums for each residue of the upsampling are interleaved along that axis, and stored."""
    places, rest = sliding.places(x.shape[1:-1], w.shape[:-2])[0], sliding.restricted(slice(1, None))
    upsampling, others = sliding.upsampling[0], len(rest.stride)
    steps = -(-places // upsampling)
    z = f(_joined(x), jnp.concatenate(list(w), axis=-1), rest)

    def moved_and_added(z):
        terms = {}
        for k, part in enumerate(jnp.split(z, len(w), axis=-1)):
            start, residue = divmod(sliding.padding[0][0] - k * sliding.dilation[0], upsampling)
            terms.setdefault(residue, []).append(_shifted(part, start, steps))
        parts = {(r, *(0,) * others): functools.reduce(operator.add, some).astype(dtype) for r, some in terms.items()}
        return _interleave_some(parts, (upsampling, *(1,) * others))[:, :places]

    return unfused(moved_and_added, z.reshape(*x.shape[:2], *z.shape[1:]))


def by_slab_over_batch(f, x, dz, sliding):
    """`correlate_over_batch` without groups, of slabs of the axis, first or last, along which filters are shorter.

    The places of that axis become part of the batch. XLA copies the images into an order in which the batch comes
    last. The places of the first axis have to move behind those of the other axes in that copy. The places of the last
    axis are behind them already. So the last axis is taken if both are equally long.
    """
    size = sliding.places(x.shape[1:-1], dz.shape[1:-1])
    x = after(dz, x)
    if size[0] < size[-1]:
        return _by_first_axis_over_batch(f, x, dz, sliding)
    dw = _by_first_axis_over_batch(f, jnp.moveaxis(x, -2, 1), jnp.moveaxis(dz, -2, 1), sliding.last_axis_first())
    return jnp.moveaxis(dw, 0, -3)


def _by_first_axis_over_batch(f, x, dz, sliding):
    """`by_slab_over_batch` of the first axis: for each slab of the filter a copy of dz, moved to the slabs of x it
    meets.

    Copies of dz cost too much if it has 4 times the channels of x. Then, and where `_prefers_slabs_as_channels` holds,
    the slabs of x that a place sees are channels of one image.
    """
    size, rest = sliding.places(x.shape[1:-1], dz.shape[1:-1])[0], sliding.restricted(slice(1, None))
    firsts, step = [k * sliding.stride[0] for k in range(size)], sliding.dilation[0]
    if dz.shape[-1] >= 4 * x.shape[-1] or _prefers_slabs_as_channels(x, dz.shape[1], step):
        slabs = _slabs_of_places(x, sliding, firsts, step, dz.shape[1])
        return jnp.stack(jnp.split(f(_joined(slabs), _joined(dz), rest), size, axis=-2))
    entries = {}
    for slabs, starts in _slabs_of_residues(x, sliding, firsts, step):
        dw = f(_joined(slabs), _moved_copies(dz, starts.values(), slabs.shape[1]), rest)
        entries |= zip(starts, jnp.split(dw, len(starts), axis=-1), strict=True)
    return jnp.stack([entries[k] for k in range(size)])


# XLA's kernels take dz as filters, with the batch behind the places. So one dz is transposed, and not all its copies.
def _moved_copies(dz, starts, count):
    """[N·count, *M, len(starts)·O]: for each start dz [N, D, *M, O], its slabs moved that far among `count` slabs."""
    dz = jnp.moveaxis(dz, (0, 1), (-3, -2))
    sides = [(0, 0, 0)] * (dz.ndim - 2)
    pads = [[*sides, (start, count - start - dz.shape[-2], 0), (0, 0, 0)] for start in starts]
    copies = jnp.concatenate([lax.pad(dz, np.zeros((), dz.dtype), pad) for pad in pads], axis=-1)
    return jnp.moveaxis(copies.reshape(*dz.shape[:-3], dz.shape[-3] * count, copies.shape[-1]), -2, 0)


def _prefers_slabs_as_channels(x, places, step):
    """Whether the slabs that a place sees had better be channels of one image: of few channels, or of volumes of which
    more than a fifth of the slabs meet no place."""
    return x.shape[-1] < _FEW_CHANNELS or (x.ndim > 4 and 5 * places * step < 4 * x.shape[1])


def _slabs_of_places(x, sliding, firsts, step, count):
    """[N, count, *S, len(firsts)·C]: from each of `firsts` on `count` slabs of x, every `step`-th, side by side."""
    (low, high), zeros = sliding.padding[0], sliding.upsampling[0] - 1
    x = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), (low, high, zeros), *((0, 0, 0),) * (x.ndim - 2)])
    slabs = [lax.slice_in_dim(x, first, first + step * (count - 1) + 1, step, axis=1) for first in firsts]
    return jnp.concatenate(slabs, axis=-1)


def _slabs_of_residues(x, sliding, firsts, step):
    """For each residue of the step that slabs of the filter have: the slabs of x with this residue, and a dict.

    The dict leads from each slab k of the filter with this residue to the index of the slab of x that it meets at place
    0. The index is negative if the slab k meets padding in front there.
    """
    zeros = sliding.upsampling[0] - 1
    missing = max(step - ((x.shape[1] - 1) * (zeros + 1) + 1), 0)  # no residue is without a slab
    x = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), (0, missing, zeros), *((0, 0, 0),) * (x.ndim - 2)])
    meet = {}
    for k, first in enumerate(firsts):
        start, residue = divmod(first - sliding.padding[0][0], step)
        meet.setdefault(residue, {})[k] = start
    return [(lax.slice_in_dim(x, residue, None, step, axis=1), starts) for residue, starts in meet.items()]


def _shifted(x, shift, count):
    """[N, count, *S, C]: x with its slabs moved `shift` slabs towards the end, with zeros where x has none."""
    pads = [(0, 0, 0), (shift, count - shift - x.shape[1], 0), *((0, 0, 0),) * (x.ndim - 2)]
    return lax.pad(x, np.zeros((), x.dtype), pads)


def _joined(slabs):
    """[N, D, *S, C] as images [N·D, *S, C]."""
    return slabs.reshape(slabs.shape[0] * slabs.shape[1], *slabs.shape[2:])
