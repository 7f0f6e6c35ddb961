"""The rule and its reference, traced in the dtypes of the arguments, and compiled as one program.

A program is evaluated in these dtypes, or in float64 (`widening`). JAX's 64-bit mode is on around the evaluation only,
never around f.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxcnn.check.equations import struct_of
from jaxcnn.check.rules import underivable_primitive
from jaxcnn.check.tolerance import eps_of_results, longest_sum
from jaxcnn.check.traces import CannotDerive, Evaluator, Traces, evaluator, float64_on_cpu, wide_struct
from jaxcnn.check.widening import wide as widest
from jaxcnn.check.widening import widened
from jaxcnn.check.wording import one_line

Arrays = list[np.ndarray]


def narrowed(closed: core.ClosedJaxpr) -> Callable[..., list[Any]]:
    """The function of a jaxpr for float64 arrays, computed in its own dtypes."""

    def f(*args: Any) -> list[Any]:
        own = [a.astype(struct_of(var).dtype) for a, var in zip(args, closed.jaxpr.invars, strict=True)]
        return list(map(widest, evaluator(closed)(*own)))

    return f


@dataclass(frozen=True)
class Program:
    """(args, dy) -> outputs and gradients of the rule, and those of the reference, each as one list.

    Attributes:
        compiled: both, as one compiled function.
        wide: whether it computes in float64; else in the dtypes of the arguments.
        dtypes, dy_dtypes: of args and dy.
        eps: of the lowest precision that each expected output and gradient is computed in.
        rule_eps: the same of those of the rule.
        reference: the expected outputs and gradients as a jaxpr, or None.
        length: how many terms the longest sum has.
    """

    compiled: Callable[..., tuple[list[Any], list[Any]]]
    wide: bool
    dtypes: tuple[Any, ...]
    dy_dtypes: tuple[Any, ...]
    eps: tuple[float, ...]
    rule_eps: tuple[float, ...]
    length: int
    reference: core.ClosedJaxpr | None = None

    def __call__(self, args: Sequence[Any], dy: Sequence[Any]) -> tuple[Arrays, Arrays]:
        """What the program does not compute is an empty list."""
        with float64_on_cpu() if self.wide else nullcontext():
            args, dy = (
                [np.asarray(a).astype(t) for a, t in zip(arrays, types, strict=True)]
                for arrays, types in ((args, self.dtypes), (dy, self.dy_dtypes))
            )
            got, expected = self.compiled(list(args), dy)
            return list(map(np.asarray, got)), list(map(np.asarray, expected))


@dataclass(frozen=True)
class Run:
    """A program at a point: outputs and gradients as the rule gives them, and as JAX derives them.

    Attributes:
        kinks: for each output and gradient, which entries may differ as the function has a kink there.
        unknown: for each output and gradient, which entries have no expected number.
    """

    program: Program
    args: Sequence[Any]
    dy: Sequence[Any]
    got: Arrays
    expected: Arrays
    kinks: Sequence[Any]
    unknown: Sequence[Any]


def compile_program(
    traces: Traces, wide: bool, rule: bool = True, reference: bool = True, computed: bool = True
) -> Program:
    """The rule, its reference, or both, traced and compiled as one program: that takes less time than two.

    A reference that is not `computed` says its precision only.

    Raises:
        CannotDerive: there is no gradient of the reference.
        RuleRaises: there is none by the rule.
    """
    of_rule = traces.rule if rule else None  # traced here, as f is not to see JAX's 64-bit mode
    if not wide:
        return _compiled(traces, evaluator, of_rule, reference, computed)
    with float64_on_cpu():
        try:
            return _compiled(traces, widened, of_rule, reference, computed)
        except CannotDerive:
            raise
        except Exception:  # XLA cannot compile some operation for float64
            return _compiled(traces, narrowed, of_rule, reference, computed)


def _compiled(
    traces: Traces, make: Evaluator, rule: core.ClosedJaxpr | None, reference: bool, computed: bool
) -> Program:
    wide = make is not evaluator
    args: list[Any] = list(traces.case.floats)
    dy = [jax.ShapeDtypeStruct(y.shape, y.dtype) for y in traces.outputs]
    if wide:
        args, dy = list(map(wide_struct, args)), list(map(wide_struct, dy))
    ours, theirs = None, None
    if reference:
        try:
            theirs = jax.make_jaxpr(traces.expected(make))(args, dy)
        except Exception as error:
            why = underivable_primitive(traces.claims) or one_line(error)
            raise CannotDerive(f"JAX derives no gradient of f: {why}") from error
    if rule is not None:
        ours = jax.make_jaxpr(lambda *flat: make(rule)(*flat))(*args, *dy, *args) if wide else rule

    def both(args: Sequence[Any], dy: Sequence[Any]) -> Any:
        flat = [*args, *dy]
        got = evaluator(ours)(*flat, *args) if ours is not None else []
        return got, evaluator(theirs)(*flat) if theirs is not None and computed else []

    compiled = jax.jit(both).lower(args, dy).compile()
    dtypes, dy_dtypes = (tuple(jnp.result_type(a) for a in arrays) for arrays in (args, dy))
    eps = [tuple(eps_of_results(jaxpr.jaxpr)) if jaxpr is not None else () for jaxpr in (theirs, ours)]
    if theirs is None and not wide:  # a rule may use as little precision as its function, whatever it does itself
        eps[1] = (max(eps_of_results(traces.claims.jaxpr)),) * len(eps[1])
    length = max(longest_sum(jaxpr.jaxpr) for jaxpr in (theirs, ours) if jaxpr is not None)
    return Program(compiled, wide, dtypes, dy_dtypes, eps[0] or eps[1], eps[1] or eps[0], length, theirs)
