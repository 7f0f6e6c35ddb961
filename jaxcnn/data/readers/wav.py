"""Audio in wav files: RIFF, "Multiple channel audio data and WAVE files" (Microsoft, 2007)."""

import io
import struct
from os import PathLike

import numpy as np

from jaxcnn.data.errors import expect
from jaxcnn.data.readers.contents import LIMIT, opened, strictly

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_BITS = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}
_UNKNOWN = 2**32 - 1
_NAMES = [b"fmt ", b"data"]
_GUID_END = bytes.fromhex("000000001000800000aa00389b71")


def read_wav(path: str | PathLike[str], *, limit: int = LIMIT) -> tuple[np.ndarray, int]:
    """Reads audio from a wav file of integers or floats.

    Args:
        path: the file.
        limit: how many bytes of it are read at most.

    Returns:
        Samples [T, C], and how many there are in a second. 8 bits are uint8 around 128, 16 bits int16, 24 bits int32
        with 8 zero bits below them, 32 bits int32 or float32, 64 bits float64.

    Raises:
        TypeError: path is no path, limit no int.
        ImportError: scipy is not installed.
        DataError: there is no such file, or it is no whole wav file of one of these kinds. A sample that changed is not
            noticed: the format has no checksum.
    """
    try:
        from scipy.io import wavfile
    except ImportError as error:
        raise ImportError('to read wav files takes scipy: pip install "jaxcnn[train]"') from error
    with opened("data.read_wav", path, limit) as contents:
        head = contents.take(12, "the header")
        is_wav = head[:4] == b"RIFF" and head[8:] == b"WAVE"
        expect(is_wav, path, "a wav file, which begins with RIFF, a size and WAVE", bytes(head))
        (size,) = struct.unpack("<I", head[4:8])
        expect(size >= 4, path, "a size of at least 4 in the header", size)
        unknown = f"{size:,}, which a program writes to a pipe, where it cannot know the size: let it write to a file"
        expect(size != _UNKNOWN, path, "the file's size in the header", unknown)
        body = contents.take(size - 4, "chunks")
        contents.end()
    chunks = _chunks(path, body)
    (_, head), (_, sound) = chunks
    channels, width = _format(path, head)
    frame, count = channels * width, len(sound)
    expect(count > 0 and count % frame == 0, path, f"frames of {frame} bytes in the chunk 'data'", f"{count:,} bytes")
    with strictly(path, "a wav file"):
        rate, samples = wavfile.read(io.BytesIO(_riff(chunks)))
    expect(samples.size == count // width, path, f"{count // width:,} samples", f"{samples.size:,}")
    return samples.reshape(-1, channels), rate


def _chunks(path: str | PathLike[str], body: bytearray) -> list[tuple[bytes, bytes]]:
    """(name, content) of the chunks `fmt ` and `data`, which must each be there once and in this order."""
    chunks, start = [], 0
    while start < len(body):
        expect(start + 8 <= len(body), path, "8 bytes at the head of a chunk", len(body) - start)
        name, size = struct.unpack_from("<4sI", body, start)
        found = len(body) - start - 8
        expect(size <= found, path, f"{size:,} bytes in the chunk {name!r}", f"{found:,}")
        if name in _NAMES:
            chunks.append((name, bytes(body[start + 8 : start + 8 + size])))
        start += 8 + size + size % 2
    names = [name for name, _ in chunks]
    expect(names == _NAMES, path, "one chunk 'fmt ' and behind it one chunk 'data'", f"{names or 'neither'!s:.100}")
    return chunks


def _riff(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A file of these chunks alone: scipy takes much for good that is not, and warns of what is good."""
    body = b"".join(name + struct.pack("<I", len(content)) + content for name, content in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def _format(path: str | PathLike[str], head: bytes) -> tuple[int, int]:
    """(channels, bytes of a sample) of the chunk `fmt `."""
    size = len(head)
    expect(size >= 16, path, "at least 16 bytes in the chunk 'fmt '", size)
    kind, channels, rate, second, frame, bits = struct.unpack_from("<HHIIHH", head)
    if kind == _EXTENSIBLE:
        expect(size >= 40, path, "40 bytes in the chunk 'fmt ' of the extensible format", size)
        more, valid, kind, end = struct.unpack_from("<HH4xH14s", head, 16)
        expect(more == 22 and valid in (0, bits), path, f"22 more bytes and {bits} valid bits", f"{more} and {valid}")
        expect(end == _GUID_END, path, "a known sub-format", end.hex())
    known = kind in _BITS and bits in _BITS[kind]
    expect(known, path, "8, 16, 24 or 32-bit integers or 32 or 64-bit floats", f"format {kind} of {bits} bits")
    agree = channels > 0 and rate > 0 and frame == channels * bits // 8 and second == rate * frame
    found = f"{channels} channels of {bits} bits, {frame} bytes a frame, {rate} frames and {second} bytes a second"
    expect(agree, path, "a format that agrees with itself", found)
    return channels, bits // 8
