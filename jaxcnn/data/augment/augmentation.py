"""What every augmentation is: a function of a key and a batch, equal to another that was made by an equal call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn.contract import arguments
from jaxcnn.data.arrays import require_numbers

Apply = Callable[..., tuple[jax.Array, Any]]
_LABELS = "a tree of arrays [N, ...], labels of the images of x or maps of their places"


@dataclass(frozen=True)
class Augmentation:
    """A function `f(key, x, y) -> (x, y)` of a batch, to be called inside a jitted step; it is static there.

    Each image x [*S, C] gets its own draw. Labels that have the spatial axes of the images, y [N, *S, ...], move with
    them.

    Attributes:
        name: the function of `data.augment` that made it.
        function: computes it, function(key, x, y, **options).
        options: the names and values of its options.
    """

    name: str
    function: Apply
    options: tuple[tuple[str, Any], ...]

    def __call__(self, key: jax.Array, x: Any, y: Any) -> tuple[jax.Array, Any]:
        where = f"augment.{self.name}"
        arguments.random_key(where, key)
        require_numbers(where, "x", x)
        arguments.images(where, x)
        for leaf in jax.tree.leaves(y):
            require_numbers(where, "y", leaf)
            fits = leaf.shape[:1] == x.shape[:1] and (is_map(leaf, x) or leaf.ndim < max(3, x.ndim - 1))
            expected = f"labels [{len(x)}, ...] or maps {list(x.shape[:-1])} as x has images"
            arguments.require(fits, where, "y", expected, arguments.describe(leaf))
        return _applied(self, key, x, y)

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in self.options if value is not None]
        return f"augment.{self.name}({', '.join(shown)})"


@partial(jax.jit, static_argnums=0)
def _applied(made, key, x, y):
    """One program also where the caller is not jitted: operation by operation it would be slow to compile and run."""
    return made.function(key, x, y, **dict(made.options))


@dataclass(frozen=True)
class Composition:
    """Several augmentations, one after the other."""

    parts: tuple[Callable[..., tuple[Any, Any]], ...]

    def __call__(self, key: jax.Array, x: Any, y: Any) -> tuple[Any, Any]:
        arguments.random_key("augment.compose", key)
        for part, part_key in zip(self.parts, jax.random.split(key, len(self.parts)), strict=True):
            x, y = part(part_key, x, y)
        return x, y

    def __repr__(self) -> str:
        return f"augment.compose({', '.join(map(repr, self.parts))})"


def compose(*parts: Callable[..., tuple[Any, Any]]) -> Composition:
    """Augmentations that are applied one after the other, each with a key of its own.

    Args:
        parts: augmentations, or other functions f(key, x, y) -> (x, y).

    Returns:
        One augmentation.

    Raises:
        TypeError: a part is no function.
        ValueError: there are no parts.
    """
    arguments.require(len(parts) > 0, "augment.compose", "parts", "at least one augmentation", "none")
    for i, part in enumerate(parts):
        arguments.called("augment.compose", f"parts[{i}]", part, "a function f(key, x, y) -> (x, y)")
    return Composition(parts)


def augmentation(name: str, function: Apply, **options: Any) -> Augmentation:
    """The augmentation of this name, made of options that can be hashed."""
    return Augmentation(name, function, tuple(options.items()))


def integers(name: str, argument: str, value: Any, minimum: int | None = None) -> int | tuple[int, ...]:
    """One int or a tuple of them, one per axis."""
    several = arguments.options(value)
    if several is None:
        return arguments.integer(f"augment.{name}", argument, value, minimum)
    return tuple(arguments.integer(f"augment.{name}", argument, each, minimum) for each in several)


def per_axis(name: str, argument: str, value: int | Sequence[int], x: jax.Array) -> tuple[int, ...]:
    """One int for each spatial axis of x."""
    rank = x.ndim - 2
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    expected = f"an int or one for each of the {rank} spatial axes of x {list(x.shape)}"
    arguments.require(len(values) == rank, f"augment.{name}", argument, expected, value)
    return values


def is_map(y: Any, x: Any) -> bool:
    """Whether y [N, *S, ...] says something about each place of the images x [N, *S, C]."""
    return y.shape[: x.ndim - 1] == x.shape[:-1]


def maps(function: Callable[[Any], Any], y: Any, x: jax.Array) -> Any:
    """The labels, with what is a map of the places of x replaced by the function of it."""
    return jax.tree.map(lambda leaf: function(leaf) if is_map(leaf, x) else leaf, y)


def outside(name: str, y: jax.Array) -> int:
    """What a map says about a place that comes in from outside: -1, no class, or 0 where it holds numbers."""
    if jnp.issubdtype(y.dtype, jnp.floating):
        return 0
    expected = "of signed integers, since -1 labels the places that come in"
    is_signed = jnp.issubdtype(y.dtype, jnp.signedinteger)
    arguments.require(is_signed, f"augment.{name}", "y", expected, arguments.describe(y), TypeError)
    return -1


def require_floats(name: str, x: jax.Array) -> None:
    """TypeError unless the images can hold what is computed of them."""
    is_floating = jnp.issubdtype(x.dtype, jnp.floating)
    expected = "a floating-point array, as data.standardize makes of integers"
    arguments.require(is_floating, f"augment.{name}", "x", expected, arguments.describe(x), TypeError)


def each(values: jax.Array, x: jax.Array) -> jax.Array:
    """Values [N] in the form [N, 1, ..., 1] that goes with x [N, ...]."""
    return values.reshape(-1, *(1,) * (x.ndim - 1))


def below(limits: Sequence[int], u: jax.Array) -> jax.Array:
    """Integers [..., n], each from 0 to the limit of its column less 1, by numbers u [..., n] that are uniform in
    [0, 1)."""
    columns = jnp.array(limits, jnp.float32).reshape(*(1,) * (u.ndim - 1), -1)
    return jnp.minimum(jnp.floor(u * columns), columns - 1).astype(jnp.int32)
