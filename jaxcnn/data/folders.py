"""Images in class folders: CLASS/image.png, or train/CLASS/image.png and test/CLASS/image.png."""

import os
from collections import Counter
from os import PathLike
from pathlib import Path

import numpy as np

from jaxcnn.contract import arguments
from jaxcnn.data.errors import DataError, expect, kind_of, reason
from jaxcnn.data.readers.image import FORMATS, describe_image, read_image, two_sizes

_SPLITS = ("train", "test", "val", "validation")
_OF_THE_SYSTEM = ("Thumbs.db", "desktop.ini", "__MACOSX", "@eaDir")
_LIMIT = 2**33  # bytes of all pixels
Examples = list[tuple[Path, int]]


def read_folder(
    path: str | PathLike[str], *, size: tuple[int, int] | None = None, channels: int | None = None
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], tuple[str, ...]]:
    """Reads images in class folders.

    Args:
        path: a folder with a folder of images for each class; or with folders `train` and `test` (if there is none,
            `val` or `validation`) that have one for each class.
        size: the height and width to which images are resized; by default the most common one.
        channels: 1 for grey, 3 for colours; by default grey if all images are.

    Returns:
        (x [N, H, W, channels] uint8, y [N] int32) by the names of the parts, which are `train`, `test` and `validation`
        as far as there are folders of these names, else `all`; and the names of the classes, sorted.

    Raises:
        TypeError: path is no path, or a size is no int.
        ValueError: channels is neither 1 nor 3, or size is not two ints above 0.
        ImportError: pillow is not installed.
        DataError: there is no such folder, it has fewer than two classes, a class without images, or a file in it that
            is no whole image.
    """
    function = "data.read_folder"
    arguments.path(function, "path", path)
    path = Path(path)
    found = kind_of(path)
    expect(found == "a folder", path, "a folder with a folder of images for each class", found)
    parts = _parts(path)
    names = _folders(next(iter(parts.values())))
    expect(len(names) > 1, path, "a folder of images for each of at least 2 classes", names or "no folder")
    examples = {part: _examples(folder, names) for part, folder in parts.items()}
    height, width, channels = _shape(function, [each for part in examples.values() for each in part], size, channels)
    count = sum(map(len, examples.values())) * height * width * channels
    expect(count <= _LIMIT, path, f"at most {_LIMIT:,} bytes of pixels", f"{count:,} at {height} x {width}")
    return {part: _read(each, height, width, channels) for part, each in examples.items()}, tuple(names)


def _parts(path: Path) -> dict[str, Path]:
    """The folders of training and test set, if they hold folders themselves; else `all` images."""
    split = [name for name in _SPLITS if os.path.isdir(path / name) and _folders(path / name)]
    if not split:
        return {"all": path}
    twice = {"val", "validation"} <= set(split)
    expect(not twice, path, "one of the folders val and validation, which mean the same", "both")
    held_out = [name for name in split if name != "train"]
    whole = "train" in split and len(held_out) > 0
    expect(whole, path, "the folders train and test, both with a folder for each class", " and ".join(split))
    others = [name for name in _folders(path) if name not in split]
    expect(not others, path, "no classes beside the folders train and test", others[:10])
    last = next((name for name in held_out if name != "test"), None)
    parts = {"train": path / "train", "test": path / ("test" if "test" in held_out else held_out[0])}
    return parts | ({"validation": path / last} if last and "test" in held_out else {})


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name, without what is hidden or of the system."""
    try:
        with os.scandir(folder) as entries:
            seen = [each for each in entries if not each.name.startswith(".") and each.name not in _OF_THE_SYSTEM]
    except OSError as error:
        raise DataError(f"{folder}: expected a folder that can be read, found: {reason(error)}") from error
    return sorted(seen, key=lambda each: each.name)


def _folders(folder: Path) -> list[str]:
    return [each.name for each in _entries(folder) if os.path.isdir(each.path)]


def _examples(folder: Path, names: list[str]) -> Examples:
    """The paths of all images and their classes."""
    unknown = sorted(set(_folders(folder)) - set(names))
    expect(not unknown, folder, f"the classes {', '.join(names)}", unknown[:10])
    result: Examples = []
    for label, name in enumerate(names):
        if not os.path.isdir(folder / name):
            continue
        entries = _entries(folder / name)
        expect(len(entries) > 0, folder / name, "images", "none")
        for entry in entries:
            found = kind_of(entry.path)
            is_image = found == "a file" and Path(entry.name).suffix.lower() in FORMATS
            found = "no image" if found == "a file" else found
            expect(is_image, entry.path, f"an image ({', '.join(FORMATS)})", found)
            result.append((Path(entry.path), label))
    expect(len(result) > 0, folder, "images", "none")
    return result


def _shape(
    function: str, examples: Examples, size: tuple[int, int] | None, channels: int | None
) -> tuple[int, int, int]:
    """(height, width, channels) of all images, from the heads of the files where they are not given."""
    if channels is not None:
        channels = arguments.one_of(function, "channels", channels, (1, 3))
    if size is not None:
        size = two_sizes(function, size)
    if size is None or channels is None:
        heads = [describe_image(path) for path, _ in examples]
        sizes = Counter(size for size, _ in heads)
        size = size or min(sizes, key=lambda each: (-sizes[each], each))
        channels = channels or max(channels for _, channels in heads)
    return *size, channels


def _read(examples: Examples, height: int, width: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    images = [read_image(path, channels=channels, size=(height, width)) for path, _ in examples]
    return np.stack(images), np.array([label for _, label in examples], np.int32)
