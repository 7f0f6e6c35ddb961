"""The rule and its reference as one compiled program, in float64 or in the arguments' own dtype."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxcnn.check.report import one_line
from jaxcnn.check.tolerance import coarsest_eps, longest_sum
from jaxcnn.transforms import derived

Arrays = list[np.ndarray]


def generator(purpose: str, seed: Any = 0) -> np.random.Generator:
    """A generator for one purpose: not that of `default_rng(0)`, by which the caller may have drawn the arguments."""
    return np.random.default_rng([*purpose.encode(), *np.ravel(seed)])


class CannotDerive(ValueError):
    """JAX derives no gradient of the reference; the message says why."""


@contextmanager
def float64_on_cpu() -> Iterator[None]:
    """Inside, JAX computes in float64 on the CPU, whatever dtype and device the session has."""
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        yield


@dataclass(frozen=True)
class Program:
    """(args, dy) -> outputs and gradients of the rule, and those of the reference, each as one list.

    Attributes:
        compiled: both, as one compiled function.
        double: whether it computes in float64; else in the dtype of the arguments.
        outputs: the shapes and dtypes of the outputs.
        eps: of the lowest precision that the function computes in.
        rule_eps: of the lowest precision that the function and its rule compute in.
        length: how many terms the longest sum in the gradient of the reference has.
        keeps_state: whether what the rule gives for one call depends on another call.
    """

    compiled: Callable[..., Any]
    double: bool
    outputs: tuple[jax.ShapeDtypeStruct, ...]
    eps: float
    rule_eps: float
    length: int
    keeps_state: bool

    def __call__(self, args: Sequence[Any], dy: Sequence[Any]) -> tuple[Arrays, Arrays]:
        with float64_on_cpu() if self.double else nullcontext():
            if self.double:
                args = [np.asarray(a, np.float64) for a in args]
            dy = [np.asarray(d).astype(y.dtype) for d, y in zip(dy, self.outputs, strict=True)]
            got, expected = self.compiled(list(args), dy)
            return list(map(np.asarray, got)), list(map(np.asarray, expected))

    def random_dy(self, seed: Any) -> Arrays:
        """A normal cotangent in the dtypes of the outputs."""
        random = generator("cotangent", seed)
        return [np.asarray(random.normal(size=y.shape)).astype(y.dtype) for y in self.outputs]


def compile_program(
    caller: str, f: Callable[..., Any], reference: Callable[..., Any], args: Sequence[Any], double: bool
) -> Program:
    """f and its reference, traced and compiled as one program: that takes less time than two.

    Raises:
        CannotDerive: there is no gradient of the reference.
        TypeError, ValueError: f has no floating-point output, or the reference returns other shapes.
    """
    with float64_on_cpu() if double else nullcontext():
        if double:
            args = [np.asarray(a, np.float64) for a in args]
        try:
            primal, outputs = jax.make_jaxpr(derived(reference), return_shape=True)(*args)
        except TypeError as error:
            if double:
                error.add_note("check.gradients computes in float64: an array that f closes over has to be an argument")
            raise
        if not outputs:
            raise TypeError(f"{caller}: f must return a floating-point array, got none")
        if reference is not f:
            _require_same_shapes(caller, jax.eval_shape(f, *args), outputs)
        dy = [np.zeros(y.shape, y.dtype) for y in outputs]
        rule, keeps_state = _trace_rule(f, args, dy)
        try:
            expected = jax.make_jaxpr(_flat_pullback(core.jaxpr_as_fun(primal)))(args, dy)
        except Exception as error:
            raise CannotDerive(f"JAX derives no gradient of f: {one_line(error)}") from error

        def both(args: Sequence[Any], dy: Sequence[Any]) -> Any:
            flat = [*args, *dy]
            got = jax.core.eval_jaxpr(rule.jaxpr, rule.consts, *flat, *args)
            return got, jax.core.eval_jaxpr(expected.jaxpr, expected.consts, *flat)

        compiled = jax.jit(both).lower(list(args), dy).compile()
    function, both_ways = coarsest_eps(_live_part(primal.jaxpr)), coarsest_eps(rule.jaxpr)
    return Program(compiled, double, tuple(outputs), function, both_ways, longest_sum(expected.jaxpr), keeps_state)


def _require_same_shapes(caller: str, ours: Sequence[Any], theirs: Sequence[Any]) -> None:
    got, expected = ([list(y.shape) for y in outputs] for outputs in (theirs, ours))
    if got != expected:
        raise ValueError(f"{caller}: reference must return what f returns, arrays of shape {expected}, got {got}")


def _flat_pullback(f: Callable[..., Any]) -> Callable[..., list[Any]]:
    """(args, dy) -> the outputs of f, then the gradients of ⟨dy, f⟩."""

    def value_and_gradients(args: Sequence[Any], dy: Sequence[Any]) -> list[Any]:
        y, vjp = jax.vjp(f, *args)
        return [*y, *vjp(list(dy))]

    return value_and_gradients


def _trace_rule(f: Callable[..., Any], args: Sequence[Any], dy: Sequence[Any]) -> tuple[core.ClosedJaxpr, bool]:
    """The rule as a jaxpr of (args, dy, args of another call), and whether the other call changes its gradients.

    The forward pass of the other call comes between the forward and the backward pass of the first. If the rule keeps
    something outside of its residuals, the gradients of the first call depend on the arguments of the other.
    """

    def interrupted(args, dy, second_args):
        y, vjp = jax.vjp(f, *args)
        jax.vjp(f, *second_args)
        return [*y, *vjp(list(dy))]

    closed = jax.make_jaxpr(interrupted)(args, dy, args)
    jaxpr = _live_part(closed.jaxpr)
    used = {
        variable for atoms in [jaxpr.outvars, *(eqn.invars for eqn in jaxpr.eqns)] for variable in _variables(atoms)
    }
    keeps_state = not used.isdisjoint(jaxpr.invars[len(args) + len(dy) :])
    return core.ClosedJaxpr(jaxpr, closed.consts), keeps_state


def _live_part(jaxpr: core.Jaxpr) -> core.Jaxpr:
    """The jaxpr without the equations that no result depends on."""
    needed, kept = set(_variables(jaxpr.outvars)), []
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            needed.update(_variables(equation.invars))
            kept.append(equation)
    return jaxpr.replace(eqns=kept[::-1])


def _variables(atoms: Sequence[Any]) -> list[Any]:
    """Those of the inputs or results that are no literals."""
    return [atom for atom in atoms if not isinstance(atom, core.Literal)]


def traced_alike(f: Callable[..., Any], args: Sequence[Any]) -> bool:
    """Whether a function and its rule give the same jaxpr when they are traced again."""
    with float64_on_cpu():
        args = [np.asarray(a, np.float64) for a in args]

        def traced() -> tuple[str, list[Any]]:
            dy = [np.ones(y.shape, y.dtype) for y in jax.eval_shape(f, *args)]
            closed = jax.make_jaxpr(_flat_pullback(f))(args, dy)
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
