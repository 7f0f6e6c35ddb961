"""Augmentations that turn and scale images, by linear interpolation; label maps by the nearest place."""

from __future__ import annotations

import itertools
import math
from functools import partial, reduce
from operator import and_

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from jaxcnn.contract import arguments
from jaxcnn.data.augment.augmentation import Augmentation, augmentation, maps, outside, require_floats


def rotate(degrees: float) -> Augmentation:
    """Turns each image about its centre. Zeros come in at the corners, in label maps -1.

    Args:
        degrees: the largest angle; every angle from -degrees to degrees is as likely. Volumes turn in the planes of all
            pairs of axes, each by its own angle, as if voxels were cubes.

    Returns:
        The augmentation; x keeps its dtype.

    Raises:
        TypeError: degrees is no number.
        ValueError: degrees is not from 0 to 180.
        TypeError, ValueError: from its call, if x is no batch of floating-point images with 2 spatial axes or more, or
            label maps are unsigned.
    """
    return augmentation("rotate", _rotate, degrees=arguments.number("augment.rotate", "degrees", degrees, 0, 180))


def _rotate(key, x, y, degrees):
    rank = x.ndim - 2
    arguments.require(rank >= 2, "augment.rotate", "x", "[N, *S, C] with 2 spatial axes", arguments.describe(x))
    planes = list(itertools.combinations(range(rank), 2))
    bound = math.radians(degrees)
    angles = jax.random.uniform(key, (len(x), len(planes)), jnp.float32, -bound, bound)

    def matrix(angles):
        turned = jnp.eye(rank, dtype=jnp.float32)
        for (i, j), angle in zip(planes, angles, strict=True):
            cos, sin = jnp.cos(angle), jnp.sin(angle)
            plane = jnp.eye(rank, dtype=jnp.float32).at[i, i].set(cos).at[j, j].set(cos)
            turned = turned @ plane.at[i, j].set(-sin).at[j, i].set(sin)
        return turned

    return _resampled("rotate", x, y, jax.vmap(matrix)(angles))


def scale(factor: float) -> Augmentation:
    """Makes what each image shows larger or smaller, about its centre. Zeros come in, in label maps -1.

    Args:
        factor: the most: images become from 1/(1 + factor) to 1 + factor times as large, drawn evenly in the logarithm.

    Returns:
        The augmentation; x keeps its dtype and size.

    Raises:
        TypeError: factor is no number.
        ValueError: factor is not from 0 to 10.
        TypeError, ValueError: from its call, if x is no batch of floating-point images, or label maps are unsigned.
    """
    return augmentation("scale", _scale, factor=arguments.number("augment.scale", "factor", factor, 0, 10))


def _scale(key, x, y, factor):
    bound = math.log1p(factor)
    shrunk = jnp.exp(jax.random.uniform(key, (len(x), 1, 1), jnp.float32, -bound, bound))
    return _resampled("scale", x, y, shrunk * jnp.eye(x.ndim - 2, dtype=jnp.float32)[None])


def _resampled(name, x, y, matrices):
    """Images whose place p shows what the place M (p - c) + c showed, where c is the centre."""
    require_floats(name, x)
    sizes = x.shape[1:-1]
    centre = jnp.array([(n - 1) / 2 for n in sizes], jnp.float32).reshape(-1, *(1,) * len(sizes))
    grid = jnp.stack(jnp.meshgrid(*(jnp.arange(n, dtype=jnp.float32) for n in sizes), indexing="ij")) - centre

    def places(matrix):
        return list(jnp.einsum("ij,j...->i...", matrix, grid) + centre)

    def linear(image, matrix):
        sample = partial(map_coordinates, coordinates=places(matrix), order=1)
        channels = image.reshape(*sizes, -1).astype(jnp.float32)
        return jax.vmap(sample, in_axes=-1, out_axes=-1)(channels).reshape(image.shape).astype(image.dtype)

    def nearest(fill, image, matrix):
        index = [jnp.round(place).astype(jnp.int32) for place in places(matrix)]
        inside = reduce(and_, ((i >= 0) & (i < n) for i, n in zip(index, sizes, strict=True)))
        inside = inside.reshape(*sizes, *(1,) * (image.ndim - len(sizes)))
        return jnp.where(inside, image.at[tuple(index)].get(mode="clip"), jnp.array(fill, image.dtype))

    def moved(a):
        is_floating = jnp.issubdtype(a.dtype, jnp.floating)
        return jax.vmap(linear if is_floating else partial(nearest, outside(name, a)))(a, matrices)

    return moved(x), maps(moved, y, x)
