"""The data sets that `load` knows."""

import sys

import numpy as np
import pytest

from jaxcnn import data


def test_digits_are_split_by_class_and_the_same_every_time():
    digits, again = data.load("digits"), data.load("digits")
    assert (digits.name, digits.classes) == ("digits", 10)
    assert digits.train_x.shape == (1438, 8, 8, 1)
    assert digits.test_x.shape == (359, 8, 8, 1)
    assert {digits.train_x.dtype, digits.test_x.dtype} == {np.dtype(np.float32)}
    assert {digits.train_y.dtype, digits.test_y.dtype} == {np.dtype(np.int32)}
    assert (digits.train_x.min(), digits.train_x.max()) == (0, 16)
    in_train, in_test = np.bincount(digits.train_y), np.bincount(digits.test_y)
    np.testing.assert_array_equal(in_test, np.round((in_train + in_test) / 5))
    np.testing.assert_array_equal(digits.test_x, again.test_x)
    assert (digits.test_x.sum((1, 2, 3), dtype=int) @ np.arange(359)) == 19894120


def test_every_image_of_the_digits_is_used_once():
    from sklearn.datasets import load_digits

    digits = data.load("digits")
    rows = np.concatenate([digits.train_x, digits.test_x]).reshape(1797, 64)
    labels = np.concatenate([digits.train_y, digits.test_y])
    original = load_digits()
    used = np.column_stack([rows, labels])
    expected = np.column_stack([original.data, original.target])
    np.testing.assert_array_equal(used[np.lexsort(used.T)], expected[np.lexsort(expected.T)])


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(ValueError, match=r"^data.load: name must be one of 'digits', .*, got 'mnits'$"):
        data.load("mnits")


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'scikit-learn: pip install "jaxcnn\[train\]"$'):
        data.load("digits")
