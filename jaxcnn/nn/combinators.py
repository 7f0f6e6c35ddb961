"""Layers made of layers: `sequential` and `residual`, and the names that parameters are found under."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import jax

from jaxcnn.nn.inspection import applied_shape, output_shape
from jaxcnn.nn.layer import Layer, LayerLike, as_layer
from jaxcnn.ops import shapes


def named(name: str, layer: LayerLike) -> Layer:
    """The same layer under a name of its own, in place of its kind and a number.

    Args:
        name: what its parameters are found under; not empty, and without "/".
        layer: a layer, or a function of an array.

    Raises:
        TypeError: layer is neither.
        ValueError: the name is empty or has a "/".

    >>> from jaxcnn import nn
    >>> params, _ = nn.sequential(nn.named("head", nn.dense(10))).init(jax.random.key(0), (1, 64))
    >>> params["head"]["w"].shape
    (64, 10)
    """
    fits = isinstance(name, str) and name != "" and "/" not in name
    shapes.require(fits, "nn.named", "name", 'a string that is not empty and has no "/"', repr(name))
    return replace(as_layer("nn.named", "layer", layer), name=name, numbered=False)


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
        TypeError: an argument is neither a layer nor a function.
        ValueError: two layers have the same name.
        An error in a layer carries a note that says in which.

    >>> from jaxcnn import nn
    >>> from jaxcnn.ops.activation import relu
    >>> model = nn.sequential(nn.conv(16, 3), relu, nn.max_pool(2), nn.flatten(), nn.dense(10))
    >>> params, state = model.init(jax.random.key(0), (1, 8, 8, 1))
    >>> sorted(params), state
    (['conv1', 'dense1'], {})
    >>> logits, state = model.apply(params, state, jax.random.normal(jax.random.key(1), (5, 8, 8, 1), "float32"))
    >>> logits.shape
    (5, 10)
    """
    members = _named_members([as_layer("nn.sequential", f"layers[{i}]", layer) for i, layer in enumerate(layers)])

    def init(key, input_shape):
        params, state, shape = {}, {}, input_shape
        for i, (name, layer) in enumerate(members.items()):
            with _told_where(name):
                own_params, own_state = layer.init(jax.random.fold_in(key, i), shape)
                shape = applied_shape(layer, own_params, own_state, shape)
            _enter(params, name, own_params)
            _enter(state, name, own_state)
        return params, state

    def apply(params, state, x, *, train=False, key=None):
        new_state = {}
        for i, (name, layer) in enumerate(members.items()):
            with _told_where(name):
                x, own_state = _apply_member(layer, name, i, params, state, x, train, key)
            _enter(new_state, name, own_state)
        return x, new_state

    def parts(input_shape):
        result, shape = [], input_shape
        for name, layer in members.items():
            with _told_where(name):
                result.append((name, layer, shape))
                shape = output_shape(layer, shape)
        return result

    return Layer(init, apply, "sequential", parts)


def residual(body: LayerLike, shortcut: LayerLike | None = None) -> Layer:
    """A layer and a way around it.

        y = body(x) + shortcut(x)

    Args:
        body: a layer or a function of an array.
        shortcut: another one, for instance a 1x1 convolution where the body changes the shape; by default x itself.

    Returns:
        A layer with params {"body": ..., "shortcut": ...}, and state likewise; no entry for what has no parameters.

    Raises:
        TypeError: an argument is neither a layer nor a function.
        ValueError: from init and apply if body and shortcut differ in the shape of what comes out.

    Source: He et al., Deep residual learning for image recognition, 2016.

    >>> from jaxcnn import nn
    >>> block = nn.residual(nn.conv(16, 3), shortcut=nn.conv(16, 1))
    >>> params, _ = block.init(jax.random.key(0), (1, 8, 8, 3))
    >>> params["shortcut"]["w"].shape
    (1, 1, 3, 16)
    """
    members = {"body": as_layer("nn.residual", "body", body)}
    if shortcut is not None:
        members["shortcut"] = as_layer("nn.residual", "shortcut", shortcut)

    def init(key, input_shape):
        params, state, output_shapes = {}, {}, []
        for i, (name, layer) in enumerate(members.items()):
            with _told_where(name):
                own_params, own_state = layer.init(jax.random.fold_in(key, i), input_shape)
                output_shapes.append(applied_shape(layer, own_params, own_state, input_shape))
            _enter(params, name, own_params)
            _enter(state, name, own_state)
        require_same(*[*output_shapes, input_shape][:2])
        return params, state

    def apply(params, state, x, *, train=False, key=None):
        outputs, new_state = [], {}
        for i, (name, layer) in enumerate(members.items()):
            with _told_where(name):
                y, own_state = _apply_member(layer, name, i, params, state, x, train, key)
            outputs.append(y)
            _enter(new_state, name, own_state)
        y, around = [*outputs, x][:2]
        require_same(y.shape, around.shape)
        return y + around, new_state

    def require_same(body_shape, shortcut_shape):
        expected = f"of the output shape {list(body_shape)} of body"
        same = tuple(body_shape) == tuple(shortcut_shape)
        shapes.require(same, "nn.residual", "shortcut", expected, f"output shape {list(shortcut_shape)}")

    def parts(input_shape):
        return [(name, layer, input_shape) for name, layer in members.items()]

    return Layer(init, apply, "residual", parts)


def _named_members(layers: list[Layer]) -> dict[str, Layer]:
    members, kinds = {}, Counter()
    for layer in layers:
        kinds[layer.name] += layer.numbered
        name = f"{layer.name}{kinds[layer.name]}" if layer.numbered else layer.name
        shapes.require(name not in members, "nn.sequential", "layers", "of different names", f"two called {name!r}")
        members[name] = layer
    return members


def _apply_member(layer, name, i, params, state, x, train, key):
    key = None if key is None else jax.random.fold_in(key, i)
    return layer.apply(params.get(name, {}), state.get(name, {}), x, train=train, key=key)


def _enter(tree, name, own):
    if own:
        tree[name] = own


@contextmanager
def _told_where(name: str) -> Iterator[None]:
    """Notes on an error in which layer it arose."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        error.add_note(f"in {name}")
        raise
