"""Writes a trained model to a folder: what is needed to use it, without pickle."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.contract import arguments
from jaxcnn.nn import Layer, output_shape, to_json
from jaxcnn.nn.layer import LayerLike, checked_layer
from jaxcnn.train.averaging import averaged
from jaxcnn.train.checkpoint import require_safetensors
from jaxcnn.train.model_files import (
    DESCRIPTION,
    FORMAT,
    VERSION,
    WEIGHTS,
    checksum,
    difference,
    nested,
)
from jaxcnn.train.step import TrainState, require_state


def save_model(
    path: str | PathLike[str],
    model: LayerLike,
    state: TrainState,
    *,
    standardization: tuple[np.ndarray, np.ndarray] | None = None,
    class_names: Sequence[str] | None = None,
    input_shape: Sequence[int] | None = None,
    extra: Any = None,
    replace: bool = False,
) -> None:
    """Writes a model to a folder, for `load`: model.safetensors and model.json.

    The folder appears under its name when it is complete. The parameters are the average of `train.ema` if the state
    has one.

    Args:
        path: the folder. It must not exist, unless it is to be replaced.
        model: what was trained. One that `nn.to_json` cannot write is left out; `load` then takes it from the caller.
        state: whose params and statistics are written, nested dicts of arrays.
        standardization: (mean, std), each [C], from `data.fit_standardization`; None for none.
        class_names: one for each class; None for none.
        input_shape: the shape of a batch, (N, *S, C); N does not matter. With it, files that do not fit the model are
            found out when it is loaded, not only when it is used.
        extra: anything else that JSON has, such as {"dataset": "digits"}.
        replace: whether a folder that this function wrote before gives way. The old one is removed when the new one has
            its name; for a moment between, there is neither under this name, and the old one beside it.

    Raises:
        ImportError: safetensors is not installed.
        TypeError: path is no path, model no layer, state no TrainState, class_names no strings, extra nothing of JSON.
        ValueError: a step has used the state up, it has a leaf that is no array of numbers, is not what the model makes
            for the input_shape, standardization is no pair [C] of finite numbers with std above 0, or there is not one
            class name for each class.
        FileExistsError: path is there, and not to be replaced or no model.
        OSError: it cannot be written; nothing is left behind.
    """
    function = "train.save_model"
    arguments.path(function, "path", path)
    layer = checked_layer(function, "model", model)
    require_state(function, state)
    state, safetensors = averaged(state), require_safetensors()
    trees = {"params": state.params, "statistics": state.statistics}
    arrays = _named_arrays(function, trees)
    if input_shape is not None:
        input_shape = arguments.shape(function, "input_shape", input_shape)
        wrong = difference(layer, input_shape, arrays)
        arguments.require(not wrong, function, "state", f"what the model makes for {input_shape}", wrong)
    class_names = _checked_names(function, class_names, layer, input_shape)
    weights = safetensors.save(arrays)
    description = {
        "format": FORMAT,
        "version": VERSION,
        **_written_model(layer),
        "standardization": _written_standardization(function, standardization, input_shape),
        "class_names": class_names,
        "input_shape": input_shape,
        "extra": extra,
        "weights": {"bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()},
    }
    try:
        description = json.loads(json.dumps(description, allow_nan=False))
    except (TypeError, ValueError) as error:
        got = f"{arguments.describe(extra)}: {error}"
        expected = "made of dicts, lists, strings and finite numbers"
        raise TypeError(f"{function}: extra must be {expected}, got {got}") from None
    text = json.dumps({**description, "sha256": checksum(description)}, indent=1)
    _write(function, Path(path), {WEIGHTS: weights, DESCRIPTION: text.encode()}, replace)


def _written_model(layer: Layer) -> dict[str, Any]:
    try:
        return {"model": json.loads(to_json(layer))}
    except ValueError as error:
        return {"model": None, "why": str(error)}


def _written_standardization(function: str, standardization: Any, input_shape: Any) -> Any:
    if standardization is None:
        return None
    is_pair = isinstance(standardization, tuple | list) and len(standardization) == 2
    is_pair = is_pair and all(map(arguments.is_array, standardization))
    expected, got = "a pair of arrays (mean, std), each [C]", arguments.describe(standardization)
    arguments.require(is_pair, function, "standardization", expected, got, TypeError)
    mean, std = (np.asarray(array) for array in standardization)
    fits = mean.ndim == 1 and mean.shape == std.shape and (input_shape is None or mean.shape == input_shape[-1:])
    arguments.require(fits, function, "standardization", expected, got)
    is_finite = np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()
    arguments.require(bool(is_finite), function, "standardization", "finite, with std above 0", got)
    return {"mean": mean.tolist(), "std": std.tolist(), "dtype": mean.dtype.name}


def _checked_names(function: str, names: Any, layer: Layer, input_shape: Any) -> list[str] | None:
    if names is None:
        return None
    is_names = not isinstance(names, str) and isinstance(names, Sequence) and all(isinstance(n, str) for n in names)
    arguments.require(is_names, function, "class_names", "strings", arguments.describe(names), TypeError)
    if input_shape is not None:
        shape = output_shape(layer, input_shape)
        classes = shape[-1] if shape and isinstance(shape[-1], int) else None
        fits = classes is None or len(names) == max(2, classes)
        arguments.require(fits, function, "class_names", f"{classes}, one for each output", len(names))
    return list(names)


def _named_arrays(function: str, trees: Any) -> dict[str, np.ndarray]:
    """The arrays of nested dicts by their paths, "params/conv1/w"."""
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        is_number = arguments.has_values(leaf) and (leaf.dtype == bool or jnp.issubdtype(leaf.dtype, jnp.number))
        got = f"{name} {arguments.describe(leaf)}"
        arguments.require(is_number, function, "state", "a tree of arrays of numbers", got)
        arrays[name] = np.array(leaf, order="C")
    same = jax.tree.structure(nested(arrays)) == jax.tree.structure(trees)
    expected = 'nested dicts of arrays, none of them empty, by names without "/"'
    arguments.require(same, function, "state", expected, str(jax.tree.structure(trees)))
    return arrays


def _write(function: str, path: Path, files: dict[str, bytes], replace: bool) -> None:
    replace = arguments.flag(function, "replace", replace)
    if path.exists() and not (replace and (path / DESCRIPTION).is_file() and (path / WEIGHTS).is_file()):
        expected = "new, or a model that is to be replaced" if replace else "new"
        arguments.require(False, function, "path", expected, f"{path}, which exists", FileExistsError)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_folder(path) as folder:
        new, old = folder / "new", folder / "old"
        new.mkdir()
        for name, content in files.items():
            with (new / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise


@contextlib.contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    """A folder beside a path, which is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
