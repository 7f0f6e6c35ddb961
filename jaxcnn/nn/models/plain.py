"""A plain network for images, sound and volumes."""

from __future__ import annotations

from collections.abc import Sequence

from jaxcnn.contract import arguments
from jaxcnn.nn.branches import concatenate
from jaxcnn.nn.calls import layer_maker
from jaxcnn.nn.combinators import sequential
from jaxcnn.nn.convolution import conv
from jaxcnn.nn.dropout import dropout
from jaxcnn.nn.layer import Layer
from jaxcnn.nn.layers import dense
from jaxcnn.nn.normalization import batch_norm
from jaxcnn.nn.pooling import max_pool
from jaxcnn.ops.activations.rectifiers import relu
from jaxcnn.ops.global_pooling import global_max_pool, global_mean_pool

_STEM = ("channels", "kernel", "stride", "pool")


@layer_maker
def plain_cnn(
    classes: int = 10,
    *,
    stem: Sequence[int] = (32, 5, 1, 2),
    stages: Sequence[Sequence[int]] = ((64, 64), (128,)),
    rate: float = 0.0,
    with_max: bool = False,
) -> Layer:
    """Convolutions, batch norms and relus in stages, x [N, *S, C] of any rank -> logits [N, classes].

    A stem, then stages of convolutions with kernels of 3 and a max-pooling by 2 between two stages, then the mean over
    all places and one dense layer. 131,690 parameters for 10 classes and one channel.

    Args:
        classes: how many there are.
        stem: of the first convolution (how many feature maps, the kernel's side, the stride), and the window of the
            max-pooling behind it, 1 for none.
        stages: how many feature maps each convolution of each stage has.
        rate: of the dropout in front of the dense layer.
        with_max: whether the maximum over all places goes to the dense layer, too.

    Returns:
        A layer with params {"conv1": ..., "batch_norm1": ..., ..., "dense1": ...} and the state of its batch norms.
        train=True takes a key if there is a dropout.

    Raises:
        TypeError: classes or an entry of stem or stages is no int, rate no number, with_max no bool.
        ValueError: classes or such an entry is less than 1, stem has not 4 entries, a stage has none, rate is not
            within [0, 1]; from init if the input has no spatial axis.

    Source: ours; the recipes of `jaxcnn train` say what it reaches.

    >>> from jaxcnn import nn
    >>> nn.output_shape(nn.plain_cnn(), (5, 28, 28, 1))
    (5, 10)
    """
    function = "nn.plain_cnn"
    is_stem = isinstance(stem, Sequence) and len(stem) == len(_STEM)
    arguments.require(is_stem, function, "stem", f"({', '.join(_STEM)})", arguments.describe(stem))
    first, kernel, stride, pool = (arguments.integer(function, "stem", value, 1) for value in stem)
    is_stages = isinstance(stages, Sequence) and all(isinstance(stage, Sequence) and stage for stage in stages)
    arguments.require(is_stages, function, "stages", "((channels, ...), ...)", arguments.describe(stages))

    def stack(channels, side, stride=1):
        return [conv(channels, side, stride=stride, bias=False), batch_norm(), relu]

    layers = stack(first, kernel, stride)
    for window, stage in zip((pool, *[2] * len(stages)), stages, strict=False):
        layers += [max_pool(window, padding="SAME")] if window > 1 else []
        for channels in stage:
            layers += stack(arguments.integer(function, "stages", channels, 1), 3)
    pooled = concatenate(global_mean_pool, global_max_pool) if arguments.flag(function, "with_max", with_max) else None
    head = [dropout(rate)] if arguments.number(function, "rate", rate, 0, 1) > 0 else []
    return sequential(*layers, pooled or global_mean_pool, *head, dense(classes))
