"""The fully-connected layer and what belongs to it, and layers with one parameter per channel."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from jax.nn.initializers import Initializer

from jaxcnn.contract import arguments
from jaxcnn.nn.calls import layer_maker
from jaxcnn.nn.fitting import any_with_channels, axes_of_images, checked_shape, rows_shape
from jaxcnn.nn.layer import Layer, leaf, parameterless
from jaxcnn.nn.parameters import HE_NORMAL, one_per_channel, weights
from jaxcnn.ops import dense as dense_op
from jaxcnn.ops.activations import rectifiers


@layer_maker
def dense(features: int, *, bias: bool = True, initializer: Initializer = HE_NORMAL) -> Layer:
    """Fully-connected layer, x [N, I] -> [N, features]: `jaxcnn.dense`.

    Args:
        features: how many entries come out per image, O.
        bias: whether each of them has a bias.
        initializer: of the weights, initializer(key, shape, dtype); by default normal with variance 2/I.

    Returns:
        A layer with params {"w": [I, O], "b": [O], zero at first} and no state.

    Raises:
        TypeError: features is no int, bias no bool; from init if key is no random key, or initializer does not draw an
            array of the shape of the weights.
        ValueError: features is less than 1; from init if the input is not [N, I].

    >>> import jax
    >>> params, _ = dense(10).init(jax.random.key(0), (1, 64))
    >>> params["w"].shape
    (64, 10)
    """
    features = arguments.integer("nn.dense", "features", features, 1)
    bias = arguments.flag("nn.dense", "bias", bias)

    def init(key, input_shape):
        more = ": nn.flatten() sorts images into rows"
        x_shape = checked_shape("nn.dense", input_shape, lambda shape: len(shape) == 2, ("N, I",), more)
        return weights("nn.dense", key, (x_shape[1], features), bias, initializer), {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return dense_op.dense(x, params["w"], params.get("b")), state

    return leaf("dense", init, apply, lambda params, rank: axes_of_images(0, params["w"].shape[0]))


@layer_maker
def flatten() -> Layer:
    """Sorts every image into one row: `jaxcnn.flatten`.

    Returns:
        A layer without params and state, x [N, *S, C] -> [N, ΠS · C].

    Raises:
        TypeError, ValueError: from apply, those of `jaxcnn.flatten`.

    >>> y, _ = flatten().apply({}, {}, jnp.ones((2, 4, 4, 3)))
    >>> y.shape
    (2, 48)
    """
    return parameterless("flatten", dense_op.flatten)


@layer_maker
def layer_scale(initial: float = 1e-6) -> Layer:
    """A learnt factor for every channel, x [..., C] -> the same shape: y = gamma x. The end of a residual branch.

    Args:
        initial: the factor at first, small so that the block is near the identity.

    Returns:
        A layer with params {"gamma": [C]} and no state.

    Raises:
        TypeError: initial is no number.
        ValueError: from init if the input has less than 2 axes.

    Source: Touvron et al., Going deeper with image transformers, 2021.

    >>> import jax
    >>> params, _ = layer_scale(0.5).init(jax.random.key(0), (1, 28, 28, 2))
    >>> params["gamma"]
    Array([0.5, 0.5], dtype=float32)
    """
    initial = arguments.number("nn.layer_scale", "initial", initial)

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        x, gamma = arguments.floating("nn.layer_scale", x=x, gamma=params["gamma"])
        return x * jnp.broadcast_to(gamma, x.shape), state

    init = one_per_channel("gamma", initial, partial(rows_shape, "nn.layer_scale"))
    return leaf("layer_scale", init, apply, any_with_channels, knows_axes=False)


@layer_maker
def prelu() -> Layer:
    """Leaky ReLU with a learnt slope for every channel, x [..., C] -> the same shape: `jaxcnn.prelu`.

    Returns:
        A layer with params {"a": [C], 0.25 at first} (He et al., 2015) and no state.

    Raises:
        ValueError: from init if the input has less than 2 axes.

    >>> import jax
    >>> params, _ = prelu().init(jax.random.key(0), (1, 28, 28, 2))
    >>> params["a"]
    Array([0.25, 0.25], dtype=float32)
    """

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return rectifiers.prelu(x, params["a"]), state

    init = one_per_channel("a", 0.25, partial(rows_shape, "nn.prelu"))
    return leaf("prelu", init, apply, any_with_channels, knows_axes=False)
