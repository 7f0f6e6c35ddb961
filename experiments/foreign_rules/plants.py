"""Faults that are planted in every custom rule that is defined after `wrap_definitions`.

SCALE: a gradient times 0.99. ENTRY: one entry of usual size, the root mean square of its array, times 1.001. They are
put in the first gradient with a floating or complex dtype that a `bwd` gives, or in the first tangent of a `jvp`.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.scipy import special

SCALE, ENTRY = "0.99 in all", "0.1 % in one entry"
_FACTORS = {SCALE: 0.99, ENTRY: 1.001}


class _Planted:
    fault: str | None = None
    position = 0
    reached: ClassVar[set[str]] = set()


@contextmanager
def planted(fault: str, position: int = 0) -> Iterator[None]:
    """The fault in all rules: in the gradient at the position among those of a floating or complex dtype."""
    jax.clear_caches()
    _Planted.fault, _Planted.position = fault, position
    try:
        yield
    finally:
        _Planted.fault, _Planted.position = None, 0
        jax.clear_caches()


@contextmanager
def watched() -> Iterator[set[str]]:
    """The set that the names of the rules are put into that are traced in the meantime."""
    jax.clear_caches()
    _Planted.reached = set()
    yield _Planted.reached
    _Planted.reached = set()


def wrap_definitions() -> None:
    """From now on `defvjp`, `defjvp` and `defjvps` define rules that take faults; JAX's own are defined anew."""
    defvjp, defjvp = jax.custom_vjp.defvjp, jax.custom_jvp.defjvp

    @functools.wraps(defvjp)
    def defining_vjp(self: Any, fwd: Any, bwd: Any, *args: Any, **kwargs: Any) -> Any:
        return defvjp(self, fwd, _spoiled_vjp(bwd), *args, **kwargs)

    @functools.wraps(defjvp)
    def defining_jvp(self: Any, jvp: Any, *args: Any, **kwargs: Any) -> Any:
        defjvp(self, _spoiled_jvp(jvp), *args, **kwargs)
        return jvp

    jax.custom_vjp.defvjp, jax.custom_jvp.defjvp = defining_vjp, defining_jvp  # defjvps calls defjvp
    for rule in (*vars(jax.nn).values(), *vars(special).values()):
        if isinstance(rule, jax.custom_jvp) and rule.jvp is not None:
            rule.defjvp(rule.jvp)


def _spoiled_vjp(bwd: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(bwd)
    def rule(*args: Any) -> Any:
        _Planted.reached.add(_name(bwd))
        gradients = bwd(*args)
        return _spoiled(gradients, gradients)

    return rule


def _spoiled_jvp(jvp: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(jvp)
    def rule(*args: Any) -> Any:
        _Planted.reached.add(_name(jvp))
        result = jvp(*args)
        if _Planted.fault is None:
            return result
        primal, tangent = result
        return primal, _spoiled(tangent, primal)

    return rule


def _name(rule: Any) -> str:
    rule = getattr(rule, "func", rule)
    return f"{getattr(rule, '__module__', '')}.{getattr(rule, '__qualname__', type(rule).__name__)}"


def _spoiled(arrays: Any, sizes: Any) -> Any:
    """The arrays with the fault; `sizes` says which entry has the usual size.

    In a jvp it is the output that says so and not the tangent: then the result is linear in the tangent.
    """
    if _Planted.fault is None:
        return arrays
    leaves, tree = jax.tree.flatten(arrays, is_leaf=_is_zero)
    others = jax.tree.leaves(sizes, is_leaf=_is_zero)
    inexact = [i for i, leaf in enumerate(leaves) if _is_inexact(leaf)]
    if _Planted.position < len(inexact):
        i = inexact[_Planted.position]
        leaves[i] = _changed(leaves[i], others[i] if _is_inexact(others[i]) else leaves[i])
    return tree.unflatten(leaves)


def _is_zero(leaf: Any) -> bool:
    return isinstance(leaf, SymbolicZero)


def _is_inexact(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and not _is_zero(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _changed(array: Any, size: Any) -> Any:
    """The array with the fault that is planted, in its dtype; the product is in float32 at least."""
    wide = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    changed = (wide * _FACTORS[_Planted.fault or SCALE]).astype(array.dtype)
    if _Planted.fault == SCALE or not array.size:
        return changed
    size = jnp.abs(jax.lax.stop_gradient(size)).astype(jnp.float32)
    counted = jnp.isfinite(size) & (size > 0)
    usual = jnp.sqrt(jnp.mean(jnp.square(size), where=counted))
    entry = jnp.argmin(jnp.where(counted, jnp.abs(size - usual), jnp.inf))
    here = (jnp.arange(array.size) == entry).reshape(array.shape)
    return jnp.where(here, changed, array)
