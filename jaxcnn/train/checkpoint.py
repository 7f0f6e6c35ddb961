"""Trees of arrays in a folder, by orbax-checkpoint."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

from jaxcnn.contract import arguments


def save(path: str | PathLike[str], tree: Any) -> None:
    """Writes a tree of arrays to a folder. It appears under its name when it is complete.

    Args:
        path: the folder; it must not exist.
        tree: nested dicts of arrays, for instance {"params": state.params, "statistics": state.statistics}.

    Raises:
        ImportError: orbax-checkpoint is not installed.
        TypeError: path is no path.
        ValueError: the folder exists, or a leaf is no array, or was used up by a training step.
    """
    arguments.path("train.save", "path", path)
    arguments.not_used_up("train.save", "tree", tree)
    with require_orbax().StandardCheckpointer() as checkpointer:
        checkpointer.save(Path(path).absolute(), jax.device_get(tree))


def restore(path: str | PathLike[str]) -> Any:
    """Reads what `save` wrote.

    Args:
        path: the folder.

    Returns:
        The same nested dicts, of NumPy arrays.

    Raises:
        ImportError: orbax-checkpoint is not installed.
        TypeError: path is no path.
        FileNotFoundError: there is no such folder.
        ValueError: it is no folder that `save` wrote.
    """
    arguments.path("train.restore", "path", path)
    with require_orbax().StandardCheckpointer() as checkpointer:
        return checkpointer.restore(Path(path).absolute())


def require_orbax() -> ModuleType:
    """The module that saves and restores; ImportError, with what to install, where it is missing."""
    try:
        import orbax.checkpoint
    except ImportError as error:
        raise ImportError('to save and restore takes orbax-checkpoint: pip install "jaxcnn[train]"') from error
    return orbax.checkpoint
