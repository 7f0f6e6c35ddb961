"""`jaxcnn check`: the checker from the shell."""

import argparse
import importlib
import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxcnn.check import shell_arguments as shell
from jaxcnn.check.annotations import on_github
from jaxcnn.check.gradients import gradients
from jaxcnn.check.report import NOT_CHECKED, RIGHT, WRONG, Report
from jaxcnn.check.wording import one_line

_DTYPES = ("float64", "float32", "bfloat16", "float16", "complex128", "complex64")
_EXIT_CODES = {RIGHT: 0, WRONG: 1, NOT_CHECKED: 2}
_FUNCTIONS = ("reference", "claims", "domain")
_NAME = "MODULE:FUNCTION"


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of another parser.

    The command sets `run`, a function of the parser and of what it parsed. `run` returns the exit code: 0 where the
    gradients are right, 1 where one is wrong, and 2, with one line on stderr, where they were not checked.
    """
    parser = commands.add_parser(
        "check",
        help="check the custom rules in a function",
        usage=f"%(prog)s {_NAME} {{--shape N,N,... | --int N,N,... | --key | --static VALUE}} ... [options]",
        description="Compares the gradients of a function, by its custom VJPs and JVPs, with those that JAX derives. "
        "Describe its arguments in their order, as in --shape 8,32,32,16 --int 8:10 --key --static 0.5, or name a "
        "function that makes them. The exit code is 0 where the gradients are right, 1 where one is wrong, 2 where "
        "they were not checked, with the reason on stderr. In a workflow of GitHub (GITHUB_ACTIONS=true), what is "
        "wrong is annotated at the file and line of the rule.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "function", metavar=_NAME, type=shell.module_and_function, help="where it is, in this folder or installed"
    )
    _add_arguments(parser)
    _add_options(parser)
    parser.set_defaults(run=_check, parser=parser)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that describe the arguments; all but the last two make a list in the order of the command line."""
    for option, parse, metavar, text in (
        ("--shape", shell.floats, "N,N,...", "an array of random numbers; '()' for a number"),
        ("--int", shell.integers, "N,N,...[:HIGH]", "an array of integers, from 0 and below HIGH (default: 2)"),
        ("--static", shell.static, "VALUE", 'a value of Python, as 0.5, None, "(2, 2)" or "\'SAME\'"'),
    ):
        parser.add_argument(option, type=parse, action="append", dest="made", metavar=metavar, help=text)
    parser.add_argument("--key", action="append_const", const=shell.Key(), dest="made", help="a random key")
    parser.add_argument(
        "--arguments",
        type=shell.module_and_function,
        metavar=_NAME,
        help="a function that returns the arguments: a tuple of args, or (args, kwargs)",
    )
    parser.add_argument(
        "--dtype",
        choices=_DTYPES,
        metavar="{" + ",".join(_DTYPES) + "}",
        help="of the arrays of --shape (default: float32)",
    )


def _add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `check.gradients`, and of the output."""
    for name, text in (
        ("reference", "what it should compute; JAX derives its gradient"),
        ("claims", "a function whose gradient the rule is on purpose, as of a straight-through gradient"),
        ("domain", "moves arguments to where it is defined, and returns them"),
    ):
        parser.add_argument(f"--{name}", type=shell.module_and_function, metavar=_NAME, help=text)
    for name, text in (
        ("argnums", "positions of the arguments to look at (default: all)"),
        ("zero", "positions of arguments whose gradient is zero on purpose"),
        ("ignores", "positions of outputs whose cotangent is dropped on purpose"),
    ):
        parser.add_argument(f"--{name}", type=shell.positions, metavar="N,N,...", help=text)
    parser.add_argument("--rtol", type=shell.tolerance, metavar="X", help="relative tolerance (default: 1e-10)")
    parser.add_argument(
        "--precision", choices=("float64", "own"), help="look in float64 only, or in the dtype of the arguments only"
    )
    parser.add_argument(
        "--order", type=int, choices=(1, 2, 3), default=1, help="of derivative, up to which (default: %(default)s)"
    )
    parser.add_argument("--transforms", action="store_true", help="look at vmap, scan, remat and sharding as well")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def _check(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    f, name = _imported(parser, chosen.function), ":".join(chosen.function)
    if chosen.dtype in ("float64", "complex128"):
        jax.config.update("jax_enable_x64", True)
    args, kwargs, said = _arguments(parser, chosen)
    given = {option: getattr(chosen, option) for option in ("argnums", "zero", "ignores", "rtol", "precision")}
    options = {option: value for option, value in given.items() if value is not None}
    options |= {g: _imported(parser, getattr(chosen, g)) for g in _FUNCTIONS if getattr(chosen, g)}
    try:
        report = gradients(f, *args, kwargs=kwargs, order=chosen.order, transforms=chosen.transforms, **options)
    except (Exception, SystemExit) as error:
        refused = re.match(r"gradients: (\w+) (must .*)", str(error), re.DOTALL)
        if refused and refused[1] in options:
            parser.error(f"argument --{refused[1]}: {refused[2]}")
        parser.error(f"{name} cannot be checked for {said}: {one_line(error)}")
    _print(json.dumps(report.to_json(), indent=1, allow_nan=False) if chosen.json else str(report))
    if on_github():
        print(*report.annotations(), sep="\n", file=sys.stderr, flush=True)  # stdout may be JSON
    if report.verdict == NOT_CHECKED:
        parser.error(f"{name} is not checked for {said}: {_reasons(report)}")
    return _EXIT_CODES[report.verdict]


def _arguments(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> tuple[tuple[Any, ...], Any, str]:
    """args, kwargs, and both in words."""
    if chosen.arguments:
        others = "--shape, --int, --key or --static" if chosen.made else "--dtype" if chosen.dtype else ""
        if others:
            parser.error(f"argument --arguments: the function makes all of them; leave out {others}")
        return _made_by_function(parser, chosen.arguments)
    if not chosen.made:
        parser.error("give each argument, in their order, by --shape, --int, --key or --static, or all by --arguments")
    random, dtype = np.random.default_rng(0), chosen.dtype or "float32"
    said = ", ".join(made.said(dtype) for made in chosen.made)
    try:
        return tuple(made.make(random, dtype) for made in chosen.made), None, said
    except (Exception, SystemExit) as error:
        parser.error(f"{said} cannot be made: {one_line(error)}")


def _made_by_function(parser: argparse.ArgumentParser, place: tuple[str, str]) -> tuple[tuple[Any, ...], Any, str]:
    name, function = ":".join(place), _imported(parser, place)
    try:
        made = function()
    except (Exception, SystemExit) as error:
        parser.error(f"argument --arguments: {name} raises {one_line(error)}")
    if not isinstance(made, tuple):
        parser.error(f"argument --arguments: {name} must return a tuple, got {type(made).__name__}")
    has_kwargs = len(made) == 2 and isinstance(made[0], tuple) and isinstance(made[1], dict)
    args, kwargs = made if has_kwargs else (made, None)
    return args, kwargs, f"what {name} returns"


def _reasons(report: Report) -> str:
    """Why it was not checked, and which row each reason is of."""
    open_rows = [row for row in report.comparisons if row.verdict == NOT_CHECKED]
    reasons: dict[str, list[str]] = {}
    for row in [row for row in open_rows if not row.optional] or open_rows:
        reasons.setdefault(row.reason, []).append(row.name)
    return "; ".join(f"{reason} ({', '.join(names)})" for reason, names in reasons.items())


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # nobody reads the report; the exit code has the verdict
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _imported(parser: argparse.ArgumentParser, place: tuple[str, str]) -> Callable[..., Any]:
    """The function, from a module in this folder or an installed one."""
    (module, function), folder = place, os.getcwd()
    sys.path.insert(0, folder)
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        parser.error(f"module {module} cannot be imported: {one_line(error)}")
    finally:
        sys.path.remove(folder)
    for name in function.split("."):
        if not hasattr(found, name):
            parser.error(f"module {module} has no {function}")
        found = getattr(found, name)
    if not callable(found):
        parser.error(f"{module}:{function} must be a function, got {type(found).__name__}")
    return found
