"""Files as the examples that a model was trained on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn import data, train
from jaxcnn.data.errors import expect
from jaxcnn.data.readers.contents import strictly

Shape = tuple[int, ...] | None
# by the dtype of samples: what stands for silence, and how many units of 16 bits one is
_SAMPLES = {"uint8": (128, 2**8), "int16": (0, 1), "int32": (0, 2**-16), "float32": (0, 2**15), "float64": (0, 2**15)}


def read_example(path: Path, trained: train.Trained, note: Callable[[str], None]) -> tuple[np.ndarray, Any]:
    """An example from a file: images are resized, sounds cut or filled up, and volumes to segment filled up.

    Args:
        path: the file.
        trained: the model, which takes such examples.
        note: is told what of the file does not count.

    Returns:
        The example [*S, C], and which of its places the file has, bools [*S] or None for all.

    Raises:
        ImportError: a package that reads such files is not installed.
        ValueError: the file cannot be read, or holds no example that the model takes.
    """
    shape = None if trained.input_shape is None else trained.input_shape[1:]
    extra = trained.extra if isinstance(trained.extra, dict) else {}
    name, inside = path.name.lower(), None
    if name.endswith(".npy"):
        x = _array(path, shape)
    elif name.endswith(".wav"):
        x = _sound(path, shape, extra.get("sample_rate"), note)
    elif name.endswith((".nii", ".nii.gz")):
        x, inside = _volume(path, shape, extra.get("task"))
    else:
        x = _image(path, shape)
    expect(shape is None or x.shape == shape, path, _expected(shape), f"{x.dtype}{list(x.shape)}")
    return _numbers(path, x, trained.standardization), inside


def _expected(shape: Shape) -> str:
    return f"an example {list(shape or ())}, as the model was trained on"


def _array(path: Path, shape: Shape) -> np.ndarray:
    """The array of an npy file; one without an axis of channels has one channel."""
    expect(path.is_file(), path, "a file", "a folder" if path.is_dir() else "nothing")
    with strictly(path, "a whole npy file of numbers"):
        x = np.lib.format.open_memmap(path, mode="r")  # an array of what the file has: the header may promise more
    return x[..., None] if (*x.shape, 1) == shape else x


def _sound(path: Path, shape: Shape, rate: Any, note: Callable[[str], None]) -> np.ndarray:
    """Samples [T, C]: as the file has them, or, where the model was trained on a rate, on the scale of 16 bits."""
    x, found = data.read_wav(path)
    if rate is not None:
        expect(found == rate, path, f"{rate} samples a second, as the model was trained on", found)
        silence, unit = _SAMPLES[x.dtype.name]
        x = (x.astype(np.float32) - np.float32(silence)) * np.float32(unit)
    if shape is None or x.shape[1:] != shape[1:]:
        return x
    if len(x) > shape[0]:
        note(f"the first {shape[0]:,} of {len(x):,} samples count")
    return data.pad_to(x[: shape[0]], shape[:1])[0]


def _volume(path: Path, shape: Shape, task: Any) -> tuple[np.ndarray, Any]:
    """A volume [*S, 1] of the model's size, and which places of it the file has."""
    x = data.read_nifti(path)[..., None]
    if task != "segmentation" or shape is None or len(shape) != x.ndim:
        return x, None
    fits = all(size <= most for size, most in zip(x.shape, shape, strict=True))
    expect(fits, path, f"at most {list(shape[:-1])} voxels, as the model was trained on", list(x.shape[:-1]))
    return data.pad_to(x, shape[:-1])


def _image(path: Path, shape: Shape) -> np.ndarray:
    if shape is None:
        return data.read_image(path)
    expect(len(shape) == 3, path, _expected(shape), "an image" if path.is_file() else "no file")
    height, width, channels = shape
    return data.read_image(path, channels=channels, size=(height, width))


def _numbers(path: Path, x: np.ndarray, standardization: Any) -> np.ndarray:
    """Finite numbers in a dtype that the model takes."""
    expect(x.dtype.kind in "biuf", path, "real numbers", f"dtype {x.dtype}")
    if x.dtype.kind == "f" or standardization is None:
        with np.errstate(over="ignore"):
            x = x.astype(np.float32 if standardization is None else standardization[0].dtype)
    expect(bool(np.isfinite(x).all()), path, "finite numbers", "NaN, or one that is too large")
    return x
