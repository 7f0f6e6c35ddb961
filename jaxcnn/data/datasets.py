"""Data sets by name."""

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from jaxcnn.contract import arguments
from jaxcnn.data.download import fetch
from jaxcnn.data.errors import DataError, expect
from jaxcnn.data.files import is_whole, located, megabytes, members, places, verify
from jaxcnn.data.folders import find_examples, read_examples
from jaxcnn.data.readers.cifar import read_cifar10
from jaxcnn.data.readers.idx import read_idx
from jaxcnn.data.readers.nifti import read_nifti
from jaxcnn.data.readers.npz import read_npz
from jaxcnn.data.readers.wav import read_wav
from jaxcnn.data.sources import SOURCES, Group, Source

Pair = tuple[np.ndarray, np.ndarray]
_SAMPLES = 8192  # of a spoken digit, 1.024 seconds
_VOXELS = (48, 64, 48)  # around every hippocampus


@dataclass(frozen=True)
class Dataset:
    """Examples and their labels, for training and held out.

    Attributes:
        name: what `load` calls it.
        train_x, test_x: examples [N, *S, C], in the publisher's dtype.
        train_y, test_y: int32 labels: classes [N] from 0 to classes - 1, or for each place of a segmentation [N, *S].
        classes: how many classes there are.
        task: "classification" or "segmentation"; of a segmentation, places labelled -1 do not count.
        class_names: of each class.
        validation_x, validation_y: a third set, where the publisher has one.
        names: of a folder, the file of each example in it, by set: "train", "test" and "validation".
        sizes: of a folder, the (height, width) that each image had before it was resized, by set.
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int
    task: str = "classification"
    class_names: tuple[str, ...] = ()
    validation_x: np.ndarray | None = None
    validation_y: np.ndarray | None = None
    names: dict[str, tuple[str, ...]] | None = None
    sizes: dict[str, tuple[tuple[int, int], ...]] | None = None


def load(name: str, root: str | PathLike[str] | None = None, download: bool = False) -> Dataset:
    """Loads a data set from the first of `root`, $JAXCNN_DATA and ~/.cache/jaxcnn that has all of its files as they
    were published.

    Args:
        name: which one:
            "digits": 1,797 handwritten digits, 8x8 with values from 0 to 16, float32. They are part of scikit-learn. A
                fifth of the images of each class is held out, the same ones in every run.
            "mnist", "fashion_mnist": 60,000 and 10,000 images of 28x28, uint8.
            "cifar10": 50,000 and 10,000 images of 32x32 in 3 colours, uint8; files of the binary version.
            "fsdd": 3,000 spoken digits of 6 speakers, 8,192 samples at 8 kHz, int16. 17 clips are longer and cut, the
                others end in zeros. Held out is index 0 to 4 of each digit and speaker, 300 clips.
            "adrenalmnist3d": 1,188 and 298 volumes of 28x28x28, uint8, and 98 for validation.
            "hippocampus": 260 volumes, float32 with the files' values, each in a corner of 48x64x48; the labels of the
                places outside are -1. Held out is every fifth case by name. A segmentation of 3 classes.
            "folder": images in class folders in `root`, of the most common size, to which others are resized; in one
                colour if all are. The folders `train` and `test` are kept apart if both are there, else a fifth of each
                class is held out.
        root: where to look first; for "folder" the folder itself.
        download: whether to fetch from its publisher what is nowhere; it goes to the first of these places.

    Returns:
        A `Dataset`.

    Raises:
        TypeError: root is no path, or None for "folder"; download is no bool.
        ValueError: there is no data set of this name.
        DataError: the files are not there, cannot be fetched, or are not those that were published. It is a ValueError.
        ImportError: a package of the extra `train` is not installed.

    Source: digits: E. Alpaydin, C. Kaynak, UCI machine learning repository, 1998. mnist: Y. LeCun, C. Cortes,
    C. Burges. fashion_mnist: H. Xiao, K. Rasul, R. Vollgraf, 2017. cifar10: A. Krizhevsky, 2009. fsdd: Z. Jackson et
    al., 2018. adrenalmnist3d: J. Yang et al., MedMNIST v2, 2023. hippocampus: M. Antonelli et al., The Medical
    Segmentation Decathlon, 2022.

    >>> digits = load("digits")
    >>> digits.train_x.shape, digits.test_x.shape
    ((1438, 8, 8, 1), (359, 8, 8, 1))
    """
    arguments.choice("data.load", "name", name, NAMES)
    arguments.flag("data.load", "download", download)
    if root is not None or name == "folder":
        arguments.path("data.load", "root", root)
    if name == "digits":
        return _digits()
    if name == "folder":
        assert root is not None
        return _folder(Path(root))
    source = published(name)
    return _LOADERS[name](fetched(source, root) if download else verified(source, root))


def published(name: str) -> Source:
    """The data set of this name that has files of its own."""
    return next(source for source in SOURCES if source.name == name)


def fetched(source: Source, root: str | PathLike[str] | None) -> Path:
    """The first folder of a data set that is whole, or else that in the first place, to which what is missing is
    brought."""
    whole = next((folder for folder in located(source, root) if is_whole(source, folder)), None)
    if whole is not None:
        return whole
    folder = places(root)[0] / source.folder
    fetch(source, folder)
    return folder


def verified(source: Source, root: str | PathLike[str] | None) -> Path:
    """The first folder of a data set whose files are those that were published."""
    errors = []
    for folder in located(source, root):
        try:
            verify(source, folder)
        except DataError as error:
            errors.append(error)
        else:
            return folder
    size, where = megabytes(source.download), "" if root is None else f" --root {shlex.quote(os.fspath(root))}"
    how = f"`jaxcnn data fetch {source.name}{where}` or download=True fetches {size} (licence: {source.licence})"
    if errors:
        raise DataError(f"{errors[0]}; {how}") from errors[0]
    looked = ", ".join(str(place / source.folder) for place in places(root))
    raise DataError(f"{source.name}: expected its files in one of {looked}, found none; {how}")


def _digits() -> Dataset:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError('the digits are part of scikit-learn: pip install "jaxcnn[train]"') from error
    rows, labels = load_digits(return_X_y=True)
    x, y = rows.reshape(-1, 8, 8, 1).astype(np.float32), labels.astype(np.int32)
    test = held_out_fifth(y)
    return Dataset("digits", x[~test], y[~test], x[test], y[test], classes=10, class_names=_DIGITS)


def held_out_fifth(y: np.ndarray) -> np.ndarray:
    """Which examples are held out [N]: of each class the first fifth in an order that depends on their number only.

    The order is a permutation that NumPy's RandomState(0) gives; this stream is frozen for all its versions.
    """
    order = np.random.RandomState(0).permutation(len(y))
    test = np.zeros(len(y), bool)
    for label in np.unique(y):
        members = order[y[order] == label]
        test[members[: round(len(members) / 5)]] = True
    return test


def _idx_loader(name: str, class_names: tuple[str, ...]) -> Callable[[Path], Dataset]:
    def images_and_labels(folder: Path, part: str) -> Pair:
        x = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
        return x[..., None], read_idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(np.int32)

    def read(folder: Path) -> Dataset:
        train, test = images_and_labels(folder, "train"), images_and_labels(folder, "t10k")
        return Dataset(name, *train, *test, classes=len(class_names), class_names=class_names)

    return read


def _cifar10(folder: Path) -> Dataset:
    batches = [read_cifar10(folder / f"data_batch_{number}.bin") for number in range(1, 6)]
    x, y = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    test = read_cifar10(folder / "test_batch.bin")
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    return Dataset("cifar10", x, y, *test, classes=10, class_names=names)


def _fsdd(folder: Path) -> Dataset:
    names = members(_group("fsdd"), folder)
    x = np.zeros((len(names), _SAMPLES, 1), np.int16)
    for clip, name in zip(x, names, strict=True):
        samples, _ = read_wav(folder / name)
        clip[: len(samples)] = samples[:_SAMPLES]
    parts = [Path(name).stem.split("_") for name in names]
    y = np.array([int(digit) for digit, _, _ in parts], np.int32)
    test = np.array([int(index) < 5 for _, _, index in parts])
    return Dataset("fsdd", x[~test], y[~test], x[test], y[test], classes=10, class_names=_DIGITS)


def _adrenalmnist3d(folder: Path) -> Dataset:
    arrays = read_npz(folder / "adrenalmnist3d.npz")
    train, validation, test = (
        (arrays[f"{part}_images"][..., None], arrays[f"{part}_labels"][:, 0].astype(np.int32))
        for part in ("train", "val", "test")
    )
    names = ("normal", "hyperplasia")
    return Dataset("adrenalmnist3d", *train, *test, 2, "classification", names, *validation)


def _hippocampus(folder: Path) -> Dataset:
    names = [name.removeprefix("labelsTr/") for name in members(_group("hippocampus"), folder) if "labelsTr/" in name]
    train = [name for number, name in enumerate(names) if number % 5 != 4]
    parts = ("background", "anterior", "posterior")
    return Dataset("hippocampus", *_scans(folder, train), *_scans(folder, names[4::5]), 3, "segmentation", parts)


def _scans(folder: Path, names: list[str]) -> Pair:
    """Scans and labels of these names, each in a corner of an array of `_VOXELS`."""
    x = np.zeros((len(names), *_VOXELS, 1), np.float32)
    y = np.full((len(names), *_VOXELS), -1, np.int32)
    for number, name in enumerate(names):
        scan, labels = read_nifti(folder / "imagesTr" / name), read_nifti(folder / "labelsTr" / name)
        expect(scan.shape == labels.shape, folder / "labelsTr" / name, f"labels {list(scan.shape)}", list(labels.shape))
        inside = (number, *map(slice, scan.shape))
        x[(*inside, 0)], y[inside] = scan, labels
    return x, y


def _group(name: str) -> Group:
    group = published(name).group
    assert group is not None
    return group


def _folder(root: Path) -> Dataset:
    examples, classes = find_examples(root)
    if "all" in examples:
        y = np.array([label for _, label in examples["all"]])
        test = held_out_fifth(y)
        expect(bool(test.any()), root, "a class of at least 3 images, to hold one out", np.bincount(y).tolist())
        both = list(zip(examples["all"], test, strict=True))
        examples = {part: [each for each, out in both if out == (part == "test")] for part in ("train", "test")}
    parts = read_examples(root, examples)
    train, test, validation = parts["train"], parts["test"], parts.get("validation")
    return Dataset(
        "folder",
        *(train.x, train.y, test.x, test.y),
        classes=len(classes),
        class_names=classes,
        validation_x=validation and validation.x,
        validation_y=validation and validation.y,
        names={part: images.names for part, images in parts.items()},
        sizes={part: images.sizes for part, images in parts.items()},
    )


_DIGITS = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_LOADERS = {
    "mnist": _idx_loader("mnist", _DIGITS),
    "fashion_mnist": _idx_loader("fashion_mnist", _CLOTHES),
    "cifar10": _cifar10,
    "fsdd": _fsdd,
    "adrenalmnist3d": _adrenalmnist3d,
    "hippocampus": _hippocampus,
}
NAMES = ("digits", *_LOADERS, "folder")
