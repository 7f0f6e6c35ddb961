"""`jaxcnn evaluate` and `jaxcnn predict`: what the models of runs are good for."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn import data, nn, train
from jaxcnn.cli.examples import read_example
from jaxcnn.cli.output import say
from jaxcnn.cli.parser import folder, whole_number
from jaxcnn.cli.task import loss_of, metrics_of, output_of, said
from jaxcnn.cli.training import dataset_of
from jaxcnn.train.terminal import tell


def add_to(commands: Any) -> None:
    """Adds the commands to the subparsers of another parser; each sets `run`, which returns the exit code."""
    evaluate = commands.add_parser(
        "evaluate",
        help="test the model of a run",
        description="Tests the model of a run on the examples of its data set, or of another one, that are held out.",
        allow_abbrev=False,
    )
    evaluate.add_argument("folder", metavar="RUN", type=folder, help="the run folder, or a model folder")
    evaluate.add_argument(
        "dataset", metavar="DATA", nargs="?", help="a data set or a folder (default: that of the run)"
    )
    evaluate.add_argument("--root", type=folder, metavar="DIR", help="where the files of data sets are")
    predict = commands.add_parser(
        "predict",
        help="ask the model of a run about files",
        description="Says what the model of a run makes of images (png, jpg, bmp, webp, gif), sounds (wav), volumes "
        "(nii, nii.gz) or arrays (npy), raw as they are. A line on stderr says which file is no example for it.",
        allow_abbrev=False,
    )
    predict.add_argument("folder", metavar="RUN", type=folder, help="the run folder, or a model folder")
    predict.add_argument("files", metavar="FILE", nargs="+", type=Path, help="an example each")
    predict.add_argument("--top", type=whole_number(1), default=3, metavar="N", help="classes to show (default: 3)")
    for parser, run in ((evaluate, _evaluate), (predict, _predict)):
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.set_defaults(run=run, parser=parser)


def _loaded(parser: argparse.ArgumentParser, path: Path) -> train.Trained:
    try:
        return train.load(path)
    except ImportError as error:
        parser.error(str(error))
    except (ValueError, OSError) as error:
        parser.error(f"argument RUN: {str(error).removeprefix('train.load: ')}")


def _evaluate(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    trained = _loaded(parser, chosen.folder)
    name = chosen.dataset or _own_data(chosen.folder, trained)
    if name is None:
        parser.error("the following arguments are required: DATA")
    try:
        dataset = dataset_of(parser, name, chosen.root)
        _require_fit(parser, trained, dataset)
        x = dataset.test_x
        if trained.standardization is not None:
            x = data.standardize(x, *trained.standardization)
        options = {"loss": loss_of(dataset), "metrics": metrics_of(dataset)}
        loss, values = train.evaluate(trained.model, trained, x, dataset.test_y, **options)
        if not np.isfinite([loss, *values.values()]).all():
            raise ValueError(f"the loss is {loss}, as examples or outputs of the model are not finite")
    except ImportError as error:
        parser.error(str(error))
    except (OSError, TypeError, ValueError) as error:
        tell(f"{parser.prog}: {error}")
        return 1
    if chosen.json:
        say(json.dumps({"dataset": name, "examples": len(x), "loss": loss, **values}, allow_nan=False))
    else:
        say(f"{name}: {said(values)}, loss {loss:.4f} on {len(x)} held-out examples")
    return 0


def _own_data(path: Path, trained: train.Trained) -> str | None:
    """The data set of a run, by name; if it is a folder, where that is."""
    extra = trained.extra if isinstance(trained.extra, dict) else {}
    name = extra.get("dataset")
    if name == "folder":
        try:
            name = json.loads((path / "config.json").read_text())["dataset"]
        except (KeyError, OSError, TypeError, ValueError):
            name = None
    return name if isinstance(name, str) else None


def _require_fit(parser: argparse.ArgumentParser, trained: train.Trained, dataset: data.Dataset) -> None:
    """An error of DATA unless its examples and classes are such as the model was trained on."""
    x, shape, names = dataset.test_x, trained.input_shape, trained.class_names
    if names and dataset.class_names and names != dataset.class_names:
        expected, got = _listed(names), _listed(dataset.class_names)
        parser.error(f"argument DATA: give a data set of the model's classes, {expected}, not of {got}")
    if shape is not None and x.shape[1:] != shape[1:]:
        parser.error(f"argument DATA: give examples {list(shape[1:])} as the model's, not {list(x.shape[1:])}")
    output, expected = nn.output_shape(trained.model, (1, *x.shape[1:])), output_of(dataset, 1)
    if output != expected:
        parser.error(f"argument DATA: give a data set for the model's outputs {output}, not for {expected}")


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _predict(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    trained = _loaded(parser, chosen.folder)
    failed = 0
    for path in chosen.files:
        try:
            shares = _shares(path, trained, lambda note, path=path: tell(f"{parser.prog}: {path}: {note}"))
        except (ImportError, MemoryError, OSError, TypeError, ValueError) as error:
            text = " ".join(str(error).split())
            tell(f"{parser.prog}: {text if text.startswith(f'{path}: ') else f'{path}: {text}'}")
            failed = 1
            continue
        best = sorted(shares, key=lambda name: -shares[name])
        if chosen.json:
            say(json.dumps({"file": str(path), "class": best[0], "probabilities": shares}, allow_nan=False))
        else:
            say(f"{path}: " + ", ".join(f"{name} {shares[name]:.1%}" for name in best[: chosen.top]))
    return failed


def _shares(path: Path, trained: train.Trained, note: Callable[[str], None]) -> dict[str, float]:
    """How probable each class is for a file; of a segmentation, the share of its places that have it."""
    x, inside = read_example(path, trained, note)
    with np.errstate(invalid="ignore", over="ignore"):
        probabilities = trained.probabilities(x[None])
    if not isinstance(probabilities, np.ndarray) or not np.isfinite(probabilities).all():
        raise ValueError("expected a model with finite logits, found another")
    probabilities = probabilities[0]
    names = trained.class_names or tuple(map(str, range(probabilities.shape[-1])))
    if probabilities.ndim > 1:  # a class for each place
        found = probabilities.argmax(-1)
        found = found.ravel() if inside is None else found[inside]
        probabilities = np.bincount(found, minlength=len(names)) / found.size
    return dict(zip(names, map(float, probabilities), strict=True))
