"""Dropout of entries, channels, images and blocks. A mask is drawn again from its key in the backward pass, not kept.

Lecture: "We Use Advanced Techniques" (dropout, to reduce the impact of overfitting).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.contract import arguments, window_arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.contract.rules import custom_rule


@arguments.key_first
def dropout(key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """Drops each entry with probability `rate` and scales the others, so that the mean stays.

        y = m ⊙ x / (1 - rate),        m = 0 with probability rate, else 1

    Args:
        key: a JAX random key; the same key drops the same entries.
        x: any shape.
        rate: the share that is dropped, a Python number from 0 to 1.

    Returns:
        y, of the shape and dtype of x.

    Raises:
        TypeError: x is no floating-point array, key is no random key, rate is no number.
        ValueError: rate is not within [0, 1].

    Gradient: dx = m ⊙ dy / (1 - rate). The mask is drawn again from the key rather than kept.

    Source: Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, 2014.

    >>> sorted(set(dropout(jax.random.key(0), jnp.ones(100), 0.5).tolist()))
    [0.0, 2.0]
    """
    key, x, rate = _checked("dropout", key, x, rate)
    return _dropout(key, x, _draw, (rate, x.shape))


@arguments.key_first
def spatial_dropout(key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """Drops each channel of each image with probability `rate` and scales the others, so that the mean stays.

        y[n, :, c] = m[n, c] x[n, :, c] / (1 - rate),        m = 0 with probability rate, else 1

    Neighbouring entries of a channel are alike: what `dropout` takes from one of them, the others still tell.

    Args:
        key: a JAX random key; the same key drops the same channels.
        x: images [N, *S, C].
        rate: the share that is dropped, a Python number from 0 to 1.

    Returns:
        y, of the shape and dtype of x.

    Raises:
        TypeError: x is no floating-point array, key is no random key, rate is no number.
        ValueError: x has no spatial axis, rate is not within [0, 1].

    Gradient: that of `dropout`.

    Source: Tompson et al., Efficient object localization using convolutional networks, 2015; PyTorch's dropout2d.

    >>> spatial_dropout(jax.random.key(1), jnp.ones((1, 2, 4)), 0.5)[0]
    Array([[2., 0., 2., 2.],
           [2., 0., 2., 2.]], dtype=float32)
    """
    key, x, rate = _checked("spatial_dropout", key, x, rate)
    arguments.images("spatial_dropout", x)
    return _dropout(key, x, _draw, (rate, (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])))


@arguments.key_first
def drop_path(key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """Drops each image with probability `rate` and scales the others: stochastic depth, if x is a residual branch.

        y[n] = m[n] x[n] / (1 - rate),        m = 0 with probability rate, else 1

    Args:
        key: a JAX random key; the same key drops the same images.
        x: [N, ...].
        rate: the share that is dropped, a Python number from 0 to 1.

    Returns:
        y, of the shape and dtype of x.

    Raises:
        TypeError: x is no floating-point array, key is no random key, rate is no number.
        ValueError: x has no axis, rate is not within [0, 1].

    Gradient: that of `dropout`.

    Source: Huang et al., Deep networks with stochastic depth, 2016.

    >>> drop_path(jax.random.key(0), jnp.ones((4, 2)), 0.5)
    Array([[0., 0.],
           [0., 0.],
           [2., 2.],
           [2., 2.]], dtype=float32)
    """
    key, x, rate = _checked("drop_path", key, x, rate)
    arguments.require(x.ndim >= 1, "drop_path", "x", "[N, ...] with at least 1 axis", arguments.describe(x))
    return _dropout(key, x, _draw, (rate, (x.shape[0], *(1,) * (x.ndim - 1))))


@arguments.key_first
def drop_block(key: jax.Array, x: jax.Array, rate: float, block: PerAxis) -> jax.Array:
    """Drops blocks of each channel and scales what is left, so that the mean stays.

        y = m ⊙ x / mean(m),        m = 0 in the blocks, else 1

    Every block that lies inside the image is dropped with probability p, where (1 - p)^c = 1 - rate for the mean number
    c of blocks that an entry is in. For small rates that is the paper's formula, c p = rate; unlike it, all is dropped
    at a rate of 1. In between a little less than rate is, as there are fewer blocks at the border.

    Args:
        key: a JAX random key; the same key drops the same blocks.
        x: images [N, *S, C].
        rate: the share that is dropped, about, a Python number from 0 to 1.
        block: the size of a block, an int or one per spatial axis; with 1 this is `dropout`, but for the mean.

    Returns:
        y, of the shape and dtype of x.

    Raises:
        TypeError: x is no floating-point array, key is no random key, rate is no number, block is no int.
        ValueError: x has no spatial axis, rate is not within [0, 1], block is less than 1 or larger than the image.

    Gradient: dx = m ⊙ dy / mean(m).

    Source: Ghiasi et al., DropBlock: a regularization method for convolutional networks, 2018.

    >>> drop_block(jax.random.key(3), jnp.ones((1, 8, 1)), 0.25, 2)[0, :, 0]
    Array([0., 0., 2., 2., 2., 2., 0., 0.], dtype=float32)
    """
    key, x, rate = _checked("drop_block", key, x, rate)
    arguments.images("drop_block", x)
    arguments.known_image("drop_block", x)
    blocks = window_arguments.checked_window("drop_block", x.shape[1:-1], block, 1, "VALID", argument="block")
    return _dropout(key, x, _draw_blocks, (rate, x.shape, blocks))


def _dropout_plain(key, x, draw, options):
    """`draw` gives the mask and the share of it by which the rest is scaled."""
    kept, share = draw(key, x.dtype, *options)
    return jnp.where(kept, x / share, 0.0)


def _dropout_fwd(key, x, draw, options):
    return _dropout_plain(key, x, draw, options), key


def _dropout_bwd(draw, options, key, dy):
    """Linear with a diagonal Jacobian: the backward pass is the forward pass."""
    return None, _dropout_plain(key, dy, draw, options)


_dropout = custom_rule(_dropout_plain, _dropout_fwd, _dropout_bwd, wide=True)


def _draw(key, dtype, rate, shape):
    """The mask, and the share that is kept on average; 1 where nothing is kept, to divide by."""
    return _yes(key, 1 - rate, shape), np.asarray((1 - rate) or 1.0, dtype)


def _yes(key, chance, shape):
    """Yes or no, from numbers in float32 whatever the dtype of x is: the same key draws the same."""
    return jax.random.bernoulli(key, np.float32(chance), shape)


def _draw_blocks(key, dtype, rate, shape, blocks):
    """The mask, and the share that is kept in fact."""
    n, *_, c = shape
    blocks_per_entry = blocks.volume * math.prod(blocks.output) / max(math.prod(blocks.image), 1)
    first = _yes(key, 1 - (1 - rate) ** (1 / blocks_per_entry), (n, *blocks.output, c))
    padding = [(0, 0), *((size - 1, size - 1) for size in blocks.size), (0, 0)]
    dropped = lax.reduce_window(first, False, lax.bitwise_or, (1, *blocks.size, 1), (1,) * len(shape), padding)
    count = jnp.sum(~dropped).astype(dtype)
    return ~dropped, jnp.maximum(count, 1) / max(dropped.size, 1)


def _checked(function, key, x, rate):
    arguments.random_key(function, key)
    (x,) = arguments.floating(function, x=x)
    return key, x, arguments.number(function, "rate", rate, 0, 1)
