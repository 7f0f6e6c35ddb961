"""Augmentations that cover a part of an image, add noise to it, or make a recording louder."""

from __future__ import annotations

import math
from functools import reduce
from operator import and_

import jax
import jax.numpy as jnp

from jaxcnn.contract import arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.data.augment.augmentation import (
    Augmentation,
    augmentation,
    below,
    each,
    integers,
    per_axis,
    require_floats,
)


def cutout(size: PerAxis) -> Augmentation:
    """Sets a box of each image to zero. Its centre is any place of the image, so a part may lie outside.

    Args:
        size: of the box, for all spatial axes or one each.

    Returns:
        The augmentation; x keeps its dtype, y stays as it is.

    Raises:
        TypeError: size is no int nor several.
        ValueError: size is less than 1.
        TypeError, ValueError: from its call, if x is no batch of images with as many axes.

    Source: DeVries and Taylor, Improved regularization of convolutional neural networks with cutout, 2017.

    >>> cutout(2)(jax.random.key(0), jnp.ones((1, 5, 1)), None)[0][0, :, 0].tolist()
    [1.0, 1.0, 1.0, 0.0, 0.0]
    """
    return augmentation("cutout", _cutout, size=integers("cutout", "size", size, 1))


def _cutout(key, x, y, size):
    lengths, sizes = per_axis("cutout", "size", size, x), x.shape[1:-1]
    fits = all(length <= n for length, n in zip(lengths, sizes, strict=True))
    arguments.require(fits, "augment.cutout", "size", f"at most {list(sizes)}, the image", list(lengths))
    sides = jnp.array([lengths], jnp.int32)
    u = jax.random.uniform(key, (len(x), x.ndim - 2), jnp.float32)
    inside = boxes(u, x, jnp.broadcast_to(sides, u.shape))
    return jnp.where(inside[..., None], jnp.zeros((), x.dtype), x), y


def boxes(u, x, sides):
    """Which places [N, *S] lie in a box of the sides [N, rank], whose centre is drawn by u [N, rank] in [0, 1)."""
    sizes = x.shape[1:-1]
    low = below(sizes, u) - sides // 2

    def within(axis):
        shape = (len(x), *(1 if i != axis else size for i, size in enumerate(sizes)))
        place = jnp.arange(sizes[axis], dtype=jnp.int32)[None] - low[:, axis, None]
        return ((place >= 0) & (place < sides[:, axis, None])).reshape(shape)

    return reduce(and_, (jnp.broadcast_to(within(axis), x.shape[:-1]) for axis in range(len(sizes))))


def noise(std: float) -> Augmentation:
    """Adds normal noise to each entry.

    Args:
        std: its standard deviation, in the unit of x.

    Returns:
        The augmentation; x keeps its dtype, y stays as it is.

    Raises:
        TypeError: std is no number.
        ValueError: std is negative.
        TypeError, ValueError: from its call, if x is no batch of floating-point images.
    """
    return augmentation("noise", _noise, std=arguments.number("augment.noise", "std", std, 0))


def _noise(key, x, y, std):
    require_floats("noise", x)
    return x + std * jax.random.normal(key, x.shape, x.dtype), y


def gain(decibels: float) -> Augmentation:
    """Makes each recording louder or softer: one factor 10^(u/20) for all of its samples, u drawn evenly.

    Args:
        decibels: the most; u is from -decibels to decibels.

    Returns:
        The augmentation; x keeps its dtype, y stays as it is.

    Raises:
        TypeError: decibels is no number.
        ValueError: decibels is not from 0 to 100.
        TypeError, ValueError: from its call, if x is no floating-point batch.
    """
    return augmentation("gain", _gain, decibels=arguments.number("augment.gain", "decibels", decibels, 0, 100))


def _gain(key, x, y, decibels):
    require_floats("gain", x)
    bound = decibels / 20 * math.log(10)
    factors = jnp.exp(jax.random.uniform(key, (len(x),), jnp.float32, -bound, bound))
    return x * each(factors, x).astype(x.dtype), y
