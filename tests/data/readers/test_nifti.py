"""Volumes in NIfTI-1 files."""

import gzip
import struct

import nibabel
import numpy as np
import pytest

from jaxcnn import data
from jaxcnn.data.readers import nifti

SCAN = np.arange(24, dtype=np.int16).reshape(2, 3, 4) - 5
GOOD = nibabel.Nifti1Image(SCAN, np.eye(4)).to_bytes()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_values_are_those_that_nibabel_wrote(tmp_path, dtype, packed):
    path = tmp_path / "scan"
    content = nibabel.Nifti1Image(np.abs(SCAN).astype(dtype), np.eye(4)).to_bytes()
    path.write_bytes(gzip.compress(content) if packed else content)
    read = data.read_nifti(path)
    np.testing.assert_array_equal(read, np.abs(SCAN))
    assert (read.dtype, read.flags.c_contiguous, read.flags.writeable) == (dtype, True, True)


def test_bytes_in_the_other_order_an_extension_and_a_slope(tmp_path, monkeypatch):
    monkeypatch.setattr(nifti, "_PART", 12)
    fields = dict.fromkeys(range(348), 0)
    fields.update(enumerate(struct.pack(">i", 348)))
    fields.update(enumerate(struct.pack(">8h", 3, 2, 3, 4, 1, 1, 1, 1), 40))
    fields.update(enumerate(struct.pack(">2h", 4, 16), 70))
    fields.update(enumerate(struct.pack(">3f", 368, 0.5, 10), 108))
    fields.update(enumerate(b"n+1\0", 344))
    extension = b"\1\0\0\0" + struct.pack(">2i", 16, 6) + b"comment."
    path = tmp_path / "scan.nii"
    path.write_bytes(bytes(fields.values()) + extension + SCAN.astype(">i2").tobytes(order="F"))
    read = data.read_nifti(path)
    np.testing.assert_array_equal(read, SCAN * 0.5 + 10)
    assert read.dtype.isnative


def changed(at, form, *values):
    new = struct.pack(form, *values)
    return GOOD[:at] + new + GOOD[at + len(new) :]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected 348 bytes of the header, found 0"),
        (GOOD[:-1], "expected 48 bytes of voxels, found 47"),
        (GOOD + b"\0", "expected the end of the file behind what its header announces, found more bytes"),
        (changed(344, "4s", b"n+2\0"), "expected a NIfTI-1 file, which has 348 at its start and the magic"),
        (changed(344, "4s", b"ni1\0"), "expected a NIfTI-1 file, which has 348 at its start and the magic"),
        (changed(0, "<i", 540), "expected a NIfTI-1 file, which has 348 at its start and the magic"),
        (changed(40, "<h", 0), "expected 1 to 7 axes, found 0"),
        (changed(40, "<h", 8), "expected 1 to 7 axes, found 8"),
        (changed(42, "<h", -2), r"expected sizes above 0, found \[-2, 3, 4\]"),
        (changed(42, "<3h", 32767, 32767, 32767), "expected at most 1,073,741,824 bytes"),
        (changed(42, "<3h", 500, 500, 500), "expected 250,000,000 bytes of voxels, found 48"),
        (
            changed(42, "<3h", 600, 600, 600)[:112] + struct.pack("<2f", 2, 0) + GOOD[120:],
            r"expected at most 1,073,741,824 bytes \(`limit` .* found 1,728,000,000 bytes of float64\[600, 600, 600\]",
        ),
        (changed(70, "<h", 128), r"expected real numbers of at most 64 bits, found dtype \[\('R'"),
        (changed(70, "<h", 1536), "expected real numbers of at most 64 bits, found dtype"),
        (changed(70, "<h", 3), "expected a NIfTI-1 file, found a damaged one: "),
        (changed(72, "<h", 8), "expected 16 bits a voxel for int16, found 8"),
        (changed(108, "<f", 348), "expected voxels from byte 352 or later, found 348.0"),
        (changed(108, "<f", float("nan")), "expected voxels from byte 352 or later, found nan"),
        (changed(108, "<f", float("inf")), "expected voxels from byte 352 or later, found inf"),
        (changed(108, "<f", 352.5), "expected voxels from byte 352 or later, found 352.5"),
        (changed(108, "<f", 1e30), "expected at most 1,073,741,824 bytes"),
    ],
)
def test_damaged_volumes(tmp_path, content, message):
    path = tmp_path / "scan.nii"
    path.write_bytes(content)
    with pytest.raises(data.DataError, match=f"^{path}: {message}"):
        data.read_nifti(path)
