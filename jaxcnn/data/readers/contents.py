"""The bytes of a file, as many as its header announces and no more.

A header is believed only as far as bytes follow: memory grows with what was read, never by what is announced.
"""

import contextlib
import gzip
import os
import warnings
import zlib
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import IO, Protocol

from jaxcnn.contract import arguments
from jaxcnn.data.errors import DataError, expect, kind_of, reason

LIMIT = 2**30  # bytes that a reader takes from a file, unless told otherwise
_PIECE = 2**20
_GZIP = b"\x1f\x8b"


class Stream(Protocol):
    """What `take` reads from."""

    def read(self, size: int, /) -> bytes: ...


class Contents:
    """What is in a file, from its start on; in a gzipped file, what was packed."""

    def __init__(self, path: Path, stream: Stream, limit: int):
        self.path = path
        self._stream = stream
        self._left = limit
        self._limit = limit

    def take(self, count: int, what: str) -> bytearray:
        """The next `count` bytes; DataError if there are fewer, or if they are more than the reader may take."""
        allowed = f"at most {self._limit:,} bytes (`limit` says how many)"
        expect(count <= self._left, self.path, allowed, f"{count:,} bytes of {what}")
        self._left -= count
        result = bytearray()
        while len(result) < count:
            piece = self._stream.read(min(_PIECE, count - len(result)))
            expect(bool(piece), self.path, f"{count:,} bytes of {what}", f"{len(result):,}")
            result += piece
        return result

    def end(self) -> None:
        """DataError unless everything was taken. A gzipped file is compared with its checksum here."""
        expect(
            not self._stream.read(1), self.path, "the end of the file behind what its header announces", "more bytes"
        )

    def rest(self, what: str) -> bytearray:
        """All bytes that are left."""
        result = bytearray()
        while piece := self._stream.read(_PIECE):
            self._left -= len(piece)
            expect(self._left >= 0, self.path, f"at most {self._limit:,} bytes of {what}", "more")
            result += piece
        return result


@contextlib.contextmanager
def opened(function: str, path: str | PathLike[str], limit: int) -> Iterator[Contents]:
    """The contents of a file, which is unpacked if it begins as a gzipped one does."""
    with binary(function, path, limit) as file:
        is_packed = file.read(2) == _GZIP
        file.seek(0)
        with gzip.GzipFile(fileobj=file, mode="rb") if is_packed else contextlib.nullcontext(file) as stream:
            try:
                yield Contents(Path(path), stream, limit)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise DataError(
                    f"{path}: expected a whole gzipped file, found a damaged one: {reason(error)}"
                ) from error


@contextlib.contextmanager
def binary(function: str, path: str | PathLike[str], limit: int) -> Iterator[IO[bytes]]:
    """An open file, whose size is at most the limit. What the system refuses is a DataError."""
    arguments.path(function, "path", path)
    arguments.integer(function, "limit", limit, 1)
    found = kind_of(path)
    expect(found == "a file", path, "a file", found)
    try:
        with open(path, "rb") as file:
            size = os.stat(path).st_size
            expect(size <= limit, path, f"a file of at most {limit:,} bytes (`limit` says how many)", f"{size:,}")
            yield file
    except OSError as error:
        raise DataError(f"{path}: expected a file that can be read, found: {reason(error)}") from error


@contextlib.contextmanager
def strictly(path: str | PathLike[str], kind: str) -> Iterator[None]:
    """What a library says of a damaged file, be it a warning or an exception of any type, as a DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path}: expected {kind} that fits into the memory, found one that does not") from error
    except Exception as error:
        raise DataError(f"{path}: expected {kind}, found a damaged one: {reason(error)}") from error
