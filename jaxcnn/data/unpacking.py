"""The files of a data set out of a tar archive, and what is said of a disk that is full or may not be written."""

import contextlib
import gzip
import os
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from jaxcnn.data.errors import DataError, expect, reason
from jaxcnn.data.files import members, verify
from jaxcnn.data.sources import Source

_PIECE = 2**18
_GZIP = b"\x1f\x8b"


class DiskError(DataError):
    """The disk failed; what was downloaded is as good as before."""


@contextlib.contextmanager
def disk(path: Path, *, discard: bool = False) -> Iterator[None]:
    """What the system says of a disk as a DataError, after which no half file is left where that is asked for."""
    try:
        yield
    except OSError as error:
        if discard:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        where = error.filename2 or path
        raise DiskError(f"{where}: expected a place that can be written, found: {reason(error)}") from error


def unpack(path: Path, source: Source, limit: int, folder: Path) -> None:
    """Unpacks the files of a data set from a tar archive, gzipped or not.

    The files are written to a folder of their own, verified, and then moved. What is not of the data set is left out;
    of a member no more than its bytes is taken: no owner, no mode, no link.

    Args:
        path: the archive.
        source: the data set.
        limit: how many bytes the archive has at most when it is unpacked.
        folder: where the files are to be.

    Raises:
        DataError: the archive is damaged, lacks a file or has a file that differs, or is larger than the limit.
        DiskError: the folder cannot be written. It is a DataError.
    """
    with disk(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".unpacked-") as temporary:
        new = Path(temporary)
        try:
            with open(path, "rb") as packed:
                _unpack_members(path, packed, source, limit, new)
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError, OverflowError) as error:
            raise DataError(f"{path}: expected a whole tar archive, found a damaged one: {reason(error)}") from error
        verify(source, new, path)
        names = [file.name for file in source.files]
        for name in names + (members(source.group, new) if source.group else []):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(new / name, folder / name)


def _unpack_members(path: Path, packed: IO[bytes], source: Source, limit: int, new: Path) -> None:
    is_gzip = packed.read(2) == _GZIP
    packed.seek(0)
    with gzip.GzipFile(fileobj=packed) if is_gzip else contextlib.nullcontext(packed) as file:
        stream: Any = _Bounded(path, file, limit)
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                inside = not name.is_absolute() and ".." not in name.parts
                expect(inside, path, "names of files in one folder", repr(member.name))
                relative = "/".join(name.parts[1:])
                if member.isreg() and _is_of(source, relative):
                    expect(member.size <= limit, path, f"at most {limit:,} bytes in {relative}", f"{member.size:,}")
                    _copy(archive.extractfile(member), new / relative)


def _is_of(source: Source, name: str) -> bool:
    """Whether the data set has a file of this name."""
    is_in_group = source.group is not None and re.fullmatch(source.group.pattern, name) is not None
    return is_in_group or any(name == file.name for file in source.files)


def _copy(stream: IO[bytes] | None, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "wb") as file:
        while stream is not None and (piece := stream.read(_PIECE)):
            file.write(piece)


class _Bounded:
    """A stream of which only so much may be read."""

    def __init__(self, path: Path, stream: Any, limit: int):
        self._path, self._stream, self._left, self._limit = path, stream, limit, limit

    def read(self, size: int) -> bytes:
        piece = self._stream.read(min(size, _PIECE))
        self._left -= len(piece)
        expect(self._left >= 0, self._path, f"at most {self._limit:,} bytes when unpacked", "more")
        return piece
