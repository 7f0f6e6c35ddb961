"""Networks for volumes."""

from __future__ import annotations

from functools import partial

from jaxcnn.contract import arguments
from jaxcnn.nn.calls import layer_maker
from jaxcnn.nn.combinators import sequential
from jaxcnn.nn.convolution import conv
from jaxcnn.nn.dropout import dropout
from jaxcnn.nn.layer import Layer
from jaxcnn.nn.layers import dense, flatten
from jaxcnn.nn.pooling import max_pool
from jaxcnn.ops.activations.rectifiers import leaky_relu, relu


@layer_maker
def voxnet(classes: int = 40, *, width: int = 32) -> Layer:
    """VoxNet, x [N, 32, 32, 32, 1] -> logits [N, classes]; 921,736 parameters for 40 classes.

    Args:
        classes: how many there are.
        width: how many feature maps the convolutions have; the hidden dense layer has 4 times as many features.

    Returns:
        A layer with params {"conv1": ..., "conv2": ..., "dense1": ..., "dense2": ...} and no state. train=True takes a
        key, for the dropout.

    Raises:
        TypeError: classes or width is no int.
        ValueError: classes or width is less than 1; from init if the input has no spatial axis, or one of less than 11
            places.

    Source: Maturana and Scherer, VoxNet: a 3D convolutional neural network for real-time object recognition, 2015.

    >>> from jaxcnn import nn
    >>> nn.output_shape(nn.voxnet(), (5, 32, 32, 32, 1))
    (5, 40)
    """
    width = arguments.integer("nn.voxnet", "width", width, 1)
    leaky = partial(leaky_relu, negative_slope=0.1)
    return sequential(
        *[conv(width, 5, stride=2, padding=0), leaky, dropout(0.2)],
        *[conv(width, 3, padding=0), leaky, max_pool(2), dropout(0.3)],
        *[flatten(), dense(4 * width), relu, dropout(0.4)],
        dense(classes),
    )
