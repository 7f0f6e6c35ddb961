"""`jaxcnn evaluate` and `jaxcnn predict`: an answer, or a line that says why there is none."""

import json

import jax
import nibabel
import numpy as np
import pytest
from command import run
from PIL import Image
from scipy.io import wavfile

from jaxcnn import nn, train
from jaxcnn.cli.examples import read_example

CLASSIFIER = nn.sequential(nn.flatten(), nn.dense(2))


def saved(folder, input_shape, *, model=CLASSIFIER, w=0.0, b=0.0, **options):
    """A model folder whose layer has these weights."""
    types = jax.eval_shape(lambda: model.init(jax.random.key(0), input_shape)[0])
    values = {"w": w, "b": b}
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.broadcast_to(np.float32(values[path[-1].key]), leaf.shape), types
    )
    state = train.TrainState(params, {}, (), np.int32(0), jax.random.key(0))
    standardization = np.zeros(input_shape[-1:], np.float32), np.ones(input_shape[-1:], np.float32)
    train.save_model(
        folder / "model", model, state, input_shape=input_shape, standardization=standardization, **options
    )
    return train.load(folder)


def strict(text):
    """JSON without NaN."""
    return json.loads(text, parse_constant=pytest.fail)


def test_files_that_are_no_examples_get_a_line_each(folder, capsys):
    saved(folder, (2, 8, 8, 1), b=(0, 1), class_names=["cat\udcff", "dog"])
    x = np.ones((8, 8), np.float16)
    arrays = {
        "nan": np.where(x == x[0, 0], np.nan, x),
        "9x9": np.ones((9, 9, 1)),
        "complex": x * 1j,
        "text": x.astype(str),
    }
    for name, array in arrays.items():
        np.save(name, array)
    for name in ("zip.npy", "good.npy"):
        with open(name, "wb") as file:
            (np.savez if name == "zip.npy" else np.save)(file, x)
    with open("long.npy", "wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**11, 8, 8)}
        np.lib.format.write_array_header_1_0(file, header)
    (folder / "empty.npy").touch()
    (folder / "text.nii").write_text("text")
    Image.new("L", (5, 3)).save("good.png")
    bad = ["missing.npy", "missing.png", "missing.wav", "model", "empty.npy", "long.npy", "zip.npy", "text.nii"]
    bad += [f"{name}.npy" for name in arrays]
    assert run("predict", ".", *bad, "good.npy", "good.png") == 1
    captured = capsys.readouterr()
    assert captured.out == "".join(f"good.{end}: dog 73.1%, cat\\udcff 26.9%\n" for end in ("npy", "png"))
    assert [line.split(": expected ")[0] for line in captured.err.splitlines()] == [
        f"jaxcnn predict: {name}" for name in bad
    ]
    assert run("predict", ".", "good.npy", "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert strict(line)["probabilities"]["dog"] == pytest.approx(1 / (1 + np.exp(-1)))


def test_parameters_that_are_not_finite_have_no_answer(folder, capsys):
    saved(folder, (2, 8, 8, 1), model=nn.sequential(nn.flatten(), nn.dense(10)), b=np.inf)
    np.save("x.npy", np.ones((8, 8)))
    for command in (["predict", "model", "x.npy", "--json"], ["evaluate", "model", "digits", "--json"]):
        assert run(*command) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith(f"jaxcnn {command[0]}: ")
        assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([128, 0, 255], np.uint8), [0, -32768, 32512]),
        (np.array([0, -32768, 5], np.int16), [0, -32768, 5]),
        (np.array([0, -(2**31), 2**16], np.int32), [0, -32768, 1]),
        (np.array([0, -1, 0.5], np.float32), [0, -32768, 16384]),
    ],
)
def test_sounds_are_on_the_scale_of_16_bits(folder, capsys, samples, expected):
    trained = saved(folder, (2, 5, 1), extra={"sample_rate": 8000})
    wavfile.write("a.wav", 8000, samples)
    x, inside = read_example(folder / "a.wav", trained, pytest.fail)
    assert x.ravel().tolist() == [*expected, 0, 0]
    assert inside is None
    wavfile.write("b.wav", 44100, samples)
    wavfile.write("c.wav", 8000, np.tile(samples, 2))
    Image.new("L", (5, 1)).save("d.png")
    assert run("predict", ".", "b.wav", "c.wav", "d.png") == 1
    captured = capsys.readouterr()
    assert captured.out == "c.wav: 0 50.0%, 1 50.0%\n"
    assert captured.err.splitlines() == [
        "jaxcnn predict: b.wav: expected 8000 samples a second, as the model was trained on, found 44100",
        "jaxcnn predict: c.wav: the first 5 of 6 samples count",
        "jaxcnn predict: d.png: expected an example [5, 1], as the model was trained on, found an image",
    ]


def test_the_shares_of_a_volume_are_those_of_its_own_places(folder, capsys):
    w = np.array([1, -1]).reshape(1, 1, 1, 1, 2)
    saved(folder, (2, 3, 4, 5, 1), model=nn.conv(2, 1), w=w, b=(0, 1), extra={"task": "segmentation"})
    for name, shape in {"small": (2, 4, 3), "large": (4, 4, 5), "flat": (3, 4)}.items():
        nibabel.Nifti1Image(np.ones(shape, np.float32), np.eye(4)).to_filename(f"{name}.nii")
    assert run("predict", "model", "small.nii", "large.nii", "flat.nii") == 1
    captured = capsys.readouterr()
    assert captured.out == "small.nii: 0 100.0%, 1 0.0%\n"
    assert [line.split(", found ")[1] for line in captured.err.splitlines()] == ["[4, 4, 5]", "float32[3, 4, 1]"]


def images(folder, names):
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (4, 4)).save(folder / name / f"{number}.png")


def test_evaluate_finds_the_folder_of_the_run(folder, monkeypatch, capsys):
    images(folder / "pets", ["cat", "dog"])
    images(folder / "others", ["dog", "zebra"])
    run_folder = folder / "run"
    saved(run_folder, (2, 4, 4, 1), b=(1, 0), class_names=["cat", "dog"], extra={"dataset": "folder"})
    (run_folder / "config.json").write_text(json.dumps({"dataset": str(folder / "pets")}))
    monkeypatch.chdir(run_folder)
    assert run("evaluate", ".", "--json") == 0
    found = strict(capsys.readouterr().out)
    assert (found["examples"], found["accuracy"]) == (2, 0.5)
    for data, message in {
        "../others": "give a data set of the model's classes, cat, dog, not of dog, zebra",
        "digits": "give a data set of the model's classes, cat, dog, not of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
    }.items():
        assert run("evaluate", ".", data) == 2
        assert capsys.readouterr().err == f"jaxcnn evaluate: argument DATA: {message}\n"


def test_evaluate_asks_for_data_that_fit(folder, capsys):
    saved(folder, (2, 4, 4, 1), extra=["a"])
    images(folder / "pets", ["cat", "dog"])
    images(folder / "three", ["cat", "dog", "zebra"])
    for arguments, message in {
        (): "the following arguments are required: DATA",
        ("digits",): "argument DATA: give examples [4, 4, 1] as the model's, not [8, 8, 1]",
        ("three",): "argument DATA: give a data set for the model's outputs (1, 2), not for (1, 3)",
    }.items():
        assert run("evaluate", ".", *arguments) == 2
        assert capsys.readouterr().err == f"jaxcnn evaluate: {message}\n"
