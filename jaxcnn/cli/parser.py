"""The parser of the command line: one line for what is wrong, and what an unknown option may have meant."""

import argparse
import difflib
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

# what options are called elsewhere
_ALIASES = {
    "lr": "learning-rate",
    "bs": "batch-size",
    "batch": "batch-size",
    "dir": "out",
    "output": "out",
    "rng": "seed",
}


class Parser(argparse.ArgumentParser):
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


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
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


def number(low: float, high: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """Numbers from `low` to `high`, or above `low`."""
    expected = f"above {low:g}" if above else f"of at least {low:g}"
    expected = expected if high == math.inf else f"from {low:g} to {high:g}"

    def parse(text):
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and low <= value <= high and (value > low or not above)):
            raise argparse.ArgumentTypeError(f"give a number {expected}, not {text!r}")
        return value

    return parse


def folder(text: str) -> Path:
    if text == "":
        raise argparse.ArgumentTypeError("give a folder, not ''")
    return Path(text)
