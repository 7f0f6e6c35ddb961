"""The recipe of every data set takes its files, in a run of one epoch over a few examples with a small network."""

import dataclasses
import json
import os

import numpy as np
import pytest

from jaxcnn import cli, data, train
from jaxcnn.cli import training

NAMES = ["mnist", "fashion_mnist", "fsdd", "adrenalmnist3d", "hippocampus"]


def few(dataset):
    """Examples from all over the data set, of volumes a corner: 16 to train on, and 12 or 2 to evaluate."""

    def part(name, count):
        array = getattr(dataset, name)
        corner = (slice(None), slice(32), slice(48), slice(32)) if dataset.task == "segmentation" else ()
        return None if array is None else array[:: len(array) // count][:count][corner]

    held_out = 2 if dataset.task == "segmentation" else 12
    counts = {"train": 16, "validation": held_out, "test": held_out}
    arrays = {f"{name}_{each}": part(f"{name}_{each}", count) for name, count in counts.items() for each in "xy"}
    return dataclasses.replace(dataset, **arrays)


@pytest.mark.skipif("JAXCNN_DATA" not in os.environ, reason="set JAXCNN_DATA to the folder of the data sets")
@pytest.mark.parametrize("name", NAMES)
def test_a_short_run_of_a_recipe(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(training, "dataset_of", lambda parser, name, root: few(data.load(name, root)))
    model = "unet(depth=1, width=1)" if name == "hippocampus" else "plain_cnn(stem=(2, 5, 4, 4), stages=((2,),))"
    options = ["--model", model, "--epochs", "1", "--batch-size", "8", "--out", str(tmp_path)]
    assert cli.main(["train", name, *options]) == 0
    (line,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    metrics = {"hippocampus": ["dice"], "adrenalmnist3d": ["accuracy", "auc", "balanced_accuracy"]}
    assert [each for each in line if each.startswith("test_")] == [
        f"test_{metric}" for metric in ("loss", *metrics.get(name, ["accuracy"]))
    ]
    assert all(np.isfinite(value) for value in line.values())
    assert train.load(tmp_path).extra.get("sample_rate") == {"fsdd": 8000}.get(name)
    assert f"{tmp_path}\n" in capsys.readouterr().out
