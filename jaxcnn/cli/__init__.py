"""The command `jaxcnn`. What is wrong with the arguments is said in one line on stderr, with exit code 2."""

import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version

import jax

from jaxcnn.check import command as check
from jaxcnn.cli import runs, training, using
from jaxcnn.cli.parser import Parser
from jaxcnn.data import command as data
from jaxcnn.data.files import cache
from jaxcnn.train.interrupts import INTERRUPTED, TERMINATED
from jaxcnn.train.terminal import tell


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: what comes behind `jaxcnn`, by default what the process was started with.

    Returns:
        The exit code: 0, 1 where a run fails or a gradient is wrong, 130 where Ctrl-C ends it, 143 where SIGTERM does.
        `jaxcnn` alone prints its help.

    Raises:
        SystemExit: with code 2 for bad arguments, or if gradients were not checked; with 0 for --help and --version.
    """
    parser = Parser(prog="jaxcnn", description="Convolutional networks in JAX whose backward pass is written out.")
    parser.add_argument("--version", action="version", version=f"jaxcnn {version('jaxcnn')}")
    commands = parser.add_subparsers(title="commands", metavar="{train,evaluate,predict,runs,data,check}")
    for command in (training, using, runs, data, check):
        command.add_to(commands)
    chosen, others = parser.parse_known_args(arguments)
    if not hasattr(chosen, "run"):
        parser.print_help()
        return 0
    if others:
        chosen.parser.error(f"unrecognized arguments: {' '.join(others)}")
    if arguments is None:
        _keep_compiled()
    try:
        code = chosen.run(chosen.parser, chosen)
    except KeyboardInterrupt:
        tell("jaxcnn: interrupted")
        code = INTERRUPTED
    if code in (INTERRUPTED, TERMINATED) and arguments is None:
        # If the interrupt came while it compiled, jaxlib 0.10.2 crashes as the interpreter shuts down.
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        os._exit(code)
    return code


def _keep_compiled() -> None:
    """Lets JAX keep what it compiles from one process to the next, unless its own options say where or whether.

    A second `jaxcnn train digits --epochs 2` takes 3.1 seconds of a processor rather than 6.9, one epoch of
    resnet_cifar(20) 5.2 rather than 17.1. The programs, and so the results, are the same.
    """
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(cache() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        # Nobody asked for the cache: where it cannot be, for instance on a full disk, all is computed as without it.
        warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
