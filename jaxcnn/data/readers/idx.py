"""The format of MNIST and Fashion-MNIST: http://yann.lecun.com/exdb/mnist, section "the IDX file format"."""

import math
from os import PathLike

import numpy as np

from jaxcnn.data.errors import expect
from jaxcnn.data.readers.contents import LIMIT, opened

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | PathLike[str], *, limit: int = LIMIT) -> np.ndarray:
    """Reads an array from an idx file, gzipped or not.

    Args:
        path: the file.
        limit: how many bytes of it, unpacked, are read at most.

    Returns:
        An array of the shape and dtype that the file has, in the machine's byte order.

    Raises:
        TypeError: path is no path, limit no int.
        DataError: there is no such file, or it is no whole idx file. A value that changed in a file that is not gzipped
            is not noticed: idx has no checksum.
    """
    with opened("data.read_idx", path, limit) as contents:
        zeros, kind, axes = (magic := contents.take(4, "the header"))[:2], magic[2], magic[3]
        is_idx = zeros == b"\0\0" and kind in _DTYPES and axes > 0
        expect(is_idx, path, "an idx file, which begins with 00 00, a known type and a number of axes", magic.hex(" "))
        shape = np.frombuffer(contents.take(4 * axes, "the sizes"), ">u4").tolist()
        expect(min(shape) > 0, path, "sizes above 0", shape)
        dtype = np.dtype(_DTYPES[kind])
        values = contents.take(math.prod(shape) * dtype.itemsize, f"{dtype.name}{shape}")
        contents.end()
    return np.frombuffer(values, dtype).astype(dtype.newbyteorder("="), copy=False).reshape(shape)
