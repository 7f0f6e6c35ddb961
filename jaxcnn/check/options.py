"""The options of the checker, checked, as a case."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.check.arguments import (
    Arguments,
    checked_seed,
    checked_tolerance,
    floating_arguments,
    is_inexact,
    output_names,
    positions_among,
    split,
)
from jaxcnn.check.case import Case
from jaxcnn.check.wording import one_line


class CannotTrace(ValueError):
    """f can be called, and cannot be traced."""


_PRECISIONS = (None, "float64", "own")


def case_of(
    caller: str,
    f: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    argnums: int | Sequence[int] | None = None,
    static_argnums: int | Sequence[int] = (),
    *,
    functions: Mapping[str, Callable[..., Any] | None] | None = None,
    positions: Mapping[str, int | Sequence[int]] | None = None,
    dy: Any = None,
    elsewhere: Sequence[Any] | None = None,
    precision: str | None = None,
    rtol: float | None = None,
    key: Any = None,
) -> tuple[Case, list[str]]:
    """The case, and what each output is called. The options are those of `check.gradients`, whose errors they raise."""
    arguments = floating_arguments(caller, f, args, argnums, kwargs, static_argnums)
    functions, positions = functions or {}, positions or {}
    for name, g in functions.items():
        if g is not None and not callable(g):
            raise TypeError(f"{caller}: {name} must be callable, got {type(g).__name__} {g!r}")
    if precision not in _PRECISIONS:
        raise ValueError(f'{caller}: precision must be "float64", "own" or None, got {precision!r}')
    seed, rtol = checked_seed(caller, key), checked_tolerance(caller, rtol)
    try:
        y = jax.eval_shape(lambda *floats: arguments.call(f, floats), *arguments.floats)
    except Exception as error:
        f(*args, **kwargs or {})
        raise CannotTrace(f"JAX cannot trace f: {one_line(error)}") from error
    leaves = jax.tree.flatten_with_path(y)[0]
    names, places = output_names(leaves)
    count = max((place for place in places), default=0) + 1
    ignored = positions_among(caller, "ignores", positions.get("ignores", ()), max(count, _outputs(y)), "outputs")
    zeroed = positions_among(caller, "zero", positions.get("zero", ()), len(args), "arguments")
    g = {name: arguments.function_of_floats(g) for name, g in functions.items() if g is not None and name != "domain"}
    domain = functions.get("domain")
    return Case(
        arguments,
        arguments.function_of_floats(f),
        g.get("reference"),
        g.get("claims"),
        frozenset(i for i, place in enumerate(places) if place in ignored),
        frozenset(i for i, place in enumerate(arguments.positions) if place in zeroed),
        rtol,
        seed,
        None if dy is None else _cotangents(caller, dy, y),
        dy is not None and not callable(dy),
        None if domain is None else arguments.inside(domain),
        None if elsewhere is None else _other_point(arguments, elsewhere),
        formula=precision != "own",
        own=precision != "float64",
    ), names


def _count_of_parts(leaf: Any) -> int:
    """How many floating-point arrays an output is: two if it is complex, none if it is neither."""
    return 2 if jnp.issubdtype(leaf.dtype, jnp.complexfloating) else int(jnp.issubdtype(leaf.dtype, jnp.floating))


def _outputs(y: Any) -> int:
    return len(y) if isinstance(y, tuple | list | dict) else 1


def _other_point(arguments: Arguments, elsewhere: Sequence[Any]) -> tuple[Any, ...]:
    """The arrays of other arguments."""
    caller, (args, kwargs) = arguments.caller, arguments.rebuild(arguments.floats)
    others = tuple(elsewhere) if isinstance(elsewhere, tuple | list) else (elsewhere,)
    if jax.tree.structure((others, kwargs)) != jax.tree.structure((args, kwargs)):
        raise ValueError(f"{caller}: elsewhere must hold arguments like the {len(args)} of f, got {len(others)}")
    floats = arguments.floats_in(others, kwargs)
    if not all(np.isfinite(np.asarray(a, np.float64)).all() for a in floats):
        raise ValueError(f"{caller}: elsewhere must hold finite numbers, got NaN or infinity")
    if all(np.array_equal(a, own) for a, own in zip(floats, arguments.floats, strict=True)):
        raise ValueError(f"{caller}: elsewhere must hold other arguments, got the same")
    for name, a, own in zip(arguments.names, floats, arguments.floats, strict=True):
        if np.shape(a) != np.shape(own):
            raise ValueError(
                f"{caller}: elsewhere must have the shape {list(np.shape(own))} for {name}, got {list(np.shape(a))}"
            )
    return tuple(floats)


def _cotangents(caller: str, dy: Any, y: Any) -> Callable[[Sequence[Any]], list[Any]]:
    """A function from random cotangents of the outputs to those that are allowed, all as floating-point arrays."""
    leaves, structure = jax.tree.flatten(y)

    def allowed(random: Sequence[Any]) -> list[Any]:
        given = dy
        if callable(dy):
            rest, filled = list(random), []
            for leaf in leaves:
                parts = [rest.pop(0) for _ in range(_count_of_parts(leaf))]
                filled.append(parts[0] if len(parts) == 1 else jax.lax.complex(*parts) if parts else None)
            given = dy(jax.tree.unflatten(structure, filled))
        flat = jax.tree.leaves(given, is_leaf=lambda leaf: leaf is None)
        floats = split([leaf for leaf in flat if leaf is not None and is_inexact(leaf)])
        if [np.shape(d) for d in floats] != [np.shape(d) for d in random]:
            shapes = [list(np.shape(d)) for d in random], [list(np.shape(d)) for d in floats]
            raise ValueError(f"{caller}: dy must have the shapes {shapes[0]} of the outputs, got {shapes[1]}")
        return floats

    return allowed
