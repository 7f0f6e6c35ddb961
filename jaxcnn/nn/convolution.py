"""Convolutions as layers."""

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer

from jaxcnn.nn.layer import HE_NORMAL, Layer, weights
from jaxcnn.ops import convolution, shapes, transposed_convolution
from jaxcnn.ops.shapes import Padding, Pads, PerAxis


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
        TypeError: an argument that must be an int is none, or bias is no bool.
        ValueError: channels or groups less than 1, or groups does not divide channels; from init if the input has no
            spatial axis, groups does not divide its channels, the padding is unknown or the filter is too large.

    >>> import jax
    >>> params, _ = conv(16, 3).init(jax.random.key(0), (1, 28, 28, 3))
    >>> params["w"].shape, params["b"].shape
    ((3, 3, 3, 16), (16,))
    """
    channels = shapes.integer("nn.conv", "channels", channels, 1)
    groups = shapes.integer("nn.conv", "groups", groups, 1)
    bias = shapes.flag("nn.conv", "bias", bias)
    shapes.require(channels % groups == 0, "nn.conv", "channels", f"a multiple of groups = {groups}", channels)

    def init(key, input_shape):
        x_shape = _image_shape("nn.conv", input_shape)
        size_ = shapes.per_axis("nn.conv", "size", size, len(x_shape) - 2)
        w_shape = (*size_, x_shape[-1] // groups, channels)
        shapes.filter_window("nn.conv", x_shape, w_shape, stride, padding, dilation, groups, argument="size")
        return weights(key, w_shape, bias, initializer), {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        w, b = params["w"], params.get("b")
        z = convolution.conv(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups)
        return z, state

    return Layer(init, apply, "conv")


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
    multiplier = shapes.integer("nn.depthwise_conv", "multiplier", multiplier, 1)
    bias = shapes.flag("nn.depthwise_conv", "bias", bias)

    def init(key, input_shape):
        x_shape = _image_shape("nn.depthwise_conv", input_shape)
        channels = x_shape[-1]
        size_ = shapes.per_axis("nn.depthwise_conv", "size", size, len(x_shape) - 2)
        w_shape = (*size_, 1, channels * multiplier)
        shapes.filter_window(
            "nn.depthwise_conv", x_shape, w_shape, stride, padding, dilation, channels, argument="size"
        )
        return weights(key, w_shape, bias, initializer), {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        w, b = params["w"], params.get("b")
        return convolution.depthwise_conv(x, w, b, stride=stride, padding=padding, dilation=dilation), state

    return Layer(init, apply, "depthwise_conv")


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
    steps = {"stride": stride, "padding": padding, "dilation": dilation}
    depthwise = depthwise_conv(size, multiplier=multiplier, **steps, bias=False, initializer=initializer)
    pointwise = conv(channels, 1, bias=bias, initializer=initializer)

    def init(key, input_shape):
        depth, _ = depthwise.init(jax.random.fold_in(key, 0), input_shape)
        point, _ = pointwise.init(jax.random.fold_in(key, 1), (*input_shape[:-1], depth["w"].shape[-1]))
        return {"w_depth": depth["w"], "w_point": point.pop("w"), **point}, {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        w_depth, w_point, b = params["w_depth"], params["w_point"], params.get("b")
        return convolution.separable_conv(x, w_depth, w_point, b, **steps), state

    return Layer(init, apply, "separable_conv")


def conv_transpose(
    channels: int,
    size: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Pads = 0,
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
    channels = shapes.integer(function, "channels", channels, 1)
    groups = shapes.integer(function, "groups", groups, 1)
    bias = shapes.flag(function, "bias", bias)
    shapes.require(channels % groups == 0, function, "channels", f"a multiple of groups = {groups}", channels)
    options = {"stride": stride, "padding": padding, "output_padding": output_padding}
    options |= {"dilation": dilation, "groups": groups}

    def init(key, input_shape):
        x_shape = _image_shape(function, input_shape)
        size_ = shapes.per_axis(function, "size", size, len(x_shape) - 2)
        w_shape = (*size_, channels // groups, x_shape[-1])
        shapes.transposed_window(function, x_shape, w_shape, **options)
        params = weights(key, (*size_, x_shape[-1] // groups, channels), bias, initializer)
        return {**params, "w": _transposed(params["w"], groups)}, {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return transposed_convolution.conv_transpose(x, params["w"], params.get("b"), **options), state

    return Layer(init, apply, "conv_transpose")


def _transposed(w, groups):
    """[*K, C/groups, O] -> [*K, O/groups, C], each group by itself."""
    each = jnp.stack(jnp.split(w, groups, axis=-1))  # [groups, *K, C/groups, O/groups]
    return jnp.concatenate(jnp.swapaxes(each, -1, -2), axis=-1)


def _image_shape(function, input_shape):
    shape = shapes.shape(function, "input_shape", input_shape)
    shapes.require(len(shape) >= 3, function, "input_shape", "(N, *S, C) with at least 3 axes", shape)
    return shape
