"""Does the checker hold on rules that nobody here wrote?

    python experiments/foreign_rules.py                       every package in a process of its own
    python experiments/foreign_rules.py --only qwix attention  the cases with one of these in package or name

checks custom rules of packages from the package index with `jaxcnn.check.gradients`: as they come, under the claim
that says what they do on purpose, and with two faults planted in every rule. Prints a Markdown table and totals.
`--save FILE` keeps what the reports said where something did not come out as it should. The packages:

    pip install jax==0.12.0.1 optax flax equinox jaxopt ott-jax diffrax lineax tokamax recurrentgemma \\
        flash-attention-jax qwix folx numpyro distrax tfp-nightly jax-md ringattention aqtp s2fft pyssht ducc0 spyx \\
        rlax kfac-jax e3nn-jax netket brainpy brainstate brainunit brax mujoco-mjx "typeguard<3"
    pip uninstall tensorflow-probability && pip install --force-reinstall --no-deps tfp-nightly
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

DEVICES = 4


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The checker on custom rules of other people's packages.")
    parser.add_argument("--only", nargs="*", default=[], metavar="TEXT", help="cases with this in package or name")
    parser.add_argument("--here", metavar="PACKAGE", help="its cases in this process, one JSON object a line")
    parser.add_argument("--show", nargs="*", default=[], type=Path, metavar="FILE", help="tables of saved results")
    parser.add_argument("--no-faults", action="store_true", help="plant none")
    parser.add_argument("--save", type=Path, metavar="FILE", help="all results, with what the reports said, as JSON")
    return parser.parse_args()


def chosen(words: list[str]) -> list:
    from foreign_rules.case import CASES

    return [case for case in CASES if not words or any(word in f"{case.package} {case.name}" for word in words)]


def prepare() -> None:
    """Before any package is imported: devices for rings, and rules that faults can be planted in."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import jax
    from foreign_rules import plants

    jax.config.update("jax_num_cpu_devices", DEVICES)
    plants.wrap_definitions()
    importlib.import_module("foreign_rules.cases")  # they register themselves


def check_here(package: str, words: list[str], faults: bool) -> None:
    warnings.simplefilter("ignore")
    from foreign_rules.results import result_of

    for case in chosen(words):
        if case.package == package:
            print(json.dumps(result_of(case, faults).to_json()), flush=True)


def checked_apart(package: str, arguments: list[str]) -> Iterator[dict]:
    """The results of a package from a process of its own: some change JAX's settings when they are imported."""
    command = [sys.executable, __file__, "--here", package, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        for line in process.stdout or ():
            if line.startswith("{"):
                yield json.loads(line)
    if process.returncode:
        print(f"{package}: the process ended with {process.returncode}", file=sys.stderr)


def main() -> None:
    arguments = parse()
    prepare()
    if arguments.here:
        return check_here(arguments.here, arguments.only, not arguments.no_faults)
    from foreign_rules import table
    from foreign_rules.results import Result

    results = []
    for result in _saved(arguments.show) if arguments.show else _checked(arguments):
        results.append(Result(**result))
        if arguments.save:
            arguments.save.write_text(json.dumps([result.to_json() for result in results], indent=1))
        if not arguments.show:
            print(table.line(results[-1]), file=sys.stderr, flush=True)
    foreign = [result for result in results if result.package != table.PATTERNS]
    patterns = [result for result in results if result.package == table.PATTERNS]
    for some in filter(None, (foreign, patterns)):
        print(f"{table.table(some)}\n\n{table.totals(some)}\n")
    print(table.machine())


def _saved(files: list[Path]) -> list[dict]:
    """Results by package and name; those of later files replace those of earlier ones."""
    results = [result for file in files for result in json.loads(file.read_text())]
    return sorted({(r["package"], r["name"]): r for r in results}.values(), key=lambda r: r["package"].lower())


def _checked(arguments: argparse.Namespace) -> Iterator[dict]:
    packages = dict.fromkeys(case.package for case in chosen(arguments.only))
    flags = ["--only", *arguments.only] + ["--no-faults"] * arguments.no_faults
    for package in sorted(packages, key=str.lower):
        yield from checked_apart(package, flags)


if __name__ == "__main__":
    main()
