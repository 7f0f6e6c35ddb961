"""U-Nets, for any number of spatial axes: `nn.skip` within `nn.skip`."""

from __future__ import annotations

from functools import partial

from jaxcnn.contract import arguments
from jaxcnn.nn.branches import skip
from jaxcnn.nn.calls import layer_maker
from jaxcnn.nn.combinators import sequential
from jaxcnn.nn.convolution import conv, conv_transpose
from jaxcnn.nn.layer import Layer, LayerLike
from jaxcnn.nn.models.halving import halved_images
from jaxcnn.nn.normalization import batch_norm as batch_norm_layer
from jaxcnn.nn.pooling import max_pool
from jaxcnn.ops.activations.rectifiers import relu


@layer_maker
def unet(
    classes: int = 2, *, depth: int = 4, width: int = 64, batch_norm: bool = False, padding: str = "SAME"
) -> Layer:
    """U-Net, x [N, *S, C] -> logits [N, *S, classes] for every place; 31,030,658 parameters for [N, H, W, 1].

    Args:
        classes: how many there are.
        depth: how often the resolution is halved; 2^depth divides S.
        width: how many feature maps the finest level has; every next one has twice as many.
        batch_norm: whether one follows each convolution, in place of its bias.
        padding: of the convolutions, "SAME", or "VALID" as in the paper, where [N, 572, 572, 1] gives
            [N, 388, 388, classes].

    Returns:
        A layer with params {"conv1": ..., "conv2": ..., "skip1": {"inner": ...}, ..., "conv5": ...}, the next level in
        "inner", and the state of its batch norms, if any.

    Raises:
        TypeError: classes, depth or width is no int, batch_norm no bool.
        ValueError: depth is negative, classes or width is less than 1, padding is another; from init if the input has
            no spatial axis, 2^depth does not divide S with "SAME", or the image is too small with "VALID".

    Source: Ronneberger et al., U-Net: convolutional networks for biomedical image segmentation, 2015.

    >>> from jaxcnn import nn
    >>> nn.output_shape(nn.unet(depth=2, width=4), (1, 16, 20, 1))
    (1, 16, 20, 2)
    """
    fine = _widths("nn.unet", depth, width)
    levels = [(channels, channels) for channels in fine]
    return _unet("nn.unet", classes, levels, fine[:-1], batch_norm, padding)


@layer_maker
def unet_3d(
    classes: int = 3, *, depth: int = 3, width: int = 32, batch_norm: bool = True, padding: str = "SAME"
) -> Layer:
    """3-D U-Net, x [N, *S, C] -> logits [N, *S, classes] for every place.

    It doubles the feature maps in front of each max-pooling and keeps them in the transposed convolutions, so that
    there is no bottleneck. For [N, D, H, W, 3] and 3 classes it has the 19,069,955 parameters of the paper without
    batch norm, which are not counted there, and 19,072,291 with it.

    Args:
        width: how many feature maps the first convolution has.
        classes, depth, batch_norm, padding: as for `unet`; "VALID" as in the paper takes [N, 132, 132, 116, 3] to
            [N, 44, 44, 28, classes].

    Returns:
        A layer with params and state as those of `unet`.

    Raises:
        TypeError, ValueError: as for `unet`.

    Source: Çiçek et al., 3D U-Net: learning dense volumetric segmentation from sparse annotation, 2016.

    >>> from jaxcnn import nn
    >>> nn.output_shape(nn.unet_3d(depth=2, width=2), (1, 8, 12, 16, 3))
    (1, 8, 12, 16, 3)
    """
    levels = [(channels, 2 * channels) for channels in _widths("nn.unet_3d", depth, width)]
    kept = [channels for _, channels in levels[1:]]
    return _unet("nn.unet_3d", classes, levels, kept, batch_norm, padding, bias_up=False)


def _widths(function, depth, width):
    depth, width = arguments.integer(function, "depth", depth, 0), arguments.integer(function, "width", width, 1)
    return [width * 2**i for i in range(depth + 1)]


def _unet(function, classes, levels, ups, batch_norm, padding, bias_up=True) -> Layer:
    """levels: the feature maps of the two convolutions on the way down; ups: those of what comes up to each level."""
    batch_norm = arguments.flag(function, "batch_norm", batch_norm)
    crop = arguments.choice(function, "padding", padding, ("SAME", "VALID")) == "VALID"

    def stack(channels) -> list[LayerLike]:
        if batch_norm:
            return [conv(channels, 3, padding=padding, bias=False), batch_norm_layer(), relu]
        return [conv(channels, 3, padding=padding), partial(relu, keeps="output")]

    def level(i) -> list[LayerLike]:
        first, second = levels[i]
        down = [*stack(first), *stack(second)]
        if i == len(ups):
            return down
        up = conv_transpose(ups[i], 2, stride=2, bias=bias_up)
        return [*down, skip(sequential(max_pool(2), *level(i + 1), up), crop=crop), *stack(second), *stack(second)]

    model = sequential(*level(0), conv(classes, 1))
    return model if crop else halved_images(function, model, len(ups))
