"""Where a custom rule is, and what tells it, and the arguments of its calls, from others."""

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from jaxcnn.check.rules import Rule

_OF_JAX = f"{Path(jax.__file__).parent}{os.sep}"
_LONGEST_TEXT = 200  # of a static value
_DEPTH_OF_CLOSURES = 3  # how far functions that a function closes over tell two rules apart


@dataclass(frozen=True)
class RecordedRule(Rule):
    """A custom rule, and `identity`, which tells it from others that are written in the same place."""

    identity: str

    @property
    def of_jax(self) -> bool:
        """Whether all of it is JAX's own: its function, and what is written of its derivative."""
        return _is_of_jax(self.file)


def located(rule: Any) -> RecordedRule:
    """Where a custom rule is: its backward pass or JVP or, where JAX's own files hold that, its function."""
    parts = [getattr(rule, part, None) for part in ("bwd", "jvp", "fwd", "fun")]
    functions = [f for f in map(_original, parts) if hasattr(f, "__code__")]
    ours = [f for f in functions if not _is_of_jax(_file(f))]
    code = [*ours, *reversed(functions)][0].__code__
    kind = "custom_vjp" if isinstance(rule, jax.custom_vjp) else "custom_jvp"
    identity = " ".join([kind, *map(_text, parts)])
    return RecordedRule(name_of(rule, _original(rule.fun)), code.co_filename, code.co_firstlineno, kind, identity)


def signature(rule: Any, args: tuple[Any, ...]) -> str:
    """The dtypes and shapes of arguments, and what is static among them."""
    static = getattr(rule, "nondiff_argnums", ())
    return ", ".join(_text(arg) if i in static else _structure(arg) for i, arg in enumerate(args))


def _structure(arg: Any) -> str:
    leaves, tree = jax.tree.flatten(arg)
    texts = iter([type(leaf).__name__ if isinstance(leaf, (float, complex)) else _text(leaf) for leaf in leaves])
    structure = str(tree).removeprefix("PyTreeDef(").removesuffix(")")
    return re.sub(r"\*", lambda _: next(texts, "*"), structure)


def _text(value: Any, depth: int = _DEPTH_OF_CLOSURES) -> str:
    """A static value in words that tell it from others: a function by its place and by what it closes over."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(_text(v, depth) for v in value)})"
    if isinstance(value, functools.partial):
        return f"{_text(value.func, depth)} of {_text([*value.args, *value.keywords.items()], depth)}"
    function = _original(value)
    code = getattr(function, "__code__", None)
    if code is None:
        text = repr(value) if getattr(value, "__hash__", None) else ""
        return text if 0 < len(text) <= _LONGEST_TEXT and " at 0x" not in text else type(value).__name__
    place = f"{code.co_name}@{code.co_filename}:{code.co_firstlineno}"
    closure = [_text(cell, depth - 1) for cell in _closure(function)] if depth else []
    return f"{place}({', '.join(closure)})" if closure else place


def _original(function: Any) -> Any:
    """The function inside partials, wrappers and methods, and that which `jax.custom_gradient` wraps."""
    while True:
        inner = next((f for name in ("__wrapped__", "func", "__func__") if (f := getattr(function, name, None))), None)
        if inner is None:
            break
        function = inner
    if not _is_of_jax(_file(function)):
        return function
    inside = [cell for cell in _closure(function) if hasattr(cell, "__code__") and not _is_of_jax(_file(cell))]
    return inside[0] if inside else function


def _closure(function: Any) -> list[Any]:
    cells = getattr(function, "__closure__", None) or ()
    values = []
    for cell in cells:
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    return values


def _file(function: Any) -> str:
    return getattr(getattr(function, "__code__", None), "co_filename", "")


def _is_of_jax(file: str) -> bool:
    return file.startswith(_OF_JAX)


def name_of(*functions: Any) -> str:
    """The name of the last that has one."""
    names = [name for f in functions if (name := getattr(f, "__name__", None))]
    return names[-1] if names else type(functions[0]).__name__
