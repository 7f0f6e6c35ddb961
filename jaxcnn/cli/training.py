"""`jaxcnn train`: a data set, a recipe, a run in a folder."""

import argparse
import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from jaxcnn import data
from jaxcnn.cli.job import Job
from jaxcnn.cli.options import OptionError
from jaxcnn.cli.output import say
from jaxcnn.cli.parser import folder, number, whole_number
from jaxcnn.cli.recipes import MODELS, RECIPES, Recipe
from jaxcnn.train.checkpoint import require_safetensors
from jaxcnn.train.interrupts import INTERRUPTED, TERMINATED
from jaxcnn.train.optimizers import OPTIMIZERS, SCHEDULES
from jaxcnn.train.step import STORED
from jaxcnn.train.terminal import tell

_OPTIONS: tuple[tuple[str, Any, str, str], ...] = (
    ("--model", str, "NAME", "a network, or a call of one: " + ", ".join(MODELS)),
    ("--epochs", whole_number(1, 1_000_000), "N", "how often each example is seen"),
    ("--batch-size", whole_number(1), "N", "examples in a step"),
    ("--optimizer", OPTIMIZERS, "NAME", ", ".join(OPTIMIZERS)),
    ("--learning-rate", number(0, above=True), "X", "the largest one of the schedule"),
    ("--schedule", SCHEDULES, "NAME", "of the learning rate: " + ", ".join(SCHEDULES)),
    ("--warmup", number(0), "X", "epochs in which the learning rate rises"),
    ("--momentum", number(0, 1), "X", "of the optimizer"),
    ("--weight-decay", number(0), "X", "of the weights"),
    (
        "--augment",
        str,
        "NAME,...",
        "such as flip,shift:2,cutout:8, or none: " + ", ".join(data.augment.NAMES),
    ),
    ("--label-smoothing", number(0, 1), "X", "share of a label that is spread over all classes"),
    ("--class-weights", None, "", "let classes count by the reciprocal of their number"),
    ("--ema", number(0, 1), "X", "decay of the average of the parameters"),
    ("--clip", number(0, above=True), "X", "largest norm of the gradient"),
    ("--accumulate", whole_number(1), "N", "steps whose gradients are averaged before an update"),
    ("--precision", ("float32", "bfloat16", "float16"), "NAME", "of the arithmetic: float32, bfloat16, float16"),
    ("--per-example", None, "", "standardize each example by itself"),
    ("--patience", whole_number(1), "N", "epochs without a better validation loss after which it stops"),
)


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of another parser; it sets `run`, a function that returns the exit code."""
    parser = commands.add_parser(
        "train",
        help="train a network on a data set",
        description="Trains a network on a data set and tests it on the examples that are held out. What is not given "
        "comes from the recipe of the data set. The run folder holds config.json, metrics.jsonl, checkpoints and "
        "model. The same command on the same folder goes on where the run was stopped.",
        allow_abbrev=False,
    )
    names = ",".join(name for name in data.NAMES if name != "folder")
    parser.add_argument("dataset", metavar="DATA", help=f"{names}, or a folder of images in class folders")
    parser.add_argument(
        "--out", type=folder, metavar="DIR", help="the run folder (default: the next of runs/DATA-1, ...)"
    )
    parser.add_argument("--root", type=folder, metavar="DIR", help="where the files of data sets are")
    for option, kind, metavar, text in _OPTIONS:
        if kind is None:
            parser.add_argument(option, action="store_true", default=None, help=text)
        elif isinstance(kind, tuple):
            parser.add_argument(option, choices=kind, metavar=metavar, help=text)
        else:
            parser.add_argument(option, type=kind, metavar=metavar, help=text)
    parser.add_argument(
        "--seed",
        type=whole_number(0, 2**32 - 1),
        default=0,
        metavar="N",
        help="of the parameters, the order of the examples, augmentation and dropout (default: %(default)s)",
    )
    parser.add_argument(
        "--save-every",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="epochs between two checkpoints (default: %(default)s)",
    )
    parser.add_argument(
        "--save-steps", type=whole_number(1), metavar="N", help="steps between two checkpoints within an epoch"
    )
    parser.add_argument(
        "--stored",
        choices=STORED,
        default=STORED[0],
        metavar="NAME",
        help="what a step stores for its backward pass: everything, or convolutions, which takes less memory on a GPU "
        "(default: %(default)s)",
    )
    parser.set_defaults(run=_train, parser=parser)


def _train(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    try:
        require_safetensors()
        dataset = dataset_of(parser, chosen.dataset, chosen.root)
    except ImportError as error:
        parser.error(str(error))
    except data.DataError as error:
        tell(f"{parser.prog}: {error}")
        return 1
    given = {field.name: getattr(chosen, field.name) for field in fields(Recipe)}
    recipe = replace(RECIPES[dataset.name], **{name: value for name, value in given.items() if value is not None})
    try:
        job = Job(dataset, recipe, chosen.seed, chosen.stored)
    except OptionError as error:
        parser.error(str(error))
    except data.DataError as error:
        tell(f"{parser.prog}: {error}")
        return 1
    name = str(Path(chosen.dataset).resolve()) if dataset.name == "folder" else dataset.name
    config = {"dataset": name, **asdict(recipe), "seed": chosen.seed, "stored": chosen.stored}
    with _claimed(parser, Path(name).name or "folder", chosen.out) as out:
        try:
            result = job.run(out, config, chosen.save_every, chosen.save_steps)
        except KeyboardInterrupt as error:
            _tell_end(parser, "interrupted", out, error)
            return INTERRUPTED
        except SystemExit as error:
            _tell_end(parser, "terminated", out, error)
            return TERMINATED if error.code == TERMINATED else 1
        except (FileExistsError, BlockingIOError, ValueError) as error:
            if not str(error).startswith("train.fit: "):
                raise
            parser.error(str(error).removeprefix("train.fit: "))
        except (FloatingPointError, OSError) as error:
            for line in (str(error), *_notes(error)):
                tell(f"{parser.prog}: {line.removeprefix('train.fit: ')}")
            return 1
    say(f"{result}; the model and its metrics are in {out}")
    return 0


def _notes(error: BaseException) -> list[str]:
    """What could not be saved when the error left."""
    return getattr(error, "__notes__", [])


def _tell_end(parser: argparse.ArgumentParser, how: str, out: Path, error: BaseException) -> None:
    """How the run ended, and whether it can go on from there."""
    notes = _notes(error)
    is_saved = not notes and (out / "config.json").exists()
    tell(f"{parser.prog}: {how}" + (f"; the same command with --out {out} goes on" if is_saved else ""))
    for note in notes:
        tell(f"{parser.prog}: {note.removeprefix('train.fit: ')}")


def dataset_of(parser: argparse.ArgumentParser, name: str, root: Path | None) -> data.Dataset:
    """A data set by its name or folder."""
    if name in data.NAMES and name != "folder":
        return data.load(name, root)
    if not Path(name).is_dir():
        names = ", ".join(each for each in data.NAMES if each != "folder")
        parser.error(f"argument DATA: give one of {names} or a folder of images in class folders, not {name!r}")
    return data.load("folder", name)


@contextlib.contextmanager
def _claimed(parser: argparse.ArgumentParser, name: str, out: Path | None) -> Iterator[Path]:
    """The folder of the run, made if it is not there, and removed if nothing comes into it."""
    try:
        if out is None:
            Path("runs").mkdir(exist_ok=True)
            out = _next_folder(Path("runs"), name)
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --out: give a folder that can be made, not {error.filename!r} ({error.strerror})")
    try:
        if not os.access(out, os.W_OK | os.X_OK):
            parser.error(f"argument --out: give a folder that can be written, not {str(out)!r}")
        yield out
    finally:
        with contextlib.suppress(OSError):  # it is not empty
            out.rmdir()


def _next_folder(runs: Path, name: str) -> Path:
    number = 1
    while True:
        try:
            (runs / f"{name}-{number}").mkdir()
            return runs / f"{name}-{number}"
        except FileExistsError:
            number += 1
