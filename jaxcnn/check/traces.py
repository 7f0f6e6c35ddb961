"""A function, its rule and its reference, traced in the dtypes of the arguments.

JAX's 64-bit mode is on around what is evaluated in float64 only, never around f.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import cached_property
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxcnn.check.case import Case
from jaxcnn.check.equations import variables
from jaxcnn.check.rules import Rule, raising_rule
from jaxcnn.check.widening import dilations_removed, wide_type
from jaxcnn.check.wording import one_line
from jaxcnn.transforms.derived import rules_removed, rules_stopped

Evaluator = Callable[[core.ClosedJaxpr], Callable[..., list[Any]]]
Pullback = Callable[[Sequence[Any], Sequence[Any]], list[Any]]  # (args, dy) -> outputs, then gradients of ⟨dy, f⟩


def generator(purpose: str, seed: Any = 0) -> np.random.Generator:
    """A generator for one purpose: not that of `default_rng(0)`, by which the caller may have drawn the arguments."""
    return np.random.default_rng([*purpose.encode(), *np.ravel(seed)])


class CannotDerive(ValueError):
    """JAX derives no gradient of the reference; the message says why."""


class RuleRaises(ValueError):
    """f can be computed, and its gradient by its rules cannot; `rule` is the one that raises, if it is known."""

    def __init__(self, rule: Rule | None, error: BaseException) -> None:
        which = f"the rule of {rule}" if rule else "the gradient by the rule"
        super().__init__(f"{which} raises {one_line(error)}")
        self.rule, self.error = rule, error


@contextmanager
def float64_on_cpu() -> Iterator[None]:
    """Inside, JAX computes in float64 on the CPU, whatever dtype and device the session has."""
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        yield


class Traces:
    """A function, its rule and its reference as jaxprs, in the dtypes of the arguments.

    Attributes:
        function: f.
        outputs: the shapes and dtypes of its outputs.
        rule: (args, dy) -> outputs and gradients, by the rule.
        keeps_state: whether what the rule gives for one call depends on another call.
        reference, claims: functions without rules: what f should return, and what its gradient should be that of.
    """

    def __init__(self, case: Case, kinds: Sequence[str] = ("custom_vjp", "custom_jvp")) -> None:
        self.case = case
        self.function, outputs = jax.make_jaxpr(case.f, return_shape=True)(*case.floats)
        if not outputs:
            raise TypeError(f"{case.arguments.caller}: f must return a floating-point array, got none")
        self.outputs = tuple(outputs)
        self.reference = self._plain("reference", case.reference, self.function, kinds)
        self.claims = self._plain("claims", case.claims, self.reference, kinds)

    def _plain(self, name: str, f: Any, default: core.ClosedJaxpr, kinds: Sequence[str]) -> core.ClosedJaxpr:
        """The jaxpr of a function of the caller, or the default, without rules."""
        if f is None:
            return dilations_removed(rules_removed(default, kinds))
        closed, outputs = jax.make_jaxpr(f, return_shape=True)(*self.case.floats)
        got, expected = ([list(y.shape) for y in ys] for ys in (outputs, self.outputs))
        if got != expected:
            what = f"{name} must return what f returns, arrays of shape {expected}"
            raise ValueError(f"{self.case.arguments.caller}: {what}, got {got}")
        return dilations_removed(rules_removed(closed, kinds))

    def retraced_in_float64(self) -> "Traces | None":
        """The same with references that are traced for float64 arrays, where they can be."""
        other, case = copy(self), self.case
        args = [wide_struct(a) for a in case.floats]
        try:
            with float64_on_cpu():
                reference = jax.make_jaxpr(case.reference or case.f)(*args)
                claims = jax.make_jaxpr(case.claims)(*args) if case.claims else reference
        except Exception:
            return None
        other.reference = dilations_removed(rules_removed(reference))
        other.claims = other.reference if claims is reference else dilations_removed(rules_removed(claims))
        return other

    def stopped(self) -> "Traces":
        """The same with a reference through whose rules no gradient goes."""
        other = copy(self)
        other.reference = other.claims = dilations_removed(rules_stopped(self.function))
        return other

    @cached_property
    def traced_rule(self) -> tuple[core.ClosedJaxpr, bool]:
        """The rule, and whether it keeps state. RuleRaises if it cannot be traced."""
        dy = [np.zeros(y.shape, y.dtype) for y in self.outputs]
        try:
            return _traced_rule(self.case.f, self.case.floats, dy)
        except Exception as error:
            raise RuleRaises(*(raising_rule(self.function) or (None, error))) from error

    @property
    def rule(self) -> core.ClosedJaxpr:
        return self.traced_rule[0]

    @property
    def keeps_state(self) -> bool:
        return self.traced_rule[1]

    def expected(self, make: Evaluator) -> Pullback:
        """The pullback of the reference, as JAX derives it; `make` makes a function of a jaxpr."""
        reference, claims = make(self.reference), make(self.claims)

        def outputs_and_gradients(args: Sequence[Any], dy: Sequence[Any]) -> list[Any]:
            y, vjp = jax.vjp(claims, *args)
            allowed = [
                jnp.zeros_like(of) if i in self.case.ignores else jnp.asarray(d).astype(of.dtype)
                for i, (d, of) in enumerate(zip(dy, y, strict=True))
            ]
            gradients = vjp(allowed)
            values = y if self.claims is self.reference else reference(*args)
            return [*values, *(jnp.zeros_like(g) if i in self.case.zero else g for i, g in enumerate(gradients))]

        return outputs_and_gradients


def evaluator(closed: core.ClosedJaxpr) -> Callable[..., list[Any]]:
    """The function of a jaxpr, in its own dtypes."""
    return lambda *args: jax.core.eval_jaxpr(closed.jaxpr, closed.consts, *args)


def wide_struct(a: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(a), wide_type(jnp.result_type(a)))


def pullback(f: Callable[..., list[Any]]) -> Pullback:
    """(args, dy) -> the outputs of f, then the gradients of ⟨dy, f⟩."""

    def outputs_and_gradients(args: Sequence[Any], dy: Sequence[Any]) -> list[Any]:
        y, vjp = jax.vjp(f, *args)
        return [*y, *vjp(list(dy))]

    return outputs_and_gradients


def _traced_rule(f: Callable[..., Any], args: Sequence[Any], dy: Sequence[Any]) -> tuple[core.ClosedJaxpr, bool]:
    """The rule as a jaxpr of (args, dy, args of another call), and whether the other call changes its gradients.

    The forward pass of the other call comes between the forward and the backward pass of the first. If the rule keeps
    something outside of its residuals, the gradients of the first call depend on the arguments of the other.
    """

    def interrupted(args, dy, second_args):
        y, vjp = jax.vjp(f, *args)
        jax.vjp(f, *second_args)
        return [*y, *vjp(list(dy))]

    closed = jax.make_jaxpr(interrupted)(list(args), list(dy), list(args))
    jaxpr = live_part(closed.jaxpr)
    used = {variable for atoms in [jaxpr.outvars, *(eqn.invars for eqn in jaxpr.eqns)] for variable in variables(atoms)}
    keeps_state = not used.isdisjoint(jaxpr.invars[len(args) + len(dy) :])
    return core.ClosedJaxpr(jaxpr, closed.consts), keeps_state


def live_part(jaxpr: core.Jaxpr) -> core.Jaxpr:
    """The jaxpr without the equations that no result depends on."""
    needed, kept = set(variables(jaxpr.outvars)), []
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            needed.update(variables(equation.invars))
            kept.append(equation)
    return jaxpr.replace(eqns=kept[::-1])


def traced_alike(f: Callable[..., Any], args: Sequence[Any]) -> bool:
    """Whether a function and its rule give the same jaxpr when they are traced again."""

    def traced() -> tuple[str, list[Any]]:
        dy = [np.ones(y.shape, y.dtype) for y in jax.eval_shape(f, *args)]
        closed = jax.make_jaxpr(pullback(f))(list(args), dy)
        return re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr)), closed.consts

    (text, consts), (again, others) = traced(), traced()
    same = text == again and len(consts) == len(others)
    return same and all(map(_same, consts, others))


def _same(a: Any, b: Any) -> bool:
    """Whether two constants, which may be random keys, are equal."""
    if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    a, b = np.asarray(a), np.asarray(b)
    return np.array_equal(a, b, equal_nan=jnp.issubdtype(a.dtype, jnp.inexact))
