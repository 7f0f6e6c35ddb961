"""Images, read by pillow."""

import contextlib
import struct
import zlib
from collections.abc import Iterator
from os import PathLike
from types import ModuleType
from typing import IO, Any

import numpy as np

from jaxcnn.contract import arguments
from jaxcnn.data.errors import expect
from jaxcnn.data.readers.contents import LIMIT, binary, strictly

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP", ".gif": "GIF"}
_LONGEST = 65_535  # pixels on a side, as JPEG has at most
_DEFLATE = 1032  # how many times shorter zlib makes bytes at most
_PIECE = 2**20
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the type of colour
_INTERLACED = (  # (x, y) of the first pixel of each pass, and the steps to the next
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_GREY = ("1", "L", "LA")
_COLOUR = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr")


def read_image(
    path: str | PathLike[str], *, channels: int | None = None, size: tuple[int, int] | None = None, limit: int = LIMIT
) -> np.ndarray:
    """Reads an image: PNG, JPEG, BMP, WebP or the first picture of a GIF.

    Args:
        path: the file.
        channels: 1 for grey, 3 for red, green and blue; by default what the file has. Transparency is left out.
        size: the height and width to which the image is resized, bilinearly; by default the file's.
        limit: how many bytes the file and the pixels, those of the file and those that are asked for, have at most.

    Returns:
        Pixels [H, W, channels] uint8, upright if the file says how it was turned.

    Raises:
        TypeError: path is no path, limit or a size no int.
        ValueError: channels is neither 1 nor 3, or size is not two ints above 0.
        ImportError: pillow is not installed.
        DataError: there is no such file, it is no whole image of 8 bits per channel, or there are more pixels than the
            limit allows or than pillow takes for safe. A flip in a PNG is noticed; other formats have no checksum.
    """
    function = "data.read_image"
    if channels is not None:
        channels = arguments.one_of(function, "channels", channels, (1, 3))
    if size is not None:
        height, width = two_sizes(function, size)
        size = (height, width)
    with opened_image(function, path, limit) as image:
        grey = image.mode in _GREY if channels is None else channels == 1
        upright = _pillow("ImageOps").exif_transpose(image)
        pixels = upright.convert("L" if grey else "RGB")
        if size is not None and pixels.size != size[::-1]:
            _check_resized(path, pixels.size[::-1], size, limit)
            pixels = pixels.resize(size[::-1], _pillow("Image").Resampling.BILINEAR)
        array = np.array(pixels)
    return array[:, :, None] if grey else array


def describe_image(path: str | PathLike[str], *, limit: int = LIMIT) -> tuple[tuple[int, int], int]:
    """The (height, width) of an upright image and its channels, from the file's head."""
    with opened_image("data.load", path, limit, whole=False) as image:
        width, height = image.size
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return (width, height) if turned else (height, width), 1 if image.mode in _GREY else 3


def two_sizes(function: str, size: object) -> tuple[int, int]:
    """A height and a width."""
    sizes = arguments.options(size)
    fits = sizes is not None and len(sizes) == 2
    arguments.require(fits, function, "size", "a height and a width", arguments.describe(size))
    height, width = (arguments.integer(function, "size", each, 1) for each in sizes or ())
    return height, width


@contextlib.contextmanager
def opened_image(function: str, path: str | PathLike[str], limit: int, *, whole: bool = True) -> Iterator[Any]:
    """An image that pillow has opened; of a whole one that is a PNG, checksums are compared and rows counted."""
    pillow = _pillow("Image")
    kinds = tuple(sorted(set(FORMATS.values())))
    with binary(function, path, limit) as file, strictly(path, f"a whole image ({', '.join(kinds)})"):
        head, size = file.read(29), file.seek(0, 2)
        with pillow.open(file, formats=kinds) as image:
            width, height = image.size
            _check_size(path, width, height, limit)
            known = image.mode in _GREY + _COLOUR
            expect(known, path, "8 bits per channel, grey or in colours", f"pillow's mode {image.mode}")
            if image.format == "PNG":
                _check_png(path, head, size, width, height)
                if whole:
                    image.verify()
                    _check_rows(path, file, head, width, height)
        file.seek(0)
        with pillow.open(file, formats=kinds) as image:
            yield image


def _check_size(path: str | PathLike[str], width: int, height: int, limit: int) -> None:
    found = f"{height} x {width} pixels"
    expect(max(width, height) <= _LONGEST, path, f"at most {_LONGEST:,} pixels on a side", found)
    allowed = f"pixels of at most {limit:,} bytes (`limit` says how many)"
    expect(4 * width * height <= limit, path, allowed, found)


def _check_resized(path: str | PathLike[str], old: tuple[int, int], size: tuple[int, int], limit: int) -> None:
    """DataError if resizing takes too much memory: pillow makes all rows as wide as asked for, and then fewer or more
    of them."""
    height, width = size
    allowed = f"pixels of at most {limit:,} bytes (`limit` says how many)"
    expect(4 * width * max(height, old[0]) <= limit, path, allowed, f"{height} x {width} after {old[0]} x {old[1]}")


def _check_png(path: str | PathLike[str], head: bytes, size: int, width: int, height: int) -> None:
    """DataError for what pillow would cut to 8 bits, and if so many pixels cannot be in a file of this size: pillow
    would make room for them first."""
    expect(head[24] <= 8, path, "8 bits per channel, grey or in colours", head[24])
    row = _row(head, width)
    most = _DEFLATE * size // row
    expect(height <= most, path, f"at most {most:,} rows of {row:,} bytes in a file of {size:,} bytes", f"{height:,}")


def _row(head: bytes, width: int) -> int:
    """How many bytes so many pixels of a PNG are, by the depth and the type of colour in its head."""
    return -(-width * head[24] * _PNG_CHANNELS.get(head[25], 1) // 8)


def _check_rows(path: str | PathLike[str], file: IO[bytes], head: bytes, width: int, height: int) -> None:
    """DataError if a PNG has fewer bytes than its pixels are: pillow leaves the rows black that are not there."""
    expected = 0
    for x, y, across, down in _INTERLACED if head[28] else [(0, 0, 1, 1)]:
        columns, rows = -(-(width - x) // across), -(-(height - y) // down)
        expected += rows * (1 + _row(head, columns)) if columns > 0 < rows else 0
    found = sum(_inflated(file, expected))
    expect(found >= expected, path, f"{height:,} rows, {expected:,} bytes", f"{found:,} bytes")


def _inflated(file: IO[bytes], most: int) -> Iterator[int]:
    """How many bytes each piece of a PNG's chunks IDAT gives, until there are at least so many."""
    inflate = zlib.decompressobj()
    file.seek(8)
    while most > 0 and len(start := file.read(8)) == 8:
        left, name = struct.unpack(">I4s", start)
        if name != b"IDAT":
            file.seek(left, 1)
            left = 0
        while most > 0 and left and (piece := file.read(min(left, _PIECE))):
            left -= len(piece)
            while most > 0 and (count := len(inflate.decompress(piece, _PIECE))):
                most -= count
                piece = inflate.unconsumed_tail
                yield count
        file.seek(4, 1)  # the checksum


def _pillow(module: str) -> ModuleType:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError('to read images takes pillow: pip install "jaxcnn[train]"') from error
    return {"Image": Image, "ImageOps": ImageOps}[module]
