"""Augmentations that move images: what they hold stays as it was, integers too."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.contract import arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.data.augment.augmentation import (
    Augmentation,
    augmentation,
    below,
    each,
    integers,
    maps,
    outside,
    per_axis,
)


def flip(axes: int | Sequence[int] = -1) -> Augmentation:
    """Mirrors each image along each of some axes with probability 1/2, and label maps with it.

    Args:
        axes: one or several spatial axes of the images, from 0; -1 is the last.

    Returns:
        The augmentation; x keeps its dtype.

    Raises:
        TypeError: axes is no int nor several.
        TypeError, ValueError: from its call, if x is no batch of images that have these axes.

    >>> x, _ = flip()(jax.random.key(0), jnp.arange(6).reshape(2, 3, 1), None)
    >>> x[..., 0].tolist()
    [[0, 1, 2], [5, 4, 3]]
    """
    return augmentation("flip", _flip, axes=integers("flip", "axes", axes))


def _flip(key, x, y, axes):
    axes = arguments.axes("augment.flip", "axes", axes, x.ndim - 2)
    for axis, axis_key in zip(axes, jax.random.split(key, len(axes)), strict=True):
        mirror = partial(_mirrored, axis + 1, jax.random.bernoulli(axis_key, shape=(len(x),)))
        x, y = mirror(x), maps(mirror, y, x)
    return x, y


def _mirrored(axis, chosen, a):
    return jnp.where(each(chosen, a), jnp.flip(a, axis), a)


def shift(pixels: PerAxis) -> Augmentation:
    """Moves each image by a whole number of pixels along each axis. Zeros come in, in label maps -1.

    Args:
        pixels: the most, for all spatial axes or one each; every number from -pixels to pixels is as likely.

    Returns:
        The augmentation; x keeps its dtype.

    Raises:
        TypeError: pixels is no int nor several.
        ValueError: pixels is negative.
        TypeError, ValueError: from its call, if x is no batch of images with as many axes, or label maps are unsigned.

    >>> x, y = shift(1)(jax.random.key(0), jnp.array([[[5], [6], [7]]]), jnp.array([[0, 1, 2]]))
    >>> x[0, :, 0].tolist(), y.tolist()
    ([6, 7, 0], [[1, 2, -1]])
    """
    return augmentation("shift", _shift, pixels=integers("shift", "pixels", pixels, 0))


def _shift(key, x, y, pixels):
    return _windows("shift", "pixels", key, x, y, per_axis("shift", "pixels", pixels, x), x.shape[1:-1])


def time_shift(steps: int) -> Augmentation:
    """Moves each recording by a whole number of samples. Zeros come in, in label maps -1.

    Args:
        steps: the most samples; every number from -steps to steps is as likely.

    Returns:
        The augmentation, for x [N, T, C]; x keeps its dtype.

    Raises:
        TypeError: steps is no int.
        ValueError: steps is negative.
        TypeError, ValueError: from its call, if x is not [N, T, C], or label maps are unsigned.
    """
    return augmentation("time_shift", _time_shift, steps=arguments.integer("augment.time_shift", "steps", steps, 0))


def _time_shift(key, x, y, steps):
    arguments.require(x.ndim == 3, "augment.time_shift", "x", "recordings [N, T, C]", arguments.describe(x))
    return _windows("time_shift", "steps", key, x, y, (steps,), x.shape[1:-1])


def crop(padding: PerAxis, size: PerAxis | None = None) -> Augmentation:
    """Cuts a window out of each image, at a random place of the image with zeros around it (in label maps -1).

    Args:
        padding: how many zeros are put before and behind each spatial axis, for all axes or one each.
        size: of the window, for all axes or one each; by default that of the image: then `crop(n)` draws what
            `shift(n)` does.

    Returns:
        The augmentation; x keeps its dtype.

    Raises:
        TypeError: padding or size is no int nor several.
        ValueError: padding is negative, size is less than 1.
        TypeError, ValueError: from its call, if x is no batch of images with as many axes, the window is larger than
            image and padding, or label maps are unsigned.

    >>> crop(0, 2)(jax.random.key(1), jnp.arange(4).reshape(1, 4, 1), None)[0][0, :, 0].tolist()
    [1, 2]
    """
    size = None if size is None else integers("crop", "size", size, 1)
    return augmentation("crop", _crop, padding=integers("crop", "padding", padding, 0), size=size)


def _crop(key, x, y, padding, size):
    padding = per_axis("crop", "padding", padding, x)
    window = x.shape[1:-1] if size is None else per_axis("crop", "size", size, x)
    most = [n + 2 * p for n, p in zip(x.shape[1:-1], padding, strict=True)]
    fits = all(n <= m for n, m in zip(window, most, strict=True))
    arguments.require(fits, "augment.crop", "size", f"at most {most}, image and padding", size)
    return _windows("crop", "padding", key, x, y, padding, window)


def _windows(name: str, argument: str, key, x, y: Any, padding, window):
    """A window of each image with zeros around it, at a place that is drawn, and the same one of label maps."""
    shows_some = all(p < w or p == 0 for p, w in zip(padding, window, strict=True))
    expected = f"less than {list(window)}, so that some of the image is left"
    arguments.require(shows_some, f"augment.{name}", argument, expected, list(padding))
    places = [n + 2 * p - w + 1 for n, p, w in zip(x.shape[1:-1], padding, window, strict=True)]
    starts = below(places, jax.random.uniform(key, (len(x), len(places)), jnp.float32))

    def cut(a, fill):
        more = a.ndim - 1 - len(window)
        padded = jnp.pad(a, [(0, 0), *((p, p) for p in padding), *[(0, 0)] * more], constant_values=fill)
        zeros = [jnp.zeros((), jnp.int32)] * more
        sizes = (*window, *a.shape[1 + len(window) :])
        return jax.vmap(lambda image, start: lax.dynamic_slice(image, (*start, *zeros), sizes))(padded, starts)

    return cut(x, 0), maps(lambda labels: cut(labels, outside(name, labels)), y, x)
