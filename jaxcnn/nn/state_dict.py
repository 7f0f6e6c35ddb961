"""Weights that were trained in PyTorch."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.nn.inspection import abstract_init
from jaxcnn.nn.layer import LayerLike, Params, Shape, State, as_layer
from jaxcnn.ops import shapes

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
            by name, or tensors on the CPU. The counts num_batches_tracked are left out.

    Returns:
        params and state as model.init gives them, float32.

    Raises:
        ImportError: source is a file and safetensors is not installed.
        TypeError: source is neither a path nor a dict.
        ValueError: names are missing, or there are others, or arrays of other shapes; all of them are listed.

    >>> from jaxcnn import nn
    >>> model = nn.sequential(nn.named("conv1", nn.conv(4, 3, bias=False)), nn.named("bn1", nn.batch_norm()))
    >>> weights = {"conv1.weight": np.ones((4, 3, 3, 3)), "bn1.weight": np.ones(4), "bn1.bias": np.zeros(4)}
    >>> weights |= {"bn1.running_mean": np.zeros(4), "bn1.running_var": np.ones(4)}
    >>> params, state = nn.load_state_dict(model, (1, 8, 8, 3), weights)
    >>> params["conv1"]["w"].shape
    (3, 3, 3, 4)
    """
    layer = as_layer("nn.load_state_dict", "model", model)
    arrays = {name: np.asarray(array) for name, array in _read(source).items() if "num_batches_tracked" not in name}
    template = abstract_init(layer, shapes.shape("nn.load_state_dict", "input_shape", input_shape))
    leaves = jax.tree_util.tree_leaves_with_path(template)
    expected = {_name(path): _channels_first(leaf.shape) for path, leaf in leaves}
    wrong = [f"no {name}" for name in expected if name not in arrays]
    wrong += [f"{name} beyond them" for name in arrays if name not in expected]
    wrong += [
        f"{name} {list(arrays[name].shape)} rather than {list(shape)}"
        for name, shape in expected.items()
        if name in arrays and arrays[name].shape != shape
    ]
    shapes.require(not wrong, "nn.load_state_dict", "source", "the weights of this model", ", ".join(wrong))

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


def _read(source) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    is_path = isinstance(source, (str, PathLike))
    shapes.require(is_path, "nn.load_state_dict", "source", "a path or a dict", shapes.describe(source), TypeError)
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise ImportError('to read a safetensors file takes safetensors: pip install "jaxcnn[train]"') from error
    return load_file(source)
