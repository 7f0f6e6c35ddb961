"""Metrics, compared with their definitions."""

import sys

import numpy as np
import pytest

from jaxcnn.train import metrics

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(40, 3)).astype(np.float32)
Y = RNG.integers(0, 3, 40)
Y[:12] = 0  # classes of different sizes
FOUND = np.argmax(LOGITS, axis=1)


def chance(scores, is_class):
    """The share of the pairs in which the one of the class has the larger score; equal ones count half."""
    difference = scores[is_class][:, None] - scores[~is_class][None, :]
    return np.mean((difference > 0) + 0.5 * (difference == 0))


def test_accuracy_and_confusion():
    matrix = [[np.sum((i == Y) & (j == FOUND)) for j in range(3)] for i in range(3)]
    assert metrics.confusion_matrix(LOGITS, Y).tolist() == matrix
    assert metrics.accuracy(LOGITS, Y) == np.trace(matrix) / 40
    assert metrics.balanced_accuracy(LOGITS, Y) == pytest.approx(np.mean(np.diag(matrix) / np.sum(matrix, axis=1)))
    some = Y != 2
    recalls = [np.mean(FOUND[i == Y] == i) for i in (0, 1)]
    assert metrics.balanced_accuracy(LOGITS[some], Y[some]) == pytest.approx(np.mean(recalls))
    assert metrics.confusion_matrix(LOGITS[:, :1], np.minimum(Y, 1)).tolist()[0] == [
        np.sum((LOGITS[:, 0] <= 0) & (Y == 0)),
        np.sum((LOGITS[:, 0] > 0) & (Y == 0)),
    ]


def test_auc():
    p = np.exp(LOGITS) / np.sum(np.exp(LOGITS), axis=1, keepdims=True)
    expected = np.mean([chance(p[:, k], k == Y) for k in range(3)])
    assert metrics.auc(LOGITS, Y) == pytest.approx(expected)
    two, scores = (Y == 0).astype(np.uint8), LOGITS[:, 1] - LOGITS[:, 0]
    for output in (LOGITS[:, :2], scores, scores[:, None], 1000 * LOGITS[:, :2]):  # of which a softmax would be 0 or 1
        assert metrics.auc(output, two) == pytest.approx(chance(scores, two == 1))


def test_dice():
    """Of two cases; in the second class 2 is nowhere, and in the third there is nothing but background."""
    y = np.array([[0, 1, 1, 2], [1, 1, 0, -1], [0, 0, 0, 0]])
    found = np.array([[0, 1, 2, 2], [1, 0, 0, 2], [0, 0, 0, -1]])
    output = 3.0 * (found[..., None] == np.arange(3))
    assert metrics.dice(output, y) == pytest.approx(np.mean([np.mean([2 * 1 / 3, 2 * 1 / 3]), 2 * 1 / 3]))
    assert metrics.dice(output[:, :3], y[:, :3]) == pytest.approx(np.mean([np.mean([2 / 3, 0]), 2 / 3]))
    assert metrics.dice(output[1:2, :, 1:2] - 1, y[1:2]) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match=r"^train.metrics.dice: y must be labels beside the background, got none, and"):
        metrics.dice(output[2:, :3], y[2:, :3])


@pytest.mark.parametrize("name", ["accuracy", "auc", "balanced_accuracy", "confusion_matrix", "dice"])
@pytest.mark.parametrize(
    ("output", "y", "message"),
    [
        (LOGITS, Y + 1, "y must be from -?. to 2, got 1 to 3"),
        (LOGITS, Y - 2, "y must be from -?. to 2, got -2 to 0"),
        (LOGITS, Y[:5], r"y must be classes \[40\], got int64\[5\]"),
        (LOGITS[:0], Y[:0], r"output must be of at least one image, got float32\[0, 3\]"),
        (np.where(LOGITS > 2, np.nan, LOGITS), Y, r"output must be numbers, got NaN for . of 40"),
    ],
)
def test_what_has_no_metric(name, output, y, message):
    with pytest.raises(ValueError, match=rf"^train\.metrics\.{name}: {message}"):
        getattr(metrics, name)(output, y)


def test_metrics_of_something_else():
    with pytest.raises(
        ValueError, match=r"^train\.metrics\.auc: y must be labels of all 3 classes, got none of class 1"
    ):
        metrics.auc(LOGITS, np.where(Y == 1, 2, Y))
    with pytest.raises(ValueError, match=r"^train\.metrics\.auc: output must be logits \[N, K\] or \[N\], got float"):
        metrics.auc(LOGITS[:4].reshape(2, 2, 3), Y[:4].reshape(2, 2))
    with pytest.raises(ValueError, match=r"^train\.metrics\.dice: output must be logits \[N, \*S, K\], got float"):
        metrics.dice(LOGITS, Y)
    with pytest.raises(TypeError, match=r"^train\.metrics\.accuracy: y must be an array of integers, got float32"):
        metrics.accuracy(LOGITS, LOGITS[:, 0])
    with pytest.raises(TypeError, match=r"^train\.metrics\.accuracy: output must be an array, got list"):
        metrics.accuracy([[1.0, 2.0]], Y[:1])


def test_accuracy_and_dice_need_no_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert metrics.accuracy(LOGITS, Y) == np.mean(FOUND == Y)
    assert 0 <= metrics.dice(LOGITS[None], Y[None]) <= 1
    with pytest.raises(ImportError, match=r'^train\.metrics\.auc takes scikit-learn: pip install "jaxcnn\[train\]"$'):
        metrics.auc(LOGITS, Y)
