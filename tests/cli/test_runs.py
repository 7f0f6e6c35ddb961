"""`jaxcnn runs`."""

import json

import pytest
from command import run

ODD = {
    "a-1": ({"dataset": "/x/pets", "epochs": [2]}, {"test_loss": 1, "test_accuracy": None, "test_auc": "high"}),
    "a-2": ([1], {}),
    "a-3": ({}, 3),
    "a-10": ({"model": "m"}, {"test_loss": float("nan"), "seconds": None, "epoch": {}}),
    "b-²": ({}, {"test_loss": True, "seconds": "long"}),
}


def test_one_odd_run_does_not_hide_the_others(folder, capsys):
    for name, contents in ODD.items():
        (folder / name).mkdir()
        for file, value in zip(("config.json", "metrics.jsonl"), contents, strict=True):
            (folder / name / file).write_text(json.dumps(value))
    (folder / "c").mkdir()
    (folder / "c" / "config.json").write_bytes(b"[" * 100_000)
    assert run("runs", ".") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == [*ODD, "c"]
    assert " ".join(rows[0]) == "a-1 pets 0/[2] accuracy unknown, AUC unknown can go on"
    for row, file in zip(rows[1:3], ("config.json", "metrics.jsonl"), strict=True):
        assert row[-5:] == ["damaged:", file, "holds", "no", "object"]
    assert run("runs", ".", "--json") == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found[3]["metrics"] == {"test_loss": None, "seconds": None, "epoch": {}}
