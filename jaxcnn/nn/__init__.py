"""Layers as pairs of pure functions, how to put them together, and models."""

from jaxcnn.nn.branches import concatenate, parallel, residual, skip
from jaxcnn.nn.combinators import named, remat, sequential
from jaxcnn.nn.convolution import conv, conv_transpose, depthwise_conv, separable_conv
from jaxcnn.nn.dropout import drop_block, drop_path, dropout, spatial_dropout
from jaxcnn.nn.filter_normalization import spectral_norm, weight_norm
from jaxcnn.nn.initializers import (
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    orthogonal,
)
from jaxcnn.nn.inspection import count_parameters, output_shape, summary
from jaxcnn.nn.layer import Layer
from jaxcnn.nn.layers import dense, flatten, layer_scale, prelu
from jaxcnn.nn.models import (
    audio_cnn,
    autoencoder,
    convnext,
    digits_cnn,
    lenet,
    mobilenet_v1,
    mobilenet_v2,
    resnet,
    resnet_cifar,
    resnext,
    unet,
    unet_3d,
    vgg,
    voxnet,
)
from jaxcnn.nn.normalization import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    rms_norm,
)
from jaxcnn.nn.pooling import adaptive_max_pool, adaptive_mean_pool, max_pool, mean_pool, weighted_pool
from jaxcnn.nn.resampling import pixel_shuffle, pixel_unshuffle, resize
from jaxcnn.nn.state_dict import load_state_dict

__all__ = [
    "Layer",
    "adaptive_max_pool",
    "adaptive_mean_pool",
    "audio_cnn",
    "autoencoder",
    "batch_norm",
    "concatenate",
    "conv",
    "conv_transpose",
    "convnext",
    "count_parameters",
    "dense",
    "depthwise_conv",
    "digits_cnn",
    "drop_block",
    "drop_path",
    "dropout",
    "flatten",
    "glorot_normal",
    "glorot_uniform",
    "group_norm",
    "he_normal",
    "he_uniform",
    "instance_norm",
    "layer_norm",
    "layer_scale",
    "lecun_normal",
    "lecun_uniform",
    "lenet",
    "load_state_dict",
    "local_response_norm",
    "max_pool",
    "mean_pool",
    "mobilenet_v1",
    "mobilenet_v2",
    "named",
    "orthogonal",
    "output_shape",
    "parallel",
    "pixel_shuffle",
    "pixel_unshuffle",
    "prelu",
    "remat",
    "residual",
    "resize",
    "resnet",
    "resnet_cifar",
    "resnext",
    "rms_norm",
    "separable_conv",
    "sequential",
    "skip",
    "spatial_dropout",
    "spectral_norm",
    "summary",
    "unet",
    "unet_3d",
    "vgg",
    "voxnet",
    "weight_norm",
    "weighted_pool",
]
