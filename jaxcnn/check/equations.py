"""Equations of jaxprs: what they are called, what they take, and their results for other inputs."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.core
from jax.extend import core

# These calls do what their jaxpr does, a parameter of this name: its inputs and results are theirs. What they add, as a
# name, a rule or a place to save, has no effect on values.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
}


def variables(atoms: Sequence[Any]) -> list[Any]:
    """Those of the inputs or results that are no literals."""
    return [atom for atom in atoms if not isinstance(atom, core.Literal)]


def struct_of(atom: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of an input or a result."""
    return jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype)


def results(
    eqn: core.JaxprEqn, inputs: Sequence[Any], of: core.Jaxpr, params: dict[str, Any] | None = None
) -> list[Any]:
    """The results of an equation for other inputs, and other parameters; `of` is the jaxpr that it is from."""
    variables: list[Any] = [core.Var(jax.typeof(x)) for x in inputs]
    alone = eqn.replace(invars=variables, params=eqn.params if params is None else params)
    jaxpr = of.replace(constvars=[], invars=variables, outvars=eqn.outvars, eqns=[alone])
    return jax.core.eval_jaxpr(jaxpr, (), *inputs)
