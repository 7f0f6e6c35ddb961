"""How good the outputs of a model are: functions f(output, y) of NumPy arrays, logits first as in a loss.

`train.evaluate` and `train.fit` take any such function by name: metrics={"auc": train.metrics.auc}.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from jaxcnn.contract import arguments

__all__ = ["accuracy", "auc", "balanced_accuracy", "confusion_matrix", "dice"]


def accuracy(output: np.ndarray, y: np.ndarray) -> float:
    """The share of the labels whose class has the largest logit.

    Args:
        output: logits [..., K] such as [N, K], or [N, *S, K] of a segmentation; one logit, K = 1, tells two classes
            apart by its sign.
        y: classes 0 to K - 1, integers [...].

    Returns:
        A float from 0 to 1.

    Raises:
        TypeError: output or y is no array, y none of integers.
        ValueError: y is not [...], is empty or has a label that is no class, output has a NaN.

    >>> accuracy(np.array([[2.0, 1.0], [3.0, 1.0]]), np.array([0, 1]))
    0.5
    """
    output, y = _checked("accuracy", output, y)
    return float(np.mean(found_classes(output) == y))


def balanced_accuracy(output: np.ndarray, y: np.ndarray) -> float:
    """The mean over the classes of which share of their labels is found; classes that no label has do not count.

    Args:
        output, y: as for `accuracy`.

    Returns:
        A float from 0 to 1.

    Raises:
        ImportError: scikit-learn is not installed.
        TypeError, ValueError: as `accuracy`.

    Source: `sklearn.metrics.balanced_accuracy_score`.

    >>> balanced_accuracy(np.array([[2.0, 1.0], [3.0, 1.0], [3.0, 1.0], [4.0, 5.0]]), np.array([0, 0, 1, 1]))
    0.75
    """
    output, y = _checked("balanced_accuracy", output, y)
    recall = _sklearn("balanced_accuracy").recall_score  # balanced_accuracy_score warns of classes that y has not
    return float(recall(y.ravel(), found_classes(output).ravel(), labels=np.unique(y), average="macro"))


def auc(output: np.ndarray, y: np.ndarray) -> float:
    """The area under the receiver operating characteristic, the mean over the classes, each against the others.

    For two classes it is the chance that a random example of class 1 has a larger logit₁ - logit₀ than one of class 0.

    Args:
        output: logits [N, K]; or one logit for class 1, [N] or [N, 1].
        y: classes 0 to K - 1, integers [N].

    Returns:
        A float from 0 to 1.

    Raises:
        ImportError: scikit-learn is not installed.
        TypeError: output or y is no array, y none of integers.
        ValueError: output or y has another shape, a label is no class, a class has no label, output has a NaN.

    Source: `sklearn.metrics.roc_auc_score`, with multi_class="ovr" and average="macro".

    >>> auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.75
    """
    is_row = arguments.is_array(output) and output.ndim == 1
    output, y = _checked("auc", np.asarray(output)[:, None] if is_row else output, y)
    arguments.require(y.ndim == 1, "train.metrics.auc", "output", "logits [N, K] or [N]", arguments.describe(output))
    classes, output = max(2, output.shape[-1]), output.astype(np.float64)
    missing = sorted(set(range(classes)) - set(y.tolist()))
    got = f"none of class {missing[0]}" if missing else ""
    arguments.require(not missing, "train.metrics.auc", "y", f"labels of all {classes} classes", got)
    score = _sklearn("auc").roc_auc_score
    if classes == 2:
        return float(score(y, output[:, -1] - output[:, 0] if output.shape[-1] == 2 else output[:, 0]))
    return float(score(y, _softmax(output), multi_class="ovr", average="macro"))


def confusion_matrix(output: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How many labels of each class are assigned to each class.

    Args:
        output, y: as for `accuracy`.

    Returns:
        Integers [K, K]: the row is the label, the column what was found.

    Raises:
        ImportError: scikit-learn is not installed.
        TypeError, ValueError: as `accuracy`.

    Source: `sklearn.metrics.confusion_matrix`.

    >>> confusion_matrix(np.array([[2.0, 1.0], [3.0, 1.0]]), np.array([0, 1])).tolist()
    [[1, 0], [1, 0]]
    """
    output, y = _checked("confusion_matrix", output, y)
    labels = range(max(2, output.shape[-1]))
    matrix = _sklearn("confusion_matrix").confusion_matrix
    return matrix(y.ravel(), found_classes(output).ravel(), labels=list(labels))


def dice(output: np.ndarray, y: np.ndarray) -> float:
    """How far found regions and true ones cover each other, for each case and class but the background, class 0.

        D = 2 |A ∩ B| / (|A| + |B|)        of the places A that were found and B that are labelled

    The mean over the classes of a case, then over the cases. A class that is neither labelled nor found in a case does
    not count there; one that is either of them alone has D = 0. A case where nothing counts does not count.

    Args:
        output: logits [N, *S, K]; one logit, K = 1, tells a region from the background by its sign.
        y: classes [N, *S], integers; places of label -1 do not count.

    Returns:
        A float from 0 to 1.

    Raises:
        TypeError: output or y is no array, y none of integers.
        ValueError: y is not [N, *S], is empty or has a label that is neither a class nor -1, output has a NaN, or no
            case has anything but background, so that there is no mean.

    Source: Dice, Measures of the amount of ecologic association between species, 1945.

    >>> dice(np.array([[[1.0], [1.0], [-1.0]]]), np.array([[1, 0, 0]]))
    0.6666666666666666
    """
    output, y = _checked("dice", output, y, lowest=-1)
    arguments.require(y.ndim > 1, "train.metrics.dice", "output", "logits [N, *S, K]", arguments.describe(output))
    classes, found = max(2, output.shape[-1]), found_classes(output)
    of_cases = []
    for labels, places in zip(y, found, strict=True):
        pairs = (labels.astype(np.int64) * classes + places)[labels >= 0]
        matrix = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        sizes = (matrix.sum(0) + matrix.sum(1))[1:]
        if np.any(sizes > 0):
            of_cases.append(np.mean(2 * np.diag(matrix)[1:][sizes > 0] / sizes[sizes > 0]))
    some = len(of_cases) > 0
    arguments.require(some, "train.metrics.dice", "y", "labels beside the background", "none, and none was found")
    return float(np.mean(of_cases))


def found_classes(output: np.ndarray) -> np.ndarray:
    """The class of the largest logit; for one logit, whether it is above 0."""
    return (output[..., 0] > 0).astype(np.int64) if output.shape[-1] == 1 else np.argmax(output, axis=-1)


def _checked(function: str, output: Any, y: Any, lowest: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits [..., K] and classes [...], of which there is at least one."""
    function = f"train.metrics.{function}"
    for argument, value in (("output", output), ("y", y)):
        arguments.array(function, argument, value)
    output, y = np.asarray(output), np.asarray(y)
    is_integer = np.issubdtype(y.dtype, np.integer)
    arguments.require(is_integer, function, "y", "an array of integers", arguments.describe(y), TypeError)
    arguments.require(output.ndim > 1, function, "output", "logits [N, ..., K]", arguments.describe(output))
    fits = y.shape == output.shape[:-1]
    arguments.require(fits, function, "y", f"classes {list(output.shape[:-1])}", arguments.describe(y))
    arguments.require(output.size > 0, function, "output", "of at least one image", arguments.describe(output))
    classes = max(2, output.shape[-1])
    in_range = lowest <= y.min() and y.max() < classes
    arguments.require(bool(in_range), function, "y", f"from {lowest} to {classes - 1}", f"{y.min()} to {y.max()}")
    count = int(np.isnan(output).any(axis=-1).sum())
    arguments.require(count == 0, function, "output", "numbers", f"NaN for {count} of {y.size}")
    return output, y


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _sklearn(function: str) -> ModuleType:
    try:
        from sklearn import metrics
    except ImportError as error:
        raise ImportError(f'train.metrics.{function} takes scikit-learn: pip install "jaxcnn[train]"') from error
    return metrics
