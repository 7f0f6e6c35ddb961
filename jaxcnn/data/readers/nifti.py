"""Volumes in NIfTI-1 files: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h."""

import io
import math
from os import PathLike
from types import ModuleType
from typing import Any

import numpy as np

from jaxcnn.data.errors import expect
from jaxcnn.data.readers.contents import LIMIT, opened, strictly

_HEADER, _FIRST_VOXEL = 348, 352
_MAGIC = b"n+1\0"


def read_nifti(path: str | PathLike[str], *, limit: int = LIMIT) -> np.ndarray:
    """Reads a volume from a NIfTI-1 file, .nii or .nii.gz.

    Args:
        path: the file.
        limit: how many bytes of it, unpacked, are read at most.

    Returns:
        An array [*S], S being the 1 to 7 sizes in the file's order, of the file's dtype in the machine's byte order. It
        is floating-point if the file has a slope or an intercept for its values.

    Raises:
        TypeError: path is no path, limit no int.
        ImportError: nibabel is not installed.
        DataError: there is no such file, or it is no whole NIfTI-1 file of real numbers. A value that changed in a file
            that is not gzipped is not noticed: NIfTI has no checksum.
    """
    nibabel = _nibabel()
    with opened("data.read_nifti", path, limit) as contents:
        head = contents.take(_HEADER, "the header")
        order = {(348).to_bytes(4, "little"): "<", (348).to_bytes(4, "big"): ">"}.get(bytes(head[:4]))
        is_nifti = order is not None and head[344:] == _MAGIC
        found = f"{head[:4].hex(' ')} and {bytes(head[344:])!r}"
        expect(is_nifti, path, "a NIfTI-1 file, which has 348 at its start and the magic 'n+1'", found)
        with strictly(path, "a NIfTI-1 file"):
            header = nibabel.Nifti1Header(bytes(head), endianness=order, check=False)
        start, count = _extent(path, header)
        body = contents.take(start + count - _HEADER, "voxels")
        contents.end()
    with strictly(path, "a NIfTI-1 file"):
        values = header.data_from_fileobj(io.BytesIO(head + body))
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))


def _nibabel() -> ModuleType:
    try:
        import nibabel
    except ImportError as error:
        raise ImportError('to read NIfTI files takes nibabel: pip install "jaxcnn[train]"') from error
    return nibabel


def _extent(path: str | PathLike[str], header: Any) -> tuple[int, int]:
    """(where the voxels begin, how many bytes they are), from a header that agrees with itself."""
    axes, *sizes = header["dim"].tolist()
    expect(1 <= axes <= 7, path, "1 to 7 axes", axes)
    expect(min(sizes[:axes]) > 0, path, "sizes above 0", sizes[:axes])
    with strictly(path, "a NIfTI-1 file"):
        dtype = header.get_data_dtype()
    expect(dtype.kind in "iuf" and dtype.itemsize <= 8, path, "real numbers of at most 64 bits", f"dtype {dtype}")
    bits = header["bitpix"].item()
    expect(bits == 8 * dtype.itemsize, path, f"{8 * dtype.itemsize} bits a voxel for {dtype.name}", bits)
    start = header["vox_offset"].item()
    expect(start >= _FIRST_VOXEL and start % 1 == 0, path, f"voxels from byte {_FIRST_VOXEL} or later", start)
    return int(start), math.prod(sizes[:axes]) * dtype.itemsize
