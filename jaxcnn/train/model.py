"""A trained model as it is used: read from a folder, without the script that trained it and without pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.contract import arguments
from jaxcnn.data import standardize
from jaxcnn.nn import Layer, from_json
from jaxcnn.nn.layer import LayerLike, checked_layer
from jaxcnn.train.checkpoint import require_safetensors
from jaxcnn.train.evaluation import outputs
from jaxcnn.train.model_files import (
    DESCRIPTION,
    FORMAT,
    VERSION,
    WEIGHTS,
    checksum,
    difference,
    nested,
)

_FUNCTION = "train.load"
_FLOATS = {"float32": np.float32, "float64": np.float64}
_LARGEST = 64 << 20  # bytes of a description


@dataclass(frozen=True, eq=False)
class Trained:
    """A model with all that predicting takes; `load` makes it.

    Attributes:
        model: the layer.
        params, statistics: what it is applied with, JAX arrays.
        standardization: mean and std [C] of the training set, subtracted from raw inputs and divided by; None for none.
        class_names: one for each class, or None.
        input_shape: the shape of a batch that it was trained on, (N, *S, C), or None.
        extra: what else was saved with it.
    """

    model: Layer
    params: Any
    statistics: Any
    standardization: tuple[np.ndarray, np.ndarray] | None = None
    class_names: tuple[str, ...] | None = None
    input_shape: tuple[int, ...] | None = None
    extra: Any = None

    def predict(self, x: Any, *, batch_size: int = 256) -> Any:
        """What comes out for raw inputs.

        Args:
            x: images [N, *S, C] as the data set has them, before any standardization; see `train.predict`.
            batch_size: how many images go through the model at once.

        Returns:
            A NumPy array [N, ...] of the model's outputs, logits for a classifier; or a tree of them.

        Raises:
            TypeError, ValueError: as `train.predict` and `data.standardize`.
        """
        if self.standardization is not None:
            arguments.array("predict", "x", x)
            channels = self.standardization[0].shape
            fits = tuple(x.shape[-1:]) == channels
            arguments.require(fits, "predict", "x", f"raw inputs [..., {channels[0]}]", arguments.describe(x))
        return outputs("predict", self.model, self.params, self.statistics, x, batch_size, self._standardized)

    def probabilities(self, x: Any, *, batch_size: int = 256) -> Any:
        """How probable each class is, for raw inputs: the softmax of the logits.

        Args:
            x, batch_size: as for `predict`.

        Returns:
            A NumPy array [N, ..., K] with a sum of 1 along the last axis; of one logit the probabilities of two
            classes, [N, ..., 2]. Or a tree of them.

        Raises:
            TypeError, ValueError: as `predict`.
        """
        return jax.tree.map(_probabilities, self.predict(x, batch_size=batch_size))

    def _standardized(self, x: Any) -> Any:
        return x if self.standardization is None else standardize(x, *self.standardization)


def _probabilities(logits: np.ndarray) -> np.ndarray:
    expected = "one with logits [N, ..., K]"
    arguments.require(logits.ndim > 1, "probabilities", "model", expected, f"outputs {arguments.describe(logits)}")
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def load(path: str | PathLike[str], model: LayerLike | None = None) -> Trained:
    """Reads a model that `save_model` wrote.

    The file says how to build the model in calls of `jaxcnn.nn`; nothing else in it is run. A checksum tells damage.

    Args:
        path: the folder of the model, or that of a run, which has it in model/.
        model: used in place of the one in the file; needed where that could not be written, since it has layers or
            functions that are not those of jaxcnn.

    Returns:
        A `Trained`, with `predict` and `probabilities` of raw inputs.

    Raises:
        ImportError: safetensors is not installed.
        TypeError: path is no path, model no layer.
        FileNotFoundError: there is no such folder.
        ValueError: it holds no model, or a damaged one, or one of another version of the format; model is needed and
            not given; names or shapes of the arrays are not what the model makes. Without an input_shape in the file
            the last shows in `predict` only.

    >>> import tempfile
    >>> from jaxcnn import nn, train
    >>> model, optimizer = nn.dense(2), train.sgd(0.1)
    >>> state = train.init(model, optimizer, jax.random.key(0), (1, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     train.save_model(f"{folder}/model", model, state, class_names=["cat", "dog"], input_shape=(1, 3))
    ...     trained = train.load(folder)
    >>> trained.model, trained.class_names, trained.probabilities(np.zeros((1, 3), np.float32)).tolist()
    (dense(2), ('cat', 'dog'), [[0.5, 0.5]])
    """
    arguments.path(_FUNCTION, "path", path)
    given = None if model is None else checked_layer(_FUNCTION, "model", model)
    folder = _folder(Path(path))
    description = _read_description(folder / DESCRIPTION)
    layer = _described_model(folder, description) if given is None else given
    arrays = _read_arrays(folder / WEIGHTS, description["weights"])
    trees, input_shape = _checked_trees(folder, layer, given is not None, arrays, description["input_shape"])
    names = description["class_names"]
    trees = jax.tree.map(jnp.asarray, trees)
    return Trained(
        layer,
        trees["params"],
        trees["statistics"],
        _read_standardization(folder, description["standardization"]),
        None if names is None else tuple(names),
        input_shape,
        description["extra"],
    )


def _refused(path: Path, got: object) -> ValueError:
    text = " ".join(str(got).split())
    return ValueError(f"{_FUNCTION}: path must be a model that train.save_model wrote, got {path}: {text}")


def _require(ok: bool, path: Path, got: str) -> None:
    if not ok:
        raise _refused(path, got)


def _folder(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"{_FUNCTION}: path must be a folder that is there, got {path}")
    folder = path if (path / DESCRIPTION).is_file() else path / "model"
    _require((folder / DESCRIPTION).is_file(), path, f"no {DESCRIPTION} in it or in its folder model")
    return folder


def _read_description(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    _require(size <= _LARGEST, path, f"{size} bytes, more than a description has")
    try:
        description = json.loads(path.read_bytes())
        found = checksum(description) if isinstance(description, dict) else None
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"no JSON, {error}") from None
    is_ours = isinstance(description, dict) and description.get("format") == FORMAT
    _require(is_ours, path, f'JSON without "format": "{FORMAT}"')
    version = description.get("version")
    _require(version == VERSION, path, f"version {version!r} of the format, where this jaxcnn reads {VERSION}")
    _require(description.get("sha256") == found, path, "an entry that differs from what was written")
    for key, is_right in _ENTRIES.items():
        _require(key in description, path, f"no {key}")
        value = description[key]
        _require(is_right(value), path, f"{key} {arguments.describe(value)}")
    return description


def _is_list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: value is None or (isinstance(value, list) and all(type(each) is kind for each in value))


def _is_checksum(value: Any) -> bool:
    types = {"bytes": int, "sha256": str}
    return isinstance(value, dict) and all(type(value.get(key)) is kind for key, kind in types.items())


_ENTRIES: dict[str, Callable[[Any], bool]] = {
    "model": lambda value: value is None or isinstance(value, dict),
    "weights": _is_checksum,
    "standardization": lambda value: value is None or isinstance(value, dict),
    "class_names": _is_list_of(str),
    "input_shape": _is_list_of(int),
    "extra": lambda value: True,
}


def _described_model(folder: Path, description: dict[str, Any]) -> Layer:
    if description["model"] is None:
        why = description.get("why")
        raise ValueError(f"{_FUNCTION}: model must be given, as it is not in {folder / DESCRIPTION}: {why}")
    try:
        return from_json(json.dumps(description["model"]))
    except (ValueError, RecursionError) as error:
        raise _refused(folder / DESCRIPTION, error) from None


def _read_arrays(path: Path, written: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays by name, if the file is the one that was written."""
    safetensors = require_safetensors()
    from safetensors import SafetensorError

    _require(path.is_file(), path, "no such file")
    size = path.stat().st_size
    _require(size == written["bytes"], path, f"{size} bytes, where {written['bytes']} were written")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    _require(found == written["sha256"], path, f"the SHA-256 {found}, where {written['sha256']} was written")
    try:
        return safetensors.load_file(path)
    except (SafetensorError, AttributeError) as error:  # the second of a dtype that NumPy has not
        raise _refused(path, f"no safetensors file, {error}") from None


def _checked_trees(folder: Path, layer: Layer, is_given: bool, arrays: dict[str, Any], input_shape: Any) -> Any:
    """The arrays as params and statistics, and the input shape: those that the model makes for it."""
    try:
        trees = nested(arrays)
        if input_shape is not None:
            input_shape = arguments.shape(_FUNCTION, "input_shape", input_shape)
        wrong = "" if input_shape is None else difference(layer, input_shape, arrays)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        trees, wrong = None, " ".join(str(error).split())
    if wrong and is_given:
        raise ValueError(f"{_FUNCTION}: model must be the one that is in {folder}, got one that differs: {wrong}")
    _require(not wrong, folder, wrong)
    return trees, input_shape


def _read_standardization(folder: Path, value: Any) -> tuple[np.ndarray, np.ndarray] | None:
    if value is None:
        return None
    try:
        dtype = _FLOATS[value["dtype"]]
        mean, std = np.array(value["mean"], dtype), np.array(value["std"], dtype)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _refused(folder / DESCRIPTION, f"standardization {arguments.describe(value)}") from None
    fits = mean.ndim == 1 and mean.shape == std.shape and np.isfinite([mean, std]).all() and (std > 0).all()
    _require(bool(fits), folder / DESCRIPTION, f"standardization {arguments.describe(value)}")
    return mean, std
