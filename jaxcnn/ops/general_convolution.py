"""Convolution as `lax.conv_general_dilated` has it: any order of the axes, dilated images, groups of the batch.

Lecture: "Backpropagation through Multi-Channel Convolution" and "Backpropagation: Resampling". With the axes in our
order it is `conv`. A dilated image is an upsampled one, with zeros between its entries.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxcnn.contract import arguments
from jaxcnn.contract.geometry import Window
from jaxcnn.contract.kept import CONVOLUTION
from jaxcnn.contract.rules import custom_rule
from jaxcnn.kernels.correlation.correlate import Arithmetic
from jaxcnn.ops.convolution import convolve, filter_grad, input_grad


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

    It is for functions that take a convolution as an argument, as `flax.linen.Conv(..., conv_general_dilated=...)`, and
    for code that calls lax's. New code reads better with `conv`.

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
        precision: lax's, of the products, in the backward pass as well. None is that of `jax.default_matmul_precision`
            around the call; where that is not set, float32 is TF32 on a GPU and bfloat16 on a TPU.
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

    def call_lax(lhs, rhs):
        products = {"precision": precision, "preferred_element_type": preferred_element_type}
        counts = {"feature_group_count": feature_group_count, "batch_group_count": batch_group_count}
        dilations = {"lhs_dilation": lhs_dilation, "rhs_dilation": rhs_dilation}
        return lax.conv_general_dilated(
            lhs, rhs, window_strides, padding, dimension_numbers=dimension_numbers, **dilations, **counts, **products
        )

    for name, value in (
        ("window_strides", window_strides),
        ("padding", padding),
        ("lhs_dilation", lhs_dilation),
        ("rhs_dilation", rhs_dilation),
        ("feature_group_count", feature_group_count),
        ("batch_group_count", batch_group_count),
    ):
        far = [n for n in jax.tree.leaves(value) if isinstance(n, int) and abs(n) >= arguments.LONGEST]
        arguments.require(not far, "conv_general_dilated", name, "below 2^48", value)
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (lhs, rhs)]
    result = jax.eval_shape(call_lax, *shapes)  # raises lax's errors
    if math.prod(result.shape) == 0:
        return jnp.zeros(result.shape, result.dtype)

    layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    image, size = ([a.shape[axis] for axis in spec[2:]] for a, spec in ((lhs, layout.lhs_spec), (rhs, layout.rhs_spec)))
    options = _Options(
        layout=layout,
        window=_window_of(image, size, window_strides, padding, lhs_dilation, rhs_dilation),
        feature_groups=int(feature_group_count),
        batch_groups=int(batch_group_count),
        arithmetic=Arithmetic(
            tuple(precision) if isinstance(precision, list) else precision,
            preferred_element_type and jnp.dtype(preferred_element_type),
        ),
    )
    z = _conv_general_dilated(lhs, rhs, options)
    return z if out_sharding is None else jax.sharding.reshard(z, out_sharding)


@dataclass(frozen=True)
class _Options:
    """The static arguments: the order of the axes, the window, the groups, and the precision of products and sums."""

    layout: lax.ConvDimensionNumbers
    window: Window
    feature_groups: int
    batch_groups: int
    arithmetic: Arithmetic

    @property
    def groups(self):
        return self.feature_groups * self.batch_groups  # lax takes one of the two only: the other is 1


def _conv_general_dilated_plain(lhs, rhs, options):
    x, w = _images(lhs, options), _filters(rhs, options)
    z = convolve(x, w, options.window, options.groups, options.arithmetic)
    return _images_in_order(z, options.layout.out_spec)


def _conv_general_dilated_fwd(lhs, rhs, options):
    return checkpoint_name(_conv_general_dilated_plain(lhs, rhs, options), CONVOLUTION), (lhs, rhs)


def _conv_general_dilated_bwd(options, residuals, dout):
    lhs, rhs = residuals
    x, w, dz = _images(lhs, options), _filters(rhs, options), _channels_last(dout, options.layout.out_spec)
    dx = input_grad(dz, w, options.window, options.groups, options.arithmetic)
    dw = filter_grad(x, dz, options.window, options.groups, options.arithmetic)
    dlhs = _images_in_order(_channels_as_batch_groups(dx, options.batch_groups), options.layout.lhs_spec)
    return dlhs, _filters_in_order(dw, options.layout.rhs_spec)


_conv_general_dilated = custom_rule(_conv_general_dilated_plain, _conv_general_dilated_fwd, _conv_general_dilated_bwd)


def _window_of(image, size, stride, padding, upsampling, dilation):
    """The `Window` of lax's arguments, which lax has checked."""
    size = tuple(size)
    ones = (1,) * len(image)
    upsampling, dilation = (ones if d is None else tuple(map(int, d)) for d in (upsampling, dilation))
    image = tuple(u * (n - 1) + 1 if n else 0 for n, u in zip(image, upsampling, strict=True))
    if isinstance(padding, str):
        extent = [d * (k - 1) + 1 for k, d in zip(size, dilation, strict=True)]
        padding = lax.padtype_to_pads(image, extent, stride, padding)
    padding = tuple((_width(low), _width(high)) for low, high in padding)
    return Window(image, size, tuple(map(int, stride)), padding, dilation, upsampling)


def _width(n):
    """The width of a padding: a Python int, or symbolic."""
    return n if arguments.is_symbolic(n) else int(n)


def _images(lhs, options):
    """x [N, *S, C] in our order. Groups of the batch become groups of the channels: [G·N, *S, C] -> [N, *S, G·C]."""
    x, groups = _channels_last(lhs, options.layout.lhs_spec), options.batch_groups
    if groups == 1:
        return x
    grouped = jnp.moveaxis(x.reshape(groups, -1, *x.shape[1:]), 0, -2)
    return grouped.reshape(*grouped.shape[:-2], -1)


def _channels_as_batch_groups(x, groups):
    """Groups of the channels become groups of the batch again: [N, *S, G·C] -> [G·N, *S, C]."""
    if groups == 1:
        return x
    grouped = jnp.moveaxis(x.reshape(*x.shape[:-1], groups, -1), -2, 0)
    return grouped.reshape(-1, *grouped.shape[2:])


def _filters(rhs, options):
    """w [*K, C, O] in our order; `rhs_spec` says where O, C and then each axis of K is."""
    filters, channels, *spatial = options.layout.rhs_spec
    return jnp.transpose(rhs, (*spatial, channels, filters))


def _filters_in_order(w, spec):
    """w [*K, C, O] in the order of the spec: undoes `_filters`."""
    filters, channels, *spatial = spec
    return _inverse_transpose(w, (*spatial, channels, filters))


def _channels_last(a, spec):
    """[N, *S, C] from an array in the order of the spec, which says where N, C and then each axis of S is."""
    batch, channels, *spatial = spec
    return jnp.transpose(a, (batch, *spatial, channels))


def _images_in_order(a, spec):
    """[N, *S, C] in the order of the spec: undoes `_channels_last`."""
    batch, channels, *spatial = spec
    return _inverse_transpose(a, (batch, *spatial, channels))


def _inverse_transpose(a, order):
    """Undoes jnp.transpose(a, order)."""
    return jnp.transpose(a, tuple(order.index(axis) for axis in range(a.ndim)))
