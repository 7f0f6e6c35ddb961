"""Layers made of layers that follow each other, the names that parameters are found under, and recomputation."""

from __future__ import annotations

import functools
from dataclasses import replace

import jax
import numpy as np

from jaxcnn.contract import arguments
from jaxcnn.contract.kept import convolutions_saveable
from jaxcnn.nn.calls import layer_maker
from jaxcnn.nn.fitting import check_trees
from jaxcnn.nn.inspection import output_shape
from jaxcnn.nn.layer import Layer, LayerLike, checked_layer, knowing, knows_its_input
from jaxcnn.nn.members import apply_member, init_member, named_members, told_where


def named(name: str, layer: LayerLike) -> Layer:
    """The same layer under a name of its own, in place of its kind and a number.

    Args:
        name: what its parameters are found under; not empty, and without "/".
        layer: a layer, or a function of an array.

    Returns:
        The same layer, called `name` by whatever it becomes part of.

    Raises:
        TypeError: layer is neither.
        ValueError: name is no string, is empty or has a "/".

    >>> from jaxcnn import nn
    >>> params, _ = nn.sequential(nn.named("head", nn.dense(10))).init(jax.random.key(0), (1, 64))
    >>> params["head"]["w"].shape
    (64, 10)
    """
    fits = isinstance(name, str) and name != "" and "/" not in name
    arguments.require(fits, "nn.named", "name", 'a string that is not empty and has no "/"', repr(name))
    return replace(checked_layer("nn.named", "layer", layer), name=name, numbered=False)


@layer_maker
def sequential(*layers: LayerLike) -> Layer:
    """One layer after the other.

        y = layer_L(... layer_2(layer_1(x)))

    Args:
        layers: layers, and functions of an array such as `jaxcnn.relu`. Each is called by its kind and a number from 1
            on, unless it was given a name by `named`.

    Returns:
        A layer with params {"conv1": {"w": ..., "b": ...}, "batch_norm1": ..., "conv2": ...}, and state likewise; no
        entry for what has no parameters. Each layer has a key of its own, folded in by its place: one more layer behind
        the others leaves their parameters as they are.

    Raises:
        TypeError: an argument is neither a layer nor a function; from init if key is no random key, and from apply if
            params or state are no dicts.
        ValueError: two layers have the same name; from init and apply if several arrays come out of one in front of
            another; from apply if params or state are not what init makes for an x of this shape.
        An error in a layer carries a note that says in which.

    >>> from jaxcnn import nn
    >>> from jaxcnn.ops.activations.rectifiers import relu
    >>> model = nn.sequential(nn.conv(16, 3), relu, nn.max_pool(2), nn.flatten(), nn.dense(10))
    >>> params, state = model.init(jax.random.key(0), (1, 8, 8, 1))
    >>> sorted(params), state
    (['conv1', 'dense1'], {})
    >>> logits, state = model.apply(params, state, jax.random.normal(jax.random.key(1), (5, 8, 8, 1), "float32"))
    >>> logits.shape
    (5, 10)
    """
    members = named_members("nn.sequential", "layers", layers)

    def one_array(name, x):
        """x: the input of a layer or its shape; if there are several arrays, a tuple of them or of theirs."""
        count = sum(isinstance(y, tuple | jax.Array | np.ndarray) for y in x) if isinstance(x, tuple) else 0
        got = f"{count}: nn.parallel has a join for them"
        arguments.require(count == 0, "nn.sequential", f"the input of {name}", "one array", got)

    def init(key, input_shape):
        arguments.random_key("nn.sequential", key)
        params, state, shape = {}, {}, input_shape
        for i, (name, layer) in enumerate(members.items()):
            one_array(name, shape)
            shape = init_member(i, name, layer, key, shape, params, state)
        return params, state

    def apply(params, state, x, *, train=False, key=None):
        check_trees("nn.sequential", params, state, members)
        new_state, origin = {}, x
        for i, (name, layer) in enumerate(members.items()):
            one_array(name, x)
            x = apply_member(i, name, layer, params, state, new_state, x, train, key, origin)
            origin = None if knows_its_input(layer) else origin
        return x, new_state

    def parts(input_shape):
        result, shape = [], input_shape
        for name, layer in members.items():
            with told_where(name):
                result.append((name, layer, shape))
                shape = output_shape(layer, shape)
        return result

    return Layer(init, knowing(apply, *members.values()), "sequential", parts)


_POLICIES = {"input": jax.checkpoint_policies.nothing_saveable, "convolutions": convolutions_saveable}


@layer_maker
def remat(layer: LayerLike, *, stored: str = "input") -> Layer:
    """A layer that keeps little for the backward pass, which computes the rest again: `jax.checkpoint`.

    Args:
        layer: a layer, or a function of an array; most is saved where it is a block of several.
        stored: what is kept: "input", nothing but that, so that the backward pass runs the whole forward pass once
            more; or "convolutions", their outputs as well, so that it runs no convolution once more: see
            `jaxcnn.convolutions_saveable`.

    Returns:
        The same layer, with the same parameters, values and gradients, up to rounding. The backward pass takes less
        memory and more time. On a CPU, where XLA ignores it, it takes no less memory.

    Raises:
        TypeError: layer is neither.
        ValueError: stored is another.

    Source: Chen et al., Training deep nets with sublinear memory cost, 2016.

    >>> from jaxcnn import nn
    >>> block = nn.residual(nn.sequential(nn.conv(8, 3), nn.batch_norm(), jax.nn.relu, nn.conv(8, 3)))
    >>> nn.output_shape(nn.sequential(nn.remat(block), nn.remat(block)), (1, 6, 6, 8))
    (1, 6, 6, 8)
    """
    layer = checked_layer("nn.remat", "layer", layer)
    policy = _POLICIES[arguments.choice("nn.remat", "stored", stored, tuple(_POLICIES))]

    def apply(params, state, x, *, train=False, key=None):
        @functools.partial(jax.checkpoint, policy=policy)
        def recomputed(params, state, x, key):
            return layer.apply(params, state, x, train=train, key=key)

        return recomputed(params, state, x, key)

    return replace(layer, apply=knowing(apply, layer))
