"""What a model looks like: its shapes and how many parameters it has, without computing anything."""

from __future__ import annotations

import math
from typing import Any, TextIO

import jax
import jax.numpy as jnp

from jaxcnn.contract import arguments
from jaxcnn.nn.layer import Layer, LayerLike, Shape, checked_layer


def output_shape(model: LayerLike, input_shape: Shape) -> Shape:
    """The shape that comes out of a layer or model; nothing is computed.

    Args:
        model: a layer, or a function of an array.
        input_shape: the shape of a batch, (N, *S, C).

    Returns:
        The shape as a tuple; where several arrays come out, a tuple of their shapes.

    Raises:
        TypeError: model is neither, input_shape is no sequence of ints.
        ValueError: those of the layers if the shape does not fit; a note says which layer it is.

    >>> from jaxcnn import nn
    >>> nn.output_shape(nn.conv(16, 3, stride=2), (5, 28, 28, 3))
    (5, 14, 14, 16)
    """
    layer = checked_layer("nn.output_shape", "model", model)
    input_shape = arguments.shape("nn.output_shape", "input_shape", input_shape)
    return applied_shape(layer, *abstract_init(layer, input_shape), input_shape)


def abstract_init(layer: Layer, input_shape: Shape) -> tuple[Any, Any]:
    """Parameters and state of a layer as `jax.ShapeDtypeStruct`s: nothing is drawn."""
    return jax.eval_shape(lambda: layer.init(jax.random.key(0), input_shape))


def applied_shape(layer: Layer, params: Any, state: Any, input_shape: Shape) -> Any:
    """The shape that comes out of a layer with these parameters, arrays or abstract."""
    x = jax.ShapeDtypeStruct(arguments.shape(layer.name, "input_shape", input_shape), jnp.float32)
    return shapes_of(jax.eval_shape(lambda params, state, x: layer.apply(params, state, x)[0], params, state, x))


def shapes_of(output: Any) -> Any:
    """The shape of an array; of several, in a tuple, those of each."""
    return jax.tree.map(jnp.shape, output)


def count_parameters(params: Any) -> int:
    """How many numbers are in a tree of arrays.

    Args:
        params: nested dicts of arrays, or of their shapes and dtypes as `jax.eval_shape` gives them.

    Returns:
        The sum of their sizes, an int.

    Raises:
        TypeError: a leaf is neither.

    >>> count_parameters({"w": jnp.ones((3, 2)), "b": jnp.ones(2)})
    8
    """
    leaves = jax.tree.leaves(params)
    for leaf in leaves:
        has_shape = arguments.is_array(leaf)
        arguments.require(
            has_shape, "nn.count_parameters", "params", "a tree of arrays", arguments.describe(leaf), TypeError
        )
    return sum(math.prod(leaf.shape) for leaf in leaves)


def summary(model: LayerLike, input_shape: Shape, *, file: TextIO | None = None) -> None:
    """Prints a table of a model: every layer with its path, output shape and parameters.

    Args:
        model: a layer, or a function of an array.
        input_shape: the shape of a batch, (N, *S, C).
        file: where to print, standard output by default.

    Raises:
        TypeError, ValueError: as for `output_shape`.

    >>> from jaxcnn import nn
    >>> nn.summary(nn.sequential(nn.conv(16, 3), nn.batch_norm(), nn.flatten(), nn.dense(10)), (1, 8, 8, 1))
    path         output         parameters               number
    conv1        [1, 8, 8, 16]  b [16], w [3, 3, 1, 16]     160
    batch_norm1  [1, 8, 8, 16]  beta [16], gamma [16]        32
    flatten1     [1, 1024]
    dense1       [1, 10]        b [10], w [1024, 10]     10,250
    10,442 parameters, and 32 numbers of state that is not trained
    """
    layer = checked_layer("nn.summary", "model", model)
    writes = file is None or hasattr(file, "write")
    arguments.require(writes, "nn.summary", "file", "None or a file to write to", arguments.describe(file), TypeError)
    input_shape = arguments.shape("nn.summary", "input_shape", input_shape)
    params, state = abstract_init(layer, input_shape)
    rows = [("path", "output", "parameters", "number"), *_rows("", layer, input_shape)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for path, output, parameters, number in rows:
        cells = [path.ljust(widths[0]), output.ljust(widths[1]), parameters.ljust(widths[2]), number.rjust(widths[3])]
        print("  ".join(cells).rstrip(), file=file)
    total = f"{count_parameters(params):,} parameters"
    untrained = count_parameters(state)
    print(total + (f", and {untrained:,} numbers of state that is not trained" if untrained else ""), file=file)


def _rows(path: str, layer: Layer, input_shape: Shape) -> list[tuple[str, str, str, str]]:
    """The row of a layer, or those of its parts."""
    parts = layer.parts(input_shape)
    if parts:
        prefix = f"{path}/" if path else ""
        return [row for name, part, shape in parts for row in _rows(prefix + name, part, shape)]
    params, state = abstract_init(layer, input_shape)
    output = applied_shape(layer, params, state, input_shape)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    names = [jax.tree_util.keystr(keys, simple=True, separator="/") for keys, _ in leaves]
    listed = ", ".join(f"{name} {list(leaf.shape)}" for name, (_, leaf) in zip(names, leaves, strict=True))
    number = f"{count_parameters(params):,}" if leaves else ""
    return [(path or layer.name, str(list(output)), listed, number)]
