"""Does the checker find wrong rules, and leave right ones in peace, next to `jax.test_util.check_grads`?

    python experiments/checker.py

checks the wrong and the right rules of rules/, of the sizes of real layers, and models in training, with
`jaxcnn.check.gradients` and with `check_grads(f, args, order=1, modes=["rev"])`, both as they come, and prints a
Markdown table.

Result: of 48 wrong rules jaxcnn finds 48 and check_grads 37; of 46 right ones, ten of them models, jaxcnn calls none
wrong and check_grads 26. A rule takes 0.3 CPU seconds in the median and a model 7.9, 10.3 at most, compiling included;
with check_grads 0.3, 6.3 and 9.7 (2 shared cores of an AMD EPYC, Linux, Python 3.11.7, jax and jaxlib 0.10.2, numpy
2.4.6; November 2026).
"""

import platform
import time
import warnings
from importlib.metadata import version
from statistics import median

import jax
from jax.test_util import check_grads
from rules import MODELS, RIGHT, WRONG, Rule, in_training

from jaxcnn import check


def by_jaxcnn(rule: Rule) -> bool:
    return check.gradients(rule.f, *rule.args, **rule.options).verdict != "wrong"


def by_jax(rule: Rule) -> bool:
    try:
        check_grads(rule.f, rule.args, order=1, modes=["rev"])
    except Exception:  # whatever keeps it from passing
        return False
    return True


def timed(checker, rule: Rule) -> tuple[bool, float]:
    jax.clear_caches()
    start = time.process_time()
    passed = checker(rule)
    return passed, time.process_time() - start


def main() -> None:
    warnings.simplefilter("ignore")
    checkers = {"`jaxcnn.check.gradients`": by_jaxcnn, "`jax.test_util.check_grads`": by_jax}
    right = [*RIGHT, *map(in_training, MODELS)]
    results = {}
    print(f"| rule | {' | '.join(checkers)} |")
    print(f"| --- |{' --- |' * len(checkers)}")
    for rules, words in ((WRONG, ("missed", "found")), (right, ("passed", "false alarm"))):
        print(f"| **{'wrong' if rules is WRONG else 'right'}** |{' |' * len(checkers)}")
        for rule in rules:
            row = {name: timed(checker, rule) for name, checker in checkers.items()}
            results[rule.name, rules is WRONG] = row
            said = [words[0] if passed else words[1] for passed, _ in row.values()]
            print(f"| {rule.name} | {' | '.join(said)} |", flush=True)
    found = {n: sum(not row[n][0] for (_, wrong), row in results.items() if wrong) for n in checkers}
    alarms = {n: sum(not row[n][0] for (_, wrong), row in results.items() if not wrong) for n in checkers}
    print(f"| **found, of {len(WRONG)}** | {' | '.join(f'**{found[n]}**' for n in checkers)} |")
    print(f"| **false alarms, of {len(right)}** | {' | '.join(f'**{alarms[n]}**' for n in checkers)} |")
    figures = (
        ("a rule, the median", False, median),
        ("a model, the median", True, median),
        ("the slowest model", True, max),
    )
    for of, whole, figure in figures:
        chosen = [row for (name, _), row in results.items() if (name in MODELS) == whole]
        seconds = [figure(row[n][1] for row in chosen) for n in checkers]
        print(f"| CPU seconds for {of}, with compiling | {' | '.join(f'{s:.1f}' for s in seconds)} |")
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "numpy"))
    print(f"\n{platform.machine()}, {platform.system()}, Python {platform.python_version()}, {versions}")


if __name__ == "__main__":
    main()
