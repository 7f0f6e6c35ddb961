"""Whole models."""

from jaxcnn.nn.combinators import sequential
from jaxcnn.nn.convolution import conv
from jaxcnn.nn.dropout import dropout
from jaxcnn.nn.layer import Layer
from jaxcnn.nn.layers import dense, flatten
from jaxcnn.nn.normalization import batch_norm
from jaxcnn.nn.pooling import max_pool
from jaxcnn.ops.activation import relu


def digits_cnn(classes: int = 10) -> Layer:
    """A small network for the 8x8 digits, x [N, 8, 8, 1] -> logits [N, classes]; 30,762 parameters.

    >>> from jaxcnn import nn
    >>> nn.output_shape(nn.digits_cnn(), (5, 8, 8, 1))
    (5, 10)
    """

    def stack(channels):
        return [conv(channels, 3, bias=False), batch_norm(), relu]

    return sequential(
        *stack(32), *stack(32), max_pool(2), *stack(64), max_pool(2), dropout(0.3), flatten(), dense(classes)
    )
