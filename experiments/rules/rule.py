"""What a rule of this folder is, and how it is made."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_RANDOM = np.random.default_rng(0)


@dataclass(frozen=True)
class Rule:
    """A function with custom rules, and where to check it."""

    name: str
    f: Callable[..., Any]
    args: tuple[Any, ...]
    said: tuple[str, ...] = ()  # what a report should say of a wrong one
    options: dict[str, Any] = field(default_factory=dict)  # of `check.gradients`


def with_rule(f: Callable[..., Any], bwd: Callable[..., Any]) -> Any:
    """f with bwd(*args, dy) as its backward pass."""
    rule = jax.custom_vjp(f)
    rule.defvjp(lambda *args: (f(*args), args), lambda args, dy: bwd(*args, dy))
    return rule


def with_jvp(f: Callable[..., Any], slope: Callable[..., Any]) -> Any:
    """f with slope(args, tangents) as its forward-mode rule."""
    rule = jax.custom_jvp(f)
    rule.defjvp(lambda args, tangents: (f(*args), slope(args, tangents)))
    return rule


def normal(*shape: int, dtype: Any = jnp.float32) -> jax.Array:
    return jnp.asarray(_RANDOM.normal(size=shape), dtype)


def whole(low: int, high: int, *shape: int) -> jax.Array:
    """Whole numbers as floats: many of them equal."""
    return jnp.asarray(_RANDOM.integers(low, high, size=shape), jnp.float32)
