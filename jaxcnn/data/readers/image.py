"""Images, read by pillow."""

import contextlib
from collections.abc import Iterator
from os import PathLike
from types import ModuleType
from typing import Any

import numpy as np

from jaxcnn.contract import arguments
from jaxcnn.data.errors import expect
from jaxcnn.data.readers.contents import LIMIT, binary, strictly

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP", ".gif": "GIF"}
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
        limit: how many bytes the file and the pixels have at most.

    Returns:
        Pixels [H, W, channels] uint8, upright if the file says how it was turned.

    Raises:
        TypeError: path is no path, limit or a size no int.
        ValueError: channels is neither 1 nor 3, or size is not two ints above 0.
        ImportError: pillow is not installed.
        DataError: there is no such file, it is no whole image of 8 bits per channel, or it has more pixels than pillow
            takes for safe. A flip in a PNG is noticed; other formats have no checksum.
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
            pixels = pixels.resize(size[::-1], _pillow("Image").Resampling.BILINEAR)
        array = np.asarray(pixels)
    return np.array(array[:, :, None] if grey else array)


def describe_image(path: str | PathLike[str], *, limit: int = LIMIT) -> tuple[tuple[int, int], int]:
    """The (height, width) of an upright image and its channels, from the file's head."""
    with opened_image("data.load", path, limit) as image:
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
def opened_image(function: str, path: str | PathLike[str], limit: int) -> Iterator[Any]:
    """An image that pillow has opened, of which a PNG is compared with its checksums."""
    pillow = _pillow("Image")
    kinds = tuple(sorted(set(FORMATS.values())))
    with binary(function, path, limit) as file, strictly(path, f"a whole image ({', '.join(kinds)})"):
        with pillow.open(file, formats=kinds) as image:
            is_png = image.format == "PNG"
            width, height = image.size
            fits = 4 * width * height <= limit
            expect(
                fits, path, f"pixels of at most {limit:,} bytes (`limit` says how many)", f"{height} x {width} pixels"
            )
            known = image.mode in _GREY + _COLOUR
            expect(known, path, "8 bits per channel, grey or in colours", f"pillow's mode {image.mode}")
            if is_png:
                image.verify()
        file.seek(0)
        with pillow.open(file, formats=kinds) as image:
            yield image


def _pillow(module: str) -> ModuleType:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError('to read images takes pillow: pip install "jaxcnn[train]"') from error
    return {"Image": Image, "ImageOps": ImageOps}[module]
