"""Residual networks: ResNet for ImageNet and for CIFAR, and ResNeXt.

The layers are called as the modules of torchvision, so that `nn.load_state_dict` finds their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial

import jax.numpy as jnp

from jaxcnn.contract import arguments
from jaxcnn.nn.branches import residual
from jaxcnn.nn.calls import layer_maker
from jaxcnn.nn.combinators import named, sequential
from jaxcnn.nn.convolution import conv
from jaxcnn.nn.initializers import constant
from jaxcnn.nn.layer import Layer, LayerLike
from jaxcnn.nn.layers import dense
from jaxcnn.nn.normalization import batch_norm
from jaxcnn.nn.pooling import max_pool
from jaxcnn.ops.activations.rectifiers import relu
from jaxcnn.ops.global_pooling import global_mean_pool
from jaxcnn.ops.resampling import downsample

# how many blocks the four stages have
_BASIC = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
_BOTTLENECK = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


@layer_maker
def resnet(
    depth: int = 50, classes: int = 1000, *, width: int = 64, cifar: bool = False, zero_init: bool = False
) -> Layer:
    """ResNet, x [N, 224, 224, 3] -> logits [N, classes], or [N, 32, 32, 3] for CIFAR.

    Parameters for 1000 classes: depth 18 has 11,689,512; 34: 21,797,672; 50: 25,557,032; 101: 44,549,160; 152:
    60,192,808. A bottleneck has its stride in the 3x3 convolution, as in torchvision, not in the first 1x1.

    Args:
        depth: how many layers have weights: 18, 34, 50, 101 or 152.
        classes: how many there are.
        width: how many feature maps the first stage has; the others have 2, 4 and 8 times as many.
        cifar: begins with a 3x3 convolution in place of one of 7x7 with stride 2 and max-pooling.
        zero_init: whether the last gamma of each block starts as 0, the block as its shortcut (Goyal et al., 2017).

    Returns:
        A layer with params {"conv1": ..., "bn1": ..., "layer1": {"0": ..., ...}, ..., "fc": ...} and the state of its
        batch norms.

    Raises:
        TypeError: depth, classes or width is no int, cifar or zero_init no bool.
        ValueError: depth is another, classes or width is less than 1; from init if the input has no spatial axis.

    Source: He et al., Deep residual learning for image recognition, 2016.

    >>> from jaxcnn import nn
    >>> nn.output_shape(nn.resnet(18, 10, width=4, cifar=True), (5, 32, 32, 3))
    (5, 10)
    """
    depth = arguments.one_of("nn.resnet", "depth", depth, _BASIC | _BOTTLENECK)
    width = arguments.integer("nn.resnet", "width", width, 1)
    cifar, zero_init = arguments.flag("nn.resnet", "cifar", cifar), arguments.flag("nn.resnet", "zero_init", zero_init)
    if depth in _BOTTLENECK:
        block = partial(_bottleneck, groups=1, share=1, zero_init=zero_init)
        return _network(block, 4, _BOTTLENECK[depth], classes, width, _projection, cifar)
    return _network(partial(_basic, zero_init=zero_init), 1, _BASIC[depth], classes, width, _projection, cifar)


@layer_maker
def resnext(
    depth: int = 50,
    classes: int = 1000,
    *,
    groups: int = 32,
    group_width: int = 4,
    width: int = 64,
    cifar: bool = False,
    zero_init: bool = False,
) -> Layer:
    """ResNeXt, x [N, 224, 224, 3] -> logits [N, classes]: ResNet with grouped convolutions in its bottlenecks.

    Parameters for 1000 classes: depth 50 with 32 groups of 4 has 25,028,904; depth 101 with 32 of 8: 88,791,336.

    Args:
        depth: how many layers have weights: 50, 101 or 152.
        groups: of the 3x3 convolutions, the cardinality.
        group_width: how many feature maps a group has in the first stage.
        classes, width, cifar, zero_init: as for `resnet`.

    Returns:
        A layer with params and state as those of `resnet`.

    Raises:
        TypeError: depth, classes, groups, group_width or width is no int, cifar or zero_init no bool.
        ValueError: depth is another, one of the others is less than 1; from init if the input has no spatial axis.

    Source: Xie et al., Aggregated residual transformations for deep neural networks, 2017.

    >>> from jaxcnn import nn
    >>> nn.output_shape(nn.resnext(50, 10, groups=4, group_width=2, width=4, cifar=True), (5, 32, 32, 3))
    (5, 10)
    """
    function = "nn.resnext"
    depth = arguments.one_of(function, "depth", depth, _BOTTLENECK)
    width, groups = arguments.integer(function, "width", width, 1), arguments.integer(function, "groups", groups, 1)
    group_width = arguments.integer(function, "group_width", group_width, 1)
    cifar, zero_init = arguments.flag(function, "cifar", cifar), arguments.flag(function, "zero_init", zero_init)
    block = partial(_bottleneck, groups=groups, share=Fraction(groups * group_width, width), zero_init=zero_init)
    return _network(block, 4, _BOTTLENECK[depth], classes, width, _projection, cifar)


@layer_maker
def resnet_cifar(depth: int = 20, classes: int = 10, *, width: int = 16) -> Layer:
    """The ResNet for CIFAR of the paper, x [N, 32, 32, 3] -> logits [N, classes].

    Parameters for 10 classes: depth 20 has 269,722; 32: 464,154; 44: 658,586; 56: 853,018; 110: 1,727,962. Shortcuts
    have none: they leave out every second place and pad the channels with zeros.

    Args:
        depth: how many layers have weights, 6n + 2 with n blocks in each of three stages.
        classes: how many there are.
        width: how many feature maps the first stage has; the others have 2 and 4 times as many.

    Returns:
        A layer with params and state as those of `resnet`, of three stages.

    Raises:
        TypeError: an argument is no int.
        ValueError: depth is not 6n + 2 or less than 8, classes or width is less than 1; from init if the input has no
            spatial axis.

    Source: He et al., Deep residual learning for image recognition, 2016, section 4.2.

    >>> from jaxcnn import nn
    >>> nn.output_shape(nn.resnet_cifar(8, width=4), (5, 32, 32, 3))
    (5, 10)
    """
    depth = arguments.integer("nn.resnet_cifar", "depth", depth, 8)
    arguments.require(depth % 6 == 2, "nn.resnet_cifar", "depth", "6n + 2", depth)
    width = arguments.integer("nn.resnet_cifar", "width", width, 1)
    return _network(_basic, 1, (depth // 6,) * 3, classes, width, _padded_channels, cifar=True)


def _network(
    block: Callable[[int, int], Layer],
    expansion: int,
    counts: Sequence[int],
    classes: int,
    width: int,
    shortcut: Callable[[int, int], LayerLike],
    cifar: bool,
) -> Layer:
    """Stages of residual blocks, each with twice the feature maps at half the resolution.

    block(channels, stride) has expansion · channels feature maps; shortcut(channels, stride) is the way around one that
    changes the shape.
    """
    stem = [*_conv_norm(1, width, 3), relu]
    if not cifar:
        stem = [*_conv_norm(1, width, 7, 2), relu, max_pool(3, stride=2, padding=1)]
    stages, inputs = [], width
    for i, count in enumerate(counts):
        channels, outputs, blocks = width * 2**i, expansion * width * 2**i, []
        for j in range(count):
            stride = 2 if i > 0 and j == 0 else 1
            bypass = None if (stride, inputs) == (1, outputs) else shortcut(outputs, stride)
            blocks += [named(str(j), residual(block(channels, stride), bypass)), relu]
            inputs = outputs
        stages.append(named(f"layer{i + 1}", sequential(*blocks)))
    return sequential(*stem, *stages, global_mean_pool, named("fc", dense(classes)))


def _basic(channels: int, stride: int, *, zero_init: bool = False) -> Layer:
    first, second = _conv_norm(1, channels, 3, stride), _conv_norm(2, channels, 3, zero_init=zero_init)
    return sequential(*first, relu, *second)


def _bottleneck(channels: int, stride: int, *, groups: int, share: Fraction | int, zero_init: bool) -> Layer:
    """The 3x3 convolution has share · channels feature maps."""
    inner = int(share * channels)
    first, second = _conv_norm(1, inner, 1), _conv_norm(2, inner, 3, stride, groups)
    return sequential(*first, relu, *second, relu, *_conv_norm(3, 4 * channels, 1, zero_init=zero_init))


def _conv_norm(number, channels, size, stride=1, groups=1, zero_init=False) -> list[Layer]:
    convolution = conv(channels, size, stride=stride, padding=size // 2, groups=groups, bias=False)
    norm = batch_norm(initializer=constant(0.0 if zero_init else 1.0))
    return [named(f"conv{number}", convolution), named(f"bn{number}", norm)]


def _projection(channels, stride):
    convolution = conv(channels, 1, stride=stride, padding=0, bias=False)
    return sequential(named("0", convolution), named("1", batch_norm()))


def _padded_channels(channels, stride):
    def padded_channels(x):
        more = channels - x.shape[-1]
        return jnp.pad(downsample(x, stride), [(0, 0)] * (x.ndim - 1) + [(0, more)])

    return padded_channels
