"""ConvNeXt: large depthwise convolutions in the blocks of a transformer."""

from __future__ import annotations

from collections.abc import Sequence

from jax.nn.initializers import truncated_normal

from jaxcnn.contract import arguments
from jaxcnn.nn.branches import residual
from jaxcnn.nn.calls import layer_maker
from jaxcnn.nn.combinators import sequential
from jaxcnn.nn.convolution import conv, depthwise_conv
from jaxcnn.nn.dropout import drop_path
from jaxcnn.nn.layer import Layer
from jaxcnn.nn.layers import dense, layer_scale
from jaxcnn.nn.normalization import layer_norm
from jaxcnn.ops.activations.self_gated import gelu
from jaxcnn.ops.global_pooling import global_mean_pool

_INITIALIZER = truncated_normal(0.02)


@layer_maker
def convnext(classes: int = 1000, *, blocks: Sequence[int] = (3, 3, 9, 3), width: int = 96, rate: float = 0.1) -> Layer:
    """ConvNeXt, x [N, 224, 224, 3] -> logits [N, classes].

    Parameters for 1000 classes: tiny, the default, has 28,589,128; small has blocks (3, 3, 27, 3) and 50,223,688; base
    the same and width 128, 88,591,464.

    Args:
        classes: how many there are.
        blocks: how many each stage has.
        width: how many feature maps the first stage has; every next one has twice as many at half the resolution.
        rate: of `drop_path` in the last block; it grows from 0 in the first.

    Returns:
        A layer with params {"conv1": ..., "layer_norm1": ..., "residual1": ..., ..., "dense1": ...} and no state.
        train=True takes a key, for `drop_path`.

    Raises:
        TypeError: classes, width or an entry of blocks is no int, blocks no tuple of them, rate no number.
        ValueError: blocks is empty, one of these numbers is less than 1, rate is not within [0, 1]; from init if the
            input has no spatial axis, or one of less than 4 places times 2 for each stage but the first.

    Source: Liu et al., A ConvNet for the 2020s, 2022.

    >>> from jaxcnn import nn
    >>> nn.output_shape(nn.convnext(10, blocks=(1, 2), width=4), (5, 32, 32, 3))
    (5, 10)
    """
    width, rate = (
        arguments.integer("nn.convnext", "width", width, 1),
        arguments.number("nn.convnext", "rate", rate, 0, 1),
    )
    several = isinstance(blocks, Sequence) and not isinstance(blocks, str)
    expected = "a tuple of one int or more"
    arguments.require(several, "nn.convnext", "blocks", expected, arguments.describe(blocks), TypeError)
    arguments.require(len(blocks) > 0, "nn.convnext", "blocks", expected, blocks)
    blocks = [arguments.integer("nn.convnext", "blocks", count, 1) for count in blocks]
    layers = [_conv(width, 4), _norm()]
    done, last = 0, max(sum(blocks) - 1, 1)
    for i, count in enumerate(blocks):
        channels = width * 2**i
        layers += [_norm(), _conv(channels, 2)] if i > 0 else []
        layers += [_block(channels, rate * (done + j) / last) for j in range(count)]
        done += count
    return sequential(*layers, global_mean_pool, _norm(), dense(classes, initializer=_INITIALIZER))


def _block(channels, rate) -> Layer:
    spatial = [depthwise_conv(7, padding=3, initializer=_INITIALIZER), _norm()]
    hidden = [_conv(4 * channels, 1), gelu, _conv(channels, 1)]
    return residual(sequential(*spatial, *hidden, layer_scale(1e-6), drop_path(rate)))


def _conv(channels, size) -> Layer:
    """Of windows side by side."""
    return conv(channels, size, stride=size, padding=0, initializer=_INITIALIZER)


def _norm() -> Layer:
    return layer_norm(eps=1e-6)
