"""Trees of arrays in one file, in the safetensors format, with a digest of what is in it.

An array is called after its path in the tree: "params/conv1/w", "opt_state/1/0/trace/conv1/w".
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util

from jaxcnn.contract import arguments

Tree = TypeVar("Tree")
_DIGEST = "sha256"
_SHOWN = 5  # how many paths an error names


def save(path: str | PathLike[str], tree: Any) -> None:
    """Writes a tree of arrays to a file, which appears under its name when it is complete.

    Args:
        path: the file; it must not exist. Folders above it are made.
        tree: nested dicts, lists and (named) tuples of arrays, such as a `TrainState` or {"params": state.params}.
            Random keys may be among the arrays.

    Raises:
        ImportError: safetensors is not installed.
        TypeError: path is no path.
        ValueError: the file exists, a leaf is no array, was used up by a training step, or is of a dtype that
            safetensors has not, or a name has a "/".
        OSError: the file cannot be written; nothing of it is left.
    """
    arguments.path("train.save", "path", path)
    arguments.not_used_up("train.save", "tree", tree)
    path = Path(path)
    arguments.require(not path.exists(), "train.save", "path", "a new file", f"{str(path)!r}, which already exists")
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, named_arrays("train.save", tree), {})


@overload
def restore(path: str | PathLike[str]) -> dict[str, Any]: ...
@overload
def restore(path: str | PathLike[str], like: Tree) -> Tree: ...
def restore(path, like=None):
    """Reads what `save` wrote.

    Args:
        path: the file.
        like: a tree of the structure, shapes and dtypes that are expected, such as a new `TrainState`; None for
            whatever is there.

    Returns:
        Without `like` nested dicts of NumPy arrays; an entry of a list or tuple is called after its number. With it a
        tree of the same types, of JAX arrays on the devices where those of `like` are.

    Raises:
        ImportError: safetensors is not installed.
        TypeError: path is no path.
        FileNotFoundError: there is no such file.
        ValueError: it is no file that `save` wrote, it is damaged, or it differs from `like`, with the paths.
    """
    arguments.path("train.restore", "path", path)
    arrays, _ = read("train.restore", Path(path))
    return nested_by_paths(arrays) if like is None else rebuilt("train.restore", "like", arrays, like)


def named_arrays(function: str, tree: Any) -> dict[str, np.ndarray]:
    """Copies of the arrays of a tree on the host, by their paths."""
    result = {}
    for path, leaf in tree_util.tree_flatten_with_path(tree)[0]:
        name = _name(path)
        known = arguments.has_values(leaf)
        arguments.require(known, function, f"tree[{name!r}]", "an array", arguments.describe(leaf))
        plain = all("/" not in _part(key) for key in path)
        arguments.require(plain, function, "tree", 'a tree without "/" in its names', repr(name))
        array = np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf, order="C")  # a copy: buffers are donated
        known = array.dtype.kind in "biufc" or array.dtype == jnp.bfloat16
        got = arguments.describe(array)
        arguments.require(known, function, f"tree[{name!r}]", "of a dtype that safetensors has", got)
        result[name] = array
    return result


def nested_by_paths(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts of the arrays; ValueError if an array and a dict have the same path."""
    result: dict[str, Any] = {}
    for name, array in arrays.items():
        *above, last = name.split("/")
        folder = result
        for part in above:
            folder = folder.setdefault(part, {})
            if not isinstance(folder, dict):
                raise ValueError(f"an array and a dict are both called {part!r}")
        folder[last] = array
    return result


def rebuilt(function: str, argument: str, arrays: Mapping[str, np.ndarray], like: Tree) -> Tree:
    """The tree of the types of `like` with these arrays; ValueError with the paths at which the two differ."""
    leaves, structure = tree_util.tree_flatten_with_path(like)
    expected = {_name(path): leaf for path, leaf in leaves}
    differences = []
    for name, leaf in expected.items():
        described = arguments.describe(_data_type(leaf))
        if name not in arrays:
            differences.append(f"{name} is missing")
        elif arguments.describe(arrays[name]) != described:
            differences.append(f"{name} is {arguments.describe(arrays[name])} rather than {described}")
    differences += [f"{name} is not expected" for name in arrays if name not in expected]
    more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    got = "; ".join(differences[:_SHOWN]) + more
    arguments.require(not differences, function, argument, "of the structure of the file", f"another: {got}")
    return tree_util.tree_unflatten(structure, [_placed(arrays[name], leaf) for name, leaf in expected.items()])


def write(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes arrays, texts and a digest of all of them. The file at `path`, if any, is replaced in one step."""
    digest = {_DIGEST: _digest(arrays, metadata)}
    content = require_safetensors().save(dict(arrays), metadata={**metadata, **digest})
    write_bytes(path, content)


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file in one step: it holds all of the content on the disk, or what it held before."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        draft.unlink(missing_ok=True)


def read(function: str, path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and texts of a file that `write` wrote; ValueError if it is another or damaged."""
    require_safetensors()
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"{function}: there is no file {str(path)!r}")

    def refused(reason: object) -> ValueError:
        return ValueError(f"{function}: {str(path)!r} is damaged, or no file of jaxcnn: {reason}")

    try:
        with safe_open(path, "numpy") as file:
            metadata = dict(file.metadata() or {})
            names = file.keys()
            arrays = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, AttributeError, TypeError, UnicodeError) as error:
        raise refused(error) from None
    digest = metadata.pop(_DIGEST, None)
    if digest is None:
        raise refused("it has no digest")
    if digest != _digest(arrays, metadata):
        raise refused("its digest is another")
    return arrays, metadata


def texts(path: Path) -> dict[str, str]:
    """The texts of a file that `write` wrote, without its arrays."""
    require_safetensors()
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from None


def require_safetensors() -> ModuleType:
    """The module that writes arrays; ImportError, with what to install, where it is missing."""
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError('to save and restore takes safetensors: pip install "jaxcnn[train]"') from error
    return safetensors.numpy


def _digest(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    result = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name in sorted(arrays):
        array = arrays[name]
        result.update(f"{name} {array.dtype} {array.shape}\n".encode())
        result.update(array.tobytes())
    return result.hexdigest()


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(map(_part, path))


def _part(key: Any) -> str:
    """A step of a path: the key of a dict, the name of a field, or the number of an entry."""
    kinds: dict[type, Callable[[Any], Any]] = {
        tree_util.DictKey: lambda key: key.key,
        tree_util.GetAttrKey: lambda key: key.name,
        tree_util.SequenceKey: lambda key: key.idx,
        tree_util.FlattenedIndexKey: lambda key: key.key,
    }
    return str(kinds.get(type(key), str)(key))


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _data_type(leaf: Any) -> Any:
    """The type of what is saved of a leaf."""
    return jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf


def _placed(array: np.ndarray, like: Any) -> jax.Array:
    """The array, a random key again where `like` is one, on the devices where `like` is."""
    is_placed = not isinstance(like, jax.Array) or like.committed
    sharding = getattr(like, "sharding", None) if is_placed else None
    if _is_key(like):
        return jax.device_put(jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like)), sharding)
    return jax.device_put(array, sharding)
