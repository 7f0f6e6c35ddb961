"""Rules that are broken on purpose, and whether the checker notices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.check.breakages import BREAKAGES, Call
from jaxcnn.check.examination import Examination, examined
from jaxcnn.check.options import case_of
from jaxcnn.check.programs import Arrays, Program, Run
from jaxcnn.check.report import WRONG, Report


@dataclass(frozen=True)
class Mutants:
    """Which broken rules were caught. Each has a name: what was done, and to which gradient.

    `bool(mutants)` is True if the rule itself was found right, and every broken one wrong.

    Attributes:
        report: that of the rule itself.
        caught: the broken rules that were found wrong.
        missed: those that were found right.
        equivalent: those that give the gradients of the rule itself with these arguments.
    """

    report: Report
    caught: tuple[str, ...]
    missed: tuple[str, ...]
    equivalent: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.report.verdict != WRONG and not self.missed

    def __str__(self) -> str:
        if self.report.verdict == WRONG:
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
    a thousandth, the wrong sign, a missing flip, a dropped image, a cotangent that is squared, and so on. A broken rule
    that is missed cannot be told from the right one with these arguments: take others.

    Args:
        f: any function of pytrees of arrays, as for `check.gradients`.
        args: where to check.
        reference: as for `check.gradients`.
        argnums: whose gradients to break, by default all.
        rtol: as for `check.gradients`.
        key: the random key of dy.

    Returns:
        `Mutants`: the names of the broken rules that were caught, of those that were missed, and of those that are
        equivalent to the right rule with these arguments, such as a flip of an array that is zero.

    Raises:
        As `check.gradients`, and ValueError where JAX derives no gradient.

    Source: R. A. DeMillo, R. J. Lipton, F. G. Sayward, Hints on Test Data Selection, Computer 11 (1978).

    >>> import jaxcnn
    >>> broken = mutants(jaxcnn.conv, jnp.ones((2, 5, 4, 3)).at[0, 1, 2].set(2.0), jnp.ones((3, 2, 3, 4)))
    >>> len(broken.missed)
    0
    """
    case, names = case_of("mutants", f, args, argnums=argnums, functions={"reference": reference}, rtol=rtol, key=key)
    examination, arguments = examined(case, names), case.arguments
    report = Report(tuple(examination.comparisons()))
    outcome: dict[str, list[str]] = {"caught": [], "missed": [], "equivalent": []}
    if report.verdict != WRONG:
        for i, argument in enumerate(arguments.names):
            for name, broken in BREAKAGES.items():
                rule = _Broken(broken, i, examination)
                caught = not examination.accepts(rule)
                verdict = "caught" if caught else "missed" if rule.changed else "equivalent"
                outcome[verdict].append(f"{name}, gradient of {argument}")
    return Mutants(report, *(tuple(outcome[verdict]) for verdict in ("caught", "missed", "equivalent")))


class _Broken:
    """The rule with its gradient number i broken. `changed` is whether that has changed anything so far."""

    def __init__(self, broken: Callable[[Call], np.ndarray], i: int, examination: Examination) -> None:
        self.broken, self.i, self.examination, self.changed = broken, i, examination, False

    def __call__(self, run: Run) -> Arrays:
        row = self.examination.output_count + self.i

        def gradient(args: Sequence[Any], dy: Sequence[Any]) -> np.ndarray:
            return run.program(args, dy)[0][row]

        with np.errstate(all="ignore"):
            wrong = self.broken(Call(run.got[row], run.args, run.dy, self.examination.double_run.args, gradient))
        self.changed |= _changed(wrong, run.got[row], run.program)
        return [*run.got[:row], wrong, *run.got[row + 1 :]]


# _ROUNDINGS bounds how far two equal gradients are apart, in units of eps √n of their largest finite entry. n is the
# length of the longest sum. The number is chosen, not measured.
_ROUNDINGS = 16


def _changed(wrong: np.ndarray, right: np.ndarray, program: Program) -> bool:
    """Whether two gradients differ by more than rounding."""
    if wrong.dtype != right.dtype:
        return True
    a, b = np.asarray(wrong, np.float64), np.asarray(right, np.float64)
    eps = max(float(jnp.finfo(right.dtype).eps), *program.eps)
    slack = _ROUNDINGS * eps * np.sqrt(program.length) * np.max(np.abs(b[np.isfinite(b)]), initial=0.0)
    same = (a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= slack)
    return not same.all()
