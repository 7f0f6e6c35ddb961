"""How a layer made of layers initialises and applies its members, and what it calls them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

from jaxcnn.contract import arguments
from jaxcnn.nn.fitting import WrongTree
from jaxcnn.nn.inspection import applied_shape
from jaxcnn.nn.layer import Layer, LayerLike, Shape, checked_layer


def named_members(function: str, argument: str, layers: Iterable[LayerLike]) -> dict[str, Layer]:
    """The layers by name: each kind is numbered from 1 on, and a name that was given by `named` stays."""
    members, kinds = {}, Counter()
    for i, layer in enumerate(layers):
        layer = checked_layer(function, f"{argument}[{i}]", layer)
        kinds[layer.name] += layer.numbered
        name = f"{layer.name}{kinds[layer.name]}" if layer.numbered else layer.name
        arguments.require(name not in members, function, argument, "of different names", f"two called {name!r}")
        members[name] = layer
    return members


def init_member(i: int, name: str, layer: Layer, key: jax.Array, input_shape: Shape, params: Any, state: Any) -> Any:
    """Enters what member i has under its name into params and state. The shape that comes out of it."""
    with told_where(name):
        own_params, own_state = layer.init(jax.random.fold_in(key, i), input_shape)
        output = applied_shape(layer, own_params, own_state, input_shape)
    _enter(params, name, own_params)
    _enter(state, name, own_state)
    return output


def apply_member(
    i: int,
    name: str,
    layer: Layer,
    params: Any,
    state: Any,
    new_state: Any,
    x: jax.Array,
    train: bool,
    key: Any,
    origin: Any,
) -> jax.Array:
    """What comes out of member i; its state is entered into new_state.

    The origin of x is what all members are applied to, or None where it went through one that knows what it takes.
    """
    key = None if key is None else jax.random.fold_in(key, i)
    is_changed = getattr(origin, "shape", None) != getattr(x, "shape", None)
    with told_where(name, origin is not None, is_changed):
        y, own_state = layer.apply(params.get(name, {}), state.get(name, {}), x, train=train, key=key)
    _enter(new_state, name, own_state)
    return y


@contextmanager
def told_where(name: str, is_input: bool = True, is_changed: bool = False) -> Iterator[None]:
    """Notes on an error in which layer it arose."""
    try:
        yield
    except WrongTree as error:
        error.enter(name, is_input, is_changed)
        raise
    except (KeyError, TypeError, ValueError) as error:
        error.add_note(f"in {name}")
        raise


def _enter(tree, name, entries):
    if entries:
        tree[name] = entries
