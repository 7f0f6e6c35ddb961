"""`jaxcnn train`, and what is done with a run afterwards."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command import run

from jaxcnn import data, nn, train
from jaxcnn.cli import training
from jaxcnn.cli.recipes import RECIPES, model_of


@pytest.fixture(autouse=True)
def _interrupts_arrive():
    """Where the tests were started in the background, SIGINT is ignored, by the processes that they start as well."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def started(folder, *arguments):
    """The command in a process of its own: float32 and the usual promotions, as a user has them."""
    command = [sys.executable, "-W", "error", "-m", "jaxcnn", *arguments]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes)


def test_the_main_job(tmp_path):
    """Train, evaluate, predict: each in a process of its own."""
    process = started(tmp_path, "train", "digits", "--epochs", "6")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    where = Path("runs", "digits-1")
    ending = re.escape(f"% on 359 held-out examples; the model and its metrics are in {where}\n")
    said = re.fullmatch(rf"test accuracy (\d+\.\d\d){ending}", out)
    assert said is not None, out
    assert float(said[1]) >= 98
    assert "\r" not in err
    assert [text[:9] for text in err.splitlines()] == ["digits: 1", *(f"epoch {n}/6" for n in range(1, 7))]
    lines = metrics(tmp_path / where)
    assert [(line["epoch"], line["step"]) for line in lines] == [(n, 22 * n) for n in range(1, 7)]
    assert f"{lines[-1]['test_accuracy']:.2%}" == said[1] + "%"

    digits, trained = data.load("digits"), train.load(tmp_path / where)
    found = trained.predict(digits.test_x).argmax(-1)
    assert np.mean(found == digits.test_y) == lines[-1]["test_accuracy"]
    np.save(tmp_path / "digit.npy", digits.test_x[3])
    cache = tmp_path / "cache" / "jaxcnn" / "compiled"
    shutil.rmtree(cache)
    cache.touch()  # a cache that can be neither read nor written
    process = started(tmp_path, "predict", str(where), "digit.npy", "--json")
    out, err = process.communicate(timeout=300)
    (line,) = out.splitlines()
    assert err == ""
    assert json.loads(line)["class"] == str(found[3])
    assert sum(json.loads(line)["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_each_run_has_a_folder_of_its_own_and_the_seed_decides(folder, tiny_model, capsys):
    for options in ([], ["--seed", "0"], ["--seed", "3", "--out", str(Path("deep", "er"))]):
        assert run("train", "digits", "--epochs", "1", *options) == 0
    assert capsys.readouterr().out.endswith(f" are in {Path('deep', 'er')}\n")
    names = sorted(path.name for path in (folder / "deep" / "er").iterdir())
    assert names == ["checkpoints", "config.json", "metrics.jsonl", "model"]
    runs = [metrics(folder / out) for out in (Path("runs", "digits-1"), Path("runs", "digits-2"), Path("deep", "er"))]
    first, second, third = (lines[0]["train_loss"] for lines in runs)
    assert first == second != third

    assert run("runs") == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in table[1:]] == [
        [f"runs/digits-{n}", "digits", "digits_cnn", "1/1"] for n in (1, 2)
    ]
    assert all(line.endswith("complete") for line in table[1:])
    assert run("runs", "deep", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["config"]["seed"], found["metrics"], found["state"]) == (3, runs[2][0], "complete")


def test_a_run_whose_stderr_is_closed(folder, tiny_model, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    assert run("train", "digits", "--epochs", "1") == 0
    assert capsys.readouterr().out.startswith("test accuracy")
    assert len(metrics(folder / "runs" / "digits-1")) == 1


def test_options_of_a_recipe_can_be_replaced(folder, tiny_model, capsys):
    options = (
        "--optimizer adam --learning-rate 0.01 --schedule one_cycle --warmup 0.5 --ema 0.9 --clip 1 --accumulate 2"
    )
    more = "--augment shift:1,mixup --label-smoothing 0.1 --class-weights --precision bfloat16 --patience 1 --epochs 4"
    assert run("train", "digits", "--out", "run", *options.split(), *more.split(), "--stored", "convolutions") == 0
    config = json.loads((folder / "run" / "config.json").read_text())
    expected = {"optimizer": "adam", "clip": 1.0, "class_weights": True, "patience": 1, "stored": "convolutions"}
    assert expected.items() <= config.items()
    assert {"validation_loss", "learning_rate"} <= metrics(folder / "run")[0].keys()
    assert run("train", "digits", "--out", "run", "--epochs", "3") == 2
    assert "holds a run of another configuration: epochs was 4 and is 3; patience was 1" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code", "word"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
def test_a_run_that_is_ended_goes_on(folder, tiny_model, monkeypatch, capsys, number, code, word):
    call = data.Batches.__call__

    def ended(self, epoch):
        if epoch == 2:
            monkeypatch.setattr(data.Batches, "__call__", call)
            signal.raise_signal(getattr(signal, number))
        return call(self, epoch)

    monkeypatch.setattr(data.Batches, "__call__", ended)
    assert run("train", "digits", "--epochs", "3", "--out", "run") == code
    captured = capsys.readouterr()
    assert captured.out == ""
    last = f"jaxcnn train: {word}; the same command with --out run goes on"
    assert captured.err.splitlines()[-1] == last
    assert [line["epoch"] for line in metrics(folder / "run")] == [1, 2]
    assert run("train", "digits", "--epochs", "3", "--out", "run") == 0
    assert run("train", "digits", "--epochs", "3", "--out", "whole") == 0
    ended, whole = (train.restore(Path(name, "checkpoints", "step-66.safetensors")) for name in ("run", "whole"))
    np.testing.assert_array_equal(ended["params"]["dense1"]["w"], whole["params"]["dense1"]["w"])
    without_time = [[{**line, "seconds": 0} for line in metrics(folder / name)] for name in ("run", "whole")]
    assert without_time[0] == without_time[1]


def test_an_interrupt_whose_state_cannot_be_saved_does_not_go_on(folder, tiny_model, monkeypatch, capsys):
    def full(path, *_):
        if path.name != "best.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device")

    def interrupted(self, epoch):
        if epoch == 1:
            signal.raise_signal(signal.SIGINT)
        return call(self, epoch)

    call = data.Batches.__call__
    monkeypatch.setattr(data.Batches, "__call__", interrupted)
    monkeypatch.setattr("jaxcnn.train.folder.write", full)
    assert run("train", "digits", "--out", "run", "--save-every", "9") == 130
    lines = capsys.readouterr().err.splitlines()[-2:]
    assert lines[0] == "jaxcnn train: interrupted"
    assert re.fullmatch(
        r"jaxcnn train: 'run/.*' cannot be written \(No space left on device\); there is no .*", lines[1]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--class-weights"], "argument --class-weights: not allowed for a segmentation, whose loss has none"),
        (["--label-smoothing", "0.1"], "argument --label-smoothing: not allowed for a segmentation, whose loss has"),
        (
            ["--augment", "shift:1,mixup"],
            "argument --augment: augment.mixup: y must be labels \\[N\\] or distributions",
        ),
        (["--model", "plain_cnn"], "argument --model: "),
        (["--patience", "2"], "argument --patience: give none, not 2, as there are too few examples to keep some of"),
    ],
)
def test_options_that_a_segmentation_has_not(folder, monkeypatch, capsys, options, message):
    x, y = np.ones((4, 8, 8, 8, 1), np.float32), np.zeros((4, 8, 8, 8), np.int32)
    scans = data.Dataset("hippocampus", x, y, x, y, 2, "segmentation")
    monkeypatch.setattr(training, "dataset_of", lambda *_: scans)
    assert run("train", "hippocampus", "--model", "unet(depth=1, width=1)", *options) == 2
    assert re.fullmatch(f"jaxcnn train: {message}.*\n", capsys.readouterr().err)
    assert list(folder.iterdir()) == []


def test_data_that_are_not_finite_are_not_trained_on(folder, monkeypatch, capsys):
    x, y = np.full((64, 8, 8, 1), np.nan, np.float32), np.zeros(64, np.int32)
    monkeypatch.setattr(training, "dataset_of", lambda *_: data.Dataset("digits", x, y, x, y, 10))
    assert run("train", "digits") == 1
    assert capsys.readouterr().err.startswith(
        "jaxcnn train: digits: data.fit_standardization: x must be finite, got nan"
    )
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", [".", "../pets", "/"])
def test_the_folder_of_a_run_is_named_after_the_folder_of_the_data(folder, monkeypatch, capsys, name):
    x, y = np.ones((1, 1, 1, 1), np.uint8), np.zeros(1, np.int32)
    monkeypatch.setattr(training, "dataset_of", lambda *_: data.Dataset("folder", x, y, x, y, 2))
    monkeypatch.setattr(training.Job, "__init__", lambda *_: None)
    monkeypatch.setattr(training.Job, "run", lambda self, out, config, *saves: f"{saves} of {config['dataset']}")
    (folder / "pets").mkdir()
    monkeypatch.chdir(folder / "pets")
    assert run("train", name, "--save-steps", "7") == 0
    data_folder, expected = ("/", "folder-1") if name == "/" else (folder / "pets", "pets-1")
    result = f"(1, 7) of {data_folder}; the model and its metrics are in {Path('runs', expected)}\n"
    assert capsys.readouterr().out == result


def test_an_interrupt_during_compilation(tmp_path):
    process = started(tmp_path, "train", "digits", "--out", "run")
    while not (tmp_path / "run" / "config.json").exists() and process.poll() is None:
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "jaxcnn train: interrupted; the same command with --out run goes on"
    assert "Traceback" not in err


def test_a_run_that_diverges_ends_in_one_line(folder, tiny_model, capsys):
    assert run("train", "digits", "--learning-rate", "1e38") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    unless = "a smaller learning rate may help, if images are finite and labels are classes"
    assert re.fullmatch(rf"jaxcnn train: the training loss of epoch \d+ is (nan|inf|\d.*): {unless}", last)


def test_a_folder_without_permission_to_write(folder, tiny_model, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert run("train", "digits", "--out", "closed") == 2
    assert capsys.readouterr().err == "jaxcnn train: argument --out: give a folder that can be written, not 'closed'\n"
    assert list(folder.iterdir()) == []


INPUTS = {
    "digits": (8, 8, 1),
    "mnist": (28, 28, 1),
    "fashion_mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "fsdd": (8192, 1),
    "adrenalmnist3d": (28, 28, 28, 1),
    "hippocampus": (48, 64, 48, 1),
    "folder": (64, 64, 3),
}


def test_every_data_set_has_a_recipe_whose_model_takes_it():
    assert RECIPES.keys() == INPUTS.keys() == set(data.NAMES)
    for name, shape in INPUTS.items():
        recipe = RECIPES[name]
        output = nn.output_shape(model_of(recipe.model, 3), (2, *shape))
        assert output == ((2, *shape[:-1], 3) if name == "hippocampus" else (2, 3))
        if recipe.augment:
            assert data.augment.by_names(recipe.augment, 3)
