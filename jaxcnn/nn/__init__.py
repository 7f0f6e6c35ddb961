"""Layers as pairs of pure functions, how to put them together, and models."""

from jaxcnn.nn.combinators import named, residual, sequential
from jaxcnn.nn.convolution import conv, conv_transpose, depthwise_conv, separable_conv
from jaxcnn.nn.inspection import count_parameters, output_shape, summary
from jaxcnn.nn.layer import Layer
from jaxcnn.nn.layers import batch_norm, dense, dropout, flatten, prelu
from jaxcnn.nn.models import digits_cnn
from jaxcnn.nn.pooling import adaptive_max_pool, adaptive_mean_pool, max_pool, mean_pool, weighted_pool

__all__ = [
    "Layer",
    "adaptive_max_pool",
    "adaptive_mean_pool",
    "batch_norm",
    "conv",
    "conv_transpose",
    "count_parameters",
    "dense",
    "depthwise_conv",
    "digits_cnn",
    "dropout",
    "flatten",
    "max_pool",
    "mean_pool",
    "named",
    "output_shape",
    "prelu",
    "residual",
    "separable_conv",
    "sequential",
    "summary",
    "weighted_pool",
]
