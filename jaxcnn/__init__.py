"""Convolutional networks in JAX whose backward pass is written out.

Every op is a pure function of arrays, channels last, with a `jax.custom_vjp` rule that is a formula of the lecture on
backpropagation in convolutional networks. The order below is the lecture's.
"""

from jaxcnn.ops.convolution import conv, depthwise_conv, separable_conv
from jaxcnn.ops.convolution_gradients import conv_filter_grad, conv_input_grad
from jaxcnn.ops.transposed_convolution import conv_transpose
from jaxcnn.ops.general_convolution import conv_general_dilated
from jaxcnn.ops.resampling import downsample, upsample
from jaxcnn.ops.max_pooling import max_pool, max_unpool
from jaxcnn.ops.mean_pooling import mean_pool
from jaxcnn.ops.lp_pooling import lp_pool
from jaxcnn.ops.weighted_pooling import weighted_pool
from jaxcnn.ops.mixed_pooling import mixed_pool, softmax_pool
from jaxcnn.ops.stochastic_pooling import stochastic_pool, stochastic_pool_inference
from jaxcnn.ops.global_pooling import adaptive_max_pool, adaptive_mean_pool, global_max_pool, global_mean_pool
from jaxcnn.ops.pixel_shuffle import pixel_shuffle, pixel_unshuffle
from jaxcnn.ops.resize import resize
from jaxcnn.ops.padding import pad
from jaxcnn.ops.activations.rectifiers import celu, elu, leaky_relu, prelu, relu, selu, softplus
from jaxcnn.ops.activations.self_gated import gelu, hard_silu, mish, silu
from jaxcnn.ops.activations.sigmoids import hard_sigmoid, hard_tanh, sigmoid, softsign, tanh
from jaxcnn.ops.activations.softmax import log_softmax, softmax
from jaxcnn.ops.dense import dense, flatten
from jaxcnn.ops.batch_normalization import batch_norm, batch_norm_inference
from jaxcnn.ops.normalization import group_norm, instance_norm, layer_norm, rms_norm
from jaxcnn.ops.local_response import local_response_norm
from jaxcnn.ops.filter_normalization import spectral_norm, weight_norm
from jaxcnn.ops.dropout import drop_block, drop_path, dropout, spatial_dropout
from jaxcnn.ops.losses.cross_entropy import kl_divergence, nll, softmax_cross_entropy
from jaxcnn.ops.losses.binary_cross_entropy import focal, sigmoid_cross_entropy
from jaxcnn.ops.losses.hinge import hinge
from jaxcnn.ops.losses.dice import dice
from jaxcnn.ops.losses.regression import huber, mean_absolute_error, mean_squared_error
from jaxcnn.ops.losses.penalty import l1_penalty, l2_penalty
from jaxcnn.transforms import convolutions_saveable, derived, explicit, explicit_report, jit
from jaxcnn import check, data, nn, train

__all__ = [
    "conv",
    "conv_filter_grad",
    "conv_input_grad",
    "depthwise_conv",
    "separable_conv",
    "conv_transpose",
    "conv_general_dilated",
    "downsample",
    "upsample",
    "pixel_shuffle",
    "pixel_unshuffle",
    "resize",
    "pad",
    "max_pool",
    "max_unpool",
    "mean_pool",
    "lp_pool",
    "weighted_pool",
    "mixed_pool",
    "softmax_pool",
    "stochastic_pool",
    "stochastic_pool_inference",
    "adaptive_max_pool",
    "adaptive_mean_pool",
    "global_max_pool",
    "global_mean_pool",
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
    "kl_divergence",
    "nll",
    "softmax_cross_entropy",
    "focal",
    "sigmoid_cross_entropy",
    "dice",
    "hinge",
    "huber",
    "mean_absolute_error",
    "mean_squared_error",
    "l1_penalty",
    "l2_penalty",
    "convolutions_saveable",
    "derived",
    "explicit",
    "explicit_report",
    "jit",
    "check",
    "data",
    "nn",
    "train",
]
