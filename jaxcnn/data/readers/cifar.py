"""The binary version of CIFAR-10: https://www.cs.toronto.edu/~kriz/cifar.html, section "Binary version"."""

from os import PathLike

import numpy as np

from jaxcnn.data.errors import expect
from jaxcnn.data.readers.contents import LIMIT, opened

_RECORD = 1 + 3 * 32 * 32


def read_cifar10(path: str | PathLike[str], *, limit: int = LIMIT) -> tuple[np.ndarray, np.ndarray]:
    """Reads images and their classes from a batch of CIFAR-10's binary version.

    Args:
        path: the file, of any number of records: a byte for the class, then the red, the green and the blue pixels.
        limit: how many bytes of it are read at most.

    Returns:
        Images [N, 32, 32, 3] uint8, and classes [N] int32 from 0 to 9.

    Raises:
        TypeError: path is no path, limit no int.
        DataError: there is no such file, its size is not that of whole records, or a class is above 9. A pixel that
            changed is not noticed: the format has no checksum.
    """
    with opened("data.read_cifar10", path, limit) as contents:
        values = contents.rest("records")
    whole = len(values) > 0 and len(values) % _RECORD == 0
    expect(whole, path, f"records of {_RECORD:,} bytes", f"{len(values):,} bytes")
    records = np.frombuffer(values, np.uint8).reshape(-1, _RECORD)
    y = records[:, 0].astype(np.int32)
    expect(y.max() <= 9, path, "classes from 0 to 9", f"{y.max()} in record {y.argmax()}")
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), y
