"""The command `jaxcnn`. What is wrong with the arguments is said in one line on stderr, with exit code 2."""

import argparse
import contextlib
import difflib
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import jax

from jaxcnn import data, nn, train
from jaxcnn.check import command
from jaxcnn.data import command as data_command
from jaxcnn.train.checkpoint import require_orbax
from jaxcnn.train.loop import tell

_INTERRUPTED = 130


# what options are called elsewhere
_ALIASES = {
    "lr": "learning-rate",
    "bs": "batch-size",
    "batch": "batch-size",
    "dir": "out",
    "output": "out",
    "rng": "seed",
}


class _Parser(argparse.ArgumentParser):
    """Ends in one line rather than in the usage and a line, and knows what an unknown option may have meant."""

    def __init__(self, **options: Any):
        self._known: list[str] = []
        self._with_value: list[str] = []
        self._has_commands = False
        super().__init__(**options)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        action = super().add_argument(*names, **options)
        self._known += action.option_strings
        self._with_value += action.option_strings if action.nargs != 0 else []
        return action

    def add_subparsers(self, **options: Any) -> Any:
        self._has_commands = True
        return super().add_subparsers(**options)

    def parse_known_args(self, args=None, namespace=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Unknown options are refused first: what follows one would be taken for something else."""
        args = self._joined(sys.argv[1:] if args is None else args)
        for argument in args:
            if argument == "--" or (self._has_commands and not argument.startswith("-")):
                break
            option = argument.partition("=")[0]
            if re.match("--?[a-zA-Z]", option) and option not in self._known:
                self.error(f"unrecognized arguments: {option}{self._meant(option)}")
        return super().parse_known_args(args, namespace)

    def _joined(self, args: Sequence[str]) -> list[str]:
        """A number below 0 behind an option is its value; argparse would take -1e-3 and -inf for options."""
        result = []
        for argument in args:
            is_below = re.match(r"-([\d.]|(inf|nan)$)", argument)
            if is_below and result and result[-1] in self._with_value:
                result[-1] += f"={argument}"
            else:
                result.append(argument)
        return result

    def _meant(self, option: str) -> str:
        name = option.lstrip("-").replace("_", "-").lower()
        known = [each.removeprefix("--") for each in self._known]
        alias = _ALIASES.get(name)
        longer = [each for each in known if each.startswith(name)]
        close = [alias] if alias in known else longer or difflib.get_close_matches(name, known, 1)
        return f": did you mean --{close[0]}?" if close else ""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: what comes behind `jaxcnn`, by default what the process was started with.

    Returns:
        The exit code: 0, 1 where a run fails or a gradient is wrong, 130 where it is interrupted. `jaxcnn` alone prints
        its help.

    Raises:
        SystemExit: with code 2 for bad arguments, with code 0 for --help and --version.
    """
    parser = _Parser(prog="jaxcnn", description="Convolutional networks in JAX whose backward pass is written out.")
    parser.add_argument("--version", action="version", version=f"jaxcnn {version('jaxcnn')}")
    commands = parser.add_subparsers(title="commands", metavar="{train,check,data}")
    train_parser = commands.add_parser(
        "train",
        help="train a small network on a data set",
        description="Trains a small convolutional network on a data set and tests it on the images that are held out. "
        "The run folder then holds metrics.jsonl, one object per epoch, and model, for jaxcnn.train.restore.",
        allow_abbrev=False,
    )
    _add_train_arguments(train_parser)
    train_parser.set_defaults(run=_train, parser=train_parser)
    command.add_to(commands)
    data_command.add_to(commands)
    chosen, others = parser.parse_known_args(arguments)
    if not hasattr(chosen, "run"):
        parser.print_help()
        return 0
    if others:
        chosen.parser.error(f"unrecognized arguments: {' '.join(others)}")
    try:
        code = chosen.run(chosen.parser, chosen)
    except KeyboardInterrupt:
        tell("jaxcnn: interrupted")
        code = _INTERRUPTED
    if code == _INTERRUPTED and arguments is None:
        # If the interrupt came while it compiled, jaxlib 0.10.2 crashes as the interpreter shuts down.
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        os._exit(code)
    return code


def _add_train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="{digits}", choices=("digits",), help="the data set")
    parser.add_argument(
        "--out", type=_folder, metavar="DIR", help="the run folder (default: the next of runs/NAME-1, -2, ...)"
    )
    for option, kind, default, text in (
        ("--epochs", _whole_number(1, 1_000_000), 20, "how often each image is seen"),
        ("--learning-rate", _learning_rate, 0.05, "of the first step; it falls to 0 along a cosine"),
        ("--batch-size", _whole_number(1), 64, "images in a step"),
        ("--seed", _whole_number(0, 2**32 - 1), 0, "of the parameters, the order of the images and dropout"),
    ):
        metavar = "X" if option == "--learning-rate" else "N"
        parser.add_argument(option, type=kind, default=default, metavar=metavar, help=f"{text} (default: %(default)s)")


def _whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    expected = f"of at least {low}" if high is None else f"from {low} to {high}"

    def parse(text):
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"give a whole number {expected}, not {text!r}")
        return value

    return parse


def _learning_rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"give a number above 0, not {text!r}")
    return value


def _folder(text: str) -> Path:
    if text == "":
        raise argparse.ArgumentTypeError("give a folder, not ''")
    return Path(text)


def _train(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    try:
        require_orbax()
        dataset = data.load(chosen.dataset)
    except ImportError as error:
        parser.error(str(error))
    images = len(dataset.train_x)
    if chosen.batch_size > images:
        parser.error(f"argument --batch-size: give at most {images}, the training images, not {chosen.batch_size}")
    out = _claimed_folder(parser, chosen.dataset, chosen.out)
    try:
        with _interrupts_kept() as interrupts:
            return _train_in(out, dataset, chosen, interrupts)
    except KeyboardInterrupt:
        tell(f"{parser.prog}: interrupted; the epochs until then are in {out}")
        return _INTERRUPTED
    except (FloatingPointError, OSError) as error:
        tell(f"{parser.prog}: {error}")
        return 1


def _claimed_folder(parser: argparse.ArgumentParser, dataset: str, out: Path | None) -> Path:
    """A folder for a new run, made if it is not there."""
    try:
        if out is None:
            Path("runs").mkdir(exist_ok=True)
            return _next_folder(Path("runs"), dataset)
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --out: give a folder that can be made, not {error.filename!r} ({error.strerror})")
    if not os.access(out, os.W_OK | os.X_OK):
        parser.error(f"argument --out: give a folder that can be written, not {str(out)!r}")
    if (out / "metrics.jsonl").exists() or (out / "model").exists():
        parser.error(f"argument --out: give a new folder, {str(out)!r} holds another run")
    return out


def _next_folder(runs: Path, dataset: str) -> Path:
    number = 1
    while True:
        folder = runs / f"{dataset}-{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


@contextlib.contextmanager
def _interrupts_kept() -> Iterator[list[int]]:
    """A list that gets every interrupt: one that comes while Python collects garbage, as often in tracing, is raised in
    a callback of JAX and lost. Python would print it."""
    interrupts, print_lost = [], sys.unraisablehook

    def keep(number, frame):
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    def print_others(lost):
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            print_lost(lost)

    usual, is_main_thread = signal.default_int_handler, threading.current_thread() is threading.main_thread()
    if signal.getsignal(signal.SIGINT) is not usual or not is_main_thread:
        yield interrupts
        return
    signal.signal(signal.SIGINT, keep)
    sys.unraisablehook = print_others
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, usual)
        sys.unraisablehook = print_lost


def _train_in(out: Path, dataset: data.Dataset, chosen: argparse.Namespace, interrupts: list[int]) -> int:
    mean, std = data.fit_standardization(dataset.train_x)
    train_x, test_x = (data.standardize(x, mean, std) for x in (dataset.train_x, dataset.test_x))
    model = nn.digits_cnn(dataset.classes)
    steps = chosen.epochs * (len(train_x) // chosen.batch_size)
    optimizer = train.sgd(train.cosine_decay_schedule(chosen.learning_rate, steps), weight_decay=5e-4)
    state = train.init(model, optimizer, jax.random.key(chosen.seed), train_x.shape)
    parameters = nn.count_parameters(state.params)
    images = f"{len(train_x)} images to train on, {len(test_x)} held out"
    tell(f"{dataset.name}: {images}; {parameters:,} parameters; {jax.default_backend()}")

    def batches(epoch):
        if interrupts:
            raise KeyboardInterrupt
        return data.batches(train_x, dataset.train_y, chosen.batch_size, seed=chosen.seed, epoch=epoch)

    test = test_x, dataset.test_y
    state = train.fit(model, train.make_step(model, optimizer), state, batches, test, epochs=chosen.epochs, out=out)
    _, accuracy = train.evaluate(model, state, *test)
    tree = {"params": state.params, "statistics": state.statistics, "standardization": {"mean": mean, "std": std}}
    train.save(out / "model", tree)
    print(f"test accuracy {accuracy:.2%} on {len(test_x)} held-out images; metrics.jsonl and model are in {out}")
    return 0
