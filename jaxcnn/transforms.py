"""Transforms of functions that carry custom VJP rules.

`derived` takes the rules out, so that JAX derives the gradient: it is what our rules are checked against.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core


def derived(f: Callable[..., Any]) -> Callable[..., Any]:
    """The function f with every custom VJP in it replaced by the function that the rule belongs to.

    It computes what f computes, and its derivatives are those that JAX derives: `jax.grad(derived(f))` is independent of
    every backward rule inside f, and forward mode (`jax.jvp`, `jax.jacfwd`) works. Rules are found at any depth, inside
    `jit`, `scan`, `while_loop`, `cond`, `remat` and `vmap`.

    Args:
        f: any function of pytrees of arrays, ours or not. Arguments that are no arrays belong into `functools.partial`.

    Returns:
        A function of the same signature. f is traced once per call, at no cost inside `jit`.

    Raises:
        TypeError: f is not callable.

    Gradient: as derived by JAX. A gradient that f itself takes, by calling `jax.grad` inside, was written into it with its
        rules before this can see them, and stays.

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
        else:
            subfuns, params = eqn.primitive.get_bind_params({k: _rewrite(v) for k, v in eqn.params.items()})
            outputs = eqn.primitive.bind(*subfuns, *inputs, **params)
            outputs = outputs if eqn.primitive.multiple_results else [outputs]
        values.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _rewrite(param: Any) -> Any:
    """A parameter of an equation, with the custom VJPs replaced in every jaxpr that it holds."""
    if isinstance(param, core.ClosedJaxpr):
        return _retrace(param)
    if isinstance(param, core.Jaxpr):
        return _retrace(core.ClosedJaxpr(param, ())).jaxpr
    if isinstance(param, tuple):
        return tuple(_rewrite(entry) for entry in param)
    return param


def _retrace(closed: core.ClosedJaxpr) -> core.ClosedJaxpr:
    def evaluate(*args: Any) -> list[Any]:
        return _evaluate(closed.jaxpr, closed.consts, args)

    return jax.make_jaxpr(evaluate)(*closed.in_avals)
