"""Filter gradients written as other ones: with exchanged roles, taken apart into the batch, with zeros behind.

Each way takes the function f that computes the other one, so that ways combine.
"""

import math
from dataclasses import astuple, replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.kernels.correlation.by_lax import Sliding, cropped


# One spatial axis, with the layer's dilation d, upsampling u and no stride: dw[k] = Σ_i dz[i] x_u[i + d·k - low], where
# x_u[u·p] = x[p] and there are zeros between. With i = u·p + low - d·k that is Σ_p x[p] dz[u·p + low - d·k]. The
# weights counted from the last one on are a correlation of dz with x, which has u - 1 zeros between its entries.
def by_swap_over_batch(f, x, dz, sliding, groups=1):
    """`correlate_over_batch` where dz is not dilated, in which x slides over dz. It meets the last weight first."""
    image, places = x.shape[1:-1], dz.shape[1:-1]
    axes = zip(image, places, sliding.places(image, places), *astuple(sliding), strict=True)
    padding = tuple((d * (k - 1) - low, u * (n - 1) + 1 + low - m) for n, m, k, d, (low, _), _, u in axes)
    ones = (1,) * len(places)
    dw = f(dz, x, sliding=Sliding(sliding.stride, padding, dilation=sliding.upsampling, upsampling=ones))
    dw = lax.rev(dw, tuple(range(len(places))))
    if groups == 1:
        return jnp.swapaxes(dw, -1, -2)
    grouped = dw.reshape(*dw.shape[:-1], groups, dw.shape[-1] // groups)  # [*K, O/groups, groups, C/groups]
    return jnp.swapaxes(grouped, -1, -3).reshape(*dw.shape[:-2], x.shape[-1] // groups, dz.shape[-1])


# One spatial axis, with the layer's dilation d and stride s: dw[k] = Σ_i dz[i] x[s·i + d·k - low]. Let g = gcd(d, s).
# The places i = (d/g)·q + r of a residue r meet x[d·((s/g)·q + k) + s·r - low]: each d-th entry of x from s·r - low on.
# So for each residue there is a filter gradient without dilation, whose stride is s/g. They are added as more images.
def by_residue_over_batch(f, x, dz, sliding):
    """`correlate_over_batch` of a dilated layer without upsampling, as an undilated one with more, smaller images."""
    image, places = x.shape[1:-1], dz.shape[1:-1]
    sizes = zip(image, places, sliding.places(image, places), strict=True)
    axes = [_Residues.of(*size, *how) for size, how in zip(sizes, zip(*astuple(sliding), strict=True), strict=True)]
    x = _dealt(
        _padded(x, [axis.x_pads for axis in axes]),
        [(a.parts, a.step, d, a.seen) for a, d in zip(axes, sliding.stride, strict=True)],
    )
    dz = _dealt(_padded(dz, [axis.dz_pads for axis in axes]), [(a.parts, 1, a.parts, a.places) for a in axes])
    ones = (1,) * len(axes)
    return f(x, dz, sliding=Sliding(ones, tuple(a.padding for a in axes), tuple(a.stride for a in axes), ones))


class _Residues(NamedTuple):
    """The residues of one axis. There are `parts`. Each has `seen` entries of x, with a padding, and `places` of dz."""

    parts: int
    stride: int  # s/g
    step: int  # from the first entry of x that a residue has to that of the next
    x_pads: tuple[int, int]  # zeros around x, so that the first residue begins with the first entry
    dz_pads: tuple[int, int]
    padding: tuple[int, int]
    seen: int
    places: int

    @classmethod
    def of(cls, n, m, k, d, pads, s, _):
        s = d if m == 1 else s  # a single place has no stride
        parts, stride = d // math.gcd(d, s), s // math.gcd(d, s)
        places = -(-m // parts)
        dz_pads, met = (0, parts * places - m), stride * (places - 1) + k
        # Let low = d·a + b. With stride 1 and b zeros in front of x, the residue r is each d-th entry from r on, with a
        # zeros in front. With another stride that differs from residue to residue. Then all zeros are written out.
        if s == 1 and 0 <= pads[0] < d * met:  # and some of the image is behind the padding
            low, front = divmod(pads[0], d)
            seen = min(-(-(n + front) // d), met - low)
            return cls(parts, stride, 1, (front, d * seen - front - n), dz_pads, (low, met - low - seen), seen, places)
        end = d * (met - 1) + s * (parts - 1) + 1
        return cls(parts, stride, s, (pads[0], end - n - pads[0]), dz_pads, (0, 0), met, places)


# The parts are neighbours within each image, so that a batch that is split over devices stays split as it is.
def _dealt(a, axes):
    """a [N, *S, C] as more images [N·parts, *M, C]. An axis (parts, first, step, m) is taken apart: its part r has each
    `step`-th entry from r·first on, m of them."""
    for axis, (parts, first, step, m) in enumerate(axes):
        at = 1 + 2 * axis
        if first == 1 and step == parts:
            a = a.reshape(*a.shape[:at], m, parts, *a.shape[at + 1 :]).swapaxes(at, at + 1)
        else:
            starts = [first * r for r in range(parts)]
            a = jnp.stack([lax.slice_in_dim(a, i, i + step * (m - 1) + 1, step, at) for i in starts], at)
    rank = len(axes)
    a = a.transpose(0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
    return a.reshape(math.prod(a.shape[: rank + 1]), *a.shape[rank + 1 :])


def by_zeros_behind_over_batch(f, x, dz, sliding, places):
    """`correlate_over_batch` where zeros behind dz make it as long as `places`."""
    more = [new - old for new, old in zip(places, dz.shape[1:-1], strict=True)]
    axes = zip(sliding.padding, sliding.dilation, more, strict=True)
    padding = tuple((low, high + s * zeros) for (low, high), s, zeros in axes)
    return f(x, _padded(dz, [(0, zeros) for zeros in more]), sliding=replace(sliding, padding=padding))


def by_crop_over_batch(f, x, dz, sliding):
    """`correlate_over_batch` where what negative padding crops is cut off x first."""
    x, sliding = cropped(x, sliding)
    return f(x, dz, sliding=sliding)


def by_written_zeros_over_batch(f, x, dz, sliding):
    """`correlate_over_batch` where all zeros in and around x are written into memory."""
    ones = (1,) * len(sliding.stride)
    x = lax.optimization_barrier(sliding.pad(x))  # without it XLA makes the zeros a padding again
    return f(x, dz, sliding=replace(sliding, padding=((0, 0),) * len(ones), upsampling=ones))


def _padded(a, pads):
    """a with zeros (low, high) along each spatial axis; a negative number crops."""
    return lax.pad(a, np.zeros((), a.dtype), [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)])
