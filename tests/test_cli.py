"""The command: the main job from end to end, and one line for whatever goes wrong."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from jax.nn.initializers import zeros

from jaxcnn import cli, data, nn, train


@pytest.fixture(autouse=True)
def _interrupts_arrive():
    """Where the tests were started in the background, SIGINT is ignored, by the processes that they start as well."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def run(*arguments):
    """The exit code of the command."""
    try:
        return cli.main(arguments)
    except SystemExit as stop:
        return stop.code


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny_model(monkeypatch):
    """One that compiles quickly in place of the digits' own."""
    monkeypatch.setattr(
        nn, "digits_cnn", lambda classes: nn.sequential(nn.flatten(), nn.dense(classes, initializer=zeros))
    )


def test_the_main_job(tmp_path):
    """In a process of its own: float32 and the usual promotions, as a user has them."""
    command = [sys.executable, "-W", "error", "-m", "jaxcnn", "train", "digits", "--epochs", "6"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    where = re.escape(str(Path("runs", "digits-1")))
    line = rf"test accuracy (\d+\.\d\d)% on 359 held-out images; metrics.jsonl and model are in {where}\n"
    said = re.fullmatch(line, done.stdout)
    assert said is not None, done.stdout
    assert float(said[1]) >= 98
    assert "\r" not in done.stderr
    assert [text[:9] for text in done.stderr.splitlines()] == ["digits: 1", *(f"epoch {n}/6" for n in range(1, 7))]
    lines = metrics(tmp_path / "runs" / "digits-1")
    assert [(line["epoch"], line["step"]) for line in lines] == [(n, 22 * n) for n in range(1, 7)]
    assert f"{lines[-1]['test_accuracy']:.2%}" == said[1] + "%"

    saved = train.restore(tmp_path / "runs" / "digits-1" / "model")
    digits = data.load("digits")
    x = data.standardize(digits.test_x, **saved["standardization"])
    logits, _ = nn.digits_cnn().apply(saved["params"], saved["statistics"], x)
    accuracy = np.mean(np.argmax(np.asarray(logits), axis=1) == digits.test_y)
    assert accuracy == pytest.approx(lines[-1]["test_accuracy"], abs=1e-9)


def test_each_run_has_a_folder_of_its_own_and_the_seed_decides(folder, tiny_model, capsys):
    for options in ([], ["--seed", "0"], ["--seed", "3", "--out", str(Path("deep", "er"))]):
        assert run("train", "digits", "--epochs", "1", *options) == 0
    assert capsys.readouterr().out.endswith(f" are in {Path('deep', 'er')}\n")
    assert sorted(path.name for path in (folder / "deep" / "er").iterdir()) == ["metrics.jsonl", "model"]
    runs = [metrics(folder / out) for out in (Path("runs", "digits-1"), Path("runs", "digits-2"), Path("deep", "er"))]
    first, second, third = (lines[0]["train_loss"] for lines in runs)
    assert first == second != third


def test_a_run_whose_stderr_is_closed(folder, tiny_model, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    assert run("train", "digits", "--epochs", "1") == 0
    assert capsys.readouterr().out.startswith("test accuracy")
    assert len(metrics(folder / "runs" / "digits-1")) == 1


def test_an_interrupted_run_leaves_its_metrics(folder, tiny_model, monkeypatch, capsys):
    batches = data.batches

    def interrupted(*arguments, epoch, **options):
        if epoch == 2:
            signal.raise_signal(signal.SIGINT)
        return batches(*arguments, epoch=epoch, **options)

    monkeypatch.setattr(data, "batches", interrupted)
    assert run("train", "digits", "--out", "run") == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1] == "jaxcnn train: interrupted; the epochs until then are in run"
    assert len(captured.err.splitlines()) == 4
    assert [line["epoch"] for line in metrics(folder / "run")] == [1, 2]
    assert run("train", "digits", "--out", "run") == 2
    assert [line["epoch"] for line in metrics(folder / "run")] == [1, 2]


def test_an_interrupt_that_is_lost_ends_the_run_after_the_epoch(folder, tiny_model, monkeypatch, capsys):
    """As in JAX's callback for garbage, where Python ignores what is raised, and prints it."""
    batches = data.batches

    class Garbage:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def interrupted(*arguments, epoch, **options):
        if epoch == 1:
            Garbage()
        return batches(*arguments, epoch=epoch, **options)

    monkeypatch.setattr(data, "batches", interrupted)
    assert run("train", "digits", "--out", "run") == 130
    err = capsys.readouterr().err
    assert err.splitlines()[-1] == "jaxcnn train: interrupted; the epochs until then are in run"
    assert len(err.splitlines()) == 4
    assert [line["epoch"] for line in metrics(folder / "run")] == [1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_during_compilation(tmp_path):
    command = [sys.executable, "-m", "jaxcnn", "train", "digits", "--out", "run"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run").exists() and process.poll() is None:
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "jaxcnn train: interrupted; the epochs until then are in run"
    assert "Traceback" not in err


def test_a_run_that_diverges_ends_in_one_line(folder, tiny_model, capsys):
    assert run("train", "digits", "--learning-rate", "1e38") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(
        r"jaxcnn train: the training loss of epoch \d+ is (nan|inf): a smaller learning rate may help, "
        "if images are finite and labels are classes",
        last,
    )


BAD = [
    (["fly"], "argument {train,check,data}: invalid choice: 'fly' (choose from train, check, data)"),
    (["train"], "the following arguments are required: {digits}"),
    (["train", "mnist"], "argument {digits}: invalid choice: 'mnist' (choose from digits)"),
    (["train", "digits", "--epochs", "0"], "argument --epochs: give a whole number from 1 to 1000000, not '0'"),
    (["train", "digits", "--epochs", "1.5"], "argument --epochs: give a whole number from 1 to 1000000, not '1.5'"),
    (["train", "digits", "--epochs"], "argument --epochs: expected one argument"),
    (["train", "digits", "--epoch", "2"], "unrecognized arguments: --epoch: did you mean --epochs?"),
    (["train", "digits", "--ep", "1"], "unrecognized arguments: --ep: did you mean --epochs?"),
    (["train", "--lr", "0.1", "digits"], "unrecognized arguments: --lr: did you mean --learning-rate?"),
    (["train", "digits", "--lr=0.1"], "unrecognized arguments: --lr: did you mean --learning-rate?"),
    (["train", "digits", "-lr", "0.1"], "unrecognized arguments: -lr: did you mean --learning-rate?"),
    (
        ["train", "digits", "--learning_rate", "1"],
        "unrecognized arguments: --learning_rate: did you mean --learning-rate",
    ),
    (["train", "digits", "--bs", "8"], "unrecognized arguments: --bs: did you mean --batch-size?"),
    (["train", "digits", "--foo"], "unrecognized arguments: --foo\n"),
    (["train", "digits", "more"], "unrecognized arguments: more\n"),
    (["check", "a:b", "--dtpe", "float64"], "unrecognized arguments: --dtpe: did you mean --dtype?"),
    (["check", "a:b", "--shape", "2", "more"], "unrecognized arguments: more\n"),
    (["--verion"], "unrecognized arguments: --verion: did you mean --version?"),
    (["--foo", "train", "digits"], "unrecognized arguments: --foo\n"),
    (["train", "digits", "--learning-rate", "nan"], "argument --learning-rate: give a number above 0, not 'nan'"),
    (["train", "digits", "--learning-rate", "inf"], "argument --learning-rate: give a number above 0, not 'inf'"),
    (["train", "digits", "--learning-rate", "-1"], "argument --learning-rate: give a number above 0, not '-1'"),
    (["train", "digits", "--learning-rate", "-1e-3"], "argument --learning-rate: give a number above 0, not '-1e-3'"),
    (["train", "digits", "--learning-rate", "-inf"], "argument --learning-rate: give a number above 0, not '-inf'"),
    (["train", "digits", "--learning-rate", "fast"], "argument --learning-rate: give a number above 0, not 'fast'"),
    (["train", "digits", "--batch-size", "0"], "argument --batch-size: give a whole number of at least 1, not '0'"),
    (
        ["train", "digits", "--batch-size", "1439"],
        "argument --batch-size: give at most 1438, the training images, not 1439",
    ),
    (["train", "digits", "--seed", "-1"], "argument --seed: give a whole number from 0 to 4294967295, not '-1'"),
    (["train", "digits", "--seed", "4294967296"], "argument --seed: give a whole number from 0 to 4294967295, not"),
    (["train", "digits", "--out", ""], "argument --out: give a folder, not ''"),
    (["train", "digits", "--out", "file"], "argument --out: give a folder that can be made, not 'file' (File exists)"),
    (["train", "digits", "--out", "file/run"], "argument --out: give a folder that can be made, not 'file/run' (Not a"),
    (["train", "digits", "--out", "run"], "argument --out: give a new folder, 'run' holds another run"),
    (["train", "digits", "--two\nlines"], "unrecognized arguments: --two lines"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) or "nothing" for arguments, _ in BAD])
def test_bad_arguments_end_in_one_line(folder, capsys, arguments, message):
    Path("file").write_text("")
    Path("run").mkdir()
    Path("run/metrics.jsonl").write_text("{}\n")
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    without_quoted_choices = re.sub(r"choose from .*\)", lambda said: said[0].replace("'", ""), captured.err)
    command = next((f"jaxcnn {name}" for name in arguments[:1] if name in ("train", "check", "data")), "jaxcnn")
    assert without_quoted_choices.startswith(f"{command}: {message}")
    assert sorted(path.name for path in folder.iterdir()) == ["file", "run"]
    assert Path("run/metrics.jsonl").read_text() == "{}\n"


def test_a_folder_without_permission_to_write(folder, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert run("train", "digits", "--out", "closed") == 2
    assert capsys.readouterr().err == "jaxcnn train: argument --out: give a folder that can be written, not 'closed'\n"


@pytest.mark.parametrize(
    ("module", "package"), [("sklearn.datasets", "scikit-learn"), ("orbax.checkpoint", "orbax-checkpoint")]
)
def test_a_missing_package_is_named_with_its_extra(folder, monkeypatch, capsys, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    assert run("train", "digits") == 2
    assert re.fullmatch(rf'jaxcnn train: .*{package}: pip install "jaxcnn\[train\]"\n', capsys.readouterr().err)
    assert list(folder.iterdir()) == []


def test_version_and_help(capsys):
    assert run("--version") == 0
    assert re.fullmatch(r"jaxcnn \d+\.\d+\.\d+\n", capsys.readouterr().out)
    for arguments in (["--help"], []):
        assert run(*arguments) == 0
        assert "train a small network on a data set" in capsys.readouterr().out
    assert run("train", "--help") == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--out", "--epochs", "--learning-rate", "--batch-size", "--seed"))
