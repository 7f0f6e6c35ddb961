"""The floating-point arrays among the arguments of a function, with the names that its caller knows."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Arguments:
    """The arguments that have a gradient.

    Attributes:
        caller: the function that errors name.
        floats: the floating-point arrays.
        names: what each of them is called.
        rebuild: takes other arrays in the place of `floats`, and returns all arguments.
    """

    caller: str
    floats: tuple[Any, ...]
    names: tuple[str, ...]
    rebuild: Callable[[Sequence[Any]], tuple[Any, ...]]

    def function_of_floats(self, f: Callable[..., Any]) -> Callable[..., list[Any]]:
        """f as a function from these arrays to its floating-point outputs."""
        return lambda *floats: [y for y in jax.tree.leaves(f(*self.rebuild(floats))) if is_floating(y)]


def floating_arguments(
    caller: str, f: Callable[..., Any], args: tuple[Any, ...], argnums: int | Sequence[int] | None = None
) -> Arguments:
    """The floating-point arrays in args, or in those of them that argnums names; errors name the caller."""
    if not callable(f):
        raise TypeError(f"{caller}: f must be callable, got {type(f).__name__} {f!r}")
    positions = _positions(caller, argnums, len(args))
    paths, tree = jax.tree.flatten_with_path(args)
    leaves = [leaf for _, leaf in paths]
    chosen = [i for i, (path, leaf) in enumerate(paths) if is_floating(leaf) and path[0].idx in positions]
    if not chosen:
        where = "args" if argnums is None else f"args at argnums={argnums}"
        raise TypeError(f"{caller}: {where} must hold a floating-point array, got none")

    def rebuild(floats: Sequence[Any]) -> tuple[Any, ...]:
        replaced = dict(zip(chosen, floats, strict=True))
        if any(jnp.result_type(replaced[i]) != jnp.result_type(leaves[i]) for i in chosen):  # as in a check in float64
            others = [i for i, leaf in enumerate(leaves) if is_floating(leaf) and i not in replaced]
            replaced |= {i: np.asarray(leaves[i], np.float64) for i in others}
        return jax.tree.unflatten(tree, [replaced.get(i, leaf) for i, leaf in enumerate(leaves)])

    argument = _argument_names(f, len(args))
    names = [argument[paths[i][0][0].idx] + jax.tree_util.keystr(paths[i][0][1:]) for i in chosen]
    return Arguments(caller, tuple(leaves[i] for i in chosen), tuple(names), rebuild)


def checked_seed(caller: str, key: Any) -> Any:
    """The numbers that a random key holds; 0 without a key."""
    if key is None:
        return 0
    if not (hasattr(key, "dtype") and (key.dtype == jnp.uint32 or jnp.issubdtype(key.dtype, jax.dtypes.prng_key))):
        raise TypeError(
            f"{caller}: key must be a random key, as jax.random.key(0) is, got {type(key).__name__} {key!r}"
        )
    return jax.random.key_data(key)


def checked_tolerance(caller: str, rtol: float | None) -> float:
    """rtol as a positive number; 1e-10 where it is None."""
    if rtol is None:
        return 1e-10
    if not (isinstance(rtol, (int, float)) and 0 < rtol < float("inf")):
        raise ValueError(f"{caller}: rtol must be a positive number, got {rtol!r}")
    return rtol


def is_floating(leaf: Any) -> bool:
    return (hasattr(leaf, "dtype") or isinstance(leaf, float)) and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _positions(caller: str, argnums: int | Sequence[int] | None, count: int) -> set[int]:
    """argnums as a set, counted from the front."""
    if argnums is None:
        return set(range(count))
    positions = [argnums] if isinstance(argnums, int) else list(argnums)
    for position in positions:
        if isinstance(position, bool) or not isinstance(position, int) or not -count <= position < count:
            raise ValueError(f"{caller}: argnums must be positions among {count} arguments, got {argnums!r}")
    return {position % count for position in positions}


def _argument_names(f: Callable[..., Any], count: int) -> list[str]:
    """What f calls its positional arguments; args[i] where that cannot be known."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):  # some callables have none
        parameters = ()
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return (named + [f"args[{i}]" for i in range(len(named), count)])[:count]
