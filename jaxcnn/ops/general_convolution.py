"""Convolution as `lax.conv_general_dilated` has it: any order of the axes, dilated images, groups of the batch.

Lecture: "Backpropagation through Multi-Channel Convolution" and "Backpropagation: Resampling". With the axes in our
order it is `conv`; zeros between the entries of the image are one upsampling more.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.ops.convolution import convolution
from jaxcnn.ops.correlation import Arithmetic
from jaxcnn.ops.shapes import Window


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` with our backward pass: the same arguments, the same result.

    For what takes a convolution as an argument, `flax.linen.Conv(..., conv_general_dilated=...)`, and for code that
    calls lax's. New code reads better with `conv`.

    Args:
        lhs: images, the axes in the order that dimension_numbers gives.
        rhs: filters, likewise.
        window_strides: stride, one per spatial axis.
        padding: "SAME", "SAME_LOWER", "VALID", or (low, high) per spatial axis; a negative number crops.
        lhs_dilation: distance between neighbouring entries of lhs, one per spatial axis, zeros between them.
        rhs_dilation: the same for rhs.
        dimension_numbers: lax's, by default ("NCHW", "OIHW", "NCHW").
        feature_group_count: groups of the channels of lhs.
        batch_group_count: groups of the batch of lhs: each makes its own share of the filters' channels.
        precision: lax's, of the products, in the backward pass as well.
        preferred_element_type: dtype of the sums and of the result.
        out_sharding: where the result shall lie, on a mesh with Explicit axes.

    Returns:
        What lax returns.

    Raises:
        TypeError, ValueError: as lax does, with its words.

    Gradient: `conv_input_grad` and `conv_filter_grad` of the same convolution with the axes in our order; dSample of
        the former where lhs is dilated.

    Source: lecture, "Backpropagation through Multi-Channel Convolution", "Backpropagation: Resampling".

    >>> x, w = jnp.arange(1.0, 10.0).reshape(1, 1, 3, 3), jnp.ones((1, 1, 2, 2))
    >>> conv_general_dilated(x, w, (1, 1), "VALID")[0, 0]
    Array([[12., 16.],
           [24., 28.]], dtype=float32)
    """
    lhs, rhs = jnp.asarray(lhs), jnp.asarray(rhs)

    def by_lax(lhs, rhs):
        options = {"precision": precision, "preferred_element_type": preferred_element_type}
        counts = {"feature_group_count": feature_group_count, "batch_group_count": batch_group_count}
        dilations = {"lhs_dilation": lhs_dilation, "rhs_dilation": rhs_dilation}
        return lax.conv_general_dilated(
            lhs, rhs, window_strides, padding, dimension_numbers=dimension_numbers, **dilations, **counts, **options
        )

    like = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (lhs, rhs)]
    result = jax.eval_shape(by_lax, *like)  # raises lax's errors
    if math.prod(result.shape) == 0:
        return jnp.zeros(result.shape, result.dtype)

    layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    x, w = _channels_last(lhs, layout.lhs_spec), _filters_last(rhs, layout.rhs_spec)
    window = _window(x.shape[1:-1], w.shape[:-2], window_strides, padding, lhs_dilation, rhs_dilation)
    groups = feature_group_count
    if batch_group_count > 1:
        x, groups = _batch_groups_as_channels(x, batch_group_count), batch_group_count
    arithmetic = Arithmetic(_hashable(precision), preferred_element_type and jnp.dtype(preferred_element_type))
    z = _from_channels_last(convolution(x, w, None, window, groups, arithmetic), layout.out_spec)
    return z if out_sharding is None else jax.sharding.reshard(z, out_sharding)


def _window(image, size, stride, padding, upsampling, dilation):
    ones = (1,) * len(image)
    upsampling, dilation = (tuple(d or ones) for d in (upsampling, dilation))
    image = tuple(u * (n - 1) + 1 if n else 0 for n, u in zip(image, upsampling, strict=True))
    if isinstance(padding, str):
        extent = [d * (k - 1) + 1 for k, d in zip(size, dilation, strict=True)]
        padding = lax.padtype_to_pads(image, extent, stride, padding)
    padding = tuple((int(low), int(high)) for low, high in padding)
    return Window(image, size, tuple(stride), padding, dilation, None if upsampling == ones else upsampling)


def _channels_last(a, spec):
    """[N, *S, C] from any order; spec says where N, C and then each axis of S is."""
    batch, channels, *spatial = spec
    return jnp.transpose(a, (batch, *spatial, channels))


def _filters_last(a, spec):
    """[*K, C, O] from any order; spec says where O, C and then each axis of K is."""
    filters, channels, *spatial = spec
    return jnp.transpose(a, (*spatial, channels, filters))


def _from_channels_last(z, spec):
    """The inverse of `_channels_last`."""
    batch, channels, *spatial = spec
    order = (batch, *spatial, channels)
    return jnp.transpose(z, tuple(order.index(axis) for axis in range(z.ndim)))


def _batch_groups_as_channels(x, groups):
    """[G·N, *S, C] -> [N, *S, G·C]: the group of the batch that a filter sees becomes a group of the channels."""
    grouped = jnp.moveaxis(x.reshape(groups, -1, *x.shape[1:]), 0, -2)
    return grouped.reshape(*grouped.shape[:-2], -1)


def _hashable(precision):
    return tuple(precision) if isinstance(precision, list) else precision
