"""The command: help, and one line for whatever is wrong with its arguments."""

import re
import sys
from pathlib import Path

import pytest
from command import run

_COMMANDS = "train,evaluate,predict,runs,data,check"
_SETS = "digits, mnist, fashion_mnist, cifar10, fsdd, adrenalmnist3d, hippocampus"
_ABOVE_0 = "argument --learning-rate: give a number above 0, not "
BAD = [
    (["fly"], f"argument {{{_COMMANDS}}}: invalid choice: 'fly' (choose from {_COMMANDS.replace(',', ', ')})"),
    (["train"], "the following arguments are required: DATA"),
    (
        ["train", "imagenet"],
        f"argument DATA: give one of {_SETS} or a folder of images in class folders, not 'imagenet'",
    ),
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
    (["train", "digits", "--learning-rate", "nan"], _ABOVE_0 + "'nan'"),
    (["train", "digits", "--learning-rate", "inf"], _ABOVE_0 + "'inf'"),
    (["train", "digits", "--learning-rate", "-1"], _ABOVE_0 + "'-1'"),
    (["train", "digits", "--learning-rate", "-1e-3"], _ABOVE_0 + "'-1e-3'"),
    (["train", "digits", "--learning-rate", "-inf"], _ABOVE_0 + "'-inf'"),
    (["train", "digits", "--learning-rate", "fast"], _ABOVE_0 + "'fast'"),
    (["train", "digits", "--momentum", "9"], "argument --momentum: give a number from 0 to 1, not '9'"),
    (["train", "digits", "--batch-size", "0"], "argument --batch-size: give a whole number of at least 1, not '0'"),
    (
        ["train", "digits", "--batch-size", "1439"],
        "argument --batch-size: give at most 1438, the training examples, not ",
    ),
    (
        ["train", "digits", "--batch-size", "1400", "--patience", "2"],
        "argument --batch-size: give at most 1151, the training examples, not 1400",
    ),
    (
        ["train", "digits", "--momentum", "1"],
        "argument --momentum: train.optimizer: momentum must be a number",
    ),
    (
        ["train", "digits", "--warmup", "100", "--epochs", "1"],
        "argument --warmup: give epochs with fewer updates than the 22 of the run, not 100 with 22",
    ),
    (
        ["train", "digits", "--accumulate", "1000", "--epochs", "1"],
        "argument --accumulate: give at most 22, the steps of the run, not 1000",
    ),
    (
        ["train", "digits", "--schedule", "one_cycle", "--batch-size", "1437", "--epochs", "1"],
        "argument --schedule: give one for the run's single update of the parameters, not one_cycle",
    ),
    (
        ["train", "digits", "--model", "unet(depth=1, width=1)"],
        "argument --model: give one that makes (64, 10) of (64, 8, 8, 1), not (64, 8, 8, 10) as unet(depth=1, width=1)",
    ),
    (["train", "digits", "--augment", "flip:0:1:2"], "argument --augment: augment.flip: "),
    (["train", "digits", "--augment", "crop:0:4x4"], "argument --augment: nn.dense: x must be [N, 64]"),
    (["train", "digits", "--save-steps", "0"], "argument --save-steps: give a whole number of at least 1, not '0'"),
    (["train", "digits", "--seed", "-1"], "argument --seed: give a whole number from 0 to 4294967295, not '-1'"),
    (["train", "digits", "--seed", "4294967296"], "argument --seed: give a whole number from 0 to 4294967295, not"),
    (["train", "digits", "--out", ""], "argument --out: give a folder, not ''"),
    (["train", "digits", "--out", "file"], "argument --out: give a folder that can be made, not 'file' (File exists)"),
    (["train", "digits", "--out", "file/run"], "argument --out: give a folder that can be made, not 'file/run' (Not a"),
    (
        ["train", "digits", "--out", "run"],
        "out must be a new folder or that of a run that can go on, got 'run', which ho",
    ),
    (["train", "digits", "--two\nlines"], "unrecognized arguments: --two lines"),
    (
        ["train", "digits", "--model", "alexnet"],
        "argument --model: give one of audio_cnn, convnext, digits_cnn, lenet, ",
    ),
    (["train", "digits", "--model", "lenet(3, 4, 5)"], "argument --model: 'lenet(3, 4, 5)' is no call of nn.lenet: "),
    (["train", "digits", "--model", "open('x')"], "argument --model: give one of audio_cnn, "),
    (["train", "digits", "--model", "lenet(width=print)"], "argument --model: give a name or a call with numbers, as "),
    (["train", "digits", "--model", "vgg"], "argument --model: "),
    (["train", "digits", "--augment", "flop"], "argument --augment: augment.by_names: names must be one of 'flip', "),
    (["train", "digits", "--optimizer", "sdg"], "argument --optimizer: invalid choice: 'sdg' (choose from sgd, adam, "),
    (["evaluate", "nowhere"], "argument RUN: "),
    (["predict", "run"], "the following arguments are required: FILE"),
    (["predict", "run", "file"], "argument RUN: "),
    (["runs", "nowhere"], "argument FOLDER: give a folder that is there, not 'nowhere'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) or "nothing" for arguments, _ in BAD])
def test_bad_arguments_end_in_one_line(folder, tiny_model, capsys, arguments, message):
    Path("file").write_text("")
    Path("run").mkdir()
    Path("run/metrics.jsonl").write_text("{}\n")
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    said = captured.err if message.startswith("out must") else captured.err.splitlines(keepends=True)[-1]
    assert captured.err.count("\n") == 1 + message.startswith("out must")  # the first line says what the data are
    without_quoted_choices = re.sub(r"choose from .*\)", lambda said: said[0].replace("'", ""), said)
    name = next((f"jaxcnn {name}" for name in arguments[:1] if name in _COMMANDS.split(",")), "jaxcnn")
    assert f"{name}: {message}" in without_quoted_choices
    assert sorted(path.name for path in folder.iterdir()) == ["file", "run"]
    assert Path("run/metrics.jsonl").read_text() == "{}\n"


@pytest.mark.parametrize(
    ("module", "package"), [("sklearn.datasets", "scikit-learn"), ("safetensors.numpy", "safetensors")]
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
        assert "train a network on a data set" in capsys.readouterr().out
    assert run("train", "--help") == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--out", "--epochs", "--learning-rate", "--batch-size", "--seed"))
