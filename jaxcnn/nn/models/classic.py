"""One layer after the other: a small network for digits, LeNet-5 and VGG."""

from __future__ import annotations

from functools import partial

from jaxcnn.contract import arguments
from jaxcnn.nn.calls import layer_maker
from jaxcnn.nn.combinators import sequential
from jaxcnn.nn.convolution import conv
from jaxcnn.nn.dropout import dropout
from jaxcnn.nn.initializers import lecun_normal
from jaxcnn.nn.layer import Layer
from jaxcnn.nn.layers import dense, flatten
from jaxcnn.nn.normalization import batch_norm as batch_norm_layer
from jaxcnn.nn.pooling import adaptive_mean_pool, max_pool, mean_pool
from jaxcnn.ops.activations.rectifiers import relu
from jaxcnn.ops.activations.sigmoids import tanh
from jaxcnn.ops.global_pooling import global_mean_pool


@layer_maker
def digits_cnn(classes: int = 10) -> Layer:
    """A small network for the 8x8 digits, x [N, 8, 8, 1] -> logits [N, classes]; 30,762 parameters.

    Args:
        classes: how many there are.

    Returns:
        A layer with params {"conv1": ..., "batch_norm1": ..., ..., "dense1": ...} and the state of its batch norms.
        train=True takes a key, for the dropout.

    Raises:
        TypeError: classes is no int.
        ValueError: classes is less than 1; from init if the input has no spatial axis, or one of less than 4 places.

    >>> from jaxcnn import nn
    >>> nn.output_shape(nn.digits_cnn(), (5, 8, 8, 1))
    (5, 10)
    """

    def stack(channels):
        return [conv(channels, 3, bias=False), batch_norm_layer(), relu]

    return sequential(
        *stack(32), *stack(32), max_pool(2), *stack(64), max_pool(2), dropout(0.3), flatten(), dense(classes)
    )


@layer_maker
def lenet(classes: int = 10, *, width: int = 6) -> Layer:
    """LeNet-5, x [N, 28, 28, 1] -> logits [N, classes]; 61,706 parameters for 10 classes.

    As it is built today: means without weights of their own, every feature map connected with all, dense at the end.

    Args:
        classes: how many there are.
        width: how many feature maps the first convolution has; the other layers grow in proportion.

    Returns:
        A layer with params {"conv1": ..., "conv2": ..., "dense1": ..., "dense2": ..., "dense3": ...} and no state.

    Raises:
        TypeError: classes or width is no int.
        ValueError: classes or width is less than 1; from init if the input has no spatial axis, or one of less than 12
            places.

    Source: LeCun et al., Gradient-based learning applied to document recognition, 1998.

    >>> from jaxcnn import nn
    >>> nn.output_shape(nn.lenet(), (5, 28, 28, 1))
    (5, 10)
    """
    width = arguments.integer("nn.lenet", "width", width, 1)
    initializer = lecun_normal()

    def stack(channels, padding):
        return [conv(channels, 5, padding=padding, initializer=initializer), tanh, mean_pool(2)]

    def hidden(features):
        return [dense(features, initializer=initializer), tanh]

    features = [*stack(width, 2), *stack(width * 16 // 6, 0), flatten()]
    return sequential(*features, *hidden(20 * width), *hidden(14 * width), dense(classes, initializer=initializer))


# how many convolutions there are in front of each max-pooling
_VGG = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


@layer_maker
def vgg(
    depth: int = 16,
    classes: int = 1000,
    *,
    batch_norm: bool = False,
    width: int = 64,
    rate: float = 0.5,
    cifar: bool = False,
) -> Layer:
    """VGG, x [N, 224, 224, 3] -> logits [N, classes], or [N, 32, 32, 3] for CIFAR.

    Parameters for 1000 classes: depth 11 has 132,863,336; 13: 133,047,848; 16: 138,357,544, with batch norm
    138,365,992; 19: 143,667,240. For CIFAR, 10 classes and depth 16 with batch norm 14,724,042.

    Args:
        depth: how many layers have weights: 11, 13, 16 or 19.
        classes: how many there are.
        batch_norm: whether one follows each convolution, which then has no bias of its own in the form for CIFAR; that
            for ImageNet keeps it, as the published one.
        width: how many feature maps the first convolution has; the other layers grow in proportion.
        rate: of the dropout behind the two hidden dense layers.
        cifar: one dense layer rather than three.

    Returns:
        A layer with params {"conv1": ..., "conv2": ..., ..., "dense1": ...} and the state of its batch norms, if any.
        train=True takes a key, for the dropout, which there is none of for CIFAR.

    Raises:
        TypeError: depth, classes or width is no int, batch_norm or cifar no bool, rate no number.
        ValueError: depth is another, classes or width is less than 1, rate is not within [0, 1]; from init if the input
            has no spatial axis, or one of less than 32 places.

    Source: Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition, 2015.

    >>> from jaxcnn import nn
    >>> nn.output_shape(nn.vgg(11, 10, width=4, cifar=True), (5, 32, 32, 3))
    (5, 10)
    """
    counts = _VGG[arguments.one_of("nn.vgg", "depth", depth, _VGG)]
    width = arguments.integer("nn.vgg", "width", width, 1)
    batch_norm, cifar = arguments.flag("nn.vgg", "batch_norm", batch_norm), arguments.flag("nn.vgg", "cifar", cifar)

    def stage(channels, count):
        convolution = partial(conv, channels, 3, padding=1)
        if batch_norm:
            return [*count * [convolution(bias=not cifar), batch_norm_layer(), relu], max_pool(2)]
        # relu of the maxima is the maximum of relu; it keeps fewer entries
        activation = partial(relu, keeps="output")
        return [*(count - 1) * [convolution(), activation], convolution(), max_pool(2), activation]

    layers = [layer for i, count in enumerate(counts) for layer in stage(width * min(2**i, 8), count)]
    if cifar:
        return sequential(*layers, global_mean_pool, dense(classes))
    hidden = [layer for _ in range(2) for layer in (dense(64 * width), relu, dropout(rate))]
    return sequential(*layers, adaptive_mean_pool((7, 7)), flatten(), *hidden, dense(classes))
