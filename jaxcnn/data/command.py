"""`jaxcnn data`: the data sets from the shell."""

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from jaxcnn.data.datasets import NAMES, Dataset, fetched, load, published, verified
from jaxcnn.data.errors import DataError
from jaxcnn.data.files import is_complete, located, megabytes
from jaxcnn.data.sources import SOURCES, Source

_PUBLISHED = tuple(source.name for source in SOURCES)


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of another parser.

    The command sets `run`, a function of the parser and of what it parsed. `run` returns the exit code: 0 if all is
    well; 1, with one line on stderr, where files are missing or damaged, and 1 as well where `check` found something.
    """
    parser = commands.add_parser(
        "data",
        help="list, fetch, verify and check data sets",
        description="Data sets: which there are, their files, and what is odd in them. Files are looked for in --root, "
        "in $JAXCNN_DATA and in ~/.cache/jaxcnn.",
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(title="actions", metavar="{list,fetch,verify,check}", required=True)
    for name, run, text in (
        ("list", _list, "say which data sets there are, and where"),
        ("fetch", _fetch, "bring the files of a data set from its publisher"),
        ("verify", _verify, "compare the files of a data set with their published digests"),
        ("check", _check, "look for duplicates, empty images, bad labels and the like"),
    ):
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
        if name in ("fetch", "verify"):
            names = "{" + ",".join(_PUBLISHED) + "}"
            action.add_argument("name", metavar=names, choices=_PUBLISHED, help="the data set")
        elif name == "check":
            action.add_argument(
                "name", metavar="NAME|FOLDER", help="a data set, or a folder of images in class folders"
            )
        action.add_argument("--root", type=_folder, metavar="DIR", help="where the folders of the data sets are")
        action.set_defaults(run=run, parser=action)


def _folder(text: str) -> Path:
    if text == "":
        raise argparse.ArgumentTypeError("give a folder, not ''")
    return Path(text)


def _list(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    rows = [("digits", "1,797 handwritten digits, 8x8", "", "CC BY 4.0", "part of scikit-learn")]
    for source in SOURCES:
        rows.append((source.name, source.about, megabytes(source.size), source.licence, _place(source, chosen.root)))
    rows.append(("folder", "your images in class folders", "", "", "the folder that you name"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    _tell("\n".join(lines))
    return 0


def _place(source: Source, root: Path | None) -> str:
    """Where a data set is; its files are counted, not compared."""
    folders = located(source, root)
    whole = next((folder for folder in folders if is_complete(source, folder)), None)
    if whole is not None:
        return str(whole)
    return (f"incomplete in {folders[0]}" if folders else "not here") + f": jaxcnn data fetch {source.name}"


def _fetch(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    source = published(chosen.name)
    try:
        folder = fetched(source, chosen.root)
    except DataError as error:
        return _failed(parser, error)
    _tell(f"{source.name} is in {folder} ({source.licence})")
    return 0


def _verify(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    source = published(chosen.name)
    try:
        folder = verified(source, chosen.root)
    except DataError as error:
        return _failed(parser, error)
    count = len(source.files) + (source.group.count if source.group else 0)
    _tell(f"{source.name}: {count:,} file{'s' * (count > 1)} in {folder} as published")
    return 0


def _check(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    try:
        dataset = _loaded(parser, chosen)
        # The package, not the module: `inspect` is in another one, and this one is imported by all of them.
        report = importlib.import_module("jaxcnn.data").inspect(dataset)
    except DataError as error:
        return _failed(parser, error)
    except ImportError as error:
        parser.error(str(error))
    _tell(str(report))
    return 0 if report else 1


def _loaded(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> Dataset:
    if chosen.name in NAMES and chosen.name != "folder":
        return load(chosen.name, chosen.root)
    if not Path(chosen.name).is_dir():
        known = ", ".join(name for name in NAMES if name != "folder")
        parser.error(f"argument NAME|FOLDER: give a folder or one of {known}, not {chosen.name!r}")
    return load("folder", chosen.name)


def _failed(parser: argparse.ArgumentParser, error: DataError) -> int:
    if sys.stderr is not None:
        print(f"{parser.prog}: {error}", file=sys.stderr, flush=True)
    return 1


def _tell(text: str) -> None:
    """Prints; nobody may read it, as behind `| head`."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
