"""Rules broken on purpose: does the checker notice?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.check.arguments import floating_arguments, seed_of, tolerance_of
from jaxcnn.check.breakages import BREAKAGES, Call
from jaxcnn.check.examination import Examination, Run
from jaxcnn.check.programs import Arrays, Program
from jaxcnn.check.report import Report


@dataclass(frozen=True)
class Mutants:
    """Which broken rules were caught, by what was done to them and the gradient it was done to.

    `bool(mutants)` is True if the rule as it is was found right, and none of the broken ones was.
    """

    report: Report  # of the rule as it is
    caught: tuple[str, ...]
    missed: tuple[str, ...]
    equivalent: tuple[str, ...]  # nothing changes with these arguments

    def __bool__(self) -> bool:
        return bool(self.report) and not self.missed

    def __str__(self) -> str:
        if not self.report:
            return f"the rule is wrong before it is broken\n{self.report}"
        total = len(self.caught) + len(self.missed)
        lines = [f"caught {len(self.caught)} of {total} broken rules; {len(self.equivalent)} more change nothing here"]
        return "\n".join([*lines, *(f"missed: {name}" for name in self.missed)])

    __repr__ = __str__


def mutants(
    f: Callable[..., Any],
    *args: Any,
    reference: Callable[..., Any] | None = None,
    argnums: int | Sequence[int] | None = None,
    rtol: float | None = None,
    key: jax.Array | None = None,
) -> Mutants:
    """Breaks the rule of f in many ways, and says how many of the broken rules `check.gradients` catches.

    Each of the gradients is broken by itself in each of the ways that `jaxcnn.check.breakages` lists: one entry off by
    a thousandth, the wrong sign, a missing flip, a dropped image, a cotangent that is squared, and so on. What is
    missed shows what these arguments cannot tell: take others.

    Args:
        f: any function of pytrees of arrays, as for `check.gradients`.
        args: where to check.
        reference: as for `check.gradients`.
        argnums: whose gradients to break, by default all.
        rtol: as for `check.gradients`.
        key: the random key of dy.

    Returns:
        `Mutants`: the names of the broken rules that were caught, that were missed, and of those that are equivalent to
        the right rule with these arguments, such as a flip of an array that is zero, which are not counted as missed.

    Raises:
        As `check.gradients`, and ValueError where JAX derives no gradient.

    Source: R. A. DeMillo, R. J. Lipton, F. G. Sayward, Hints on Test Data Selection, Computer 11 (1978).

    >>> import jaxcnn
    >>> broken = mutants(jaxcnn.conv, jnp.ones((2, 5, 4, 3)).at[0, 1, 2].set(2.0), jnp.ones((3, 2, 3, 4)))
    >>> len(broken.missed)
    0
    """
    arguments = floating_arguments("mutants", f, args, argnums)
    seed, rtol = seed_of("mutants", key), tolerance_of("mutants", rtol)
    on_floats, on_reference = arguments.of(f), arguments.of(reference or f)
    examination = Examination(arguments, on_floats, on_reference, rtol, seed)
    report = Report(tuple(examination.comparisons()))
    outcome: dict[str, list[str]] = {"caught": [], "missed": [], "equivalent": []}
    if report:
        for i, argument in enumerate(arguments.names):
            for name, broken in BREAKAGES.items():
                rule = _Broken(broken, i, examination)
                caught = not examination.accepts(rule)
                verdict = "caught" if caught else "missed" if rule.changed else "equivalent"
                outcome[verdict].append(f"{name}, gradient of {argument}")
    return Mutants(report, *(tuple(outcome[verdict]) for verdict in ("caught", "missed", "equivalent")))


class _Broken:
    """The rule with one of its gradients broken; remembers whether that changed anything."""

    def __init__(self, broken: Callable[[Call], np.ndarray], i: int, examination: Examination) -> None:
        self.broken, self.i, self.examination, self.changed = broken, i, examination, False

    def __call__(self, run: Run) -> Arrays:
        place = self.examination.first + self.i

        def gradient(args: Sequence[Any], dy: Sequence[Any]) -> np.ndarray:
            return run.program(args, dy)[0][place]

        with np.errstate(all="ignore"):
            wrong = self.broken(Call(run.got[place], run.args, run.dy, self.examination.base.args, gradient))
        self.changed |= _changed(wrong, run.got[place], run.program)
        return [*run.got[:place], wrong, *run.got[place + 1 :]]


def _changed(wrong: np.ndarray, right: np.ndarray, program: Program) -> bool:
    """Whether two gradients differ by more than rounding."""
    if wrong.dtype != right.dtype:
        return True
    a, b = np.asarray(wrong, np.float64), np.asarray(right, np.float64)
    eps = max(float(jnp.finfo(right.dtype).eps), program.eps)
    slack = 16 * eps * np.sqrt(program.length) * np.max(np.abs(b[np.isfinite(b)]), initial=0.0)
    same = (a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= slack)
    return not same.all()
