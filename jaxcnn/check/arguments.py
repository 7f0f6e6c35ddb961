"""The floating-point arrays among the arguments of a function, with the names that its caller knows."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

REAL, IMAGINARY = "real part", "imaginary part"


@dataclass(frozen=True)
class Arguments:
    """The arguments that have a gradient.

    A complex array is two floating-point arrays, its real and its imaginary part: z = x + iy. A gradient with respect
    to it is that of ⟨dy, f⟩ with respect to x and to y, where f has real and imaginary outputs in the same way.

    Attributes:
        caller: the function that errors name.
        floats: the floating-point arrays.
        names: what each of them is called.
        positions: the position of the argument that each of them is in; its name if it is a keyword argument.
        rebuild: takes other arrays in the place of `floats`, and returns all arguments.
    """

    caller: str
    floats: tuple[Any, ...]
    names: tuple[str, ...]
    positions: tuple[int | str, ...]
    rebuild: Callable[[Sequence[Any]], tuple[tuple[Any, ...], dict[str, Any]]]

    def call(self, f: Callable[..., Any], floats: Sequence[Any]) -> Any:
        """f with other arrays in the place of `floats`."""
        args, kwargs = self.rebuild(floats)
        return f(*args, **kwargs)

    def function_of_floats(self, f: Callable[..., Any]) -> Callable[..., list[Any]]:
        """f as a function from these arrays to its floating-point outputs."""
        return lambda *floats: split(jax.tree.leaves(self.call(f, floats)))

    def inside(self, domain: Callable[..., Any]) -> Callable[..., list[Any]]:
        """A function from arguments to arguments, as a function from these arrays to these arrays."""

        def moved(*floats: Any) -> list[Any]:
            args, kwargs = self.rebuild(floats)
            back = domain(*args, **kwargs)
            back = back if isinstance(back, tuple) else (back,)
            if jax.tree.structure((back, kwargs)) != jax.tree.structure((args, kwargs)):
                raise ValueError(f"{self.caller}: domain must return as many arguments as it takes, got {len(back)}")
            return self.floats_in(back, kwargs)

        return moved

    def floats_in(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
        """The arrays that lie in other arguments where `floats` lie in these."""
        leaves = jax.tree.leaves((args, dict(kwargs)))
        own = jax.tree.leaves(
            self.rebuild(_Marker.sequence(self.floats)), is_leaf=lambda leaf: isinstance(leaf, _Marker)
        )
        found: list[Any] = []
        for leaf, mark in zip(leaves, own, strict=True):
            if isinstance(mark, _Marker):
                found += _parts(leaf) if mark.second is not None else [leaf]
        return found


@dataclass(frozen=True)
class _Marker:
    """Stands for one of the arrays, or for the two parts of a complex one."""

    first: int
    second: int | None = None

    @staticmethod
    def sequence(floats: Sequence[Any]) -> list["_Marker"]:
        return [_Marker(i) for i in range(len(floats))]


def floating_arguments(
    caller: str,
    f: Callable[..., Any],
    args: tuple[Any, ...],
    argnums: int | Sequence[int] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    static_argnums: int | Sequence[int] = (),
) -> Arguments:
    """The floating-point and complex arrays in args and kwargs, or in those that argnums names; errors name the caller.

    A number of Python is a float to be looked at only where argnums names its argument.
    """
    if not callable(f):
        raise TypeError(f"{caller}: f must be callable, got {type(f).__name__} {f!r}")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise TypeError(f"{caller}: kwargs must be a dict, got {type(kwargs).__name__} {kwargs!r}")
    kwargs = dict(kwargs or {})
    chosen_positions = positions_among(caller, "argnums", argnums, len(args), "arguments")
    static = positions_among(caller, "static_argnums", static_argnums, len(args), "arguments")
    static_args = tuple(None if i in static else arg for i, arg in enumerate(args))
    paths, tree = jax.tree.flatten_with_path((static_args, kwargs))
    leaves, chosen = [leaf for _, leaf in paths], []
    for i, (path, leaf) in enumerate(paths):
        positional = path[0].idx == 0
        named = argnums is not None and positional and path[1].idx in chosen_positions
        if named or (argnums is None and not isinstance(leaf, float)):
            chosen += [i] if is_inexact(leaf) else []
    if not chosen:
        where = "args" if argnums is None else f"args at argnums={argnums}"
        hint = ": name a Python float in argnums" if any(isinstance(leaf, float) for leaf in leaves) else ""
        raise TypeError(f"{caller}: {where} must hold a floating-point array, got none{hint}")

    def rebuild(floats: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        rest, replaced = list(floats), {}
        for i in chosen:
            first = rest.pop(0)
            replaced[i] = _joined(first, rest.pop(0)) if _is_complex(leaves[i]) else first
        rebuilt, keywords = jax.tree.unflatten(tree, [replaced.get(i, leaf) for i, leaf in enumerate(leaves)])
        return tuple(args[i] if i in static else arg for i, arg in enumerate(rebuilt)), keywords

    argument, floats, names, positions = _argument_names(f, len(args)), [], [], []
    for i in chosen:
        path, leaf = paths[i][0], leaves[i]
        place = path[1].idx if path[0].idx == 0 else path[1].key
        name = (argument[place] if path[0].idx == 0 else str(place)) + jax.tree_util.keystr(path[2:])
        parts = [f"{name} ({part})" for part in (REAL, IMAGINARY)] if _is_complex(leaf) else [name]
        floats += map(_canonical, split([leaf]))
        names += parts
        positions += [place] * len(parts)
    return Arguments(caller, tuple(floats), tuple(names), tuple(positions), rebuild)


def _canonical(leaf: Any) -> Any:
    """An array in the dtype that JAX gives it: an array of NumPy in float64 may be one in float32."""
    return np.asarray(leaf).astype(jnp.result_type(leaf)) if isinstance(leaf, np.ndarray | np.generic) else leaf


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, _Marker):
        return _Marker(first.first, second.first)
    return jax.lax.complex(jnp.asarray(first), jnp.asarray(second))


def _parts(leaf: Any) -> list[Any]:
    return [jnp.real(leaf), jnp.imag(leaf)]


def split(leaves: Sequence[Any]) -> list[Any]:
    """The floating-point arrays among leaves; a complex one gives two."""
    found: list[Any] = []
    for leaf in leaves:
        if is_inexact(leaf):
            found += _parts(leaf) if _is_complex(leaf) else [leaf]
    return found


def output_names(leaves_with_paths: Sequence[tuple[Any, Any]]) -> tuple[list[str], list[int]]:
    """What each of the floating-point outputs is called, and the position of each in the tuple of outputs."""
    names, positions = [], []
    firsts = list(dict.fromkeys(path[0] for path, _ in leaves_with_paths if path))
    for path, leaf in leaves_with_paths:
        if not is_inexact(leaf):
            continue
        in_sequence = bool(path) and isinstance(path[0], jax.tree_util.SequenceKey)
        place = path[0].idx if in_sequence else firsts.index(path[0]) if path else 0
        name = (f" {place}" if in_sequence else "") + jax.tree_util.keystr(tuple(path[in_sequence:]))
        parts = [f"{name} ({part})" for part in (REAL, IMAGINARY)] if _is_complex(leaf) else [name]
        names += [f"output{part}" for part in parts]
        positions += [place] * len(parts)
    return (["output"] if len(names) == 1 else names), positions


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
    is_number = isinstance(rtol, (int, float, np.number)) and not isinstance(rtol, bool)
    if not (is_number and 0 < rtol < float("inf")):
        raise ValueError(f"{caller}: rtol must be a positive number, got {rtol!r}")
    return float(rtol)


def is_inexact(leaf: Any) -> bool:
    """Whether a leaf is a floating-point or a complex array, or a float of Python."""
    return (hasattr(leaf, "dtype") or isinstance(leaf, float)) and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _is_complex(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating)


def positions_among(caller: str, name: str, given: int | Sequence[int] | None, count: int, what: str) -> set[int]:
    """Positions as a set, counted from the front; all of them where None is given."""
    if given is None:
        return set(range(count))
    positions = [given] if isinstance(given, int) else list(given)
    for position in positions:
        if isinstance(position, bool) or not isinstance(position, int) or not -count <= position < count:
            raise ValueError(f"{caller}: {name} must be positions among {count} {what}, got {given!r}")
    return {position % count for position in positions}


def _argument_names(f: Callable[..., Any], count: int) -> list[str]:
    """What f calls its positional arguments; args[i] where that cannot be known."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):  # some callables have none
        parameters = ()
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return (named + [f"args[{i}]" for i in range(len(named), count)])[:count]
