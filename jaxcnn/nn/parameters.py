"""How layers draw their parameters, and check what they depend on: the initializer and the key."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer

from jaxcnn.contract import arguments
from jaxcnn.nn.fitting import ABSTRACT
from jaxcnn.nn.initializers import he_normal
from jaxcnn.nn.layer import Params, Shape, State

HE_NORMAL = he_normal()


def drawn(function: str, initializer: Initializer, key: jax.Array, shape: Shape) -> Any:
    """What the initializer draws; TypeError unless that is an array of the shape."""
    if key is ABSTRACT:
        return filled(key, shape, 0)
    expected = "a function of key, shape and dtype such as nn.he_normal()"
    arguments.called(function, "initializer", initializer, expected)
    arguments.random_key(function, key)
    countable = 0 < math.prod(shape) < arguments.LONGEST
    arguments.require(countable, function, "w", "of at least 1 and fewer than 2^48 entries", f"shape {list(shape)}")
    w = initializer(key, shape, jnp.float32)
    fits = arguments.is_array(w) and w.shape == shape
    arguments.require(fits, function, "initializer", expected, f"one that makes {arguments.describe(w)}", TypeError)
    return w


def filled(key: jax.Array, shape: Shape, value: float) -> Any:
    """An array of one value."""
    return jax.ShapeDtypeStruct(shape, jnp.float32) if key is ABSTRACT else jnp.full(shape, value, jnp.float32)


def weights(function: str, key: jax.Array, shape: Shape, bias: bool, initializer: Initializer) -> Params:
    """Weights w [..., O], and biases b [O] of zero if there are any."""
    w = drawn(function, initializer, key, shape)
    return {"w": w, "b": filled(key, shape[-1:], 0)} if bias else {"w": w}


def one_per_channel(
    parameter: str, value: float, checked: Callable[[Any], Shape]
) -> Callable[[jax.Array, Shape], tuple[Params, State]]:
    """The init of a layer with one parameter [C], `value` at first; checked(input_shape) is a shape that ends in C."""

    def init(key, input_shape):
        return {parameter: filled(key, checked(input_shape)[-1:], value)}, {}

    return init


def required_key(function: str, key: Any) -> jax.Array:
    """The key of a layer that is random in training; ValueError if there is none."""
    arguments.require(key is not None, function, "key", "a JAX random key when train=True", key)
    return key
