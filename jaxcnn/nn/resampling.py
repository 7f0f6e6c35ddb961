"""Layers that change the size of an image without parameters."""

from __future__ import annotations

import functools

from jaxcnn.contract.arguments import PerAxis
from jaxcnn.contract.window_arguments import Pads
from jaxcnn.nn.calls import layer_maker
from jaxcnn.nn.layer import Layer, parameterless
from jaxcnn.ops import padding
from jaxcnn.ops import pixel_shuffle as pixel_ops
from jaxcnn.ops import resize as resize_op


@layer_maker
def pixel_shuffle(factor: PerAxis) -> Layer:
    """Channels into places: `jaxcnn.pixel_shuffle`.

    Args:
        factor: as for `jaxcnn.pixel_shuffle`.

    Returns:
        A layer without params and state, x [N, *S, C·ΠF] -> [N, *(S·F), C].

    Raises:
        TypeError, ValueError: from apply, those of `jaxcnn.pixel_shuffle`.

    >>> import jax.numpy as jnp
    >>> y, _ = pixel_shuffle(2).apply({}, {}, jnp.ones((1, 3, 5, 8)))
    >>> y.shape
    (1, 6, 10, 2)
    """
    return parameterless("pixel_shuffle", functools.partial(pixel_ops.pixel_shuffle, factor=factor))


@layer_maker
def pixel_unshuffle(factor: PerAxis) -> Layer:
    """Places into channels: `jaxcnn.pixel_unshuffle`.

    Args:
        factor: as for `jaxcnn.pixel_unshuffle`.

    Returns:
        A layer without params and state, x [N, *(S·F), C] -> [N, *S, C·ΠF].

    Raises:
        TypeError, ValueError: from apply, those of `jaxcnn.pixel_unshuffle`.

    >>> import jax.numpy as jnp
    >>> y, _ = pixel_unshuffle(2).apply({}, {}, jnp.ones((1, 6, 10, 2)))
    >>> y.shape
    (1, 3, 5, 8)
    """
    return parameterless("pixel_unshuffle", functools.partial(pixel_ops.pixel_unshuffle, factor=factor))


@layer_maker
def resize(shape: PerAxis, method: str = "nearest") -> Layer:
    """Another spatial shape, by "nearest" or "linear": `jaxcnn.resize`.

    Args:
        shape, method: as for `jaxcnn.resize`.

    Returns:
        A layer without params and state, x [N, *S, C] -> [N, *shape, C].

    Raises:
        TypeError, ValueError: from apply, those of `jaxcnn.resize`.

    >>> import jax.numpy as jnp
    >>> y, _ = resize((7, 3), "linear").apply({}, {}, jnp.ones((1, 4, 5, 2)))
    >>> y.shape
    (1, 7, 3, 2)
    """
    return parameterless("resize", functools.partial(resize_op.resize, shape=shape, method=method))


@layer_maker
def pad(width: Pads, mode: str = "zeros") -> Layer:
    """A frame around each image: `jaxcnn.pad`.

    Args:
        width, mode: as for `jaxcnn.pad`.

    Returns:
        A layer without params and state, x [N, *S, C] -> [N, *(S + low + high), C].

    Raises:
        TypeError, ValueError: from apply, those of `jaxcnn.pad`.

    >>> import jax.numpy as jnp
    >>> y, _ = pad(1, "reflect").apply({}, {}, jnp.ones((1, 4, 5, 2)))
    >>> y.shape
    (1, 6, 7, 2)
    """
    return parameterless("pad", functools.partial(padding.pad, width=width, mode=mode))
