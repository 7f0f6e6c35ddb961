"""Convolutional networks in JAX whose backward pass is written out."""

from jaxcnn.ops.convolution import conv, conv_filter_grad, conv_input_grad, depthwise_conv
from jaxcnn.ops.dense import dense, flatten
from jaxcnn.ops.pooling import max_pool, mean_pool, weighted_pool
from jaxcnn.ops.resampling import downsample, upsample

__all__ = [
    "conv",
    "conv_filter_grad",
    "conv_input_grad",
    "dense",
    "depthwise_conv",
    "downsample",
    "flatten",
    "max_pool",
    "mean_pool",
    "upsample",
    "weighted_pool",
]
