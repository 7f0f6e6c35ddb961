"""`jaxcnn runs`: the runs in a folder, and how they went."""

import argparse
import json
from pathlib import Path
from typing import Any

from jaxcnn.cli.output import say
from jaxcnn.cli.parser import folder
from jaxcnn.cli.task import said
from jaxcnn.train.folder import state_of


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of another parser; it sets `run`, a function that returns the exit code."""
    parser = commands.add_parser(
        "runs", help="list runs", description="Lists the runs in a folder, and how they went.", allow_abbrev=False
    )
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", type=folder, default=Path("runs"), help="(default: runs)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_runs, parser=parser)


def _runs(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    if not chosen.folder.is_dir():
        parser.error(f"argument FOLDER: give a folder that is there, not {str(chosen.folder)!r}")
    found = [_run(path.parent) for path in sorted(chosen.folder.glob("*/config.json"), key=_natural)]
    if chosen.json:
        say(json.dumps(found, allow_nan=False))
    elif not found:
        say(f"there are no runs in {chosen.folder}")
    else:
        rows = [["run", "data", "model", "epochs", "result", "seconds", ""], *map(_row, found)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            say("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _natural(path: Path) -> list[Any]:
    """Numbers in names in their order: digits-2 before digits-10."""
    parts = path.parent.name.split("-")
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _run(path: Path) -> dict[str, Any]:
    """What config.json and metrics.jsonl of a run say."""
    try:
        config = _object(path / "config.json", (path / "config.json").read_text())
        lines = (path / "metrics.jsonl").read_text().splitlines() if (path / "metrics.jsonl").exists() else []
        metrics = _object(path / "metrics.jsonl", lines[-1]) if lines else {}
        state = state_of(path)
    except (AttributeError, OSError, RecursionError, TypeError, ValueError) as error:
        return {"run": str(path), "state": f"damaged: {' '.join(str(error).split())}"}
    return {"run": str(path), "state": state, "config": config, "metrics": metrics}


def _object(path: Path, text: str) -> dict[str, Any]:
    """An object of JSON; NaN and the like, which JSON has not, are null."""
    value = json.loads(text, parse_constant=lambda _: None)
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds no object")
    return value


def _row(run: dict[str, Any]) -> list[str]:
    config, metrics = run.get("config", {}), run.get("metrics", {})
    names = {name.removeprefix("test_"): value for name, value in metrics.items() if name.startswith("test_")}
    result = said({name: value for name, value in names.items() if name != "loss"} or names)
    epochs = f"{metrics.get('epoch', 0)}/{config.get('epochs', '?')}"
    seconds = metrics.get("seconds", "")
    seconds = f"{seconds:.0f}" if isinstance(seconds, int | float) else str(seconds)
    data, model = Path(str(config.get("dataset", ""))).name, str(config.get("model", ""))
    return [run["run"], data, model, epochs, result, seconds, run["state"]]
