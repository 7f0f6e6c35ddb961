"""Downloads of data sets: into a file beside the target, which gets its name when it is whole and right.

A download that broke off goes on where it stopped if the server lets it, and begins anew if not. Interrupts leave what
came for the next call. Connections and disks fail in many ways; each ends in one DataError.
"""

import contextlib
import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxcnn.data.errors import DataError, expect, reason
from jaxcnn.data.files import digest, is_whole, verify
from jaxcnn.data.sources import Archive, Source
from jaxcnn.data.unpacking import DiskError, disk, unpack

_PIECE = 2**18
_TIMEOUT = 30.0  # seconds without a byte
_PAUSES = (1.0, 2.0, 4.0)  # seconds between tries
_LIMIT = 2**33  # bytes, where the size is not known
_GONE = (400, 401, 403, 404, 405, 410, 451)


class _Broken(Exception):
    """The connection failed, not the disk; another try may help."""


def fetch(source: Source, folder: Path, *, pauses: Sequence[float] = _PAUSES, timeout: float = _TIMEOUT) -> None:
    """Brings the files of a data set into a folder, those that are not there; DataError where that fails."""
    with disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if source.archive is None:
        for file in source.files:
            path = folder / file.name
            if not _is_right(path, file.digest):
                download(file.address, path, size=file.size, sha256=file.digest, pauses=pauses, timeout=timeout)
    elif not is_whole(source, folder):
        _fetch_archive(source, source.archive, folder, pauses, timeout)
    verify(source, folder)


def _is_right(path: Path, sha256: str) -> bool:
    return path.is_file() and digest(path) == sha256


def _fetch_archive(source: Source, archive: Archive, folder: Path, pauses: Sequence[float], timeout: float) -> None:
    path = folder / archive.name
    if not (path.is_file() and (archive.digest is None or digest(path) == archive.digest)):
        download(archive.address, path, size=archive.size, sha256=archive.digest, pauses=pauses, timeout=timeout)
    try:
        unpack(path, source, archive.limit, folder)
    except DiskError:
        raise
    except DataError:
        with disk(path):
            path.unlink()  # what is in it is not what was published: the next call begins anew
        raise
    with disk(path):
        path.unlink()


def download(
    address: str,
    target: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    pauses: Sequence[float] = _PAUSES,
    timeout: float = _TIMEOUT,
) -> None:
    """Brings what is at an address into a file.

    Args:
        address: http or https.
        target: the file; beside it, TARGET.part has what came until now.
        size, sha256: what the file must have, if known.
        pauses: seconds to wait before another try, for each try in a row that brings nothing new.
        timeout: seconds without a byte until a connection counts as broken.

    Raises:
        DataError: nothing is there, the connection broke too often, what came is not what was expected, or the disk
            is full or may not be written.
    """
    part = target.with_name(target.name + ".part")
    resumed = part.exists()
    _receive_all(address, part, size, pauses, timeout)
    if sha256 is not None and (found := digest(part)) != sha256:
        with disk(part):
            part.unlink()
        if resumed:  # the earlier piece may have been of another file
            return download(address, target, size=size, sha256=sha256, pauses=pauses, timeout=timeout)
        expect(False, address, f"a file with the SHA-256 {sha256}", found)
    with disk(target):
        os.replace(part, target)


def _receive_all(address: str, part: Path, size: int | None, pauses: Sequence[float], timeout: float) -> None:
    most, left = 0, list(pauses)
    while True:
        try:
            return _receive(address, part, size, timeout)
        except _Broken as error:
            found = part.stat().st_size if part.exists() else 0
            if found > most:  # tries are counted anew only where a file grows that cannot grow for ever
                most, left = found, list(pauses)
            if not left:
                raise DataError(f"{address}: expected a file, found: {error}") from error
        time.sleep(left.pop(0))


def _receive(address: str, part: Path, size: int | None, timeout: float) -> None:
    """Goes on with the part of a file until it is whole, or the connection breaks."""
    start = part.stat().st_size if part.exists() else 0
    if start and start == size:
        return
    request = urllib.request.Request(address, headers={"User-Agent": "jaxcnn", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    with _answer(request, part, timeout) as answer:
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        start = start if goes_on else 0
        announced = answer.headers.get("Content-Length", "")
        whole = start + int(announced) if announced.isdecimal() and len(announced) < 16 else size
        expect(size is None or whole == size, address, f"{size or 0:,} bytes", f"{whole or 0:,} announced")
        most = whole if whole is not None else _LIMIT
        with _bar(part.name.removesuffix(".part"), start, whole) as advance, disk(part, discard=True):
            received = _write(part, "ab" if goes_on else "wb", _pieces(answer), start, most, address, advance)
    if whole is not None and received < whole:
        raise _Broken(f"{received:,} of {whole:,} bytes")


def _answer(request: urllib.request.Request, part: Path, timeout: float) -> http.client.HTTPResponse:
    try:
        return urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            said = f"HTTP {error.code} {error.reason}"
        if error.code in _GONE:
            raise DataError(f"{request.full_url}: expected a file, found: {said}") from error
        if error.code == 416:  # the part is longer than the file
            with disk(part):
                part.unlink(missing_ok=True)
        raise _Broken(said) from error
    except urllib.error.URLError as error:
        cause = error.reason
        raise _Broken(reason(cause) if isinstance(cause, BaseException) else str(cause)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(reason(error)) from error


def _pieces(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while piece := answer.read1(_PIECE):
            yield piece
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(reason(error)) from error


def _write(
    part: Path,
    mode: str,
    pieces: Iterator[bytes],
    count: int,
    most: int,
    address: str,
    advance: Callable[[int], Any],
) -> int:
    """How many bytes the part has in the end."""
    with open(part, mode) as file:
        for piece in pieces:
            count += len(piece)
            expect(count <= most, address, f"at most {most:,} bytes", f"{count:,}")
            file.write(piece)
            advance(len(piece))
    return count


@contextlib.contextmanager
def _bar(label: str, start: int, whole: int | None) -> Iterator[Callable[[int], Any]]:
    """What is told of each piece: a progress bar, if stderr is a terminal and tqdm is installed."""
    tqdm = None
    if sys.stderr is not None and sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            from tqdm import tqdm
    if tqdm is None:
        yield lambda count: None
    else:
        with tqdm(desc=label, initial=start, total=whole, unit="B", unit_scale=True, leave=False) as bar:
            yield bar.update
