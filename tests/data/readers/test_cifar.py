"""Batches of CIFAR-10's binary version."""

import numpy as np
import pytest

from jaxcnn import data


def test_records_are_a_label_and_three_planes_of_rows(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    records = [
        bytes([label]) + b"".join(x[i, :, :, c].tobytes() for c in range(3)) for i, label in enumerate([7, 0, 9])
    ]
    path = tmp_path / "batch.bin"
    path.write_bytes(b"".join(records))
    read, y = data.read_cifar10(path)
    np.testing.assert_array_equal(read, x)
    assert (y.tolist(), y.dtype, read.dtype) == ([7, 0, 9], np.int32, np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected records of 3,073 bytes, found 0 bytes"),
        (bytes(3072), "expected records of 3,073 bytes, found 3,072 bytes"),
        (bytes(3073) + b"\x0a" + bytes(3072), "expected classes from 0 to 9, found 10 in record 1"),
    ],
)
def test_damaged_batches(tmp_path, content, message):
    path = tmp_path / "batch.bin"
    path.write_bytes(content)
    with pytest.raises(data.DataError, match=f"^{path}: {message}$"):
        data.read_cifar10(path)
