"""Data sets by name."""

from dataclasses import dataclass

import numpy as np

from jaxcnn.contract import arguments


@dataclass(frozen=True)
class Dataset:
    """Images and their classes, for training and held out.

    Attributes:
        name: what `load` calls it.
        train_x, test_x: images [N, *S, C], float32 as their publisher has them.
        train_y, test_y: classes [N], int32 from 0 to classes - 1.
        classes: how many classes there are.
        task: "classification", or "segmentation", where y are label maps [N, *S].
        class_names: what the classes are called, or none.
        validation_x, validation_y: a set to choose by, where the publisher has one.
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


def load(name: str) -> Dataset:
    """Loads a data set.

    Args:
        name: "digits", the 1797 handwritten digits of scikit-learn, 8x8 with values from 0 to 16. A fifth of the images
            of each class is held out, the same ones in every run.

    Returns:
        A `Dataset`.

    Raises:
        ValueError: there is no data set of this name.
        ImportError: scikit-learn is not installed.

    Source: E. Alpaydin, C. Kaynak, Optical recognition of handwritten digits, UCI machine learning repository, 1998.

    >>> digits = load("digits")
    >>> digits.train_x.shape, digits.test_x.shape
    ((1438, 8, 8, 1), (359, 8, 8, 1))
    """
    arguments.choice("data.load", "name", name, NAMES)
    return _LOADERS[name]()


def _digits() -> Dataset:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError('the digits are part of scikit-learn: pip install "jaxcnn[train]"') from error
    rows, labels = load_digits(return_X_y=True)
    x, y = rows.reshape(-1, 8, 8, 1).astype(np.float32), labels.astype(np.int32)
    test = held_out_fifth(y)
    return Dataset("digits", x[~test], y[~test], x[test], y[test], classes=10)


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


_LOADERS = {"digits": _digits}
NAMES = tuple(_LOADERS)
