"""Which way a CPU computes a correlation: another than `by_lax` where XLA's kernel for it is slow.

XLA's CPU compiler gives a convolution to one of three kernels. XLA's `ynn_support.cc` has the rule. All of 12 programs
that were compiled with jaxlib 0.10.2 kept to it. The speeds below follow from lax's times in experiments/README.md, on
2 cores of an AMD EPYC:

    YNNPACK  images [N, H, W, C] without upsampling and batch groups, with more than 16 channels or filters, where
             neither the filter nor the result is longer than the image on any axis;
    Eigen    other images of one or two axes; it takes no float64;
    loops    the rest, at 0.1 to 17 GFLOP/s where the medians of the other two are 64 to 115.

The numbers below were set when the ways were added, by hand, on 2 cores of an AMD EPYC with jaxlib 0.10.2. "1.1 to 5
times" behind a branch is what it gained there over XLA's kernel. `python experiments/benchmark.py --ops --peers lax`
measures all of it again.
"""

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn.contract.precision import sum_dtype
from jaxcnn.contract.sharding import mesh_axes
from jaxcnn.kernels.correlation.by_lax import by_lax, by_lax_over_batch, has_static_places
from jaxcnn.kernels.correlation.by_parts import (
    by_dealt_group,
    by_group,
    by_residue,
    by_slab,
    by_slab_over_batch,
    by_subpixel,
    by_upsampled_slab,
)
from jaxcnn.kernels.correlation.by_products import (
    by_entry,
    by_entry_and_rows_over_batch,
    by_entry_over_batch,
    by_one_entry,
    by_one_place_over_batch,
    by_patch,
    by_patch_over_batch,
    by_product,
    by_product_over_batch,
    by_shifts,
)
from jaxcnn.kernels.correlation.by_rewriting import by_swap_over_batch, by_zeros_behind_over_batch
from jaxcnn.kernels.unfused import unfused

_FEW_ENTRIES = 64  # entries of a filter; a sum of more terms takes long to compile
_FEW_PRODUCTS = 36  # products for one entry of the result; a sum of more takes long to compile
_SOME_PRODUCTS = 64  # products for one entry of the result; with more, `by_slab` is faster than `by_entry`
_FEW_CHANNELS_OF_A_GROUP = 8  # each adds a sum, or a product for each entry of the filter, to the program
_FEW_PRODUCTS_OF_A_GROUP = 72  # products for one entry of the result; LLVM vectorises no loop of more
_FEW_WEIGHTS_OF_A_GROUP = 16 * 72  # as of 16 filters of 72 products; with more, products of matrices are faster
_WEIGHTS_AT_ONCE = 2**13  # weights; in float32 32 KiB, which stay in the nearest cache while all places are visited
_MANY_ENTRIES = 2**15  # entries of dz; with fewer, a second loop costs more than it saves
_MUCH = 3 * 2**22  # products; with fewer, another way than XLA's kernel costs more than it saves


def _way_of_groups(groups):
    """`by_dealt_group` for up to 8 groups, else `by_group`. To split the groups in one pass gains 1 to 1.5 times, as
    long as it costs less than XLA's computing what they come from once for each group."""
    return by_dealt_group if groups <= 8 else by_group


def way(x, w, sliding, groups, arithmetic):
    """The way of `correlate` by the first branch that applies. None stands for `by_lax`."""
    if not has_static_places(x):
        return None
    x = _assume_batch(x)
    part = partial(_correlate, arithmetic=arithmetic)
    *size, channels, filters = w.shape
    single, few = has_single_channels(w, groups), _groups_sum_few_products(x, w, sliding, groups)
    is_sum = single or few
    if groups > 1 and not is_sum:  # 1.5 to 10 times
        all_by_lax = x.ndim == 4 and not sliding.upsamples and _prefers_lax_groups(w, groups)
        group_way = partial(by_lax, arithmetic=arithmetic) if all_by_lax else part
        return partial(_way_of_groups(groups), partial(group_way, sliding=sliding, groups=1), groups=groups)
    if groups == 1 and not sliding.upsamples and _sums_few_products(x, w, sliding):  # 1.1 to 20 times
        return partial(unfused, partial(by_entry, sliding=sliding, groups=1, arithmetic=arithmetic))
    dense = groups == 1 and max(sliding.stride + sliding.dilation, default=1) == 1
    if dense and set(x.shape[1:-1]) == {1}:  # dz of a filter as large as the image: 20 to 40 times
        return partial(by_one_entry, sliding=sliding, arithmetic=arithmetic)
    upsampled = dense and sliding.upsamples
    if upsampled and _prefers_subpixels(size, sliding.upsampling, channels, filters):  # 1.1 to 20 times
        return partial(by_subpixel, partial(part, groups=1), sliding=sliding)
    skip_first = groups == 1 and x.ndim > 4 and size[0] > 1  # `by_upsampled_slab` takes the first axis of a volume
    upsampling = sliding.upsampling[1:] if skip_first else sliding.upsampling
    has_residues = max(sliding.stride, default=1) == 1 and max(upsampling, default=1) > 1
    if has_residues and (is_sum or _prefers_residues(x, w, sliding.upsampling)):  # 1.1 to 1000 times
        return partial(by_residue, part, sliding=sliding, groups=groups, padded_once=is_sum, skip_first=skip_first)
    if single and math.prod(size) <= _FEW_ENTRIES:  # 10 to 50 times
        return partial(by_entry, sliding=sliding, groups=groups, arithmetic=arithmetic)
    if few:  # 1.1 to 10 times
        return _entry_by_entry(w, sliding, groups, arithmetic)
    product = dense and math.prod(size) == 1 and not sliding.upsamples
    if product and (x.ndim == 4 or min(channels, filters) < 16):  # 1.1 to 5 times
        return partial(by_product, sliding=sliding, arithmetic=arithmetic)
    side_by_side = math.prod(size) > 1 and tuple(size) == sliding.stride and max(sliding.dilation, default=1) == 1
    has_patches = groups == 1 and side_by_side and not sliding.upsamples and not mesh_axes(x, w)
    if has_patches and _prefers_patches(size, channels):  # 1.1 to 6 times
        return partial(by_patch, sliding=sliding, arithmetic=arithmetic)
    plain = groups == 1 and max(sliding.stride, default=1) == 1 and not sliding.upsamples
    if plain and _prefers_shifts(size, channels, filters):  # 1.3 to 4 times
        return partial(by_shifts, sliding=sliding, arithmetic=arithmetic)
    if groups == 1 and x.ndim > 4 and math.prod(size) > 1:  # 2 to 20 times
        return _slab_by_slab(x, sliding, arithmetic)
    return _way_of_images(x, w, sliding, arithmetic) if groups == 1 and x.ndim == 4 else None


# YNNPACK runs on one core only if there are few filters. It is slow for an odd number of channels, and without padding.
# Eigen shares its work among the cores, if there are enough filters. Three ways choose Eigen where XLA would not:
#
#     `sliding.doubled()` gives the same result, and the image is upsampled, which YNNPACK does not take;
#     `by_slab` takes the rows as images of one axis, and the rows of the filters as more filters, if most rows meet a
#         place;
#     or it takes the rows that a place sees as channels of one image of one axis, if there are few channels.
def _way_of_images(x, w, sliding, arithmetic):
    *size, channels, filters = w.shape
    if sliding.upsamples:
        return None
    if channels >= 8:
        if x.dtype == jnp.float64 or x.size // channels * w.size < _MUCH:
            return None
        doubled = partial(by_lax, sliding=sliding.doubled(), groups=1, arithmetic=arithmetic)
        if filters >= 64 or (filters >= 32 and channels % 8 == 0):  # 1.1 to 3 times
            return None if _is_padded_in_full(size, sliding) else doubled
        if filters >= 32 or max(sliding.stride) > 1 or min(size) == 1 or mesh_axes(x, w):
            return None
        if 5 * sliding.places(x.shape[1:-1], size)[0] >= 3 * x.shape[1]:  # most rows meet a place: 1.1 to 5 times
            return _slab_by_slab(x, sliding, arithmetic)
        return doubled if channels > 16 else None  # 1.3 to 4 times
    many_places = len(x) * math.prod(sliding.places(x.shape[1:-1], size)) >= 2048
    slow = filters <= 16 or (filters <= 32 and channels in (3, 5, 7))
    if not (many_places and slow) or sliding.dilation[-1] > 1 or mesh_axes(x, w):
        return None
    if math.prod(size) * channels <= _SOME_PRODUCTS:  # 1.5 to 10 times
        return partial(unfused, partial(by_entry, sliding=sliding, groups=1, arithmetic=arithmetic))
    return _slab_by_slab(x, sliding, arithmetic)  # 1.1 to 5 times


def _is_padded_in_full(size, sliding):
    """Whether the padding lets each entry of the filter meet each entry of the image, without stride. The result is
    then longer than the image, and XLA takes Eigen by itself."""
    axes = zip(size, sliding.dilation, sliding.padding, strict=True)
    return max(sliding.stride) == 1 and all(min(pads) >= d * (k - 1) for k, d, pads in axes)


def _assume_batch(x):
    """x, or its type with a batch of 32 if the number of images is not known. A way is chosen for that."""
    if isinstance(x.shape[0], int):
        return x
    sharding = NamedSharding(jax.typeof(x).sharding.mesh, P())
    return jax.ShapeDtypeStruct((32, *x.shape[1:]), x.dtype, sharding=sharding)


def has_single_channels(w, groups):
    """Whether each group has one channel, or one filter for at most 8 channels."""
    return groups > 1 and (w.shape[-2] == 1 or (w.shape[-1] == groups and w.shape[-2] <= _FEW_CHANNELS_OF_A_GROUP))


def _prefers_lax_groups(w, groups):
    """Whether XLA's kernels, each on one core, compute the groups as fast as other ways; they are less to compile."""
    *size, channels, filters = w.shape
    return channels >= 8 and filters < 32 * groups and (groups >= 8 or math.prod(size) == 1)


def _slab_by_slab(x, sliding, arithmetic):
    dtype, wide = arithmetic.dtype or x.dtype, replace(arithmetic, dtype=arithmetic.dtype or sum_dtype(x.dtype))
    way = by_upsampled_slab if sliding.upsampling[0] > 1 and sliding.stride[0] == 1 else by_slab
    return partial(way, partial(_correlate, groups=1, arithmetic=wide), sliding=sliding, dtype=dtype)


def _sums_few_products(x, w, sliding):
    """Whether each entry of the result is a sum of few products, and filters are few or products are many."""
    *size, channels, filters = w.shape
    if x.dtype == bool or mesh_axes(x, w):
        return False
    if math.prod(size) == 1 or not 0 < math.prod(size) * channels <= _FEW_PRODUCTS:
        return False
    entries = len(x) * math.prod(sliding.places(x.shape[1:-1], size)) * filters
    return 0 < filters < 8 or entries * math.prod(size) * channels >= _MUCH // 8


def _groups_sum_few_products(x, w, sliding, groups):
    """Whether each entry of the result of a group is a sum of few products, and a group has few filters.

    The other ways are slow there: XLA's kernels are slow for small convolutions, and to split the groups takes long.
    """
    *size, channels, filters = w.shape
    if groups == 1 or mesh_axes(x, w):
        return False
    weights = math.prod(-(-k // u) for k, u in zip(size, sliding.upsampling, strict=True))  # the most of any residue
    products = weights * channels if channels <= _FEW_CHANNELS_OF_A_GROUP or weights == 1 else math.inf
    return 0 < products <= _FEW_PRODUCTS_OF_A_GROUP and products * filters <= _FEW_WEIGHTS_OF_A_GROUP * groups


def _entry_by_entry(w, sliding, groups, arithmetic):
    """`by_entry`, stored. Many weights are split into 2, 4, 8, ... pieces of whole groups, of which each fits the
    nearest cache, as long as the groups can be halved."""
    pieces = 1
    while w.size > _WEIGHTS_AT_ONCE * pieces and groups % (2 * pieces) == 0:
        pieces *= 2
    part = partial(by_entry, sliding=sliding, groups=groups // pieces, arithmetic=arithmetic)
    return partial(unfused, part if pieces == 1 else partial(by_group, part, groups=pieces))


def _prefers_patches(size, channels):
    """Whether the patches that filters side by side see are cheap to put together. Those of a row are there already."""
    if len(size) == 1:
        return size[0] * channels <= 128
    return channels <= 3 and 1 < max(size, default=1) <= 4


def _prefers_shifts(size, channels, filters):
    """Whether there are at most 8 filters, and the product of `by_shifts` is at most 4 times as large as x."""
    return 1 < math.prod(size) <= _FEW_ENTRIES and filters <= 8 and math.prod(size) * filters <= 4 * channels


def _prefers_subpixels(size, upsampling, channels, filters):
    """Whether one convolution that makes all residues is the fastest way.

    If u did not divide k, some of its weights would be 0. What is not finite would reach places that do not see it.
    """
    if any(k % u for k, u in zip(size, upsampling, strict=True)):
        return False
    return tuple(size) == upsampling or channels < 8 or filters >= 8


def _prefers_residues(x, w, upsampling):
    """Whether several smaller convolutions save more, in products with zeros, than their calls cost, and are not too
    many to compile."""
    *size, channels, filters = w.shape
    if len(size) > 2 or math.prod(size) == 1:
        return True
    # XLA is slow for a filter that is longer than the image.
    fits_image = all(n >= k for n, k in zip(x.shape[1:-1], size, strict=True))
    products, many = x.size // max(channels, 1) * w.size, math.prod(size) * filters >= 144
    much = many and (filters >= 24 or channels <= 32) and (not fits_image or products > 6 * _MUCH)
    return (much or (filters <= 8 and products >= 4 * _MUCH)) and math.prod(upsampling) <= 16


def _correlate(x, w, sliding, groups, arithmetic):
    chosen = way(x, w, sliding, groups, arithmetic)
    return by_lax(x, w, sliding, groups, arithmetic) if chosen is None else chosen(x, w)


def way_over_batch(x, dz, sliding, arithmetic, groups=1):
    """`way` of `correlate_over_batch`."""
    if not (has_static_places(x) and has_static_places(dz)):
        return None
    x, dz = _assume_batch(x), _assume_batch(dz)
    if groups > 1 and groups == x.shape[-1]:  # 3 to 1000 times
        return _way_of_channels(x, dz, sliding, arithmetic)
    if groups > 1:  # 4 to 600 times
        part = partial(_correlate_over_batch, sliding=sliding, arithmetic=arithmetic)
        return partial(_way_of_groups(groups), part, groups=groups)
    channels, size = x.shape[-1], sliding.places(x.shape[1:-1], dz.shape[1:-1])
    if set(size) == {1}:  # 1.5 to 4 times
        return partial(by_product_over_batch, sliding=sliding, arithmetic=arithmetic)
    if set(dz.shape[1:-1]) == {1}:  # filters as large as the image: 1.1 to 2.5 times
        return partial(by_one_place_over_batch, sliding=sliding, arithmetic=arithmetic)
    plain = not sliding.upsamples and not mesh_axes(x, dz)  # on a mesh XLA would gather rows that are split
    # The dilation here is the layer's stride.
    side_by_side = max(sliding.stride, default=1) == 1 and tuple(size) == sliding.dilation
    if plain and side_by_side and _prefers_patches(size, channels):  # 1.1 to 5 times
        return partial(by_patch_over_batch, sliding=sliding, arithmetic=arithmetic)
    much = dz.size * channels * math.prod(size) >= _MUCH
    images = x.ndim == 4 and much and x.dtype != jnp.float64 and not mesh_axes(x, dz)
    undilated = max(sliding.dilation, default=1) == 1
    if images and undilated and _prefers_slabs(x, dz, size):  # 1.1 to 5 times
        return partial(by_slab_over_batch, partial(by_lax_over_batch, arithmetic=arithmetic), sliding=sliding)
    if plain and undilated and _prefers_swapped_roles(x, dz):  # 1 to 5 times
        return _by_swap_of_long(x, dz, sliding, arithmetic)
    if x.ndim > 4:  # 3 to 20 times
        return partial(by_slab_over_batch, partial(_correlate_over_batch, arithmetic=arithmetic), sliding=sliding)
    if images and _prefers_doubled_distances(x, dz, sliding, math.prod(size)):  # 1.1 to 2.5 times
        return partial(by_lax_over_batch, sliding=sliding.doubled(), arithmetic=arithmetic)
    return None


def _prefers_slabs(x, dz, size):
    """Whether there are fewer than 8 images, and filters so short and so few that copies of dz are cheap."""
    channels = x.shape[-1]
    return channels >= 8 and len(x) < 8 and min(size[0], size[-1]) <= 16 and dz.shape[-1] < 2 * channels


def _prefers_doubled_distances(x, dz, sliding, entries):
    """Whether Eigen is faster than YNNPACK for a filter gradient.

    A layer of fewer than 8 channels must have no dilation, and one channel or at least 16 filters. A layer of 8 or
    more must have at least 17 filters, or 64 if it is dilated, or else neither padding nor stride. In both cases the
    images times the channels (counted as at least 8) must be at least 256, or there must be at least 8 images, 64
    filters and many products.
    """
    (batch, *_, channels), filters, dilated = x.shape, dz.shape[-1], max(sliding.stride) > 1
    unpadded = max(map(max, sliding.padding)) <= 0 and max(sliding.dilation) == 1
    if channels < 8 and (dilated or (channels > 1 and filters < 16)):
        return False
    if channels >= 8 and filters < (64 if dilated else 17) and not unpadded:
        return False
    large = filters >= 64 and batch >= 8 and dz.size * channels * entries >= 3 * _MUCH
    return large or batch * max(channels, 8) >= 256


def _prefers_swapped_roles(x, dz):
    """Whether dz has few enough channels for x to slide over dz, and x has at most twice as many places."""
    (_, *image, channels), (_, *places, filters) = x.shape, dz.shape
    few = filters < 9 if len(image) > 2 else filters < 32 or 3 * filters <= 2 * channels
    return filters < channels and few and math.prod(image) <= 2 * math.prod(places)


# YNNPACK is taken only if the array that slides, x, is no longer than the array below.
def _by_swap_of_long(x, dz, sliding, arithmetic):
    """`by_swap_over_batch` with zeros behind dz where it is shorter than x."""
    places = tuple(map(max, x.shape[1:-1], dz.shape[1:-1]))
    swapped = partial(by_swap_over_batch, partial(_correlate_over_batch, arithmetic=arithmetic))
    return partial(by_zeros_behind_over_batch, swapped, sliding=sliding, places=places)


def _way_of_channels(x, dz, sliding, arithmetic):
    """`way_over_batch` where each channel has its own filters."""
    channels, filters = x.shape[-1], dz.shape[-1]
    # Several filters of a channel with a stride gain nothing, and take long to compile.
    several_strided = filters > channels and max(sliding.dilation, default=1) > 1
    few = x.ndim < 3 or channels < 16 or several_strided or dz.size < _MANY_ENTRIES
    way = by_entry_over_batch if few else by_entry_and_rows_over_batch  # 1.2 to 5 times
    return partial(way, sliding=sliding, arithmetic=arithmetic)


def _correlate_over_batch(x, dz, sliding, arithmetic):
    chosen = way_over_batch(x, dz, sliding, arithmetic)
    return by_lax_over_batch(x, dz, sliding, arithmetic) if chosen is None else chosen(x, dz)
