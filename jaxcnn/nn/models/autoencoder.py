"""Convolutional autoencoders."""

from __future__ import annotations

from functools import partial

from jaxcnn.contract import arguments
from jaxcnn.nn.calls import layer_maker
from jaxcnn.nn.combinators import named, sequential
from jaxcnn.nn.convolution import conv, conv_transpose
from jaxcnn.nn.layer import Layer
from jaxcnn.nn.models.halving import halved_images
from jaxcnn.ops.activations.rectifiers import relu


@layer_maker
def autoencoder(channels: int = 1, *, depth: int = 2, width: int = 16, code: int = 8) -> Layer:
    """Convolutions down to a small code and transposed ones up again, x [N, *S, channels] -> the same shape.

    17,513 parameters for [N, H, W, 1].

    Args:
        channels: of the images.
        depth: how often the resolution is halved; 2^depth divides S.
        width: how many feature maps the first convolution has; every next one has twice as many.
        code: how many channels the code has, [N, *(S/2^depth), code].

    Returns:
        A layer with params {"encoder": ..., "decoder": ...} and no state.

    Raises:
        TypeError: an argument is no int.
        ValueError: an argument is less than 1; from init and apply if the images have other than `channels` channels,
            or 2^depth does not divide S.

    Source: Masci et al., Stacked convolutional auto-encoders for hierarchical feature extraction, 2011.

    >>> from jaxcnn import nn
    >>> nn.output_shape(nn.autoencoder(), (5, 28, 28, 1))
    (5, 28, 28, 1)
    """
    function = "nn.autoencoder"
    channels, depth = (
        arguments.integer(function, "channels", channels, 1),
        arguments.integer(function, "depth", depth, 1),
    )
    width, code = arguments.integer(function, "width", width, 1), arguments.integer(function, "code", code, 1)
    widths = [width * 2**i for i in range(depth)]
    # of size 4, so that every place lies under as many entries of the filters
    halved = partial(conv, size=4, stride=2, padding=1)
    doubled = partial(conv_transpose, size=4, stride=2, padding=1)
    activation = partial(relu, keeps="output")
    down = [layer for wide in widths for layer in (halved(wide), activation)]
    up = [layer for wide in reversed(widths[:-1]) for layer in (doubled(wide), activation)]
    model = sequential(
        named("encoder", sequential(*down, conv(code, 1))),
        named("decoder", sequential(conv(widths[-1], 1), activation, *up, doubled(channels))),
    )
    return halved_images(function, model, depth, channels)
