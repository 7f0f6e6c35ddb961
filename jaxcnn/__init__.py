"""Convolutional networks in JAX whose backward pass is written out.

Every op is a pure function of arrays, channels last, with a `jax.custom_vjp` rule that is a formula of the lecture on
backpropagation in convolutional networks. The order below is the lecture's.
"""

from jaxcnn.ops.convolution import conv, conv_filter_grad, conv_input_grad, depthwise_conv
from jaxcnn.ops.resampling import downsample, upsample
from jaxcnn.ops.pixel_shuffle import pixel_shuffle, pixel_unshuffle
from jaxcnn.ops.resize import resize
from jaxcnn.ops.pooling import max_pool, mean_pool, weighted_pool
from jaxcnn.ops.activation import (
    celu,
    elu,
    gelu,
    hard_sigmoid,
    hard_silu,
    hard_tanh,
    leaky_relu,
    log_softmax,
    mish,
    prelu,
    relu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softsign,
    tanh,
)
from jaxcnn.ops.dense import dense, flatten
from jaxcnn.ops.batch_normalization import batch_norm, batch_norm_inference
from jaxcnn.ops.normalization import group_norm, instance_norm, layer_norm, rms_norm
from jaxcnn.ops.local_response import local_response_norm
from jaxcnn.ops.filter_normalization import spectral_norm, weight_norm
from jaxcnn.ops.dropout import drop_block, drop_path, dropout, spatial_dropout
from jaxcnn.ops.loss import l1_penalty, l2_penalty, mean_squared_error, softmax_cross_entropy
from jaxcnn.transforms import derived
from jaxcnn import check, data, nn, train

__all__ = [
    "conv",
    "conv_filter_grad",
    "conv_input_grad",
    "depthwise_conv",
    "downsample",
    "upsample",
    "pixel_shuffle",
    "pixel_unshuffle",
    "resize",
    "max_pool",
    "mean_pool",
    "weighted_pool",
    "celu",
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "leaky_relu",
    "log_softmax",
    "mish",
    "prelu",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
    "dense",
    "flatten",
    "batch_norm",
    "batch_norm_inference",
    "layer_norm",
    "group_norm",
    "instance_norm",
    "rms_norm",
    "local_response_norm",
    "weight_norm",
    "spectral_norm",
    "dropout",
    "spatial_dropout",
    "drop_path",
    "drop_block",
    "l1_penalty",
    "l2_penalty",
    "mean_squared_error",
    "softmax_cross_entropy",
    "derived",
    "check",
    "data",
    "nn",
    "train",
]
