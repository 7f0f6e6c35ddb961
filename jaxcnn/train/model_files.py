"""The two files of a saved model, and what has to agree in them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jax

from jaxcnn.nn import Layer
from jaxcnn.nn.inspection import abstract_init
from jaxcnn.train.checkpoint import nested_by_paths

FORMAT, VERSION = "jaxcnn model", 1
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


def nested(arrays: dict[str, Any]) -> dict[str, Any]:
    """The trees of the arrays, of which one may have none; ValueError if an array and a dict have the same name."""
    return {"params": {}, "statistics": {}} | nested_by_paths(arrays)


def difference(layer: Layer, input_shape: Any, arrays: dict[str, Any]) -> str:
    """In what names and shapes differ from those that the model makes for the input shape; "" if in nothing.

    Nothing is drawn, whatever sizes the model has.
    """
    params, statistics = abstract_init(layer, input_shape)
    leaves = jax.tree_util.tree_leaves_with_path({"params": params, "statistics": statistics})
    shapes = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}
    wrong = [f"no {name}" for name in shapes if name not in arrays]
    wrong += [f"{name}, which the model has not" for name in arrays if name not in shapes]
    wrong += [
        f"{name} {list(arrays[name].shape)} where the model has {list(shape)}"
        for name, shape in shapes.items()
        if name in arrays and arrays[name].shape != shape
    ]
    return "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")


def checksum(description: dict[str, Any]) -> str:
    """The SHA-256 of all entries but its own."""
    others = {key: value for key, value in description.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()
