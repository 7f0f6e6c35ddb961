"""The two correlations that a convolutional layer and its backward pass are made of, and how each is computed.

What the rules call a convolution is, as in the lecture and in every framework, a cross-correlation: the filter slides
and is not reversed. Both correlations are one `lax.conv_general_dilated` with the channels last. On a CPU, XLA computes
some of these many times slower than others: there they are put together from what it computes fast.

No way multiplies an image by zeros that are not of its filters: what is not finite in an image, or in the gradient that
an input gradient slides over, reaches the places that see it and no others. A filter gradient that is not finite may
be so in more entries of the same channels than the sum says.
"""

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn.contract.precision import sum_dtype
from jaxcnn.contract.sharding import mesh_axes
from jaxcnn.kernels.correlation.by_lax import LAX, Arithmetic, Sliding, by_lax, by_lax_over_batch
from jaxcnn.kernels.correlation.by_parts import (
    by_dealt_group,
    by_group,
    by_residue,
    by_slab,
    by_slab_over_batch,
    by_subpixel,
    by_swap_over_batch,
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
from jaxcnn.kernels.unfused import unfused

__all__ = ["LAX", "Arithmetic", "Sliding", "correlate", "correlate_over_batch"]

_FEW_ENTRIES = 64  # of a filter; a sum over more of them takes long to compile
_FEW_PRODUCTS = 36  # for one entry of the result; as for entries of a filter
_SOME_PRODUCTS = 64  # for one entry of the result; more are slower than rows as channels
_FEW_CHANNELS_OF_A_GROUP = (
    8  # channels; each is one more sum, or as many products as the filter has entries, to compile
)
_FEW_PRODUCTS_OF_A_GROUP = 72  # for one entry of the result; with more, LLVM vectorises no loop over the filters
_FEW_WEIGHTS_OF_A_GROUP = 16 * 72  # 16 filters of so many products; with more, matrix products are faster
_WEIGHTS_AT_ONCE = 2**13  # numbers; so many stay in the nearest cache while all places are visited
_MANY_ENTRIES = 2**15  # of dz, for which two kernels cost less than they save
_MUCH = 3 * 2**22  # products; with fewer, another way costs more than it saves


def correlate(x: jax.Array, w: jax.Array, sliding: Sliding, groups: int = 1, arithmetic: Arithmetic = LAX) -> jax.Array:
    """Slides the filters w [*K, C/groups, O] over the images x [N, *S, C] and sums over C: [N, *M, O]."""
    x, w = _promote(x, w)
    axes = mesh_axes(x, w)
    if axes > 1 or (axes and _is_product(w.shape[:-2], sliding.places(x.shape[1:-1], w.shape[:-2]))):
        return _by_products(x, w, sliding, groups, arithmetic)
    elsewhere = _group_by_group if groups > 1 and w.shape[-2] > 1 and axes else by_lax
    options = {"sliding": sliding, "groups": groups, "arithmetic": arithmetic}
    cpu_way = _way_on_cpu(x, w, **options)
    return _platform_dependent(x, w, cpu_way, partial(elsewhere, **options))


def correlate_over_batch(
    x: jax.Array, dz: jax.Array, sliding: Sliding, groups: int = 1, arithmetic: Arithmetic = LAX
) -> jax.Array:
    """Slides dz [N, *M, O] over x [N, *S, C], each pair of channels by itself, and sums over N: [*K, C/groups, O]."""
    x, dz = _promote(x, dz)
    axes, options = mesh_axes(x, dz), {"sliding": sliding, "arithmetic": arithmetic}
    if axes and groups > 1 and groups == x.shape[-1]:
        return by_entry_over_batch(x, dz, **options)
    places = dz.shape[1:-1]
    if axes > 1 or (axes and _is_product(places, sliding.places(x.shape[1:-1], places))):
        part = partial(by_product_over_batch, **options)
        return by_group(part, x, dz, groups) if groups > 1 else part(x, dz)
    elsewhere = partial(by_lax_over_batch, groups=groups, **options)
    if axes and groups > 1:
        elsewhere = partial(by_group, partial(by_lax_over_batch, **options), groups=groups)
    return _platform_dependent(x, dz, _way_over_batch_on_cpu(x, dz, groups=groups, **options), elsewhere)


# Under `vmap` over both arrays, as in an ensemble, and split over devices, XLA takes a convolution that is a product of
# matrices for another one, and ends in an error or in wrong numbers.


def _is_product(size, places):
    """Whether what slides has one entry, or one place: then it may be a product of matrices as it is."""
    return set(size) == {1} or set(places) == {1}


# Where an array is split along one axis of a mesh and repeated along another, XLA computes some convolutions wrong, too
# large by the number of repetitions (jaxlib 0.10.2; the filter gradient of images whose rows are split, for one), and
# with Auto axes nothing says how an array is split. Products of matrices are right.
def _by_products(x, w, sliding, groups, arithmetic):
    if sliding.upsamples and max(sliding.stride) == 1:
        return by_residue(partial(_by_products, arithmetic=arithmetic), x, w, sliding, groups)
    if _has_single_channels(w, groups):
        return by_entry(x, w, sliding, groups, arithmetic)
    part = partial(by_product, sliding=sliding, arithmetic=arithmetic)
    return by_group(part, x, w, groups) if groups > 1 else part(x, w)


def _has_single_channels(w, groups):
    """Whether the groups have one channel, or one filter for a few channels."""
    return groups > 1 and (w.shape[-2] == 1 or (w.shape[-1] == groups and w.shape[-2] <= _FEW_CHANNELS_OF_A_GROUP))


def _platform_dependent(x, w, cpu_way, elsewhere):
    return elsewhere(x, w) if cpu_way is None else lax.platform_dependent(x, w, cpu=cpu_way, default=elsewhere)


def _way_of_groups(groups):
    """A group's channels are dealt where that costs less than to compute anew what they come from: 1 to 1.5 times."""
    return by_dealt_group if groups <= 8 else by_group


# XLA gathers a batch that is spread over devices for a grouped convolution, whence groups are computed one by one on a
# mesh, and for the filter gradient of a depthwise one, whence that is a sum of products there.
def _group_by_group(x, w, sliding, groups, arithmetic):
    return by_group(partial(by_lax, sliding=sliding, groups=1, arithmetic=arithmetic), x, w, groups)


# The ways on a CPU: the first that applies, None where that is lax's; behind each, what it gains on 2 cores.


def _way_on_cpu(x, w, sliding, groups, arithmetic):
    if not _has_static_places(x):
        return None
    x = _assume_batch(x)
    part = partial(_correlate_on_cpu, arithmetic=arithmetic)
    *size, channels, filters = w.shape
    single, few = _has_single_channels(w, groups), _groups_sum_few_products(x, w, sliding, groups)
    is_sum = single or few
    if groups > 1 and not is_sum:  # 1.5 to 10 times
        side_by_side = x.ndim == 4 and not sliding.upsamples and _prefers_lax_groups(w, groups)
        group_way = partial(by_lax, arithmetic=arithmetic) if side_by_side else part
        return partial(_way_of_groups(groups), partial(group_way, sliding=sliding, groups=1), groups=groups)
    if groups == 1 and not sliding.upsamples and _sums_few_products(x, w, sliding):  # 1.1 to 20 times
        return partial(unfused, partial(by_entry, sliding=sliding, groups=1, arithmetic=arithmetic))
    dense = groups == 1 and max(sliding.stride + sliding.dilation, default=1) == 1
    if dense and set(x.shape[1:-1]) == {1}:  # as behind a filter as large as the image: 20 to 40 times
        return partial(by_one_entry, sliding=sliding, arithmetic=arithmetic)
    if (
        dense and sliding.upsamples and _prefers_subpixels(size, sliding.upsampling, channels, filters)
    ):  # 1.1 to 20 times
        return partial(by_subpixel, partial(part, groups=1), sliding=sliding)
    slabs_left_to_f = groups == 1 and x.ndim > 4 and size[0] > 1
    apart = sliding.upsampling[1:] if slabs_left_to_f else sliding.upsampling
    by_residues = max(sliding.stride, default=1) == 1 and max(apart, default=1) > 1
    if by_residues and (is_sum or _prefers_residues(x, w, sliding.upsampling)):  # 1.1 to 1000 times
        return partial(
            by_residue, part, sliding=sliding, groups=groups, padded_once=is_sum, slabs_left_to_f=slabs_left_to_f
        )
    if single and math.prod(size) <= _FEW_ENTRIES:  # 10 to 50 times
        return partial(by_entry, sliding=sliding, groups=groups, arithmetic=arithmetic)
    if few:  # 1.1 to 10 times
        return _entry_by_entry(w, sliding, groups, arithmetic)
    product = dense and math.prod(size) == 1 and not sliding.upsamples
    if product and (x.ndim == 4 or min(channels, filters) < 16):  # 1.1 to 5 times
        return partial(by_product, sliding=sliding, arithmetic=arithmetic)
    beside = math.prod(size) > 1 and tuple(size) == sliding.stride and max(sliding.dilation, default=1) == 1
    possible = groups == 1 and beside and not sliding.upsamples and not mesh_axes(x, w)
    if possible and _prefers_patches(size, channels):  # 1.1 to 6 times
        return partial(by_patch, sliding=sliding, arithmetic=arithmetic)
    plain = groups == 1 and max(sliding.stride, default=1) == 1 and not sliding.upsamples
    if plain and _prefers_shifts(size, channels, filters):  # 1.3 to 4 times
        return partial(by_shifts, sliding=sliding, arithmetic=arithmetic)
    if groups == 1 and x.ndim > 4 and math.prod(size) > 1:  # 2 to 20 times
        return _slab_by_slab(x, sliding, arithmetic)
    return _way_of_images(x, w, sliding, arithmetic) if groups == 1 and x.ndim == 4 else None


# XLA gives a convolution of images [N, H, W, C] to one of two kernels. The one that it prefers runs on one core only
# where there are few filters, is slow with an odd number of channels, and the slower the less is padded; it takes none
# that upsamples, and none with at most 16 channels and filters. The other shares its work between the cores, if there
# are enough filters to share; it knows no float64. With distances doubled, nothing changes but that the image is
# upsampled: that chooses the other. So do rows as images of one axis, with the rows of few filters as more of them, if
# most rows meet a place, or with the rows that a place sees as more channels, if channels are few.
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
    """Whether the padding is full: XLA's first kernel, slow where nothing is padded, is then as fast as the other."""
    axes = zip(size, sliding.dilation, sliding.padding, strict=True)
    return max(sliding.stride) == 1 and all(min(pads) >= d * (k - 1) for k, d, pads in axes)


# In a program that is exported for arrays of any size, sizes may not be numbers.


def _has_static_places(x):
    return all(isinstance(n, int) for n in x.shape[1:])


def _assume_batch(x):
    """x, or what a way is chosen for where the number of images is not known: a batch of 32 of them."""
    if isinstance(x.shape[0], int):
        return x
    sharding = NamedSharding(jax.typeof(x).sharding.mesh, P())
    return jax.ShapeDtypeStruct((32, *x.shape[1:]), x.dtype, sharding=sharding)


def _prefers_lax_groups(w, groups):
    """Whether the groups are as fast as lax computes them, each on one core; there is less to compile."""
    *size, channels, filters = w.shape
    return channels >= 8 and filters < 32 * groups and (groups >= 8 or math.prod(size) == 1)


def _slab_by_slab(x, sliding, arithmetic):
    dtype, wide = arithmetic.dtype or x.dtype, replace(arithmetic, dtype=arithmetic.dtype or sum_dtype(x.dtype))
    way = by_upsampled_slab if sliding.upsampling[0] > 1 and sliding.stride[0] == 1 else by_slab
    return partial(way, partial(_correlate_on_cpu, groups=1, arithmetic=wide), sliding=sliding, dtype=dtype)


def _sums_few_products(x, w, sliding):
    """Whether each entry of the result is a sum of few products, and there are many entries or few filters."""
    *size, channels, filters = w.shape
    if x.dtype == bool or mesh_axes(x, w):
        return False
    if math.prod(size) == 1 or not 0 < math.prod(size) * channels <= _FEW_PRODUCTS:
        return False
    entries = len(x) * math.prod(sliding.places(x.shape[1:-1], size)) * filters
    return 0 < filters < 8 or entries * math.prod(size) * channels >= _MUCH // 8


def _groups_sum_few_products(x, w, sliding, groups):
    """Whether each entry of the result of a group is a sum of few products, of few filters.

    Small convolutions are slow, and so is it to take groups apart.
    """
    *size, channels, filters = w.shape
    if groups == 1 or mesh_axes(x, w):
        return False
    seen = math.prod(-(-k // u) for k, u in zip(size, sliding.upsampling, strict=True))  # of a residue, the most
    products = seen * channels if channels <= _FEW_CHANNELS_OF_A_GROUP or seen == 1 else math.inf
    return 0 < products <= _FEW_PRODUCTS_OF_A_GROUP and products * filters <= _FEW_WEIGHTS_OF_A_GROUP * groups


def _entry_by_entry(w, sliding, groups, arithmetic):
    """`by_entry`, stored; of many weights in pieces of the groups, as long as these are halves of what they were."""
    pieces = 1
    while w.size > _WEIGHTS_AT_ONCE * pieces and groups % (2 * pieces) == 0:
        pieces *= 2
    part = partial(by_entry, sliding=sliding, groups=groups // pieces, arithmetic=arithmetic)
    return partial(unfused, part if pieces == 1 else partial(by_group, part, groups=pieces))


def _prefers_patches(size, channels):
    """Whether filters side by side see patches that are cheap to put together: of a row they are there already."""
    if len(size) == 1:
        return size[0] * channels <= 128
    return channels <= 3 and 1 < max(size, default=1) <= 4


def _prefers_shifts(size, channels, filters):
    """Whether the filters are few, and have no more than 4 entries for each channel."""
    return 1 < math.prod(size) <= _FEW_ENTRIES and filters <= 8 and math.prod(size) * filters <= 4 * channels


def _prefers_subpixels(size, upsampling, channels, filters):
    """Whether one convolution to all residues is the fastest.

    Where u does not divide k some of its weights would be 0: what is not finite would reach places that do not see it.
    """
    if any(k % u for k, u in zip(size, upsampling, strict=True)):
        return False
    return tuple(size) == upsampling or channels < 8 or filters >= 8


def _prefers_residues(x, w, upsampling):
    """Whether the products with zeros that are saved outweigh the calls, and there are not too many to compile."""
    *size, channels, filters = w.shape
    if len(size) > 2 or math.prod(size) == 1:
        return True
    within = all(n >= k for n, k in zip(x.shape[1:-1], size, strict=True))  # else XLA is slow
    products, many = x.size // max(channels, 1) * w.size, math.prod(size) * filters >= 144
    much = many and (filters >= 24 or channels <= 32) and (not within or products > 6 * _MUCH)
    return (much or (filters <= 8 and products >= 4 * _MUCH)) and math.prod(upsampling) <= 16


def _correlate_on_cpu(x, w, sliding, groups, arithmetic):
    way = _way_on_cpu(x, w, sliding, groups, arithmetic)
    return by_lax(x, w, sliding, groups, arithmetic) if way is None else way(x, w)


def _way_over_batch_on_cpu(x, dz, sliding, arithmetic, groups=1):
    """The same for filter gradients."""
    if not (_has_static_places(x) and _has_static_places(dz)):
        return None
    x, dz = _assume_batch(x), _assume_batch(dz)
    if groups > 1 and groups == x.shape[-1]:  # 3 to 1000 times
        return _way_of_channels_on_cpu(x, dz, sliding, arithmetic)
    if groups > 1:  # 4 to 600 times
        part = partial(_correlate_over_batch_on_cpu, sliding=sliding, arithmetic=arithmetic)
        return partial(_way_of_groups(groups), part, groups=groups)
    channels, size = x.shape[-1], sliding.places(x.shape[1:-1], dz.shape[1:-1])
    if set(size) == {1}:  # 1.5 to 4 times
        return partial(by_product_over_batch, sliding=sliding, arithmetic=arithmetic)
    if set(dz.shape[1:-1]) == {1}:  # as of filters as large as the image: 1.1 to 2.5 times
        return partial(by_one_place_over_batch, sliding=sliding, arithmetic=arithmetic)
    # Where rows are split over devices, XLA would gather them.
    together = not sliding.upsamples and not mesh_axes(x, dz)
    beside = max(sliding.stride, default=1) == 1 and tuple(size) == sliding.dilation  # which is the layer's stride
    if together and beside and _prefers_patches(size, channels):  # 1.1 to 5 times
        return partial(by_patch_over_batch, sliding=sliding, arithmetic=arithmetic)
    much = dz.size * channels * math.prod(size) >= _MUCH
    images = x.ndim == 4 and much and x.dtype != jnp.float64 and not mesh_axes(x, dz)
    undilated = max(sliding.dilation, default=1) == 1
    if images and undilated and _prefers_slabs(x, dz, size):  # 1.1 to 5 times
        return partial(by_slab_over_batch, partial(by_lax_over_batch, arithmetic=arithmetic), sliding=sliding)
    if together and undilated and _prefers_swapped_roles(x, dz):  # 1 to 5 times
        part = partial(_correlate_over_batch_on_cpu, arithmetic=arithmetic)
        return partial(by_swap_over_batch, part, sliding=sliding)
    if x.ndim > 4:  # 3 to 20 times
        return partial(
            by_slab_over_batch, partial(_correlate_over_batch_on_cpu, arithmetic=arithmetic), sliding=sliding
        )
    if images and _prefers_doubled_distances(x, dz, sliding, math.prod(size)):  # 1.1 to 2.5 times
        return partial(by_lax_over_batch, sliding=sliding.doubled(), arithmetic=arithmetic)
    return None


def _prefers_slabs(x, dz, size):
    """Whether the images are few, and the filters short and few enough for copies of dz."""
    channels = x.shape[-1]
    return channels >= 8 and len(x) < 8 and min(size[0], size[-1]) <= 16 and dz.shape[-1] < 2 * channels


def _prefers_doubled_distances(x, dz, sliding, entries):
    """Whether the other of XLA's kernels is faster: for enough filters, more of dilated ones, or where nothing is
    padded and the layer has no stride, and for enough images or products."""
    (batch, *_, channels), filters, dilated = x.shape, dz.shape[-1], max(sliding.stride) > 1
    unpadded = max(map(max, sliding.padding)) <= 0 and max(sliding.dilation) == 1
    if channels < 8 and (dilated or (channels > 1 and filters < 16)):
        return False
    if channels >= 8 and filters < (64 if dilated else 17) and not unpadded:
        return False
    large = filters >= 64 and batch >= 8 and dz.size * channels * entries >= 3 * _MUCH
    return large or batch * max(channels, 8) >= 256


def _prefers_swapped_roles(x, dz):
    """Whether dz has so few channels that it is better slid over, and x is not much larger."""
    (_, *image, channels), (_, *places, filters) = x.shape, dz.shape
    few = filters < 9 if len(image) > 2 else filters < 32 or 3 * filters <= 2 * channels
    return filters < channels and few and math.prod(image) <= 2 * math.prod(places)


def _way_of_channels_on_cpu(x, dz, sliding, arithmetic):
    """The same where each channel has its own filters."""
    channels, filters = x.shape[-1], dz.shape[-1]
    # Several filters of a channel with a stride gain nothing, and take long to compile.
    several_strided = filters > channels and max(sliding.dilation, default=1) > 1
    few = x.ndim < 3 or channels < 16 or several_strided or dz.size < _MANY_ENTRIES
    way = by_entry_over_batch if few else by_entry_and_rows_over_batch  # 1.2 to 5 times
    return partial(way, sliding=sliding, arithmetic=arithmetic)


def _correlate_over_batch_on_cpu(x, dz, sliding, arithmetic):
    way = _way_over_batch_on_cpu(x, dz, sliding, arithmetic)
    return by_lax_over_batch(x, dz, sliding, arithmetic) if way is None else way(x, dz)


def _promote(x, w):
    """Both in the wider of their dtypes: gradients of sums in float32 of products in bfloat16 are float32."""
    dtype = max(x.dtype, w.dtype, key=lambda dtype: dtype.itemsize)
    return x.astype(dtype), w.astype(dtype)
