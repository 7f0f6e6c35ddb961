"""Images in class folders."""

import re

import numpy as np
import pytest
from PIL import Image

from jaxcnn import data


def save(path, value, size=(4, 5), colour=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*size, 3) if colour else size, value, np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def animals(tmp_path):
    for number in range(10):
        save(tmp_path / "cat" / f"{number}.png", number)
        save(tmp_path / "Ant" / f"{number}.bmp", 100 + number)
    (tmp_path / "cat" / ".hidden").write_text("no image")
    (tmp_path / "Ant" / "Thumbs.db").write_text("no image")
    (tmp_path / "README.txt").write_text("no image")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "link").symlink_to("link")
    return tmp_path


def test_a_fifth_of_each_class_is_held_out(animals):
    dataset = data.load("folder", animals)
    assert (dataset.name, dataset.classes, dataset.class_names) == ("folder", 2, ("Ant", "cat"))
    assert dataset.train_x.shape == (16, 4, 5, 1)
    assert (dataset.train_x.dtype, dataset.train_y.dtype) == (np.uint8, np.int32)
    assert np.bincount(dataset.test_y).tolist() == [2, 2]
    seen = np.concatenate([dataset.train_x, dataset.test_x])[:, 0, 0, 0]
    assert sorted(seen) == [*range(10), *range(100, 110)]
    for x, y in ((dataset.train_x, dataset.train_y), (dataset.test_x, dataset.test_y)):
        np.testing.assert_array_equal(x[:, 0, 0, 0] < 100, y == 1)


def test_the_most_common_size_and_colours_if_one_image_has_them(animals):
    save(animals / "cat" / "large.jpg", 77, size=(9, 8), colour=True)
    dataset = data.load("folder", str(animals))
    assert dataset.train_x.shape[1:] == (4, 5, 3)
    parts, names = data.read_folder(animals, size=(2, 3), channels=1)
    assert (parts["all"][0].shape, names) == ((21, 2, 3, 1), ("Ant", "cat"))


def test_the_report_names_files_and_clean_keeps_the_names_of_those_that_are_left(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 4, 5), np.uint8)
    for number, image in enumerate(images):
        save(tmp_path / "ab"[number % 2] / f"{number}.png", image)
    save(tmp_path / "a" / "0\n.png", images[0])
    save(tmp_path / "b" / "large.png", images[1].repeat(2, 0), size=(8, 5))
    save(tmp_path / "b" / "grey.png", 7)
    dataset = data.load("folder", tmp_path)
    report = data.inspect(dataset)
    found = {(each.kind, each.set): str(each) for each in report.findings}
    assert found == {
        ("duplicate", "train"): "train: 1 repeat an image of test (a/0\\n.png as a/0.png)",
        ("constant", "train"): "train: 1 are constant: all entries of a channel are equal (b/grey.png)",
        ("resized", "train"): "train: 1 had other sizes and were resized (b/large.png of 8x5)",
    }
    cleaned = data.clean(dataset)
    assert (len(dataset.train_x), len(cleaned.train_x)) == (12, 10)
    for name, x in (("train", cleaned.train_x), ("test", cleaned.test_x)):
        assert [size == (8, 5) for size in cleaned.sizes[name]] == ["large" in file for file in cleaned.names[name]]
        for file, image in zip(cleaned.names[name], x, strict=True):
            np.testing.assert_array_equal(image, data.read_image(tmp_path / file, size=(4, 5)))


@pytest.mark.parametrize("other", ["test", "val"])
def test_a_training_and_a_test_folder_are_kept_apart(tmp_path, other):
    for part, value in (("train", 10), (other, 200)):
        for name in "ba":
            save(tmp_path / part / name / "1.png", value)
    dataset = data.load("folder", tmp_path)
    assert (dataset.train_x.max(), dataset.test_x.min()) == (10, 200)
    assert (dataset.train_y.tolist(), dataset.test_y.tolist()) == ([0, 1], [0, 1])
    assert dataset.validation_x is None
    if other == "test":
        save(tmp_path / "val" / "a" / "1.png", 50)
        dataset = data.load("folder", tmp_path)
        assert (dataset.test_x.min(), dataset.validation_x.max(), dataset.validation_y.tolist()) == (200, 50, [0])


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "plane"):
        for number in range(5):
            save(tmp_path / name / f"{number}.png", number)
    assert data.load("folder", tmp_path).class_names == ("plane", "train")


def text(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("text")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: text(path / "cat" / "notes.txt"), "cat/notes.txt: expected an image (.png, .jpg"),
        (lambda path: (path / "cat" / "x.png").symlink_to("x.png"), "cat/x.png: expected an image (.png, .jpg"),
        (lambda path: text(path / "cat" / "x.png"), "cat/x.png: expected a whole image"),
        (
            lambda path: save(path / "cat" / "more" / "x.png", 1),
            "cat/more: expected an image (.png, .jpg, .jpeg, .bmp,",
        ),
        (lambda path: (path / "dog").mkdir(), "dog: expected images, found none"),
        (lambda path: save(path / "train" / "a" / "x.png", 1), ": expected the folders train and test, both with a"),
        (
            lambda path: [save(path / part / "a" / "x.png", 1) for part in ("train", "test")],
            ": expected no classes beside the folders train and test, found ['Ant', 'cat']",
        ),
        (
            lambda path: [save(path / part / "a" / "x.png", 1) for part in ("train", "val", "validation")],
            ": expected one of the folders val and validation, which mean the same, found both",
        ),
    ],
)
def test_a_folder_that_is_not_what_it_should_be(animals, change, message):
    change(animals)
    where = str(animals) + ("" if message.startswith(":") else "/")
    with pytest.raises(data.DataError, match=f"^{re.escape(where + message)}"):
        data.load("folder", animals)


def test_folders_without_two_classes(tmp_path):
    with pytest.raises(
        data.DataError, match=r"expected a folder of images for each of at least 2 classes, found no fol"
    ):
        data.load("folder", tmp_path)
    save(tmp_path / "cat" / "1.png", 1)
    with pytest.raises(data.DataError, match=r"of at least 2 classes, found \['cat'\]"):
        data.load("folder", tmp_path)
    save(tmp_path / "dog" / "1.png", 1)
    with pytest.raises(data.DataError, match=r"expected a class of at least 3 images, to hold one out, found \[1, 1\]"):
        data.load("folder", tmp_path)
    save(tmp_path / "split" / "train" / "cat" / "1.png", 1)
    save(tmp_path / "split" / "train" / "dog" / "1.png", 1)
    save(tmp_path / "split" / "test" / "cow" / "1.png", 1)
    with pytest.raises(data.DataError, match=r"split/test: expected the classes cat, dog, found \['cow'\]"):
        data.load("folder", tmp_path / "split")
    with pytest.raises(data.DataError, match=r"nowhere: expected a folder with a folder of images .* found nothing"):
        data.load("folder", tmp_path / "nowhere")
    with pytest.raises(TypeError, match=r"^data.load: root must be a path, got NoneType None$"):
        data.load("folder")
