"""The folder of a run: its configuration, its metrics, its newest checkpoints and the best one."""

from __future__ import annotations

import json
import math
import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcnn.train.checkpoint import read, texts, write, write_bytes

_NUMBERED = re.compile(r"step-(\d+)\.safetensors")


class SaveError(OSError):
    """The files of a run cannot be written."""


class RunFolder:
    """The files of a run:

    config.json                      its configuration, and the versions and devices that it began with
    metrics.jsonl                    an object for every epoch
    checkpoints/step-N.safetensors   the state after N steps, the newest ones
    checkpoints/best.safetensors     the state of the best epoch, if there is one
    """

    def __init__(self, path: Path, config: Mapping[str, Any], keep: int):
        self.path = path
        self._config, self._keep = config, keep
        self._checkpoints, self._metrics = path / "checkpoints", path / "metrics.jsonl"
        self._lock: int | None = None

    def __enter__(self) -> RunFolder:
        """Holds the folder for this process, if it is there, and compares the configuration.

        Raises:
            BlockingIOError: another process holds it.
            FileExistsError: something else has left metrics or checkpoints there.
            ValueError: the run that is there has another configuration.
        """
        if self.path.exists():
            if not self.path.is_dir():
                raise NotADirectoryError(f"train.fit: out must be a folder, got {str(self.path)!r}, which is a file")
            self.hold()
            try:
                self._require_own()
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def begin(self, epochs: int) -> None:
        """Makes the folder, writes the configuration, and drops the metrics behind so many epochs."""
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        if self._lock is None:
            self.hold()
        config = self.path / "config.json"
        if not config.exists():
            names = ("jaxcnn", "jax", "jaxlib", "optax", "numpy")
            versions = {"python": platform.python_version(), **{name: version(name) for name in names}}
            devices = [f"{device.platform} {device.device_kind}" for device in jax.devices()]
            text = json.dumps({**self._config, "versions": versions, "devices": devices}, indent=2)
            write_bytes(config, f"{text}\n".encode())
        lines = self._metrics.read_bytes().splitlines(keepends=True) if self._metrics.exists() else []
        if lines[epochs:]:  # of a run that was killed before it saved the state
            write_bytes(self._metrics, b"".join(lines[:epochs]))

    def hold(self) -> None:
        """Holds the folder for this process; BlockingIOError if another one does.

        The lock of a folder goes with the process that has it. There is none outside of Unix.
        """
        try:
            import fcntl
        except ImportError:
            return
        self._lock = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.__exit__()
            raise BlockingIOError(f"train.fit: another process trains in {str(self.path)!r}") from None

    def _require_own(self) -> None:
        path = self.path / "config.json"
        if not path.exists():
            if self._metrics.exists() or self._numbered():
                expected = "a new folder or that of a run that can go on"
                got = f"{str(self.path)!r}, which holds another run"
                raise FileExistsError(f"train.fit: out must be {expected}, got {got}")
            return
        try:
            there = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"train.fit: {str(path)!r} is no configuration of a run: {error}") from None
        differences = "; ".join(
            f"{name} was {json.dumps(there.get(name))} and is {json.dumps(value)}"
            for name, value in self._config.items()
            if there.get(name) != value
        )
        if differences:
            was = f"train.fit: {str(self.path)!r} holds a run of another configuration: {differences}"
            raise ValueError(f"{was}. Give a new folder, or the same configuration to go on")

    def add_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Appends a line; a number that is not finite, which JSON has not, is null."""
        finite = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in metrics.items()}
        try:
            with self._metrics.open("a", encoding="utf-8") as file:
                print(json.dumps(finite), file=file, flush=True)
        except OSError as error:
            raise self._cannot_save(self._metrics, error) from error

    def save(self, step: int, arrays: Mapping[str, np.ndarray], progress: Mapping[str, Any]) -> None:
        """Writes a checkpoint, and removes the oldest ones."""
        self._write(f"step-{step}.safetensors", arrays, progress)
        for _, old in self._numbered()[: -self._keep]:
            old.unlink(missing_ok=True)

    def save_best(self, arrays: Mapping[str, np.ndarray], progress: Mapping[str, Any]) -> None:
        self._write("best.safetensors", arrays, progress)

    def _write(self, name: str, arrays: Mapping[str, np.ndarray], progress: Mapping[str, Any]) -> None:
        path = self._checkpoints / name
        try:
            write(path, arrays, {"progress": json.dumps(progress)})
        except OSError as error:
            raise self._cannot_save(path, error) from error

    def _cannot_save(self, path: Path, error: OSError) -> SaveError:
        saved = self._numbered()
        stays = f"the checkpoint of step {saved[-1][0]} stays, to go on from" if saved else "there is no checkpoint"
        return SaveError(f"train.fit: {str(path)!r} cannot be written ({error.strerror}); {stays}")

    def newest(self) -> tuple[dict[str, np.ndarray], dict[str, Any], list[str]] | None:
        """Arrays and progress of the newest checkpoint that is not damaged, and what is wrong with newer ones."""
        damaged = []
        for _, path in reversed(self._numbered()):
            try:
                return *self._read(path), damaged
            except (ValueError, OSError) as error:
                damaged.append(f"{error}; the checkpoint before it is used")
        if damaged:
            raise ValueError(f"train.fit: every checkpoint is damaged; {damaged[0].partition('; ')[0]}")
        return None

    def newest_progress(self) -> dict[str, Any]:
        """What the newest checkpoint says of the progress; nothing of it is verified, and its arrays are not read."""
        numbered = self._numbered()
        return json.loads(texts(numbered[-1][1]).get("progress", "{}")) if numbered else {}

    def best(self) -> dict[str, np.ndarray] | None:
        path = self._checkpoints / "best.safetensors"
        return self._read(path)[0] if path.exists() else None

    def _read(self, path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        arrays, metadata = read("train.fit", path)
        if "progress" not in metadata:
            raise ValueError(f"train.fit: {str(path)!r} is no checkpoint of a run")
        return arrays, json.loads(metadata["progress"])

    def _numbered(self) -> list[tuple[int, Path]]:
        """The numbers of steps of the checkpoints, and their files, in order."""
        matches = ((_NUMBERED.fullmatch(path.name), path) for path in self._checkpoints.glob("step-*"))
        return sorted((int(match[1]), path) for match, path in matches if match)


def state_of(path: Path) -> str:
    """How the run in a folder stands, by its newest checkpoint: "complete", "running", or "can go on"."""
    folder = RunFolder(path, {}, 1)
    progress = folder.newest_progress()
    if progress.get("complete"):
        return "complete"
    try:
        folder.hold()
    except BlockingIOError:
        return "running"
    folder.__exit__()
    return "can go on"
