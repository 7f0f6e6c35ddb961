"""Arrays in npz files, which are zip archives of npy files: `numpy.lib.format` has the layout of these."""

import math
import struct
import zipfile
from os import PathLike
from pathlib import Path
from typing import IO

import numpy as np

from jaxcnn.data.errors import expect
from jaxcnn.data.readers.contents import LIMIT, Contents, binary, strictly

_END = 22  # bytes of what ends the directory of a zip archive that has no comment
_LONGEST_HEADER = 10_000  # characters; numpy's own limit


def read_npz(path: str | PathLike[str], *, limit: int = LIMIT) -> dict[str, np.ndarray]:
    """Reads all arrays of an npz file. They are arrays of numbers: nothing is unpickled.

    Args:
        path: the file.
        limit: how many bytes of it, unpacked, are read at most.

    Returns:
        The arrays by their names.

    Raises:
        TypeError: path is no path, limit no int.
        DataError: there is no such file, it is no whole npz file, or holds anything else than arrays of numbers.
    """
    with binary("data.read_npz", path, limit) as file, strictly(path, "a whole npz file"):
        start = file.read(2)
        expect(start == b"PK", path, "an npz file, which begins with PK", start)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check(Path(path), members, limit)
            file.seek(-_END, 2)
            end, count = struct.unpack("<4s6xH10x", file.read(_END))
            whole = end == b"PK\5\6" and count == len(members)
            expect(whole, path, f"a directory of {len(members)} arrays at the end", f"{end!r} and {count}")
            return {member.filename.removesuffix(".npy"): _array(archive, member, path) for member in members}


def _check(path: Path, members: list[zipfile.ZipInfo], limit: int) -> None:
    """DataError unless members are plain npy files that together are within the limit."""
    names = [member.filename for member in members]
    expect(len(names) == len(set(names)) > 0, path, "arrays of different names", names[:10])
    for member in members:
        name = member.filename
        plain = name.endswith(".npy") and not name.startswith("/") and not {"..", ""} & set(name.split("/"))
        expect(plain and "\\" not in name, path, "members NAME.npy", repr(name))
        expect(not member.flag_bits & 1, path, "no encrypted member", repr(name))
        known = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        expect(known, path, "members that are stored or deflated", f"{name!r} by method {member.compress_type}")
    size, packed = sum(m.file_size for m in members), sum(m.compress_size for m in members)
    expect(size <= limit, path, f"at most {limit:,} bytes (`limit` says how many)", f"{size:,}")
    there = path.stat().st_size
    expect(packed <= there, path, f"members of less than the file's {there:,} bytes", f"{packed:,}")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: str | PathLike[str]) -> np.ndarray:
    where = Path(f"{path}[{member.filename}]")
    with archive.open(member) as stream:
        contents = Contents(where, stream, member.file_size)
        shape, in_columns, dtype = _header(where, stream)
        expect(dtype.kind in "biuf" and not dtype.hasobject, where, "an array of numbers", f"dtype {dtype}")
        sizes_fit = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
        expect(sizes_fit, where, "sizes of at least 0", shape)
        values = contents.take(math.prod(shape) * dtype.itemsize, f"{dtype}{list(shape)}")
        contents.end()
    array = np.frombuffer(values, dtype).reshape(shape, order="F" if in_columns else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(where: Path, stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether the first axis is the fastest, dtype)."""
    version = np.lib.format.read_magic(stream)
    expect(version in ((1, 0), (2, 0)), where, "version 1.0 or 2.0 of the npy format", version)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream, max_header_size=_LONGEST_HEADER)
