"""Layers as pairs of pure functions, how to put them together, and models."""

from jaxcnn.nn.combinators import named, residual, sequential
from jaxcnn.nn.convolution import conv, conv_transpose, depthwise_conv, separable_conv
from jaxcnn.nn.dropout import drop_block, drop_path, dropout, spatial_dropout
from jaxcnn.nn.filter_normalization import spectral_norm, weight_norm
from jaxcnn.nn.inspection import count_parameters, output_shape, summary
from jaxcnn.nn.layer import Layer
from jaxcnn.nn.layers import dense, flatten, prelu
from jaxcnn.nn.models import digits_cnn
from jaxcnn.nn.normalization import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    rms_norm,
)
from jaxcnn.nn.pooling import (
    adaptive_max_pool,
    adaptive_mean_pool,
    lp_pool,
    max_pool,
    mean_pool,
    mixed_pool,
    softmax_pool,
    stochastic_pool,
    weighted_pool,
)
from jaxcnn.nn.resampling import pad, pixel_shuffle, pixel_unshuffle, resize

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
    "drop_block",
    "drop_path",
    "dropout",
    "flatten",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "lp_pool",
    "max_pool",
    "mean_pool",
    "mixed_pool",
    "named",
    "output_shape",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "prelu",
    "residual",
    "resize",
    "rms_norm",
    "separable_conv",
    "sequential",
    "softmax_pool",
    "spatial_dropout",
    "spectral_norm",
    "stochastic_pool",
    "summary",
    "weight_norm",
    "weighted_pool",
]
