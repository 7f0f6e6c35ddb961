"""Functions without their custom rules. JAX derives their gradients, which our rules are checked against."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.extend import core

from jaxcnn.contract import arguments
from jaxcnn.transforms.jaxprs import Rewriter


def derived(f: Callable[..., Any]) -> Callable[..., Any]:
    """The function f with every custom VJP and custom JVP in it replaced by the function that the rule belongs to.

    It computes what f computes, and its derivatives are those that JAX derives: `jax.grad(derived(f))` is independent
    of every backward rule inside f, and forward mode (`jax.jvp`, `jax.jacfwd`, `jax.hessian`) works. Rules, ours or
    not, are found at any depth, inside `jit`, `scan`, `while_loop`, `cond`, `remat`, `vmap` and `shard_map`. The
    custom JVPs of jaxcnn's own kernels stay: they say what the derivative of a fast way to compute is.

    Args:
        f: any function. It may be called with anything, which reaches f as it came.

    Returns:
        A function of the same signature. f is traced once per call, at no cost inside `jit`.

    Raises:
        TypeError: f is not callable.

    Gradient: as derived by JAX. Where f itself takes a gradient, by calling `jax.grad` inside, the rules are part of
        what f computes, and stay.

    >>> import jax
    >>> import jaxcnn
    >>> jax.jvp(derived(jaxcnn.relu), (2.0 * jax.numpy.ones(()),), (jax.numpy.ones(()),))[1]
    Array(1., dtype=float32)
    """
    arguments.require(callable(f), "derived", "f", "callable", arguments.describe(f), TypeError)

    @functools.wraps(f, updated=())
    def derived_f(*args: Any, **kwargs: Any) -> Any:
        return _rule_remover.call(f, args, kwargs)

    return derived_f


class _RuleRemover(Rewriter):
    """Puts the function of a custom rule in the place of its call."""

    def __init__(self, kinds: Sequence[str]):
        super().__init__()
        calls = {"custom_vjp": core.primitives.custom_vjp_call_p, "custom_jvp": core.primitives.custom_jvp_call_p}
        self._calls = [calls[kind] for kind in kinds]

    def replaced_by(self, eqn):
        if eqn.primitive in self._calls and not is_of_kernel(eqn):
            return self.closed_jaxpr(eqn.params["call_jaxpr"])
        return None


class _RuleStopper(Rewriter):
    """Lets no gradient through the calls of custom rules."""

    def replaced_by(self, eqn):
        if eqn.primitive not in (core.primitives.custom_vjp_call_p, core.primitives.custom_jvp_call_p):
            return None
        call = eqn.params["call_jaxpr"]
        return jax.make_jaxpr(lambda *args: jax.lax.stop_gradient(core.jaxpr_as_fun(call)(*args)))(*call.in_avals)


def is_of_kernel(eqn: core.JaxprEqn) -> bool:
    """Whether a custom JVP is that of one of jaxcnn's kernels: it is no rule, but part of what is computed."""
    info = getattr(eqn.params["call_jaxpr"].jaxpr, "debug_info", None)
    return f" at {_KERNELS}" in (getattr(info, "func_src_info", None) or "")


_KERNELS = Path(__file__).parents[1] / "kernels"
_KINDS = ("custom_vjp", "custom_jvp")
_rule_remover = _RuleRemover(_KINDS)
_removers = {_KINDS: _rule_remover, ("custom_vjp",): _RuleRemover(("custom_vjp",))}


def rules_removed(closed: core.ClosedJaxpr, kinds: Sequence[str] = _KINDS) -> core.ClosedJaxpr:
    """A jaxpr with every custom rule of some kinds in it replaced by the function that the rule belongs to."""
    return _removers[tuple(kinds)].closed_jaxpr(closed)


_rule_stopper = _RuleStopper()


def rules_stopped(closed: core.ClosedJaxpr) -> core.ClosedJaxpr:
    """A jaxpr that computes the same, with no gradient through any custom rule."""
    return _rule_stopper.closed_jaxpr(closed)
