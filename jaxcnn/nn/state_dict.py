"""Weights that were trained in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.contract import arguments
from jaxcnn.nn.inspection import abstract_init
from jaxcnn.nn.layer import LayerLike, Params, Shape, State, checked_layer

_FUNCTION = "nn.load_state_dict"
_LEAVES = {
    "w": "weight",
    "b": "bias",
    "gamma": "weight",
    "beta": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def load_state_dict(
    model: LayerLike, input_shape: Shape, source: str | PathLike[str] | Mapping[str, Any]
) -> tuple[Params, State]:
    """Parameters and state of a model from a state_dict of PyTorch.

    The layers of the model must be called as the modules there, as those of `resnet` and `resnext` are as in
    torchvision. Filters [O, C/groups, *K] become [*K, C/groups, O], and dense weights [O, I] become [I, O].

    Args:
        model: what the weights are for.
        input_shape: the shape of a batch, (N, *S, C).
        source: a safetensors file, as `safetensors.torch.save_file(model.state_dict(), path)` writes it, or the arrays
            by name, or tensors of a state_dict on the CPU, but for bfloat16. The counts num_batches_tracked are left
            out.

    Returns:
        params and state as model.init gives them, float32.

    Raises:
        ImportError: source is a file and safetensors is not installed.
        TypeError: source is neither a path nor a dict of arrays of real numbers by name, or a file with 8-bit floats; a
            tensor is on a GPU, of bfloat16, or requires grad.
        ValueError: names are missing, or there are others, or arrays of other shapes; all of them are listed. The file
            is no safetensors file.
        FileNotFoundError: there is no such file.

    >>> from jaxcnn import nn
    >>> model = nn.sequential(nn.named("conv1", nn.conv(4, 3, bias=False)), nn.named("bn1", nn.batch_norm()))
    >>> weights = {"conv1.weight": np.ones((4, 3, 3, 3)), "bn1.weight": np.ones(4), "bn1.bias": np.zeros(4)}
    >>> weights |= {"bn1.running_mean": np.zeros(4), "bn1.running_var": np.ones(4)}
    >>> params, state = nn.load_state_dict(model, (1, 8, 8, 3), weights)
    >>> params["conv1"]["w"].shape
    (3, 3, 3, 4)
    """
    layer = checked_layer(_FUNCTION, "model", model)
    template = abstract_init(layer, arguments.shape(_FUNCTION, "input_shape", input_shape))
    arrays = _read(source)
    leaves = jax.tree_util.tree_leaves_with_path(template)
    expected = {_name(path): _channels_first(leaf.shape) for path, leaf in leaves}
    wrong = [f"no {name}" for name in expected if name not in arrays]
    wrong += [f"{name} beyond them" for name in arrays if name not in expected]
    wrong += [
        f"{name} {list(arrays[name].shape)} rather than {list(shape)}"
        for name, shape in expected.items()
        if name in arrays and arrays[name].shape != shape
    ]
    arguments.require(not wrong, _FUNCTION, "source", "the weights of this model", ", ".join(wrong))

    def converted(path, leaf):
        array = arrays[_name(path)]
        return jnp.asarray(np.moveaxis(array, (1, 0), (-2, -1)) if array.ndim > 1 else array, leaf.dtype)

    return jax.tree_util.tree_map_with_path(converted, template)


def _name(path) -> str:
    """What PyTorch calls the leaf at a path in (params, state). The body of a residual is no module of its own."""
    *parts, leaf = (str(key.key) for key in path[1:])
    modules = ["downsample" if part == "shortcut" else part for part in parts if part != "body"]
    return ".".join([*modules, _LEAVES.get(leaf, leaf)])


def _channels_first(shape: Shape) -> Shape:
    """[*K, I, O] -> [O, I, *K]."""
    return (*shape[-2:][::-1], *shape[:-2])


def _read(source) -> dict[str, np.ndarray]:
    """The arrays by name, without the counts of batches."""
    weights = source if isinstance(source, Mapping) else _read_file(source)
    for name in weights:
        is_name = isinstance(name, str)
        arguments.require(
            is_name, _FUNCTION, "source", "arrays by name", f"a name {arguments.describe(name)}", TypeError
        )
    return {name: _array(name, value) for name, value in weights.items() if "num_batches_tracked" not in name}


def _read_file(path) -> Mapping[str, np.ndarray]:
    arguments.path(_FUNCTION, "source", path, "a path or a dict")
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise ImportError('to read a safetensors file takes safetensors: pip install "jaxcnn[train]"') from error
    expected = "a safetensors file"
    arguments.require(not Path(path).is_dir(), _FUNCTION, "source", expected, f"the folder {path}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{_FUNCTION}: source must be {expected}, got {path}: {error}") from error
    except AttributeError as error:  # what safetensors raises of dtypes that NumPy itself has not
        expected = "of dtypes that NumPy can read such as float32 and bfloat16"
        raise TypeError(f"{_FUNCTION}: source must be {expected}, got {path} with {error.name or error}") from error


def _array(name, value) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:  # what PyTorch raises: on a GPU, with grad, bfloat16
        raise TypeError(f"{_FUNCTION}: source must be arrays that NumPy can read, got {name}: {error}") from error
    is_number = jnp.issubdtype(array.dtype, jnp.number) and not jnp.issubdtype(array.dtype, jnp.complexfloating)
    got = f"{name} {arguments.describe(array)}"
    arguments.require(is_number, _FUNCTION, "source", "arrays of real numbers", got, TypeError)
    return array
