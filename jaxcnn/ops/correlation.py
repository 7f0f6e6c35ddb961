"""The two correlations that a convolutional layer and its backward pass are made of, and how each is computed.

What the rules call a convolution is, as in the lecture and in every framework, a cross-correlation: the filter slides
and is not reversed. Both correlations are one `lax.conv_general_dilated` with the channels last. On a CPU, XLA computes
some of these many times slower than others: there they are put together from what it computes fast.
"""

import math
from dataclasses import replace
from functools import partial

import jax
from jax import lax

from jaxcnn.ops.correlation_by_lax import LAX, Arithmetic, Sliding, lax_correlate, lax_correlate_over_batch
from jaxcnn.ops.correlation_by_parts import (
    by_entry,
    by_entry_over_batch,
    by_group,
    by_residue,
    by_slab,
    by_slab_over_batch,
    pointwise_over_batch,
)
from jaxcnn.ops.shapes import sum_dtype

__all__ = ["LAX", "Arithmetic", "Sliding", "correlate", "correlate_over_batch"]

_FEW_ENTRIES = 64  # of a filter; a sum over more of them takes long to compile


def correlate(x: jax.Array, w: jax.Array, sliding: Sliding, groups: int = 1, arithmetic: Arithmetic = LAX) -> jax.Array:
    """Slides the filters w [*K, C/groups, O] over the images x [N, *S, C] and sums over C: [N, *M, O]."""
    return _on_each_platform(_correlate_on_cpu, _correlate, *_of_one_dtype(x, w), sliding, groups, arithmetic)


def correlate_over_batch(
    x: jax.Array, dz: jax.Array, sliding: Sliding, groups: int = 1, arithmetic: Arithmetic = LAX
) -> jax.Array:
    """Slides dz [N, *M, O] over x [N, *S, C], each pair of channels by itself, and sums over N: [*K, C/groups, O]."""
    args = (*_of_one_dtype(x, dz), sliding, groups, arithmetic)
    return _on_each_platform(_correlate_over_batch_on_cpu, _correlate_over_batch, *args)


def _on_each_platform(on_cpu, elsewhere, x, w, *options):
    return lax.platform_dependent(
        x, w, cpu=lambda x, w: on_cpu(x, w, *options), default=lambda x, w: elsewhere(x, w, *options)
    )


# XLA gathers a batch that is spread over devices for a grouped convolution, whence groups are computed one by one, and
# for the filter gradient of a depthwise one, whence that is a sum of products, on every platform.
def _correlate(x, w, sliding, groups, arithmetic):
    if groups > 1 and w.shape[-2] > 1:
        return by_group(lambda x, w: lax_correlate(x, w, sliding, 1, arithmetic), x, w, groups)
    return lax_correlate(x, w, sliding, groups, arithmetic)


def _correlate_over_batch(x, dz, sliding, groups, arithmetic):
    if groups > 1 and groups == x.shape[-1]:
        return by_entry_over_batch(x, dz, sliding, arithmetic)
    if groups > 1:
        return by_group(lambda x, dz: lax_correlate_over_batch(x, dz, sliding, arithmetic), x, dz, groups)
    return lax_correlate_over_batch(x, dz, sliding, arithmetic)


def _correlate_on_cpu(x, w, sliding, groups, arithmetic):
    """The first way that applies; what it gains on 2 cores is behind it."""
    summed_wide = replace(arithmetic, dtype=arithmetic.dtype or sum_dtype(x.dtype))
    if sliding.upsamples and max(sliding.stride) == 1:  # no products with the zeros between the entries: up to 30 times
        return by_residue(partial(_correlate_on_cpu, arithmetic=arithmetic), x, w, sliding, groups)
    single = 1 in (w.shape[-2], w.shape[-1] // groups)
    if groups > 1 and single and math.prod(w.shape[:-2]) <= _FEW_ENTRIES:  # 20 to 60 times
        return by_entry(x, w, sliding, groups, arithmetic)
    if groups > 1:  # 2 to 6 times, the filter gradient hundreds of times
        return by_group(lambda x, w: _correlate_on_cpu(x, w, sliding, 1, arithmetic), x, w, groups)
    if x.ndim > 4:  # 2 to 6 times
        part = partial(_correlate_on_cpu, groups=1, arithmetic=summed_wide)
        return by_slab(part, x, w, sliding).astype(arithmetic.dtype or x.dtype)
    return lax_correlate(x, w, sliding, groups, arithmetic)


def _correlate_over_batch_on_cpu(x, dz, sliding, groups, arithmetic):
    """The first way that applies."""
    again = partial(_correlate_over_batch_on_cpu, groups=1, arithmetic=arithmetic)
    if groups > 1 and groups == x.shape[-1]:
        return by_entry_over_batch(x, dz, sliding, arithmetic)
    if groups > 1:
        return by_group(partial(again, sliding=sliding), x, dz, groups)
    if set(sliding.places(x.shape[1:-1], dz.shape[1:-1])) == {1}:  # 3 to 10 times
        return pointwise_over_batch(x, dz, sliding, arithmetic)
    if x.ndim > 4:  # 2 to 3 times
        return by_slab_over_batch(again, x, dz, sliding)
    return lax_correlate_over_batch(x, dz, sliding, arithmetic)


def _of_one_dtype(x, w):
    """Both in the wider of their dtypes: gradients of sums in float32 of products in bfloat16 are float32."""
    dtype = max(x.dtype, w.dtype, key=lambda dtype: dtype.itemsize)
    return x.astype(dtype), w.astype(dtype)
