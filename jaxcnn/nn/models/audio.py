"""Networks for sound."""

from __future__ import annotations

from jaxcnn.contract import arguments
from jaxcnn.nn.calls import layer_maker
from jaxcnn.nn.combinators import sequential
from jaxcnn.nn.convolution import conv
from jaxcnn.nn.layer import Layer
from jaxcnn.nn.layers import dense
from jaxcnn.nn.normalization import batch_norm
from jaxcnn.nn.pooling import max_pool
from jaxcnn.ops.activations.rectifiers import relu
from jaxcnn.ops.global_pooling import global_mean_pool

# feature maps of the first convolution, and how many convolutions each stage behind it has
_STAGES = {3: (256, (1,)), 5: (128, (1, 1, 1)), 11: (64, (2, 2, 3, 2)), 18: (64, (4, 4, 4, 4))}


@layer_maker
def audio_cnn(depth: int = 5, classes: int = 10, *, width: int | None = None) -> Layer:
    """M3, M5, M11 and M18 for waveforms, x [N, 32000, 1], 4 s at 8 kHz, -> logits [N, classes].

    Parameters for 10 classes: M3 has 220,682; M5: 558,090; M11: 1,784,202; M18: 3,679,882.

    Args:
        depth: how many layers have weights: 3, 5, 11 or 18.
        classes: how many there are.
        width: how many feature maps the first convolution has, by default those of the paper; every stage behind the
            second has twice as many as the one before.

    Returns:
        A layer with params {"conv1": ..., "batch_norm1": ..., ..., "dense1": ...} and the state of its batch norms.

    Raises:
        TypeError: depth, classes or width is no int.
        ValueError: depth is another, classes or width is less than 1; from init if the input has no spatial axis.

    Source: Dai et al., Very deep convolutional neural networks for raw waveforms, 2017.

    >>> from jaxcnn import nn
    >>> nn.output_shape(nn.audio_cnn(), (5, 32000, 1))
    (5, 10)
    """
    published, counts = _STAGES[arguments.one_of("nn.audio_cnn", "depth", depth, _STAGES)]
    width = published if width is None else arguments.integer("nn.audio_cnn", "width", width, 1)

    def stack(channels, size, stride=1):
        return [conv(channels, size, stride=stride, bias=False), batch_norm(), relu]

    layers = [*stack(width, 80, 4), max_pool(4, padding="SAME")]
    for i, count in enumerate(counts):
        for _ in range(count):
            layers += stack(width * 2**i, 3)
        layers += [max_pool(4, padding="SAME")] if i < 3 else []
    return sequential(*layers, global_mean_pool, dense(classes))
