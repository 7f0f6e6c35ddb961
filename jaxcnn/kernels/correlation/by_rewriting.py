"""Filter gradients written as other ones: with exchanged roles, taken apart into the batch, with zeros behind.

Each way takes the function f that computes the other one, so that ways combine.
"""

import math
from dataclasses import astuple, replace

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.kernels.correlation.by_lax import Sliding
from jaxcnn.kernels.correlation.by_products import strided


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
    """`correlate_over_batch` without upsampling, of a dilated layer as of an undilated one with more, smaller images."""
    image, places, ones = x.shape[1:-1], dz.shape[1:-1], (1,) * (x.ndim - 2)
    steps = [(d, d) if m == 1 else (d, s) for m, d, s in zip(places, sliding.stride, sliding.dilation, strict=True)]
    residues, strides = zip(*((d // math.gcd(d, s), s // math.gcd(d, s)) for d, s in steps), strict=True)
    some = [-(-m // r) for m, r in zip(places, residues, strict=True)]  # places of a residue
    met = [s * (q - 1) + k for s, q, k in zip(strides, some, sliding.places(image, places), strict=True)]
    ends = [d * (p - 1) + s * (r - 1) + 1 for (d, s), p, r in zip(steps, met, residues, strict=True)]
    x = _padded(x, [(low, end - n - low) for (low, _), end, n in zip(sliding.padding, ends, image, strict=True)])
    dz = _padded(dz, [(0, r * q - m) for r, q, m in zip(residues, some, places, strict=True)])
    firsts = list(np.ndindex(*residues))
    x_parts = [
        strided(x, [s * r for (_, s), r in zip(steps, first, strict=True)], sliding.stride, met) for first in firsts
    ]
    dz_parts = [strided(dz, first, residues, some) for first in firsts]
    return f(_as_images(x_parts), _as_images(dz_parts), sliding=Sliding(ones, ((0, 0),) * len(ones), strides, ones))


def by_zeros_behind_over_batch(f, x, dz, sliding, image, places):
    """`correlate_over_batch` without upsampling, where zeros behind make x and dz as large as `image` and `places`."""
    more_x, more_dz = (
        [new - old for new, old in zip(shape, a.shape[1:-1], strict=True)] for a, shape in ((x, image), (dz, places))
    )
    if any(more_x):  # the barrier keeps XLA from making the zeros a padding of the convolution again
        x = lax.optimization_barrier(_padded(x, [(0, more) for more in more_x]))
    if any(more_dz):
        dz = _padded(dz, [(0, more) for more in more_dz])
    axes = zip(sliding.padding, sliding.dilation, more_x, more_dz, strict=True)
    padding = tuple((low, high - a + s * b) for (low, high), s, a, b in axes)
    return f(x, dz, sliding=replace(sliding, padding=padding))


def by_written_zeros_over_batch(f, x, dz, sliding):
    """`correlate_over_batch` where all zeros in and around x are written into memory."""
    ones = (1,) * len(sliding.stride)
    return f(sliding.pad(x), dz, sliding=replace(sliding, padding=((0, 0),) * len(ones), upsampling=ones))


def _padded(a, pads):
    """a with zeros (low, high) along each spatial axis; a negative number crops."""
    return lax.pad(a, np.zeros((), a.dtype), [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)])


# The parts are neighbours within each image, so that a batch that is split over devices stays split as it is.
def _as_images(parts):
    """Arrays [N, *S, C] as one batch [N·len(parts), *S, C]."""
    return jnp.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:])
