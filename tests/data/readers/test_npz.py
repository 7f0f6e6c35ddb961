"""Arrays in npz files."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest

from jaxcnn import data

ARRAYS = {
    "a": np.arange(6, dtype=np.uint8).reshape(2, 3),
    "b": np.asfortranarray(np.linspace(0, 1, 12).reshape(3, 4)),
    "c": np.array([1, 2, -3], ">i2"),
    "d": np.array(5, np.int64),
    "e": np.zeros((0, 4), np.float32),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_read_as_numpy_wrote_them(tmp_path, save):
    path = tmp_path / "arrays.npz"
    save(path, **ARRAYS)
    read = data.read_npz(path)
    assert list(read) == list(ARRAYS)
    for name, array in read.items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert (array.dtype, array.shape) == (ARRAYS[name].dtype.newbyteorder("="), ARRAYS[name].shape)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zipped(*members, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("something was unpickled",))


def headed(text):
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()


ONE, TWO = npy(ARRAYS["a"]), npy(ARRAYS["b"])
GOOD = zipped(("a.npy", ONE), ("b.npy", TWO))
OBJECTS = headed("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n") + pickle.dumps([Evil()])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": expected an npz file, which begins with PK, found b''"),
        (ONE, r": expected an npz file, which begins with PK, found b'\\x93N'"),
        (GOOD[:-1], ": expected a whole npz file, found a damaged one: File is not a zip file"),
        (GOOD[:50] + bytes([GOOD[50] ^ 16]) + GOOD[51:], ": expected a whole npz file, found a damaged one: "),
        (zipped(("a.npy", b"short")), ": expected a whole npz file, found a damaged one: .*magic"),
        (zipped(("a.npy", OBJECTS)), r"\[a.npy\]: expected an array of numbers, found dtype object"),
        (zipped(("a.npy", npy(np.array(["text"])))), r"\[a.npy\]: expected an array of numbers, found dtype <U4"),
        (zipped(("a.npy", ONE[:-1])), r"\[a.npy\]: expected 6 bytes of uint8\[2, 3\], found 5"),
        (zipped(("a.npy", ONE + b"x")), r"\[a.npy\]: expected the end of the file behind what .* found more bytes"),
        (
            zipped(("a.npy", headed(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**60},), }}\n"))),
            r"\[a.npy\]: ",
        ),
        (
            zipped(("a.npy", headed("{'descr': '|u1', 'fortran_order': False, 'shape': (-1,), }\n"))),
            r"\[a.npy\]: expected s",
        ),
        (zipped(("a.npy", headed("(" * 9000))), ": expected a whole npz file, found a damaged one: "),
        (zipped(("a.npy", headed(" " * 20000))), ": expected a whole npz file, found a damaged one: .*Header"),
        (zipped(("a.txt", ONE)), ": expected members NAME.npy, found 'a.txt'"),
        (zipped(("/a.npy", ONE)), ": expected members NAME.npy, found '/a.npy'"),
        (zipped(("../a.npy", ONE)), ": expected members NAME.npy, found '../a.npy'"),
        (zipped(), ": expected an npz file, which begins with PK|: expected arrays of different names"),
        (zipped(("a.npy", ONE), method=zipfile.ZIP_BZIP2), ": expected members that are stored or deflated, found 'a"),
        (zipped(("a.npy", bytes(2**22))), r": expected at most 1,000,000 bytes .* found 4,194,304"),
        (
            GOOD[:-12] + struct.pack("<H", 1) + GOOD[-10:],
            r": expected a directory of 2 arrays at the end, found .* and 1",
        ),
    ],
)
def test_damaged_archives(tmp_path, content, message):
    path = tmp_path / "arrays.npz"
    path.write_bytes(content)
    with pytest.raises(data.DataError, match=f"^{path}({message})"):
        data.read_npz(path, limit=10**6)
