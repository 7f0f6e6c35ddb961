"""Whole models of jaxcnn in training: dozens of right rules one behind the other, in float32 and in bfloat16."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxcnn
from jaxcnn import nn
from rules.rule import Rule


def _block(channels: int, rank: int = 2) -> list[nn.Layer | Callable[..., Any]]:
    """A convolution with its bias in front of a batch norm: that bias has the gradient 0."""
    return [nn.conv(channels, (3,) * rank), nn.batch_norm(), jaxcnn.relu]


def _separable(channels: int) -> list[nn.Layer | Callable[..., Any]]:
    """A block of MobileNet."""
    return [nn.depthwise_conv(3), nn.batch_norm(), jaxcnn.relu, *_block(channels)]


def _usual(rank: int, width: int = 16) -> nn.Layer:
    """The usual model: convolutions with their biases, batch norms, relus, poolings and dropouts."""
    first = [*_block(width, rank), nn.dropout(0.1), nn.max_pool(2)]
    second = [*_block(2 * width, rank), nn.mean_pool(2), nn.dropout(0.5)]
    return nn.sequential(*first, *second, nn.flatten(), nn.dense(10))


MODELS: dict[str, tuple[nn.Layer, tuple[int, ...], str]] = {
    "convolutions, batch norms, dropout": (_usual(2), (16, 16, 16, 3), "float32"),
    "the same in bfloat16": (_usual(2), (16, 16, 16, 3), "bfloat16"),
    "plain_cnn": (nn.plain_cnn(stem=(8, 5, 1, 2), stages=((16, 16), (32,)), rate=0.5), (8, 20, 20, 1), "float32"),
    "ResNet of 8 layers": (nn.resnet_cifar(8, width=8), (8, 16, 16, 3), "float32"),
    "U-Net with batch norm": (nn.unet(depth=2, width=8, batch_norm=True), (2, 16, 16, 1), "float32"),
    "3-D, convolutions, batch norms, dropout": (_usual(3, 4), (4, 8, 8, 8, 1), "float32"),
    "MobileNet in bfloat16": (
        nn.sequential(
            *_block(8), *_separable(16), nn.max_pool(2), *_separable(32), nn.dropout(0.2), nn.flatten(), nn.dense(10)
        ),
        (8, 16, 16, 3),
        "bfloat16",
    ),
    "ConvNeXt in bfloat16": (nn.convnext(10, blocks=(1,), width=16), (4, 32, 32, 3), "bfloat16"),
    "1-D on sound in bfloat16": (nn.audio_cnn(5, width=8), (4, 4000, 1), "bfloat16"),
    "ResNet of 8 layers in bfloat16": (nn.resnet_cifar(8, width=8), (8, 16, 16, 3), "bfloat16"),
}


def in_training(name: str, seed: int = 0) -> Rule:
    """The loss of a model by its parameters and its input, with the statistics of the batch and with dropout."""
    model, shape, dtype = MODELS[name]
    of_params, of_x, of_labels, of_dropout = jax.random.split(jax.random.key(seed), 4)
    params, state = model.init(of_params, shape)
    x = jax.random.normal(of_x, shape)
    outputs = nn.output_shape(model, shape)
    labels = jax.random.randint(of_labels, outputs[:-1], 0, outputs[-1])

    def loss(params, x):
        logits, _ = model.apply(params, state, x, train=True, key=of_dropout)
        return jaxcnn.softmax_cross_entropy(logits.astype(jnp.float32), labels)

    params, x = jax.tree.map(lambda a: a.astype(dtype), (params, x))
    return Rule(name, loss, (params, x))
