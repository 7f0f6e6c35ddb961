"""Dropout of entries, channels, images and blocks, as layers that are random in training and nothing otherwise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax

from jaxcnn.contract import arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.nn.calls import layer_maker
from jaxcnn.nn.layer import Layer, leaf, no_parameters
from jaxcnn.nn.parameters import required_key
from jaxcnn.ops import dropout as ops


@layer_maker
def dropout(rate: float) -> Layer:
    """In training drops each entry with probability `rate` and scales the others by 1/(1 - rate): `jaxcnn.dropout`.

    Args:
        rate: the share that is dropped, from 0 to 1.

    Returns:
        A layer without params and state; x of any shape.

    Raises:
        TypeError: rate is no number.
        ValueError: rate is not within [0, 1]; from apply if train=True and there is no key.

    >>> import jax.numpy as jnp
    >>> y, _ = dropout(0.5).apply({}, {}, jnp.ones(100), train=True, key=jax.random.key(0))
    >>> sorted(set(y.tolist()))
    [0.0, 2.0]
    """
    return _random("dropout", ops.dropout, rate)


@layer_maker
def spatial_dropout(rate: float) -> Layer:
    """In training drops each channel of each image with probability `rate`: `jaxcnn.spatial_dropout`.

    Args:
        rate: the share that is dropped, from 0 to 1.

    Returns:
        A layer without params and state; x [N, *S, C].

    Raises:
        TypeError, ValueError: as for `dropout`; ValueError from apply in training if x has no spatial axis.

    >>> import jax.numpy as jnp
    >>> y, _ = spatial_dropout(0.5).apply({}, {}, jnp.ones((4, 5, 8)), train=True, key=jax.random.key(0))
    >>> bool(jnp.all(y == y[:, :1]))
    True
    """
    return _random("spatial_dropout", ops.spatial_dropout, rate)


@layer_maker
def drop_path(rate: float) -> Layer:
    """In training drops each image with probability `rate`: `jaxcnn.drop_path`. The last layer of a residual branch.

    Args:
        rate: the share that is dropped, from 0 to 1.

    Returns:
        A layer without params and state; x [N, ...].

    Raises:
        TypeError, ValueError: as for `dropout`.

    >>> import jax.numpy as jnp
    >>> y, _ = drop_path(0.5).apply({}, {}, jnp.ones((8, 5, 3)), train=True, key=jax.random.key(0))
    >>> bool(jnp.all(y == y[:, :1, :1]))
    True
    """
    return _random("drop_path", ops.drop_path, rate)


@layer_maker
def drop_block(rate: float, block: PerAxis) -> Layer:
    """In training drops blocks of each channel, a share of about `rate` in all: `jaxcnn.drop_block`.

    Args:
        rate: the share that is dropped, from 0 to 1.
        block: the size of a block, an int or one per spatial axis.

    Returns:
        A layer without params and state; x [N, *S, C].

    Raises:
        TypeError: rate is no number; from apply in training if block is no int.
        ValueError: rate is not within [0, 1]; from apply in training if there is no key, x has no spatial axis, or
            block is less than 1 or larger than the image.

    >>> import jax.numpy as jnp
    >>> y, _ = drop_block(0.5, 3).apply({}, {}, jnp.ones((1, 9, 9, 1)), train=True, key=jax.random.key(0))
    >>> round(float(jnp.mean(y)), 3)
    1.0
    """
    return _random("drop_block", partial(ops.drop_block, block=block), rate)


def _random(name: str, drop: Callable[..., jax.Array], rate: float) -> Layer:
    function = f"nn.{name}"
    rate = arguments.number(function, "rate", rate, 0, 1)

    def apply(params, state, x, *, train=False, key=None):
        del params
        if not train:
            return x, state
        return drop(required_key(function, key), x, rate), state

    return leaf(name, no_parameters, apply)
