"""`jaxcnn check`: the checker from the shell."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.check.gradients import gradients
from jaxcnn.check.wording import one_line

_DTYPES = ("float64", "float32", "bfloat16", "float16")


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of another parser.

    The command sets `run`, a function of the parser and of what it parsed. `run` returns the exit code: 0 where the
    gradients are right, 1 where one is wrong, and 2, with one line on stderr, where they could not be compared.
    """
    parser = commands.add_parser(
        "check",
        help="check the custom VJPs in a function",
        description="Compares the gradients of a function, by its custom VJPs, with those that JAX derives, for random "
        "arrays. The exit code is 0 where they are right, 1 where one is wrong, 2 where they could not be compared.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "function",
        metavar="MODULE:FUNCTION",
        type=_module_and_function,
        help="where it is, in this folder or installed",
    )
    parser.add_argument(
        "--shape",
        type=_shape,
        action="append",
        required=True,
        metavar="N,N,...",
        help="of an argument; one --shape for each, '()' for a number",
    )
    names = "{" + ",".join(_DTYPES) + "}"
    parser.add_argument(
        "--dtype",
        choices=_DTYPES,
        default="float32",
        metavar=names,
        help="of the arguments (default: %(default)s)",
    )
    parser.add_argument(
        "--order", type=int, choices=(1, 2, 3), default=1, help="of derivative, up to which (default: %(default)s)"
    )
    parser.add_argument("--transforms", action="store_true", help="look at vmap, scan, remat and sharding as well")
    parser.set_defaults(run=_check, parser=parser)


def _module_and_function(text: str) -> tuple[str, str]:
    module, colon, function = text.partition(":")
    if not (colon and all(part.isidentifier() for part in [*module.split("."), *function.split(".")])):
        raise argparse.ArgumentTypeError(f"give package.module:function, not {text!r}")
    return module, function


def _shape(text: str) -> tuple[int, ...]:
    sizes = [] if text == "()" else text.split(",")
    if not all(size.strip().isdecimal() for size in sizes):
        raise argparse.ArgumentTypeError(f"give sizes as in 8,32,32,16, not {text!r}")
    return tuple(map(int, sizes))


def _check(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    f = _imported(parser, *chosen.function)
    if chosen.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    random = np.random.default_rng(0)
    try:
        args = [jnp.asarray(random.normal(size=shape), chosen.dtype) for shape in chosen.shape]
        report = gradients(f, *args, order=chosen.order, transforms=chosen.transforms)
    except (Exception, SystemExit) as error:
        shapes = ", ".join(str(list(shape)) for shape in chosen.shape)
        parser.error(f"{':'.join(chosen.function)} cannot be checked for {chosen.dtype} {shapes}: {one_line(error)}")
    if not any(arg.size for arg in args):
        parser.error("no --shape has an entry: there is nothing to compare")
    try:
        print(report, flush=True)
    except BrokenPipeError:  # nobody reads the report; the exit code has the verdict
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0 if report else 1


def _imported(parser: argparse.ArgumentParser, module: str, function: str) -> Callable[..., Any]:
    """The function, from a module in this folder or an installed one."""
    folder = os.getcwd()
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
