"""Layers whose filters are normalised."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn.contract import arguments
from jaxcnn.nn.calls import Method, layer_maker
from jaxcnn.nn.fitting import ABSTRACT
from jaxcnn.nn.layer import Layer, leaf
from jaxcnn.nn.parameters import filled
from jaxcnn.ops import filter_normalization


@layer_maker
def weight_norm(layer: Layer) -> Layer:
    """A layer whose filters are trained as directions v and lengths g: `jaxcnn.weight_norm`.

    Args:
        layer: a layer with a param "w" [..., O], such as conv and dense.

    Returns:
        The same layer with params "v" [..., O] and "g" [O] in place of "w"; at first they make the w that was drawn.

    Raises:
        TypeError: layer is no Layer.
        ValueError: from init if the layer has no param "w" with 2 axes or more.

    >>> from jaxcnn import nn
    >>> params, _ = weight_norm(nn.dense(2)).init(jax.random.key(0), (1, 3))
    >>> sorted(params)
    ['b', 'g', 'v']
    """
    _check_layer("nn.weight_norm", layer)

    def init(key, input_shape):
        params, state = layer.init(key, input_shape)
        w, others = _filters("nn.weight_norm", params)
        if key is ABSTRACT:
            return {**others, "v": w, "g": filled(key, w.shape[-1:], 0)}, state
        largest = jnp.max(jnp.abs(w), initial=jnp.finfo(w.dtype).tiny)  # the squares may be beyond the dtype
        lengths = largest * jnp.sqrt(jnp.sum(jnp.square(w / largest), axis=tuple(range(w.ndim - 1))))
        return {**others, "v": w, "g": lengths}, state

    def apply(params, state, x, *, train=False, key=None):
        w = filter_normalization.weight_norm(params["v"], params["g"])
        others = {name: value for name, value in params.items() if name not in ("v", "g")}
        return layer.apply({**others, "w": w}, state, x, train=train, key=key)

    return _wrapping_layer(layer, init, apply, lambda params: {**params, "w": params["v"]})


@layer_maker
def spectral_norm(layer: Layer) -> Layer:
    """A layer whose filters are divided by their largest singular value: `jaxcnn.spectral_norm`.

    In training the power iteration takes one step for every batch.

    Args:
        layer: a layer with a param "w" [..., O], such as conv and dense.

    Returns:
        The same layer with "u" [O] in its state, random at first and of length 1.

    Raises:
        TypeError: layer is no Layer.
        ValueError: from init if the layer has no param "w" with 2 axes or more.

    >>> from jaxcnn import nn
    >>> _, state = spectral_norm(nn.dense(2)).init(jax.random.key(0), (1, 3))
    >>> state["u"].shape
    (2,)
    """
    _check_layer("nn.spectral_norm", layer)

    def init(key, input_shape):
        params, state = layer.init(key, input_shape)
        w, _ = _filters("nn.spectral_norm", params)
        if key is ABSTRACT:
            return params, {**state, "u": filled(key, w.shape[-1:], 0)}
        u = jax.random.normal(jax.random.fold_in(key, 1), w.shape[-1:], jnp.float32)
        return params, {**state, "u": u / jnp.sqrt(jnp.sum(jnp.square(u)))}

    def apply(params, state, x, *, train=False, key=None):
        w, u = filter_normalization.spectral_norm(params["w"], state["u"], iterations=1 if train else 0)
        others = {name: value for name, value in state.items() if name != "u"}
        y, others = layer.apply({**params, "w": w}, others, x, train=train, key=key)
        return y, {**others, "u": u} if train else state

    return _wrapping_layer(layer, init, apply, lambda params: params)


def _check_layer(function: str, layer: Any) -> None:
    arguments.require(isinstance(layer, Layer), function, "layer", "a Layer", arguments.describe(layer), TypeError)


def _wrapping_layer(layer, init, apply, inner):
    """The layer around another, whose params are inner(params). A layer that is not ours has no types of parameters."""
    if not isinstance(layer.apply, Method):
        return Layer(init, apply, layer.name)
    input_of = getattr(inspect.unwrap(layer.apply), "input_of", None)
    return leaf(
        layer.name, init, apply, None if input_of is None else lambda params, rank: input_of(inner(params), rank)
    )


def _filters(function, params):
    """w, and the other params."""
    has_filters = "w" in params and params["w"].ndim >= 2
    arguments.require(has_filters, function, "layer", 'one with a param "w" [..., O]', f"params {sorted(params)}")
    return params["w"], {name: value for name, value in params.items() if name != "w"}
