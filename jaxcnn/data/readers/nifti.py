"""Volumes in NIfTI-1 files: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h."""

import math
from collections.abc import Callable
from os import PathLike
from types import ModuleType
from typing import Any

import numpy as np

from jaxcnn.data.errors import expect
from jaxcnn.data.readers.contents import LIMIT, opened, strictly

_HEADER, _FIRST_VOXEL = 348, 352
_PART = 2**21  # voxels that are scaled together
_MAGIC = b"n+1\0"


def read_nifti(path: str | PathLike[str], *, limit: int = LIMIT) -> np.ndarray:
    """Reads a volume from a NIfTI-1 file, .nii or .nii.gz.

    Args:
        path: the file.
        limit: how many bytes the file, unpacked, and the array have at most; a slope makes float64 of most integers.

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
        start, sizes, dtype = _extent(path, header)
        scale, scaled = _scaling(path, header, dtype)
        count, size = math.prod(sizes), max(dtype.itemsize, scaled.itemsize)
        allowed = f"at most {limit:,} bytes (`limit` says how many)"
        expect(count * size <= limit, path, allowed, f"{count * size:,} bytes of {scaled.name}{sizes}")
        contents.take(start - _HEADER, "what is between the header and the voxels")
        voxels = np.frombuffer(contents.take(count * dtype.itemsize, "voxels"), dtype).reshape(sizes, order="F")
        contents.end()
    values = np.empty(sizes, scaled)
    axis = int(np.argmax(sizes))
    source, target = np.moveaxis(voxels, axis, 0), np.moveaxis(values, axis, 0)
    step = max(1, _PART * sizes[axis] // count)
    with strictly(path, "a NIfTI-1 file"):
        for i in range(0, sizes[axis], step):  # in parts: what nibabel makes on the way is as large as the result
            target[i : i + step] = scale(source[i : i + step])
    return values


def _nibabel() -> ModuleType:
    try:
        import nibabel
    except ImportError as error:
        raise ImportError('to read NIfTI files takes nibabel: pip install "jaxcnn[train]"') from error
    return nibabel


def _scaling(path: str | PathLike[str], header: Any, dtype: np.dtype) -> tuple[Callable[[Any], Any], np.dtype]:
    """(what makes values of voxels by slope and intercept, the dtype of these), as nibabel has them."""
    from nibabel.volumeutils import apply_read_scaling

    with strictly(path, "a NIfTI-1 file"):
        slope, intercept = header.get_slope_inter()
        scaled = apply_read_scaling(np.zeros(1, dtype), slope, intercept).dtype
    return lambda voxels: apply_read_scaling(voxels, slope, intercept), scaled.newbyteorder("=")


def _extent(path: str | PathLike[str], header: Any) -> tuple[int, list[int], np.dtype]:
    """(where the voxels begin, their sizes and their dtype), from a header that agrees with itself."""
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
    return int(start), sizes[:axes], dtype
