"""Which way a GPU computes a correlation: another than `by_lax` where XLA would choose a slow kernel of cuDNN.

XLA's GPU compiler gives a convolution to one of three kernels by its form alone. XLA's `conv_rewriter.cc` has the rule.
`tests/accelerators/test_convolutions.py` compiles what relies on it:

    BackwardFilter  no groups of channels (of the batch it may have); no stride, no upsampling, no crop in front; what
                    slides, dz, is longer than the result, the filters, on every axis; if it is dilated, on one axis;
    BackwardInput   no groups; reversed filters; no stride, no dilation;
    Forward         all others.

A filter gradient that runs as Forward slides dz, as large as an image, as a filter. For dilated layers that took 3 to 4
times as long as a prototype of the way below, measured once on an NVIDIA H100. Others measured more. `python
experiments/accelerators.py --device` measures it.

The input gradient of a layer that is both strided and dilated runs as Forward over images with zeros between their
entries. It took 3, 3 and 40 times as long as the way below for three such layers, measured once on an NVIDIA H100.

Before that, XLA's `conv_operand_swapper.cc` exchanges the two arrays if what slides has more places than the image. It
does so for images of two axes without groups.
"""

import math
from functools import partial

from jaxcnn.contract.sharding import mesh_axes
from jaxcnn.kernels.correlation.by_lax import by_lax, by_lax_over_batch, has_static_places
from jaxcnn.kernels.correlation.by_parts import by_residue, by_subpixel
from jaxcnn.kernels.correlation.by_products import by_met_product_over_batch, by_patch, by_patch_over_batch, by_product
from jaxcnn.kernels.correlation.by_rewriting import (
    by_crop_over_batch,
    by_residue_over_batch,
    by_swap_over_batch,
    by_written_zeros_over_batch,
    by_zeros_behind_over_batch,
)

_FEW_ENTRIES = 27  # of filters: each is a product of matrices, or a residue, to compile


# The gains are those of prototypes, measured once on an NVIDIA H100 for images of 3 channels. Patches are stored before
# they are multiplied. Otherwise XLA (jaxlib 0.10.2) fuses the two, and then fails to compile some: images [2, 8, 12]
# under 64 filters of 5 are one.
def way(x, w, sliding, groups, arithmetic):
    """The way of `correlate` by the first branch that applies. None stands for `by_lax`."""
    *size, channels, _ = w.shape
    if not has_static_places(x) or mesh_axes(x, w):
        return None
    unstrided = max(sliding.stride, default=1) == 1
    few_residues = math.prod(sliding.upsampling) <= _FEW_ENTRIES
    if sliding.upsamples and unstrided and max(sliding.dilation) > 1 and few_residues:
        part = partial(by_lax, arithmetic=arithmetic)
        return partial(by_residue, part, sliding=sliding, groups=groups, padded_once=True)
    if groups > 1 or max(sliding.dilation, default=1) > 1:
        return None
    if tuple(size) == sliding.stride and not sliding.upsamples and (channels <= 4 or _are_large(size)):
        # 1.4 times for 4 x 4, 2 times for 16 x 16
        return partial(by_patch, sliding=sliding, arithmetic=arithmetic, stored=True)
    if tuple(size) == sliding.upsampling and unstrided and _are_large(size):  # 11 times for 16 x 16
        return partial(by_subpixel, partial(by_product, arithmetic=arithmetic), sliding=sliding)
    return None


def _are_large(size):
    return max(size, default=1) >= 8


def way_over_batch(x, dz, sliding, arithmetic, groups=1):
    """`way` of `correlate_over_batch`."""
    if not (has_static_places(x) and has_static_places(dz)) or x.ndim == 2:
        return None
    places, strided = dz.shape[1:-1], max(sliding.dilation) > 1
    part = partial(_correlate_over_batch, groups=groups, arithmetic=arithmetic)
    if sliding.upsamples:
        if strided:
            return partial(by_written_zeros_over_batch, part, sliding=sliding)
        return partial(by_swap_over_batch, part, sliding=sliding, groups=groups)
    if max(sliding.stride) > 1:
        if groups == 1 and not mesh_axes(x, dz) and _has_few_places_of_a_residue(x, places, sliding):
            return partial(by_met_product_over_batch, sliding=sliding, arithmetic=arithmetic)
        return partial(by_residue_over_batch, part, sliding=sliding)
    image, size, single = x.shape[1:-1], sliding.places(x.shape[1:-1], places), set(places) == {1}
    longer = places if groups > 1 and strided else _longer(places, size, strided)
    if longer != places and mesh_axes(x, dz):
        return None
    if longer != places and groups == 1 and (single or tuple(size) == sliding.dilation):
        return partial(by_patch_over_batch, sliding=sliding, arithmetic=arithmetic, stored=True)
    if longer != places:
        return partial(by_zeros_behind_over_batch, part, sliding=sliding, places=longer)
    left = [n + min(low, 0) + min(high, 0) for n, (low, high) in zip(image, sliding.padding, strict=True)]
    if x.ndim != 4 or groups > 1 or math.prod(places) <= math.prod(left):
        return None
    if left != list(image):
        return partial(by_crop_over_batch, part, sliding=sliding)
    if not strided and all(n > k for n, k in zip(image, size, strict=True)):
        return partial(by_swap_over_batch, part, sliding=sliding)
    return partial(by_written_zeros_over_batch, part, sliding=sliding)


def _has_few_places_of_a_residue(x, places, sliding):
    """Whether zeros would have to make the residues of a dilation longer, for filters of few entries."""
    size = sliding.places(x.shape[1:-1], places)
    few = any(d > 1 and m <= d * k for m, k, d in zip(places, size, sliding.stride, strict=True))
    return few and math.prod(size) <= _FEW_ENTRIES


def _longer(places, size, strided):
    """How long dz must be for BackwardFilter."""
    longer = [max(m, k + 1) for m, k in zip(places, size, strict=True)]
    if strided:  # one axis is enough
        axis = min(range(len(places)), key=lambda axis: longer[axis] / places[axis])
        longer = [*places[:axis], longer[axis], *places[axis + 1 :]]
    return tuple(longer)


def _correlate_over_batch(x, dz, sliding, groups, arithmetic):
    chosen = way_over_batch(x, dz, sliding, arithmetic, groups)
    return by_lax_over_batch(x, dz, sliding, arithmetic, groups) if chosen is None else chosen(x, dz)
