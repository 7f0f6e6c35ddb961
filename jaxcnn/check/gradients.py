"""Custom rules against the gradients that JAX derives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from jaxcnn.check.case import Case
from jaxcnn.check.consistency import consistency
from jaxcnn.check.differences import compare_differences, outputs_by_rule
from jaxcnn.check.examination import Examination
from jaxcnn.check.implementations import compare_implementations
from jaxcnn.check.options import CannotTrace, case_of
from jaxcnn.check.programs import compile_program
from jaxcnn.check.report import Comparison, Report
from jaxcnn.check.rules import equations_with_rules
from jaxcnn.check.slopes import Slopes
from jaxcnn.check.traces import CannotDerive, RuleRaises, Traces, evaluator
from jaxcnn.check.wording import one_line


def gradients(
    f: Callable[..., Any],
    *args: Any,
    kwargs: Mapping[str, Any] | None = None,
    reference: Callable[..., Any] | None = None,
    claims: Callable[..., Any] | None = None,
    ignores: int | Sequence[int] = (),
    zero: int | Sequence[int] = (),
    argnums: int | Sequence[int] | None = None,
    static_argnums: int | Sequence[int] = (),
    dy: Any = None,
    domain: Callable[..., Any] | None = None,
    elsewhere: Sequence[Any] | None = None,
    precision: str | None = None,
    implementations: Mapping[str, Callable[..., Any]] | None = None,
    rtol: float | None = None,
    key: jax.Array | None = None,
    order: int = 1,
    transforms: bool = False,
) -> Report:
    """Compares the gradients of f, by its custom rules, with those that JAX derives.

        ∇⟨dy, f(args)⟩    against    ∇⟨dy, derived(f)(args)⟩,        dy random

    f is traced as it is, in the dtypes of the arguments. The rule is then looked at three times:

    - In float64 on the CPU: the traced rule is evaluated for float64 arrays, without the casts in it. An entry is right
      within rtol of itself plus a hundredth of rtol of the largest entry of its array. A wrong formula shows.
    - In the dtype of the arguments, on their device. Low precision, overflow and a wrong dtype show.
    - In float64 at other arguments, with a cotangent of another size and sign. A rule that is right for the first
      arguments, or the first cotangent, only shows.

    The outputs are compared as well, since the forward pass of a rule may differ from its function.

    Args:
        f: any function of pytrees of arrays, with custom VJPs or custom JVPs in it or around it.
        args: where to check. Gradients are compared for every floating-point and complex array in them; the rest stays
            as it is. A complex array has a row for its real and one for its imaginary part: z = x + iy, and the
            gradients are those with respect to x and to y. A float of Python is static unless argnums names it.
        kwargs: keyword arguments, which are looked at as args are.
        reference: a function of the same arguments that returns what f returns. JAX derives its gradient: custom rules
            in it are replaced as in f. By default it is f itself, as `derived(f)`. Where JAX derives no gradient, as of
            a while loop or of a callback, slopes along random directions are compared with difference quotients.
        claims: a function whose gradient the rule claims to be, where that is not the gradient of f on purpose, as of a
            straight-through or a clipped gradient. Outputs are compared with f, and gradients with derived(claims).
        ignores: the positions of those outputs whose cotangent the rule drops on purpose.
        zero: the positions of those arguments whose gradient is zero on purpose.
        argnums: the positions of the arguments to look at, by default all.
        static_argnums: the positions of arguments that reach f as they are.
        dy: a cotangent, of the structure of the output, or a function from a random one to one that is allowed. For
            results that are defined up to a gauge: `dy=lambda v: v - v.mean()`.
        domain: a function from args to args that are inside the domain of f, as unit vectors, or rows that sum to 1.
            Points close by and the other point are moved into it, and gradients are compared along it.
        elsewhere: the other arguments, by default args with each entry up to 10 % smaller.
        precision: "float64" or "own" to look at the rule in float64 only, or in the dtype of the arguments only.
        implementations: other bodies of f, by name. Each is checked against f, and they are compared with each other,
            outputs and gradients, on each kind of device that is there.
        rtol: relative tolerance, by default 1e-10. A larger one holds in every run, for rules that are approximate.
        key: the random key of dy.
        order: up to which order of derivative to look. The second is the gradient of the gradient, by the rule of the
            rule, along a random direction.
        transforms: whether to compare without `jit`, and under `jit`, `remat`, `vmap`, `scan`, and split over devices
            where JAX has several CPU devices (`jax_num_cpu_devices`).

    Returns:
        A `Report`: `report.verdict` is "right", "wrong" or "not checked", and `bool(report)` is true for the first.
        `print(report)` names the worst entry of every argument and where the errors lie, and
        `report.raise_if_wrong()` makes it a test. A rule that raises is wrong. Not checked is what has nothing to
        compare: no rule is reached, a gradient is zero, f or the gradient that JAX derives is NaN, or the precision is
        so low that an error of a third of an entry would not be seen.

    Raises:
        TypeError: f, the reference or another function is not callable, key is no random key, or no argument or no
            output is a floating-point array.
        ValueError: a position names no argument or output, order is not an integer of at least 1, rtol is not positive,
            or the reference returns other shapes.
        Errors of f itself are passed on.

    At a kink, such as relu at 0 or a tie in max-pooling, f and derived(f) may differ without either being wrong. The
    report says where that is so. Where JAX derives NaN, the limit at points close by stands for it, if there is one.

    What this cannot see: a gradient that f itself takes by `jax.grad`, which has the rules written into it already; a
    rule that is right only for arguments of the signs that are given; and an error below rtol / 100 of the largest
    entry of its array.

    >>> import jax.numpy as jnp
    >>> import jaxcnn
    >>> bool(gradients(jaxcnn.conv, jnp.ones((2, 5, 4, 3)), jnp.ones((3, 2, 3, 4))))
    True
    """
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise ValueError(f"gradients: order must be an integer of at least 1, got {order!r}")
    try:
        case, names = case_of(
            "gradients",
            f,
            args,
            kwargs,
            argnums,
            static_argnums,
            functions={"reference": reference, "claims": claims, "domain": domain},
            positions={"ignores": ignores, "zero": zero},
            dy=dy,
            elsewhere=elsewhere,
            precision=precision,
            rtol=rtol,
            key=key,
        )
    except CannotTrace as error:
        return Report((Comparison("gradients", None, reason=str(error)),))
    report = _checked(case, names, order, transforms)
    if implementations is not None:
        report = replace(report, comparisons=report.comparisons + compare_implementations(case, names, implementations))
    return report


def _checked(case: Case, names: Sequence[str], order: int, transforms: bool) -> Report:
    traces = Traces(case)
    rules = tuple(sorted({rule for rule, _ in equations_with_rules(traces.function.jaxpr)}))
    try:
        return _compared(case, traces, names, order, transforms)
    except RuleRaises as error:
        if error.rule is None and (not rules or not _is_derivable(traces)):
            return Report((Comparison("gradients", None, reason=f"f has none: {one_line(error.error)}"),))
        return Report((Comparison("gradients", str(error), rules=rules),), rules=rules)


def _is_derivable(traces: Traces) -> bool:
    """Whether JAX derives a gradient of the function without its rules."""
    try:
        compile_program(traces, wide=False, rule=False)
    except CannotDerive:
        return False
    return True


def _compared(case: Case, traces: Traces, names: Sequence[str], order: int, transforms: bool) -> Report:
    try:
        examination = _examination(case, traces, names)
    except CannotDerive as error:
        report = _by_differences(case, names, str(error), order > 1 or transforms)
        return _entrywise_faults_added(report, case, names)
    rows, notes = examination.comparisons(), []
    reached, others = examination.rules_reached()
    if transforms:
        more, notes = consistency(examination)
        rows += more
    if order > 1 and not reached and case.reference is None and case.claims is None:
        notes.append("not looked at: higher orders, as no custom rule is reached")
        order = 1
    for n in range(2, order + 1):
        dy = [np.zeros_like(d) if i in case.ignores else d for i, d in enumerate(examination.double_run.dy)]
        zero = case.zero
        ours, theirs = (_gradient_of(g, dy, zero) for g in (case.f, evaluator(examination.traces.claims)))
        case = case.replace(f=ours, reference=theirs, claims=None, ignores=frozenset(), dy=None, dy_is_fixed=False)
        try:
            examination = Examination(case, Traces(case))
            higher = examination.comparisons()[examination.output_count :]
        except Exception as error:
            raised = error.error if isinstance(error, RuleRaises) else error
            rows.append(Comparison(f"order {n}", f"the gradient has none: {one_line(raised)}"))
            break
        rows += [replace(row, name=f"order {n}, {row.name}") for row in higher]
    return Report(tuple(rows), tuple(notes), reached, others)


def _examination(case: Case, traces: Traces, names: Sequence[str], derives: bool = True) -> Examination:
    """The examination; RuleRaises if the rule raises when it runs, where f does not."""
    try:
        return Examination(case, traces, names, derives)
    except (CannotDerive, RuleRaises):
        raise
    except Exception as error:
        dy = [jax.numpy.zeros(y.shape, y.dtype) for y in traces.outputs]
        evaluator(traces.function)(*case.floats)
        try:
            compile_program(traces, wide=False, reference=False)(case.floats, dy)
        except Exception as raised:
            raise RuleRaises(None, raised) from error
        raise


def _by_differences(case: Case, names: Sequence[str], why: str, more: bool) -> Report:
    """Slopes along random directions in float64, and the rule in its own dtype against the rule in float64."""
    if case.domain:
        f, domain = case.f, case.domain
        case = case.replace(f=lambda *floats: f(*domain(*floats)), domain=None)
        others = {n: _composed(g, domain) for n, g in (("reference", case.reference), ("claims", case.claims)) if g}
        case = case.replace(**others)
    notes = [f"by differences along random directions: {why}; reference= would be compared entry by entry"]
    if more:
        notes.append("not looked at: higher orders and transforms, as JAX derives no gradient to compare with")
    traces = Traces(case)
    examination = _examination(case, traces, names, derives=False)
    reached, others = examination.rules_reached()
    slopes, count = Slopes(traces), examination.output_count
    rows = examination.comparisons()
    outputs = [replace(row, name=name) for row, name in zip(outputs_by_rule(slopes), examination.names, strict=False)]
    compared = compare_differences(slopes) if case.formula else rows[count : len(examination.names)]
    for i, row in enumerate([*outputs, *compared]):
        row = replace(row, rules=examination.rules[i])
        if row.problem is None and (rows[i].problem or (rows[i].reason and not row.reason)):
            row = replace(rows[i], worst=rows[i].worst or row.worst)
        rows[i] = row
    if not (reached or case.reference or case.claims):
        rows = [replace(row, reason=row.reason or "no custom rule is on its way") for row in rows]
    return Report(tuple(rows), tuple(notes), reached, others)


def _entrywise_faults_added(report: Report, case: Case, names: Sequence[str]) -> Report:
    """A report by differences, with what custom VJPs get wrong entry by entry.

    JAX may derive a gradient of f once its custom VJPs are taken out and its custom JVPs stay.
    """
    if {rule.kind for rule in report.rules} != {"custom_vjp", "custom_jvp"}:
        return report
    try:
        examination = _examination(case, Traces(case, ("custom_vjp",)), names)
    except (CannotDerive, RuleRaises):
        return report
    rows, more = list(report.comparisons), examination.comparisons()
    for i, row in enumerate(more[: len(examination.names)]):
        rows[i] = row if row.problem else rows[i]
    rows += [row for row in more[len(examination.names) :] if row.problem]
    return replace(report, comparisons=tuple(rows))


def _composed(g: Callable[..., Any], domain: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *floats: g(*domain(*floats))


def _gradient_of(f: Callable[..., list[Any]], dy: Sequence[Any], zero: frozenset[int]) -> Callable[..., list[Any]]:
    """The gradient of ⟨dy, f⟩ as a function of the same arrays; that of some of them is zero."""

    def gradient(*floats: Any) -> list[Any]:
        y, vjp = jax.vjp(f, *floats)
        gradients = vjp([jax.numpy.asarray(d).astype(y.dtype) for d, y in zip(dy, y, strict=True)])
        return [jax.numpy.zeros_like(g) if i in zero else g for i, g in enumerate(gradients)]

    return gradient
