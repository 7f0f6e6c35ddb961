"""Convolutions as layers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer

from jaxcnn.contract import arguments, window_arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.contract.window_arguments import Padding, Pads
from jaxcnn.nn.calls import layer_maker
from jaxcnn.nn.fitting import ABSTRACT, Axes, axes_of_images, images_shape
from jaxcnn.nn.layer import Layer, Params, leaf
from jaxcnn.nn.parameters import HE_NORMAL, filled, weights
from jaxcnn.ops import convolution, transposed_convolution


@layer_maker
def conv(
    channels: int,
    size: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
    groups: int = 1,
    bias: bool = True,
    initializer: Initializer = HE_NORMAL,
) -> Layer:
    """Convolution with learnt filters, x [N, *S, C] -> [N, *M, channels]: `jaxcnn.conv`.

    Args:
        channels: how many feature maps come out, O.
        size: size of the filters, K, an int or one per spatial axis.
        stride, padding, dilation, groups: as for `jaxcnn.conv`.
        bias: whether each feature map has a bias; of no use in front of `batch_norm`.
        initializer: of the filters, initializer(key, shape, dtype). By default normal with variance 2/(ΠK · C/groups),
            which keeps the variance through a relu (He et al., 2015).

    Returns:
        A layer with params {"w": [*K, C/groups, O], "b": [O], zero at first} and no state.

    Raises:
        TypeError: an argument that must be an int is none, or bias is no bool; from init if key is no random key, or
            initializer does not draw an array of the shape of the filters.
        ValueError: channels or groups less than 1, or groups does not divide channels; from init if the input has no
            spatial axis, groups does not divide its channels, the padding is unknown or the filter is too large.

    >>> import jax
    >>> params, _ = conv(16, 3).init(jax.random.key(0), (1, 28, 28, 3))
    >>> params["w"].shape, params["b"].shape
    ((3, 3, 3, 16), (16,))
    """
    channels = arguments.integer("nn.conv", "channels", channels, 1)
    groups = arguments.integer("nn.conv", "groups", groups, 1)
    bias = arguments.flag("nn.conv", "bias", bias)
    arguments.require(channels % groups == 0, "nn.conv", "channels", f"a multiple of groups = {groups}", channels)

    sliding = {"stride": stride, "padding": padding, "dilation": dilation}

    def init(key, input_shape):
        return _new_filters("nn.conv", key, input_shape, size, channels, groups, bias, initializer, **sliding), {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return convolution.conv(x, params["w"], params.get("b"), groups=groups, **sliding), state

    return leaf("conv", init, apply, lambda params, rank: _input_of(params["w"], -2, groups))


@layer_maker
def depthwise_conv(
    size: PerAxis,
    *,
    multiplier: int = 1,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
    bias: bool = True,
    initializer: Initializer = HE_NORMAL,
) -> Layer:
    """Convolution of every channel with learnt filters of its own, x [N, *S, C] -> [N, *M, C·m].

    Args:
        size: size of the filters, K, an int or one per spatial axis.
        multiplier: how many filters each channel has, m.
        stride, padding, dilation: as for `jaxcnn.depthwise_conv`, which it applies.
        bias, initializer: as for `conv`; the variance is 2/ΠK.

    Returns:
        A layer with params {"w": [*K, 1, C·m], "b": [C·m], zero at first} and no state.

    Raises:
        TypeError, ValueError: as for `conv`.

    >>> import jax
    >>> params, _ = depthwise_conv(3, multiplier=2).init(jax.random.key(0), (1, 28, 28, 16))
    >>> params["w"].shape
    (3, 3, 1, 32)
    """
    multiplier = arguments.integer("nn.depthwise_conv", "multiplier", multiplier, 1)
    bias = arguments.flag("nn.depthwise_conv", "bias", bias)

    sliding = {"stride": stride, "padding": padding, "dilation": dilation}

    def init(key, input_shape):
        c = images_shape("nn.depthwise_conv", input_shape)[-1]
        filters = _new_filters(
            "nn.depthwise_conv", key, input_shape, size, c * multiplier, c, bias, initializer, **sliding
        )
        return filters, {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return convolution.depthwise_conv(x, params["w"], params.get("b"), **sliding), state

    return leaf("depthwise_conv", init, apply, lambda params, rank: _input_of(params["w"], -1, 1 / multiplier))


@layer_maker
def separable_conv(
    channels: int,
    size: PerAxis,
    *,
    multiplier: int = 1,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
    bias: bool = True,
    initializer: Initializer = HE_NORMAL,
) -> Layer:
    """Depthwise convolution, then a 1x1 one, x [N, *S, C] -> [N, *M, channels]: `jaxcnn.separable_conv`.

    Args:
        channels: how many feature maps come out, O.
        size: size of the depthwise filters, K, an int or one per spatial axis.
        multiplier: how many depthwise filters each channel has, m.
        stride, padding, dilation: of the depthwise convolution, as for `jaxcnn.conv`.
        bias, initializer: as for `conv`.

    Returns:
        A layer with params {"w_depth": [*K, 1, C·m], "w_point": [*1, C·m, O], "b": [O], zero at first} and no state.

    Raises:
        TypeError, ValueError: as for `conv`.

    >>> import jax
    >>> params, _ = separable_conv(32, 3).init(jax.random.key(0), (1, 28, 28, 16))
    >>> params["w_depth"].shape, params["w_point"].shape
    ((3, 3, 1, 16), (1, 1, 16, 32))
    """
    function = "nn.separable_conv"
    channels = arguments.integer(function, "channels", channels, 1)
    multiplier = arguments.integer(function, "multiplier", multiplier, 1)
    bias = arguments.flag(function, "bias", bias)
    sliding = {"stride": stride, "padding": padding, "dilation": dilation}

    def init(key, input_shape):
        *places, c = images_shape(function, input_shape)[1:]
        if key is not ABSTRACT:
            arguments.random_key(function, key)
        depth_key, point_key = (key if key is ABSTRACT else jax.random.fold_in(key, i) for i in range(2))
        depth = _new_filters(function, depth_key, input_shape, size, c * multiplier, c, False, initializer, **sliding)
        point = weights(function, point_key, (*(1,) * len(places), c * multiplier, channels), bias, initializer)
        return {"w_depth": depth["w"], "w_point": point.pop("w"), **point}, {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        w_depth, w_point, b = params["w_depth"], params["w_point"], params.get("b")
        return convolution.separable_conv(x, w_depth, w_point, b, **sliding), state

    return leaf("separable_conv", init, apply, lambda params, rank: _input_of(params["w_depth"], -1, 1 / multiplier))


@layer_maker
def conv_transpose(
    channels: int,
    size: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Pads | PerAxis = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    bias: bool = True,
    initializer: Initializer = HE_NORMAL,
) -> Layer:
    """Transposed convolution with learnt filters, x [N, *S, C] -> [N, *M, channels]: `jaxcnn.conv_transpose`.

    Args:
        channels: how many feature maps come out, O.
        size: size of the filters, K, an int or one per spatial axis; a multiple of the stride leaves no checkerboard.
        stride, padding, output_padding, dilation, groups: as for `jaxcnn.conv_transpose`.
        bias: whether each feature map has a bias.
        initializer: of the filters, initializer(key, shape, dtype), where shape is [*K, C/groups, O] as for `conv`.

    Returns:
        A layer with params {"w": [*K, O/groups, C], "b": [O], zero at first} and no state.

    Raises:
        TypeError, ValueError: as for `conv`.

    >>> import jax
    >>> from jaxcnn import nn
    >>> nn.output_shape(nn.conv_transpose(8, 2, stride=2), (1, 14, 14, 16))
    (1, 28, 28, 8)
    """
    function = "nn.conv_transpose"
    channels = arguments.integer(function, "channels", channels, 1)
    groups = arguments.integer(function, "groups", groups, 1)
    bias = arguments.flag(function, "bias", bias)
    arguments.require(channels % groups == 0, function, "channels", f"a multiple of groups = {groups}", channels)
    options = {"stride": stride, "padding": padding, "output_padding": output_padding}
    options |= {"dilation": dilation, "groups": groups}

    def init(key, input_shape):
        x_shape = images_shape(function, input_shape)
        size_ = window_arguments.one_per_axis(function, "size", size, len(x_shape) - 2)
        w_shape = (*size_, channels // groups, x_shape[-1])
        if key is not ABSTRACT:
            window_arguments.transposed_window(function, x_shape, w_shape, **options)
        params = weights(function, key, (*size_, x_shape[-1] // groups, channels), bias, initializer)
        return {**params, "w": filled(key, w_shape, 0) if key is ABSTRACT else _transposed(params["w"], groups)}, {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return transposed_convolution.conv_transpose(x, params["w"], params.get("b"), **options), state

    return leaf("conv_transpose", init, apply, lambda params, rank: _input_of(params["w"], -1))


def _new_filters(
    function: str,
    key: jax.Array,
    input_shape: Any,
    size: Any,
    filters: int,
    groups: int,
    bias: bool,
    initializer: Initializer,
    **sliding: Any,
) -> Params:
    """Filters w [*K, C/groups, O] that fit the input, O = `filters`, and biases b [O] if there are any."""
    x_shape, groups = images_shape(function, input_shape), max(groups, 1)
    w_shape = (*window_arguments.one_per_axis(function, "size", size, len(x_shape) - 2), x_shape[-1] // groups, filters)
    divides = x_shape[-1] % groups == 0
    arguments.require(divides, function, "groups", f"a divisor of the {x_shape[-1]} channels of x", groups)
    if key is not ABSTRACT:
        window_arguments.filter_window(function, x_shape, w_shape, groups=groups, **sliding, argument="size")
    return weights(function, key, w_shape, bias, initializer)


def _input_of(w: jax.Array, axis: int, times: float = 1) -> Axes:
    """The axes of the images that filters are for; there are so many times as many channels as the axis is long."""
    return axes_of_images(w.ndim - 2, int(w.shape[axis] * times))


def _transposed(w, groups):
    """[*K, C/groups, O] -> [*K, O/groups, C], each group by itself."""
    each = jnp.stack(jnp.split(w, groups, axis=-1))  # [groups, *K, C/groups, O/groups]
    return jnp.concatenate(jnp.swapaxes(each, -1, -2), axis=-1)
