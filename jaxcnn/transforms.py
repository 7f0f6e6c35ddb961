"""Transforms of functions that carry custom VJP rules.

`derived` takes the rules out, so that JAX derives the gradient: it is what our rules are checked against.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.core
from jax.extend import core


def derived(f: Callable[..., Any]) -> Callable[..., Any]:
    """The function f with every custom VJP in it replaced by the function that the rule belongs to.

    It computes what f computes, and its derivatives are those that JAX derives: `jax.grad(derived(f))` is independent
    of every backward rule inside f, and forward mode (`jax.jvp`, `jax.jacfwd`) works. Rules are found at any depth,
    inside `jit`, `scan`, `while_loop`, `cond`, `remat` and `vmap`.

    Args:
        f: any function of pytrees of arrays, ours or not. Arguments that are no arrays belong into `functools.partial`.

    Returns:
        A function of the same signature. f is traced once per call, at no cost inside `jit`. A rule inside `shard_map`
        stays as it is.

    Raises:
        TypeError: f is not callable.

    Gradient: as derived by JAX. A gradient that f itself takes, by calling `jax.grad` inside, was written into it
        with its rules before this can see them, and stays.

    >>> import jaxcnn
    >>> jax.jvp(derived(jaxcnn.relu), (2.0 * jax.numpy.ones(()),), (jax.numpy.ones(()),))[1]
    Array(1., dtype=float32)
    """
    if not callable(f):
        raise TypeError(f"derived: f must be callable, got {type(f).__name__} {f!r}")

    def derived_f(*args: Any, **kwargs: Any) -> Any:
        closed, out_shape = jax.make_jaxpr(f, return_shape=True)(*args, **kwargs)
        outputs = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves((args, kwargs)))
        return jax.tree.unflatten(jax.tree.structure(out_shape), outputs)

    return derived_f


def _evaluate(jaxpr: core.Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """Evaluates a jaxpr, with the primal function in place of every custom VJP."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for eqn in jaxpr.eqns:
        inputs = [read(atom) for atom in eqn.invars]
        if eqn.primitive is core.primitives.custom_vjp_call_p:
            primal = eqn.params["call_jaxpr"]
            outputs = _evaluate(primal.jaxpr, primal.consts, inputs)
        elif eqn.primitive is core.primitives.remat_p:
            body = partial(_evaluate_body, eqn.params["jaxpr"])
            policy, prevent_cse = eqn.params["policy"], eqn.params["prevent_cse"]
            outputs = jax.checkpoint(body, policy=policy, prevent_cse=prevent_cse)(*inputs)
        else:
            params = {name: _without_rules(param) for name, param in eqn.params.items()}
            variables = list({atom: None for atom in eqn.invars if not isinstance(atom, core.Literal)})
            equation = eqn.replace(params=params)
            alone = jaxpr.replace(constvars=[], invars=variables, outvars=eqn.outvars, eqns=[equation])
            outputs = jax.core.eval_jaxpr(alone, (), *map(read, variables))
        values.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _evaluate_body(jaxpr: core.Jaxpr, *args: Any) -> list[Any]:
    return _evaluate(jaxpr, (), args)


def _without_rules(param: Any) -> Any:
    """A parameter of an equation, traced anew where it is a jaxpr that holds a custom VJP."""
    if isinstance(param, tuple) and any(isinstance(entry, core.ClosedJaxpr) for entry in param):
        entries = [_without_rules(entry) for entry in param]
        return type(param)(*entries) if hasattr(param, "_fields") else tuple(entries)
    if isinstance(param, core.ClosedJaxpr) and holds_rule(param.jaxpr):
        return jax.make_jaxpr(lambda *args: _evaluate(param.jaxpr, param.consts, args))(*param.in_avals)
    return param


def holds_rule(jaxpr: core.Jaxpr) -> bool:
    """Whether there is a custom VJP in a jaxpr, at any depth."""
    return any(
        eqn.primitive is core.primitives.custom_vjp_call_p or any(map(holds_rule, core.jaxprs_in_params(eqn.params)))
        for eqn in jaxpr.eqns
    )
