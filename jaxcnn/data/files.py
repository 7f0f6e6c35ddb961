"""Where the files of a data set lie, and whether they are what was published."""

import hashlib
import os
import re
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from jaxcnn.data.errors import DataError, expect, kind_of, reason
from jaxcnn.data.sources import Group, Source


def cache() -> Path:
    """Where jaxcnn keeps what it can make or fetch again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxcnn"


def places(root: str | PathLike[str] | None) -> list[Path]:
    """The folders in which data sets are looked for, in order: `root`, $JAXCNN_DATA, and the user's cache."""
    named = [Path(place) for place in (root, os.environ.get("JAXCNN_DATA")) if place]
    return list(dict.fromkeys(place.expanduser() for place in [*named, cache()]))


def located(source: Source, root: str | PathLike[str] | None) -> list[Path]:
    """The folders that hold a file of the data set, in order."""
    return [folder for folder in (place / source.folder for place in places(root)) if _holds_some(source, folder)]


def _holds_some(source: Source, folder: Path) -> bool:
    try:
        in_group = source.group is not None and len(members(source.group, folder)) > 0
    except DataError:
        return True  # `verify` says why it cannot be read
    return in_group or any(os.path.exists(folder / file.name) for file in source.files)


def is_complete(source: Source, folder: Path) -> bool:
    """Whether all files of a data set are there, by their sizes and number; their contents are not read."""
    paths = [(folder / file.name, file.size) for file in source.files]
    if not all(os.path.isfile(path) and os.path.getsize(path) == size for path, size in paths):
        return False
    try:
        return source.group is None or len(members(source.group, folder)) == source.group.count
    except DataError:
        return False


def members(group: Group, folder: Path) -> list[str]:
    """The names in the folder that are of the group, in the order of their bytes."""
    found = []
    for name in group.folders:
        try:
            entries = os.listdir(folder / name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise DataError(f"{folder / name}: expected a folder that can be read, found: {reason(error)}") from error
        found += [f"{name}/{entry}" for entry in entries if re.fullmatch(group.pattern, f"{name}/{entry}")]
    return sorted(found, key=os.fsencode)


def verify(source: Source, folder: Path, archive: Path | None = None) -> None:
    """DataError unless all files of a data set are in the folder and have their digests. It names the archive that was
    unpacked to this folder, if any, since the folder does not stay."""
    for file in source.files:
        path = folder / file.name
        shown = path if archive is None else Path(f"{archive}[{file.name}]")
        if os.path.isfile(path):
            size = os.path.getsize(path)
            expect(size == file.size, shown, f"{file.size:,} bytes", f"{size:,}")
        found = digest(path, "sha1" if len(file.digest) == 40 else "sha256", shown)
        expect(found == file.digest, shown, f"the digest {file.digest}", found)
    if source.group:
        _verify_group(source.group, folder, archive or folder)


def is_whole(source: Source, folder: Path) -> bool:
    """Whether all files of a data set are in the folder and have their digests."""
    try:
        verify(source, folder)
    except DataError:
        return False
    return True


def _verify_group(group: Group, folder: Path, shown: Path) -> None:
    names = members(group, folder)
    where = f"{shown} ({', '.join(group.folders)})"
    expect(len(names) == group.count, where, f"{group.count:,} files", f"{len(names):,}")
    lines = (f"{digest(folder / name)}  {name}\n".encode() for name in names)
    found = _hexadecimal(lines, "sha256")
    expect(found == group.digest, where, f"files as published, with the digest {group.digest} together", found)


def digest(path: Path, algorithm: str = "sha256", shown: Path | None = None) -> str:
    """The digest of a file, which an error calls as `shown` says."""
    found, shown = kind_of(path), shown or path
    expect(found == "a file", shown, "a file", found)
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise DataError(f"{shown}: expected a file that can be read, found: {reason(error)}") from error


def _hexadecimal(lines: Iterable[bytes], algorithm: str) -> str:
    result = hashlib.new(algorithm)
    for line in lines:
        result.update(line)
    return result.hexdigest()


def megabytes(size: int) -> str:
    """A size in words."""
    return f"{size / 1e6:.1f} MB"
