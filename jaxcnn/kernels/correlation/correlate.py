"""The two correlations that a convolutional layer and its backward pass are made of, and where each is computed how.

The rules call a cross-correlation a convolution, as the lecture and every framework do: the filter slides and is not
reversed. This file calls it `correlate`. Each of the two is one `lax.conv_general_dilated` with the channels last,
which is the way `by_lax`. A platform computes some convolutions many times slower than others. There another way puts
them together from what it computes fast: `on_cpu.py` and `on_gpu.py` say which.

No way multiplies an image by a zero that is not a weight of its filters. So an entry that is not finite, of an image or
of the gradient that an input gradient slides over, reaches only the places that see it. In a filter gradient such an
entry may reach more weights of the same channels than the sum says.
"""

from functools import partial

import jax
from jax import lax

from jaxcnn.contract.sharding import mesh_axes
from jaxcnn.kernels.correlation import on_cpu, on_gpu
from jaxcnn.kernels.correlation.by_lax import LAX, Arithmetic, Sliding, by_lax, by_lax_over_batch
from jaxcnn.kernels.correlation.by_parts import by_group, by_residue
from jaxcnn.kernels.correlation.by_products import by_entry, by_entry_over_batch, by_product, by_product_over_batch
from jaxcnn.kernels.correlation.per_example import (
    by_columns_over_batch,
    by_example_over_batch,
    comes_one_by_one,
    derived_from,
)

__all__ = ["LAX", "Arithmetic", "Sliding", "correlate", "correlate_over_batch"]


def correlate(x: jax.Array, w: jax.Array, sliding: Sliding, groups: int = 1, arithmetic: Arithmetic = LAX) -> jax.Array:
    """Slides the filters w [*K, C/groups, O] over the images x [N, *S, C] and sums over C: [N, *M, O].

    For the formulas of `ops/convolution.py`: forward passes and input gradients.
    """
    x, w = _promote(x, w)
    axes = mesh_axes(x, w)
    if axes > 1 or (axes and _is_product(w.shape[:-2], sliding.places(x.shape[1:-1], w.shape[:-2]))):
        return _by_products(x, w, sliding, groups, arithmetic)
    default = _group_by_group if groups > 1 and w.shape[-2] > 1 and axes else by_lax
    options = {"sliding": sliding, "groups": groups, "arithmetic": arithmetic}
    ways = {platform: on.way(x, w, **options) for platform, on in _PLATFORMS.items()}
    return _platform_dependent(x, w, ways, partial(default, **options))


def correlate_over_batch(
    x: jax.Array, dz: jax.Array, sliding: Sliding, groups: int = 1, arithmetic: Arithmetic = LAX
) -> jax.Array:
    """Slides dz [N, *M, O] over x [N, *S, C], each pair of channels by itself, and sums over N: [*K, C/groups, O].

    For the formulas of `ops/convolution.py`: filter gradients.
    """
    x, dz = _promote(x, dz)
    axes, options = mesh_axes(x, dz), {"sliding": sliding, "arithmetic": arithmetic}
    if axes and groups > 1 and groups == x.shape[-1]:
        return by_entry_over_batch(x, dz, **options)
    places = dz.shape[1:-1]
    if axes > 1 or (axes and _is_product(places, sliding.places(x.shape[1:-1], places))):
        part = partial(by_product_over_batch, **options)
        return by_group(part, x, dz, groups) if groups > 1 else part(x, dz)
    default = partial(by_lax_over_batch, groups=groups, **options)
    if axes and groups > 1:
        default = partial(by_group, partial(by_lax_over_batch, **options), groups=groups)
    ways = {platform: on.way_over_batch(x, dz, groups=groups, **options) for platform, on in _PLATFORMS.items()}
    way = partial(_platform_dependent, ways=ways, default=default)
    if not comes_one_by_one(x, dz, sliding, groups):
        return way(x, dz)
    by_example = by_example_over_batch(ways["cpu"] or default, partial(by_columns_over_batch, **options))
    return derived_from(way, partial(_platform_dependent, ways=ways | {"cpu": by_example}, default=default), x, dz)


_PLATFORMS = {"cpu": on_cpu, "gpu": on_gpu}


def _platform_dependent(x, w, ways, default):
    """The result by the way of the platform that the program is compiled for; `default` where that is None."""
    cpu, gpu = ways["cpu"], ways["gpu"]
    ways = {platform: way for platform, way in (("cpu", cpu), ("cuda", gpu), ("rocm", gpu)) if way is not None}
    return lax.platform_dependent(x, w, **ways, default=default) if ways else default(x, w)


# `vmap` over both arrays, as in an ensemble, makes groups. The groups may be split over devices. XLA then ends in an
# error, or gives wrong numbers, for a convolution that is a product of matrices.
def _is_product(size, places):
    """Whether XLA may take the convolution for a product of matrices: what slides has one entry, or one place."""
    return set(size) == {1} or set(places) == {1}


# An array may be split along one axis of a mesh and repeated along another. XLA (jaxlib 0.10.2) then computes some
# convolutions wrong, too large by the number of repetitions. One is the filter gradient of images whose rows are split.
# Auto axes do not tell how an array is split. XLA computes products of matrices right.
def _by_products(x, w, sliding, groups, arithmetic):
    if sliding.upsamples and max(sliding.stride) == 1:
        return by_residue(partial(_by_products, arithmetic=arithmetic), x, w, sliding, groups)
    if on_cpu.has_single_channels(w, groups):
        return by_entry(x, w, sliding, groups, arithmetic)
    part = partial(by_product, sliding=sliding, arithmetic=arithmetic)
    return by_group(part, x, w, groups) if groups > 1 else part(x, w)


# XLA gathers a batch that is split over devices to compute a grouped convolution. So groups are computed one by one on
# a mesh. XLA also gathers it for the filter gradient of a depthwise convolution. So that is a sum of products on a
# mesh.
def _group_by_group(x, w, sliding, groups, arithmetic):
    return by_group(partial(by_lax, sliding=sliding, groups=1, arithmetic=arithmetic), x, w, groups)


def _promote(x, w):
    """Both arrays in the wider of their dtypes. They differ in gradients: sums in float32 of products in bfloat16 have
    a gradient in float32."""
    dtype = max(x.dtype, w.dtype, key=lambda dtype: dtype.itemsize)
    return x.astype(dtype), w.astype(dtype)
