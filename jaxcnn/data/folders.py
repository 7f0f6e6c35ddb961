"""Images in class folders: CLASS/image.png, or train/CLASS/image.png and test/CLASS/image.png."""

import os
from collections import Counter
from dataclasses import dataclass
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
_FUNCTION = "data.read_folder"


@dataclass(frozen=True)
class Images:
    """The images of a part: pixels x [N, H, W, C], classes y [N], the files' names in the folder, and the (height,
    width) that each had."""

    x: np.ndarray
    y: np.ndarray
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]


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
    arguments.path(_FUNCTION, "path", path)
    examples, names = find_examples(Path(path))
    parts = read_examples(Path(path), examples, size, channels)
    return {part: (images.x, images.y) for part, images in parts.items()}, names


def find_examples(path: Path) -> tuple[dict[str, Examples], tuple[str, ...]]:
    """The files of each part with their classes, and the names of these. No file is opened."""
    found = kind_of(path)
    expect(found == "a folder", path, "a folder with a folder of images for each class", found)
    parts = _parts(path)
    names = _folders(next(iter(parts.values())))
    expect(len(names) > 1, path, "a folder of images for each of at least 2 classes", names or "no folder")
    return {part: _examples(folder, names) for part, folder in parts.items()}, tuple(names)


def read_examples(
    path: Path, examples: dict[str, Examples], size: tuple[int, int] | None = None, channels: int | None = None
) -> dict[str, Images]:
    """The images of each part, of one size, and of one colour or three."""
    if channels is not None:
        channels = arguments.one_of(_FUNCTION, "channels", channels, (1, 3))
    if size is not None:
        size = two_sizes(_FUNCTION, size)
    heads = {part: [describe_image(file) for file, _ in each] for part, each in examples.items()}
    seen = [head for part in heads.values() for head in part]
    sizes = Counter(size for size, _ in seen)
    height, width = size or min(sizes, key=lambda each: (-sizes[each], each))
    channels = channels or max(channels for _, channels in seen)
    count = len(seen) * height * width * channels
    expect(count <= _LIMIT, path, f"at most {_LIMIT:,} bytes of pixels", f"{count:,} at {height} x {width}")
    result = {}
    for part, each in examples.items():
        x = np.empty((len(each), height, width, channels), np.uint8)
        for image, (file, _) in zip(x, each, strict=True):
            image[:] = read_image(file, channels=channels, size=(height, width))
        y = np.array([label for _, label in each], np.int32)
        names = tuple(str(file.relative_to(path)) for file, _ in each)
        result[part] = Images(x, y, names, tuple(size for size, _ in heads[part]))
    return result


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
