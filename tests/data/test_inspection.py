"""Faults that were put into a data set are found, and dropped where they can be."""

import dataclasses
import json

import numpy as np
import pytest

from jaxcnn import data

NAN = float("nan")


def dataset(**changes):
    """20 training, 6 validation and 8 test images that all differ, of 4 classes."""
    x = np.random.default_rng(0).normal(size=(34, 5, 4, 2)).astype(np.float32)
    y = np.arange(34, dtype=np.int32) % 4
    whole = data.Dataset("made", x[:20], y[:20], x[20:28], y[20:28], 4, validation_x=x[28:], validation_y=y[28:])
    return dataclasses.replace(whole, **changes)


def test_nothing_is_wrong_with_a_sound_set():
    sound = dataset()
    report = data.inspect(sound)
    assert report
    assert (report.findings, report.dropped) == ((), {})
    assert data.clean(sound) is sound
    train = report.sets[0]
    assert (train.count, train.shape, train.dtype, train.per_class) == (20, (5, 4, 2), "float32", (5, 5, 5, 5))
    assert train.extent == (sound.train_x.min(), sound.train_x.max())
    assert str(report).splitlines()[-1] == "found nothing wrong"


def test_faults_are_found_and_dropped():
    made = dataset()
    x, y = made.train_x, made.train_y
    x[4], y[4] = x[1], y[1]
    x[5], y[5] = x[1], y[1]
    x[6] = x[3]
    x[7] = made.test_x[3]
    x[8], y[8] = made.validation_x[0], made.validation_y[0]
    x[9, 2, 1, 1], x[10, 0, 0, 0] = NAN, np.inf
    x[11] = [3.0, 1.0]
    y[12], y[13] = -1, 4
    made.validation_x[1], made.validation_y[1] = made.test_x[0], made.test_y[0]
    made.test_x[5], made.test_y[5] = made.test_x[4], made.test_y[4]
    x[14], y[14] = made.test_x[4], made.test_y[4]
    made.test_x[6] = NAN
    made.test_x[7] = 0
    made = dataclasses.replace(made, classes=5)
    report = data.inspect(made)
    found = {(each.kind, each.set, each.of): (each.indices, each.others) for each in report.findings}
    assert found == {
        ("duplicate", "train", "train"): ((4, 5), (1, 1)),
        ("contrary labels", "train", "train"): ((3, 6), (6, 3)),
        ("duplicate", "train", "validation"): ((8,), (0,)),
        ("duplicate", "train", "test"): ((7, 14), (3, 4)),
        ("duplicate", "validation", "test"): ((1,), (0,)),
        ("duplicate", "test", "test"): ((5,), (4,)),
        ("not finite", "train", ""): ((9, 10), ()),
        ("not finite", "test", ""): ((6,), ()),
        ("constant", "train", ""): ((11,), ()),
        ("constant", "test", ""): ((7,), ()),
        ("label out of range", "train", ""): ((12,), ()),
        ("missing class", "validation", ""): ((4,), ()),
        ("missing class", "test", ""): ((4,), ()),
    }
    assert report.dropped == {"train": [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14], "validation": [1], "test": [6]}
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["dropped"] == report.dropped
    text = str(report)
    assert "train: 2 repeat an image (4 as 1, 5 as 1)" in text
    assert "train: 2 repeat an image of test (7 as 3, 14 as 4)" in text
    assert text.splitlines()[-1] == "data.clean drops 11 of train, 1 of validation, 1 of test"
    cleaned = data.clean(made)
    np.testing.assert_array_equal(cleaned.train_x, np.delete(x, report.dropped["train"], 0))
    np.testing.assert_array_equal(cleaned.train_y, np.delete(y, report.dropped["train"]))
    assert [len(a) for a in (cleaned.validation_y, cleaned.test_x, cleaned.test_y)] == [5, 7, 7]
    assert not data.inspect(cleaned).dropped


def test_label_maps():
    """A place may be left out by -1; equal images with other maps are contrary, and a map has one label per place."""
    x = np.arange(24, dtype=np.uint8).reshape(3, 4, 2, 1)
    x[2] = x[0]
    y = np.array([0, 1, -1, 1], np.int32).reshape(1, 4, 1).repeat(3, 0).repeat(2, 2)
    y[2, 0, 0] = 1
    test_y = np.full((1, 4, 2), 2, np.int32)
    made = data.Dataset("maps", x, y, x[:1] + 100, test_y, classes=2, task="segmentation")
    found = {(each.kind, each.set): each.indices for each in data.inspect(made).findings}
    assert found == {
        ("contrary labels", "train"): (0, 2),
        ("label out of range", "test"): (0,),
        ("missing class", "test"): (0, 1),
    }
    assert data.inspect(made).sets[0].per_class == (5, 13)


def test_sets_that_differ_in_kind():
    made = dataset(test_x=np.zeros((0, 5, 3, 2)), test_y=np.zeros(0, np.int32))
    kinds = [(each.kind, each.set) for each in data.inspect(made).findings]
    assert kinds == [(kind, "test") for kind in ("missing class", "empty set", "other size", "other dtype")]
    text = str(data.inspect(made))
    assert "test: images of another size than those of train" in text
    assert "test: no example of class 0, 1, 2, 3" in text


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: data.inspect(np.ones(3)), TypeError, "inspect: dataset must be a data.Dataset, got float64"),
        (lambda: data.inspect(dataset(train_y=np.zeros(3, int))), ValueError, r"dataset.train_y must be labels \[20\]"),
        (lambda: data.inspect(dataset(test_y=np.zeros(8))), TypeError, "dataset.test_y must be an array of integers"),
        (lambda: data.inspect(dataset(train_x=np.ones(20))), ValueError, r"dataset.train_x must be \[N, \*S, C\]"),
        (lambda: data.inspect(dataset(validation_y=None)), TypeError, "dataset.validation_y must be an array"),
        (lambda: data.inspect(dataset(task="regression")), ValueError, "dataset.task must be one of 'classification'"),
        (lambda: data.inspect(dataset(names={"test": ("a",)})), ValueError, r"dataset.names\['test'\] must be 8, one"),
        (lambda: data.inspect(dataset(classes=0)), ValueError, "dataset.classes must be an int of at least 1"),
        (lambda: data.clean(dataset(train_x=np.ones((20, 2)))), ValueError, "clean: .* got 20 that are all"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=rf"^data\.(inspect: )?{message}"):
        call()
