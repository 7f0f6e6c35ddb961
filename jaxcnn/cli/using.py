"""`jaxcnn evaluate`, `jaxcnn predict` and `jaxcnn runs`: what runs have left, and what their models are good for."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn import data, train
from jaxcnn.cli.parser import folder, whole_number
from jaxcnn.cli.task import loss_of, metrics_of, said
from jaxcnn.cli.training import dataset_of
from jaxcnn.train.folder import state_of
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
        "(nii, nii.gz) or arrays (npy), raw as they are.",
        allow_abbrev=False,
    )
    predict.add_argument("folder", metavar="RUN", type=folder, help="the run folder, or a model folder")
    predict.add_argument("files", metavar="FILE", nargs="+", type=Path, help="an example each")
    predict.add_argument("--top", type=whole_number(1), default=3, metavar="N", help="classes to show (default: 3)")
    runs = commands.add_parser(
        "runs", help="list runs", description="Lists the runs in a folder, and how they went.", allow_abbrev=False
    )
    runs.add_argument("folder", metavar="FOLDER", nargs="?", type=folder, default=Path("runs"), help="(default: runs)")
    for parser, run in ((evaluate, _evaluate), (predict, _predict), (runs, _runs)):
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
    name = chosen.dataset or (trained.extra or {}).get("dataset")
    if name in (None, "folder"):
        parser.error("the following arguments are required: DATA")
    try:
        dataset = dataset_of(parser, name, chosen.root)
        x = dataset.test_x
        if trained.standardization is not None:
            x = data.standardize(x, *trained.standardization)
        options = {"loss": loss_of(dataset), "metrics": metrics_of(dataset)}
        loss, values = train.evaluate(trained.model, trained, x, dataset.test_y, **options)
    except (TypeError, ValueError) as error:
        tell(f"{parser.prog}: {error}")
        return 1
    if chosen.json:
        print(json.dumps({"dataset": name, "examples": len(x), "loss": loss, **values}))
    else:
        print(f"{name}: {said(values)}, loss {loss:.4f} on {len(x)} held-out examples")
    return 0


def _predict(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    trained = _loaded(parser, chosen.folder)
    failed = 0
    for path in chosen.files:
        try:
            x = _example(path, trained.input_shape)
            probabilities = trained.probabilities(x[None])[0]
        except (TypeError, ValueError) as error:
            tell(f"{parser.prog}: {path}: {error}")
            failed = 1
            continue
        names = trained.class_names or tuple(map(str, range(probabilities.shape[-1])))
        if probabilities.ndim > 1:  # a class for each place
            counts = np.bincount(probabilities.argmax(-1).ravel(), minlength=len(names))
            shares = {name: count / probabilities[..., 0].size for name, count in zip(names, counts, strict=True)}
        else:
            shares = dict(zip(names, map(float, probabilities), strict=True))
        best = sorted(shares, key=lambda name: -shares[name])
        if chosen.json:
            print(json.dumps({"file": str(path), "class": best[0], "probabilities": shares}))
        else:
            print(f"{path}: " + ", ".join(f"{name} {shares[name]:.1%}" for name in best[: chosen.top]))
    return failed


def _example(path: Path, shape: tuple[int, ...] | None) -> np.ndarray:
    """An example [*S, C] from a file, as the data set of the model has them."""
    size, channels = (None, None) if shape is None else (shape[1:-1], shape[-1])
    name = path.name.lower()
    if name.endswith(".wav"):
        x, _ = data.read_wav(path)
        x = x.reshape(len(x), -1)
    elif name.endswith((".nii", ".nii.gz")):
        x = data.read_nifti(path)[..., None].astype(np.float32)
    elif name.endswith(".npy"):
        x = np.load(path, allow_pickle=False)
        return x[..., None] if size is not None and x.ndim == len(size) else x
    else:
        height_width = None if size is None else (size[0], size[1])
        return data.read_image(path, channels=channels, size=height_width)
    if size is None:
        return x
    cut = x[tuple(map(slice, size))]
    return data.pad_to(cut, size)[0]


def _runs(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    if not chosen.folder.is_dir():
        parser.error(f"argument FOLDER: give a folder that is there, not {str(chosen.folder)!r}")
    found = [_run(path.parent) for path in sorted(chosen.folder.glob("*/config.json"), key=_natural)]
    if chosen.json:
        print(json.dumps(found))
    elif not found:
        print(f"there are no runs in {chosen.folder}")
    else:
        rows = [["run", "data", "model", "epochs", "result", "seconds", ""], *map(_row, found)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _natural(path: Path) -> list[Any]:
    """Numbers in names in their order: digits-2 before digits-10."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in path.parent.name.split("-")]


def _run(path: Path) -> dict[str, Any]:
    """What config.json and metrics.jsonl of a run say."""
    read: Callable[[str], Any] = json.loads
    try:
        config = read((path / "config.json").read_text())
        lines = (path / "metrics.jsonl").read_text().splitlines() if (path / "metrics.jsonl").exists() else []
        metrics = read(lines[-1]) if lines else {}
        state = state_of(path)
    except (OSError, ValueError) as error:
        return {"run": str(path), "state": f"damaged: {error}"}
    return {"run": str(path), "state": state, "config": config, "metrics": metrics}


def _row(run: dict[str, Any]) -> list[str]:
    config, metrics = run.get("config", {}), run.get("metrics", {})
    names = {name.removeprefix("test_"): value for name, value in metrics.items() if name.startswith("test_")}
    result = said({name: value for name, value in names.items() if name != "loss"} or names)
    epochs = f"{metrics.get('epoch', 0)}/{config.get('epochs', '?')}"
    seconds = f"{metrics['seconds']:.0f}" if "seconds" in metrics else ""
    shown = [str(config.get(name, "")) for name in ("dataset", "model")]
    return [run["run"], *shown, epochs, result, seconds, run["state"]]
