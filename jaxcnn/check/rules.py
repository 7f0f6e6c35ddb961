"""The custom rules in a traced function: their names, where they are written, and which gradients go through them."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxcnn.check.equations import CALLS, results, struct_of, variables
from jaxcnn.check.wording import one_line
from jaxcnn.transforms.derived import is_of_kernel

_BACKWARD = {"custom_vjp_call": "bwd", "custom_jvp_call": "jvp_jaxpr_fun"}
_OF_JAX = f"{Path(jax.__file__).parent}{os.sep}"
_SAME_INPUTS = CALLS | {"shard_map": "jaxpr"}


@dataclass(frozen=True, order=True)
class Rule:
    """A custom rule.

    Attributes:
        name: of the function that it belongs to.
        file, line: where its backward pass, or its JVP, is written; where JAX's own files hold that, its function.
        kind: "custom_vjp" or "custom_jvp".
    """

    name: str
    file: str
    line: int
    kind: str

    def __str__(self) -> str:
        return f"{self.name} ({self.file}:{self.line})" if self.file else self.name


def rule_of(eqn: core.JaxprEqn) -> Rule | None:
    """The rule of an equation, or None if it has none."""
    kind = eqn.primitive.name
    if kind not in _BACKWARD or is_of_kernel(eqn):
        return None
    name, file, line = _source(eqn.params["call_jaxpr"].jaxpr)
    _, rule_file, rule_line = _source(eqn.params[_BACKWARD[kind]])
    if rule_file and not rule_file.startswith(_OF_JAX):  # that of `defjvps` lies in JAX
        file, line = rule_file, rule_line
    return Rule(name, file, line, kind.removesuffix("_call"))


def _source(function: Any) -> tuple[str, str, int]:
    """Name, file and line of a traced function; empty where JAX does not know them."""
    text = getattr(getattr(function, "debug_info", None), "func_src_info", None) or ""
    name, _, place = text.partition(" at ")
    file, _, line = place.rpartition(":")
    return name, file, int(line) if line.isdigit() else 0


def equations_with_rules(jaxpr: core.Jaxpr) -> Iterator[tuple[Rule, core.JaxprEqn]]:
    """The equations of a jaxpr that have a rule, at any depth; also those inside the function of another rule."""
    for eqn in jaxpr.eqns:
        rule = rule_of(eqn)
        if rule:
            yield rule, eqn
        for inner in core.jaxprs_in_params(eqn.params):
            yield from equations_with_rules(inner)


# No gradient goes through these.
_WITHOUT_DERIVATIVE = ("stop_gradient", "sign", "round", "floor", "ceil", "is_finite")


def _is_inexact(var: Any) -> bool:
    return jnp.issubdtype(struct_of(var).dtype, jnp.inexact)


def rules_between(jaxpr: core.Jaxpr, inputs: Sequence[bool], outputs: Sequence[bool], taken: "Taken") -> set[Rule]:
    """The rules that the derivative of some outputs with respect to some inputs goes through."""
    depends = {var for var, chosen in zip(jaxpr.invars, inputs, strict=True) if chosen and _is_inexact(var)}
    for eqn in jaxpr.eqns:
        if depends.intersection(variables(eqn.invars)) and eqn.primitive.name not in _WITHOUT_DERIVATIVE:
            depends.update(filter(_is_inexact, eqn.outvars))
    chosen_outputs = [atom for atom, chosen in zip(jaxpr.outvars, outputs, strict=True) if chosen]
    needed = set(filter(_is_inexact, variables(chosen_outputs)))
    found: set[Rule] = set()
    for eqn in reversed(jaxpr.eqns):
        if not (needed.intersection(depends.intersection(eqn.outvars)) and depends.intersection(variables(eqn.invars))):
            continue
        needed.update(filter(_is_inexact, variables(eqn.invars)))
        rule, name = rule_of(eqn), eqn.primitive.name
        if rule:
            found.add(rule)
        elif name in _SAME_INPUTS:
            inner = eqn.params[_SAME_INPUTS[name]]
            inner = inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner
            chosen = [not isinstance(atom, core.Literal) and atom in depends for atom in eqn.invars]
            found |= rules_between(inner, chosen, [var in needed for var in eqn.outvars], taken)
        else:
            for inner in taken.branches(eqn):
                found |= rules_between(inner, [True] * len(inner.invars), [True] * len(inner.outvars), taken)
    return found


def rules_in_branches(jaxpr: core.Jaxpr, taken: "Taken", inside: bool = False) -> Iterator[Rule]:
    """The rules in branches of which it is not known whether they are taken."""
    for eqn in jaxpr.eqns:
        if inside and rule_of(eqn):
            yield cast(Rule, rule_of(eqn))
        unknown = eqn.primitive.name == "cond" and id(eqn) not in taken.indices
        for inner in core.jaxprs_in_params(eqn.params):
            yield from rules_in_branches(inner, taken, inside or unknown)


class Taken:
    """Which branches of `cond` are taken at a point. `indices` maps an equation to those, where they are known."""

    def __init__(self, indices: dict[int, set[int]] | None = None) -> None:
        self.indices = indices or {}

    def branches(self, eqn: core.JaxprEqn) -> list[core.Jaxpr]:
        """The jaxprs inside an equation that are evaluated."""
        indices = self.indices.get(id(eqn))
        if indices is not None:
            return [eqn.params["branches"][index].jaxpr for index in indices]
        if eqn.primitive.name == "scan" and eqn.params.get("length") == 0:
            return []
        return list(core.jaxprs_in_params(eqn.params))


def taken_at(closed: core.ClosedJaxpr, args: Sequence[Any]) -> Taken:
    """The branches that are taken by the conditions at the top of a jaxpr, or in a `jit` there."""
    wanted: list[core.JaxprEqn] = []

    def conditions(jaxpr: core.Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The indices of the branches, and the results."""
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
        found = []

        def value(atom: Any) -> Any:
            return jnp.asarray(atom.val, struct_of(atom).dtype) if isinstance(atom, core.Literal) else values[atom]

        for eqn in jaxpr.eqns:
            inputs = list(map(value, eqn.invars))
            if eqn.primitive.name in ("jit", "pjit"):
                inner = eqn.params["jaxpr"]
                more, outputs = conditions(inner.jaxpr, inner.consts, inputs)
                found += more
            else:
                if eqn.primitive.name == "cond":
                    wanted.append(eqn)
                    found.append(inputs[0])
                outputs = results(eqn, inputs, jaxpr)
            values.update(zip(eqn.outvars, outputs, strict=True))
        return found, list(map(value, jaxpr.outvars))

    if not any(eqn.primitive.name == "cond" and has_rule(eqn) for eqn in _top(closed.jaxpr)):
        return Taken()
    indices = jax.jit(lambda *args: conditions(closed.jaxpr, closed.consts, args)[0])(*args)
    found: dict[int, set[int]] = {}
    for eqn, index in zip(wanted, indices, strict=True):
        found.setdefault(id(eqn), set()).add(int(np.asarray(index)))
    return Taken(found)


def has_rule(eqn: core.JaxprEqn) -> bool:
    """Whether there is a rule inside an equation."""
    return any(True for inner in core.jaxprs_in_params(eqn.params) for _ in equations_with_rules(inner))


def _top(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    for eqn in jaxpr.eqns:
        yield eqn
        if eqn.primitive.name in ("jit", "pjit"):
            yield from _top(eqn.params["jaxpr"].jaxpr)


def raising_rule(closed: core.ClosedJaxpr) -> tuple[Rule, Exception] | None:
    """The first rule whose gradient cannot be traced at the shapes and dtypes that it is called with."""
    for rule, eqn in equations_with_rules(closed.jaxpr):
        ins = list(map(struct_of, eqn.invars))
        error = _error_of(lambda *args, eqn=eqn: results(eqn, args, closed.jaxpr), ins)
        if error:
            return rule, error
    return None


def _error_of(f: Callable[..., Any], ins: Sequence[Any]) -> Exception | None:
    """What the gradient of f raises when it is traced."""
    floating = [i for i, a in enumerate(ins) if jnp.issubdtype(a.dtype, jnp.inexact)]

    def gradient(*args: Any) -> Any:
        def function_of_floats(*floats: Any) -> Any:
            replaced = dict(zip(floating, floats, strict=True))
            y = f(*[replaced.get(i, a) for i, a in enumerate(args)])
            return [leaf for leaf in y if jnp.issubdtype(leaf.dtype, jnp.inexact)]

        y, vjp = jax.vjp(function_of_floats, *[args[i] for i in floating])
        return vjp([jnp.ones_like(leaf) for leaf in y])

    try:
        jax.eval_shape(gradient, *ins)
    except Exception as error:
        return error
    return None


def underivable_primitive(closed: core.ClosedJaxpr) -> str:
    """In words, which primitive of a jaxpr JAX derives no gradient of; empty where it is not found."""
    for eqn in closed.jaxpr.eqns:
        ins = list(map(struct_of, eqn.invars))
        error = _error_of(lambda *args, eqn=eqn: results(eqn, args, closed.jaxpr), ins)
        if error:
            inner = (core.ClosedJaxpr(j, ()) for j in core.jaxprs_in_params(eqn.params) if not j.constvars)
            own = f"{eqn.primitive.name} has none ({one_line(error)})"
            return next(filter(None, map(underivable_primitive, inner)), own)
    return ""
