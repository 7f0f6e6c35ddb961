"""MobileNet: depthwise convolutions for the places, 1x1 ones for the channels."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxcnn.contract import arguments
from jaxcnn.nn.branches import residual
from jaxcnn.nn.calls import layer_maker
from jaxcnn.nn.combinators import sequential
from jaxcnn.nn.convolution import conv, depthwise_conv
from jaxcnn.nn.dropout import dropout
from jaxcnn.nn.layer import Layer, LayerLike
from jaxcnn.nn.layers import dense
from jaxcnn.nn.normalization import batch_norm
from jaxcnn.ops.activations.rectifiers import relu
from jaxcnn.ops.global_pooling import global_mean_pool

# feature maps and stride of each depthwise separable block
_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
# expansion, feature maps, how many blocks, stride of the first
_V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


@layer_maker
def mobilenet_v1(classes: int = 1000, *, alpha: float = 1.0, rate: float = 0.001) -> Layer:
    """MobileNet, x [N, 224, 224, 3] -> logits [N, classes]; 4,231,976 parameters for 1000 classes.

    Args:
        classes: how many there are.
        alpha: the share of the feature maps that every layer keeps.
        rate: of the dropout in front of the last layer.

    Returns:
        A layer with params {"conv1": ..., "batch_norm1": ..., "depthwise_conv1": ..., ..., "dense1": ...} and the state
        of its batch norms. train=True takes a key, for the dropout.

    Raises:
        TypeError: classes is no int, alpha or rate no number.
        ValueError: classes is less than 1, alpha less than 1/32, rate not within [0, 1]; from init if the input has no
            spatial axis.

    Source: Howard et al., MobileNets: efficient convolutional neural networks for mobile vision applications, 2017.

    >>> from jaxcnn import nn
    >>> nn.output_shape(nn.mobilenet_v1(10, alpha=0.25), (5, 32, 32, 3))
    (5, 10)
    """
    alpha = arguments.number("nn.mobilenet_v1", "alpha", alpha, 1 / 32)
    layers = [conv(int(32 * alpha), 3, stride=2, bias=False), batch_norm(), _relu6]
    for channels, stride in _V1:
        layers += [depthwise_conv(3, stride=stride, bias=False), batch_norm(), _relu6]
        layers += [conv(int(channels * alpha), 1, bias=False), batch_norm(), _relu6]
    return sequential(*layers, global_mean_pool, dropout(rate), dense(classes))


@layer_maker
def mobilenet_v2(classes: int = 1000, *, alpha: float = 1.0, rate: float = 0.2) -> Layer:
    """MobileNetV2, x [N, 224, 224, 3] -> logits [N, classes]; 3,504,872 parameters for 1000 classes.

    Args:
        classes: how many there are.
        alpha: the share of the feature maps that every layer keeps, rounded to a multiple of 8.
        rate: of the dropout in front of the last layer.

    Returns:
        A layer with params {"conv1": ..., "batch_norm1": ..., "sequential1": ..., "residual1": ..., ..., "dense1": ...}
        and the state of its batch norms. train=True takes a key, for the dropout.

    Raises:
        TypeError: classes is no int, alpha or rate no number.
        ValueError: classes is less than 1, alpha negative, rate not within [0, 1]; from init if the input has no
            spatial axis.

    Source: Sandler et al., MobileNetV2: inverted residuals and linear bottlenecks, 2018.

    >>> from jaxcnn import nn
    >>> nn.output_shape(nn.mobilenet_v2(10, alpha=0.25), (5, 32, 32, 3))
    (5, 10)
    """
    alpha = arguments.number("nn.mobilenet_v2", "alpha", alpha, 0)
    channels = _multiple_of_8(32 * alpha)
    layers = [conv(channels, 3, stride=2, padding=1, bias=False), batch_norm(), _relu6]
    for expansion, wide, count, stride in _V2:
        for i in range(count):
            out = _multiple_of_8(wide * alpha)
            layers.append(_inverted_residual(channels, out, expansion, stride if i == 0 else 1))
            channels = out
    layers += [conv(_multiple_of_8(1280 * max(alpha, 1.0)), 1, bias=False), batch_norm(), _relu6]
    return sequential(*layers, global_mean_pool, dropout(rate), dense(classes))


def _inverted_residual(channels: int, out: int, expansion: int, stride: int) -> Layer:
    """Expands the channels, filters each of them, and gathers them; with a way around where the shape allows it."""
    layers: list[LayerLike] = []
    if expansion > 1:
        layers += [conv(expansion * channels, 1, bias=False), batch_norm(), _relu6]
    layers += [depthwise_conv(3, stride=stride, padding=1, bias=False), batch_norm(), _relu6]
    body = sequential(*layers, conv(out, 1, bias=False), batch_norm())
    return residual(body) if (stride, channels) == (1, out) else body


def _multiple_of_8(channels: float) -> int:
    """The nearest one, but not less than 9/10 of what it was."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def _relu6(z: jax.Array) -> jax.Array:
    return jnp.where(z >= 6, jnp.asarray(6, z.dtype), relu(z))
