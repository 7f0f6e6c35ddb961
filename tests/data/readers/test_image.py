"""Images by pillow."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxcnn import data

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def written(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def read(path, content, **options):
    path.write_bytes(content)
    return data.read_image(path, **options)


COLOURS = np.array([[10, 20, 30], [200, 100, 50]], np.uint8)


def two_colours():
    image = Image.fromarray(PIXELS[:, :, 0] // 128).convert("P")
    image.putpalette(COLOURS.tobytes())
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(PIXELS), PIXELS),
        (Image.fromarray(PIXELS[:, :, 0]), PIXELS[:, :, :1]),
        (Image.fromarray(np.dstack([PIXELS, PIXELS[:, :, :1]])), PIXELS),
        (Image.fromarray(PIXELS[:, :, 0] > 127), 255 * (PIXELS[:, :, :1] > 127)),
        (two_colours(), COLOURS[PIXELS[:, :, 0] // 128]),
    ],
    ids=["colours", "grey", "transparent", "two values", "palette"],
)
def test_pixels_are_those_that_were_saved(tmp_path, image, expected):
    for kind in ("PNG", "BMP"):
        if kind == "PNG" or image.mode != "RGBA":
            array = read(tmp_path / "image", written(image, kind))
            np.testing.assert_array_equal(array, expected)
            assert (array.dtype, array.flags.writeable) == (np.uint8, True)


def test_channels_and_sizes_as_asked(tmp_path):
    path = tmp_path / "image.png"
    content = written(Image.fromarray(PIXELS))
    grey = read(path, content, channels=1)
    luma = PIXELS @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(grey[:, :, 0], luma, atol=1)
    assert read(path, content, size=(4, 9)).shape == (4, 9, 3)
    halves = np.zeros((4, 4), np.uint8)
    halves[:, 2:] = 200
    small = read(path, written(Image.fromarray(halves)), channels=3, size=(2, 2))
    assert small[0, 0, 0] < 60 < 140 < small[0, 1, 0]
    with pytest.raises(data.DataError, match=r"expected pixels of at most 30,.* found 9 x 1000000 after 4 x 4$"):
        data.read_image(path, size=(9, 10**6), limit=3 * 10**7)
    with pytest.raises(data.DataError, match=r"found 1 x 8000000 after 4 x 4$"):  # 4 rows as wide at first
        data.read_image(path, size=(1, 8 * 10**6), limit=10**8)
    for options, message in (
        ({"channels": 2}, "channels must be 1 or 3, got 2"),
        ({"size": (3,)}, r"size must be a height and a width, got tuple \(3,\)"),
        ({"size": (3, 0)}, "size must be an int of at least 1, got 0"),
        ({"size": 3}, "size must be a height and a width, got int 3"),
    ):
        with pytest.raises(ValueError, match=f"^data.read_image: {message}"):
            data.read_image(path, **options)


def test_an_image_that_was_turned_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    array = read(tmp_path / "image.png", written(Image.fromarray(PIXELS), exif=exif))
    np.testing.assert_array_equal(array, np.rot90(PIXELS, -1))


GOOD = written(Image.fromarray(PIXELS))
DATA = GOOD.index(b"IDAT") + 12


def headed(width, height, depth=8, colour=2, interlaced=0, body=GOOD[33:]):
    return GOOD[:8] + chunk(b"IHDR", struct.pack(">II5B", width, height, depth, colour, 0, 0, interlaced)) + body


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def filled(count):
    """The chunks of a PNG whose rows have so many bytes together, all 1, in two parts."""
    packed = zlib.compress(b"\1" * count)
    return chunk(b"IDAT", packed[:5]) + chunk(b"IDAT", packed[5:]) + GOOD[-12:]


def test_an_interlaced_image_has_seven_parts(tmp_path):
    """5 rows of 7 pixels are 11 rows of 35 pixels together, each with a byte for its filter."""
    read(tmp_path / "image.png", headed(7, 5, colour=0, interlaced=1, body=filled(46)))
    with pytest.raises(data.DataError, match="expected 5 rows, 46 bytes, found 45 bytes"):
        read(tmp_path / "image.png", headed(7, 5, colour=0, interlaced=1, body=filled(45)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a whole image .* found a damaged one: cannot identify image file"),
        (b"text", "expected a whole image .* found a damaged one: cannot identify image file"),
        (GOOD[:-20], "expected a whole image .* found a damaged one: "),
        (GOOD[:DATA] + bytes([GOOD[DATA] ^ 1]) + GOOD[DATA + 1 :], "expected a whole image .* found a damaged one: "),
        (written(Image.fromarray(PIXELS), "JPEG")[:-30], "expected a whole image .* found a damaged one: .*truncated"),
        (headed(9000, 9000), r"expected at most \d+ rows of 27,000 bytes in a file of \d+ bytes, found 9,000"),
        (headed(9, 70000), "expected at most 65,535 pixels on a side, found 70000 x 9 pixels"),
        (headed(30000, 30000), "expected a whole image .* found a damaged one: Image size .* decompression bomb"),
        (headed(10000, 9900), "expected a whole image .* found a damaged one: Image size .* decompression bomb"),
        (
            written(Image.fromarray(np.zeros((2, 2), np.uint16))),
            "expected 8 bits per channel, .* found pillow's mode I;16",
        ),
        (headed(7, 5, 16, 6), "expected 8 bits per channel, grey or in colours, found 16"),
        (headed(7, 6), "expected 6 rows, 132 bytes, found 110 bytes"),
        (headed(7, 5, body=filled(88)), "expected 5 rows, 110 bytes, found 88 bytes"),
        (written(Image.fromarray(PIXELS), "TIFF"), "expected a whole image .* found a damaged one: cannot identify"),
    ],
)
def test_damaged_images(tmp_path, content, message):
    path = tmp_path / "image.png"
    with pytest.raises(data.DataError, match=f"^{path}: {message}"):
        read(path, content)
