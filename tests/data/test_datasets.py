"""The data sets that `load` knows."""

import os
import sys
import wave

import nibabel
import numpy as np
import pytest

from jaxcnn import data
from jaxcnn.data import datasets, files


def test_digits_are_split_by_class_and_the_same_every_time():
    digits, again = data.load("digits"), data.load("digits")
    assert (digits.name, digits.classes, digits.task) == ("digits", 10, "classification")
    assert digits.class_names == tuple("0123456789")
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


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'scikit-learn: pip install "jaxcnn\[train\]"$'):
        data.load("digits")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("mnits",), ValueError, "name must be one of 'digits', .*'mnist', .* got 'mnits'$"),
        (("mnist", 3), TypeError, "root must be a path, got int 3$"),
        (("mnist", None, "yes"), TypeError, "download must be True or False, got str 'yes'$"),
        (("folder",), TypeError, "root must be a path, got NoneType None$"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^data.load: {message}"):
        data.load(*arguments)


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A folder, the only place in which data sets are looked for."""
    monkeypatch.setenv("JAXCNN_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_what_is_missing_is_told_where_it_was_looked_for_and_how_it_is_fetched(alone):
    message = (
        f"^mnist: expected its files in one of {alone}/root/mnist, {alone}/mnist, {alone}/cache/jaxcnn/mnist, "
        "found none; "
        rf"`jaxcnn data fetch mnist --root {alone}/root` or download=True fetches 11.6 MB \(licence: CC BY-SA 3.0\)$"
    )
    with pytest.raises(data.DataError, match=message):
        data.load("mnist", alone / "root")


def test_batches_of_cifar10_whose_digests_differ_are_refused(alone):
    folder = alone / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "data_batch_1.bin").touch()
    os.truncate(folder / "data_batch_1.bin", 30_730_000)
    message = (
        "data_batch_1.bin: expected the digest aadd24acce27caa71bf4b10992e9e7b2d74c2540, found .*; `jaxcnn data fetch"
    )
    with pytest.raises(data.DataError, match=message):
        data.load("cifar10")


def test_the_batches_of_cifar10_come_in_order(tmp_path, monkeypatch):
    for number, name in enumerate(("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")):
        (tmp_path / f"{name}.bin").write_bytes(bytes([number]) + bytes([10 * number]) * 3072)
    (tmp_path / "test_batch.bin").write_bytes(bytes([9]) + bytes([99]) * 3072)
    monkeypatch.setattr(datasets, "verified", lambda source, root: tmp_path)
    dataset = data.load("cifar10")
    assert (dataset.train_y.tolist(), dataset.test_y.tolist()) == ([0, 1, 2, 3, 4], [9])
    assert dataset.train_x[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40]
    assert (dataset.class_names[1], dataset.class_names[9]) == ("automobile", "truck")


def test_spoken_digits_are_cut_or_end_in_zeros(tmp_path, monkeypatch):
    (tmp_path / "recordings").mkdir()
    clips = {"3_theo_0": 9000, "3_theo_12": 5, "0_nicolas_4": 8192, "0_nicolas_5": 1}
    for number, (name, length) in enumerate(clips.items(), 1):
        with wave.open(str(tmp_path / "recordings" / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(np.full(length, number, np.int16).tobytes())
    monkeypatch.setattr(datasets, "verified", lambda source, root: tmp_path)
    dataset = data.load("fsdd")
    assert (dataset.train_x.shape, dataset.train_x.dtype) == ((2, 8192, 1), np.int16)
    assert (dataset.test_y.tolist(), dataset.train_y.tolist()) == ([0, 3], [0, 3])
    np.testing.assert_array_equal(dataset.test_x.sum((1, 2)), [3 * 8192, 8192])
    np.testing.assert_array_equal(dataset.train_x.sum((1, 2)), [4, 10])
    assert dataset.train_x[1, :6, 0].tolist() == [2, 2, 2, 2, 2, 0]


def test_every_fifth_scan_is_held_out_in_a_corner_of_one_shape(tmp_path, monkeypatch):
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    for case in range(6):
        labels = np.full((2 + case, 3, 4), case % 3, np.uint8)
        for folder, values in (("imagesTr", labels * np.float32(0.5) + case), ("labelsTr", labels)):
            nibabel.Nifti1Image(values, np.eye(4)).to_filename(tmp_path / folder / f"hippocampus_00{case}.nii.gz")
    monkeypatch.setattr(datasets, "verified", lambda source, root: tmp_path)
    dataset = data.load("hippocampus")
    assert (dataset.task, dataset.classes, len(dataset.train_x)) == ("segmentation", 3, 5)
    assert (dataset.test_x.shape, dataset.test_y.shape) == ((1, 48, 64, 48, 1), (1, 48, 64, 48))
    assert (dataset.test_x[0, :6, :3, :4] == 4.5).all()
    assert (dataset.test_y[0, :6, :3, :4] == 1).all()
    assert ((dataset.test_y >= 0).sum(), (dataset.test_x != 0).sum()) == (72, 72)
    assert dataset.train_x[:, 0, 0, 0, 0].tolist() == [0, 1.5, 3, 3, 6]


def published(name):
    """A data set of the publisher's files."""
    if not os.environ.get("JAXCNN_DATA"):
        pytest.skip("set JAXCNN_DATA to the folder that has the folders of the data sets")
    source = datasets.published(name)
    if not files.located(source, None):
        pytest.skip(f"$JAXCNN_DATA has no folder {source.folder}")
    return data.load(name)


@pytest.mark.parametrize(
    ("name", "mean", "std", "score"), [("mnist", 0.1307, 0.3081, 82.0), ("fashion_mnist", 0.2860, 0.3530, 67.7)]
)
def test_images_and_labels_belong_together(name, mean, std, score):
    """Mean, standard deviation, and the accuracy of the nearest class mean are known of both."""
    dataset = published(name)
    x, y = dataset.train_x.reshape(60_000, 784), dataset.train_y
    shares = np.bincount(x.ravel(), minlength=256) / x.size
    values = np.arange(256) / 255
    found = [shares @ values, np.sqrt(shares @ values**2 - (shares @ values) ** 2)]
    np.testing.assert_allclose(found, [mean, std], atol=6e-5)
    means = np.stack([x[y == label].mean(0, dtype=np.float32) for label in range(10)])
    test = dataset.test_x.reshape(10_000, 784).astype(np.float32)
    nearest = (test @ means.T - (means**2).sum(1) / 2).argmax(1)
    assert round(100 * np.mean(nearest == dataset.test_y), 1) == score


def test_adrenal_glands_have_a_validation_set():
    dataset = published("adrenalmnist3d")
    sizes = [len(part) for part in (dataset.train_x, dataset.validation_x, dataset.test_x)]
    assert sizes == [1188, 98, 298]
    assert dataset.train_x.shape[1:] == (28, 28, 28, 1)
    np.testing.assert_allclose(np.mean(dataset.test_y == 0), 0.768, atol=5e-4)


def test_spoken_digits_and_scans_of_the_publisher():
    sounds = published("fsdd")
    assert (sounds.train_x.shape, sounds.test_x.shape) == ((2700, 8192, 1), (300, 8192, 1))
    assert np.bincount(sounds.test_y).tolist() == [30] * 10
    scans = published("hippocampus")
    assert (len(scans.train_x), len(scans.test_x)) == (208, 52)
    assert (scans.train_y.min(), scans.train_y.max()) == (-1, 2)
