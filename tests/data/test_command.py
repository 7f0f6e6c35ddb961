"""`jaxcnn data`."""

import hashlib
import re

import numpy as np
import pytest
from PIL import Image

import jaxcnn.data
from jaxcnn import cli
from jaxcnn.data import command, datasets
from jaxcnn.data.sources import File, Source

CONTENT = b"content"


def run(*arguments):
    """The exit code of `jaxcnn data`."""
    try:
        return cli.main(["data", *map(str, arguments)])
    except SystemExit as stop:
        return stop.code


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXCNN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_list_says_what_there_is_and_where(places, small, monkeypatch, capsys):
    (places / "data" / "fsdd" / "recordings").mkdir(parents=True)
    (places / "data" / "fsdd" / "recordings" / "0_theo_0.wav").write_bytes(b"")
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(jaxcnn.data.NAMES)
    assert re.fullmatch(r"mnist .* 11.6 MB +CC BY-SA 3.0 +not here: jaxcnn data fetch mnist", lines[1])
    assert lines[4].endswith(f"  incomplete in {places / 'data' / 'fsdd'}: jaxcnn data fetch fsdd")
    monkeypatch.setattr(command, "SOURCES", (small,))
    for place, size in (("data", 6), ("cache/jaxcnn", 7)):
        (places / place / "small").mkdir(parents=True)
        (places / place / "small" / "a").write_bytes(bytes(size))
    assert run("list") == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(f"  {places / 'cache' / 'jaxcnn' / 'small'}")


@pytest.fixture
def small(monkeypatch):
    """A data set of one file in place of one that is published."""
    source = Source(
        "mnist", "", "small", "MIT", (File("a", 7, hashlib.sha256(CONTENT).hexdigest(), "http://localhost:9/a"),)
    )
    for module in (datasets, command):
        monkeypatch.setattr(module, "published", lambda name: source)
    return source


def test_verify_and_fetch_of_what_is_there(places, small, capsys):
    folder = places / "data" / "small"
    for each in (folder, places / "root" / "small"):
        each.mkdir(parents=True)
    (folder / "a").write_bytes(CONTENT)
    assert run("verify", "mnist") == 0
    (places / "root" / "small" / "a").write_bytes(b"damaged")  # does not hide the one that is whole
    assert run("fetch", "mnist", "--root", places / "root") == 0
    out, err = capsys.readouterr()
    assert out == f"mnist: 1 file in {folder} as published\nmnist is in {folder} (MIT)\n"
    assert err == ""


def test_what_is_damaged_or_cannot_be_fetched_is_one_line(places, small, monkeypatch, capsys):
    monkeypatch.setattr(datasets, "fetch", lambda source, folder: fetch(source, folder, pauses=()))
    fetch = jaxcnn.data.download.fetch
    assert run("verify", "mnist") == 1
    folder = places / "data" / "small"
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(b"contenx")
    assert run("verify", "mnist") == 1
    assert run("fetch", "mnist") == 1
    out, err = capsys.readouterr()
    missing, damaged, unreachable = err.splitlines()
    assert out == ""
    assert missing.startswith(f"jaxcnn data verify: mnist: expected its files in one of {folder}, ")
    assert damaged.startswith(f"jaxcnn data verify: {folder / 'a'}: expected the digest ed7002b4")
    assert unreachable == "jaxcnn data fetch: http://localhost:9/a: expected a file, found: Connection refused"


def test_check_prints_the_report_of_a_folder_or_a_data_set(places, monkeypatch, capsys):
    seen = []

    class Report(list):
        def __str__(self):
            return "report"

    def inspect(dataset):
        seen.append(dataset)
        return Report([1] * (dataset.name == "digits"))

    monkeypatch.setattr(jaxcnn.data, "inspect", inspect, raising=False)
    for name in "ab":
        (places / "images" / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(np.full((2, 2), number, np.uint8)).save(places / "images" / name / f"{number}.png")
    assert run("check", places / "images") == 1
    assert run("check", "digits") == 0
    assert [dataset.name for dataset in seen] == ["folder", "digits"]
    assert capsys.readouterr().out == "report\nreport\n"
    (places / "images" / "b" / "0.png").write_bytes(b"text")
    assert run("check", places / "images") == 1
    assert re.fullmatch(r"jaxcnn data check: .*/b/0.png: expected a whole image .*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], ": the following arguments are required: {list,fetch,verify,check}"),
        (["fly"], ": argument {list,fetch,verify,check}: invalid choice: 'fly'"),
        (
            ["fetch", "digits"],
            " fetch: argument {mnist,fashion_mnist,cifar10,fsdd,adrenalmnist3d,hippocampus}: invalid",
        ),
        (["list", "--root", ""], " list: argument --root: give a folder, not ''"),
        (["check", "mnits"], " check: argument NAME|FOLDER: give a folder or one of digits, mnist,"),
        (["list", "--rot", "x"], " list: unrecognized arguments: --rot: did you mean --root?"),
    ],
)
def test_bad_arguments_end_in_one_line(places, capsys, arguments, message):
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"jaxcnn data{message}")
