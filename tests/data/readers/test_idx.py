"""Arrays in idx files."""

import gzip
import struct

import numpy as np
import pytest

from jaxcnn import data

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
GOOD = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 3, 4) + PIXELS.tobytes()
PACKED = gzip.compress(GOOD, mtime=0)  # the names of tests hold parts of it


@pytest.mark.parametrize("packed", [False, True])
def test_an_array_is_read_as_it_was_written(tmp_path, packed):
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(GOOD[:20]) + gzip.compress(GOOD[20:]) if packed else GOOD)
    array = data.read_idx(str(path))
    np.testing.assert_array_equal(array, PIXELS)
    assert (array.dtype, array.flags.writeable) == (np.uint8, True)


@pytest.mark.parametrize(
    ("code", "letter", "values"),
    [
        (9, "b", [-128, 127]),
        (11, "h", [-300, 5]),
        (12, "i", [2**30, -1]),
        (13, "f", [0.5, -2.0]),
        (14, "d", [0.1, 3.0]),
    ],
)
def test_every_type_comes_in_the_order_of_the_machine(tmp_path, code, letter, values):
    path = tmp_path / "values"
    path.write_bytes(bytes([0, 0, code, 1]) + struct.pack(f">I2{letter}", 2, *values))
    array = data.read_idx(path)
    assert (array.dtype, array.tolist()) == (np.dtype(letter), values)
    assert array.dtype.isnative


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected 4 bytes of the header, found 0"),
        (GOOD[:14], "expected 12 bytes of the sizes, found 10"),
        (GOOD[:-1], r"expected 24 bytes of uint8\[2, 3, 4\], found 23"),
        (GOOD + b"\0", "expected the end of the file behind what its header announces, found more bytes"),
        (b"\0\1" + GOOD[2:], "expected an idx file, which begins with 00 00, .*, found 00 01 08 03"),
        (b"\0\0\7" + GOOD[3:], "expected an idx file, .*, found 00 00 07 03"),
        (GOOD[:3] + b"\0" + GOOD[4:], "expected an idx file, .*, found 00 00 08 00"),
        (GOOD[:4] + bytes(4) + GOOD[8:], r"expected sizes above 0, found \[0, 3, 4\]"),
        (GOOD[:4] + b"\xff" * 12, r"expected at most 1,073,741,824 bytes \(`limit` says how many\), found 79,228"),
        (GOOD[:4] + struct.pack(">3I", 2, 3, 2**25), r"expected 201,326,592 bytes of uint8\[2, 3, 33554432\], found 0"),
        (PACKED[:-9], "expected a whole gzipped file, found a damaged one: Compressed file ended"),
        (PACKED[:-8] + bytes(8), "expected a whole gzipped file, found a damaged one: CRC check failed"),
        (PACKED + b"more", "expected a whole gzipped file, found a damaged one: Not a gzipped file"),
        (b"\x1f\x8b", "expected a whole gzipped file, found a damaged one: "),
    ],
)
def test_a_damaged_file_is_named_with_what_was_expected_and_found(tmp_path, content, message):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(data.DataError, match=f"^{path}: {message}"):
        data.read_idx(path)


def test_what_is_no_file_that_can_be_read(tmp_path):
    with pytest.raises(data.DataError, match=f"^{tmp_path}: expected a file, found a folder$"):
        data.read_idx(tmp_path)
    with pytest.raises(data.DataError, match=f"^{tmp_path}/no: expected a file, found nothing$"):
        data.read_idx(tmp_path / "no")
    with pytest.raises(data.DataError, match=r"^/dev/zero: expected a file, found something else$"):
        data.read_idx("/dev/zero")
    with pytest.raises(TypeError, match=r"^data.read_idx: path must be a path, got int 3$"):
        data.read_idx(3)


def test_the_limit_counts_unpacked_bytes(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(GOOD[:4] + struct.pack(">3I", 10, 10, 10) + bytes(1000)))
    assert data.read_idx(path, limit=1016).shape == (10, 10, 10)
    with pytest.raises(data.DataError, match="expected at most 1,015 bytes"):
        data.read_idx(path, limit=1015)
    with pytest.raises(ValueError, match=r"^data.read_idx: limit must be an int of at least 1, got 0$"):
        data.read_idx(path, limit=0)
