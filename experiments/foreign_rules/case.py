"""What one check of a foreign rule needs: a package, a call, and what is true of the rule."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from types import ModuleType, SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

RIGHT, WRONG = "right", "wrong"


@dataclass(frozen=True)
class Call:
    """f(*args) as check.gradients gets it, with its options.

    `claim` holds further options, under which a rule that deviates on purpose is right.
    """

    f: Callable[..., Any]
    args: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)
    claim: dict[str, Any] | None = None

    def under(self, **claim: Any) -> "Call":
        return replace(self, claim=claim)


@dataclass(frozen=True)
class Case:
    """A rule of a package.

    Attributes:
        package: its distribution on the package index, or "patterns".
        name: what is called.
        make: gives the call. It imports what it needs, so that a package that is missing is no error before.
        truth: whether the rule is the derivative of its function, as it comes.
        why: what is wrong, or what the rule does on purpose.
        kind: "custom_vjp" or "custom_jvp".
        x64: whether the call needs JAX's 64-bit types.
        within: a context that the check runs in.
        planted: the position of the gradient to plant a fault in; None where there is no place for one.
    """

    package: str
    name: str
    make: Callable[[], Call]
    truth: str = RIGHT
    why: str = ""
    kind: str = "custom_vjp"
    x64: bool = False
    within: Callable[[], AbstractContextManager[Any]] = nullcontext
    planted: int | None = 0


CASES: list[Case] = []


def case(package: str, name: str, **what: Any) -> Callable[[Callable[[], Call]], Callable[[], Call]]:
    """Registers the function that makes the call."""

    def register(make: Callable[[], Call]) -> Callable[[], Call]:
        CASES.append(Case(package, name, make, **what))
        return make

    return register


def call(f: Callable[..., Any], *args: Any, **options: Any) -> Call:
    return Call(f, args, options)


def module(name: str) -> Any:
    """A module by its name: what is checked need not be installed to read this."""
    return importlib.import_module(name)


def submodule(name: str) -> Any:
    """A module of a package whose own `__init__` does not import, as it wants another jax."""
    parts = name.split(".")[:-1]
    for i in range(1, len(parts) + 1):
        package = ".".join(parts[:i])
        if package not in sys.modules:
            spec = importlib.util.find_spec(package)
            if spec is None:
                raise ModuleNotFoundError(f"No module named {package!r}")
            sys.modules[package] = empty = ModuleType(package)
            empty.__path__ = list(spec.submodule_search_locations or ())
    return module(name)


def modules(**names: str) -> SimpleNamespace:
    return SimpleNamespace(**{short: module(name) for short, name in names.items()})


def normal(*shape: int, seed: int = 0, dtype: Any = jnp.float32) -> jax.Array:
    """Random numbers, other ones for each shape."""
    return jnp.asarray(np.random.default_rng([seed, *shape]).normal(size=shape), dtype)


def uniform(low: float, high: float, *shape: int, seed: int = 0, dtype: Any = jnp.float32) -> jax.Array:
    return jnp.asarray(np.random.default_rng([seed, *shape]).uniform(low, high, size=shape), dtype)


def whole(low: int, high: int, *shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng([seed, *shape]).integers(low, high, size=shape), jnp.int32)


def straight_through(value: Any, slope: Any) -> Any:
    """A value of which JAX derives the gradient of another function."""
    return slope + jax.lax.stop_gradient(value - slope)
