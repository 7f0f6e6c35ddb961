"""Layers that are equal when they were made by equal calls, and that print and pickle as these calls."""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ParamSpec

import jax
import jax.core
import numpy as np

from jaxcnn.contract import arguments

if TYPE_CHECKING:
    from jaxcnn.nn.layer import Layer

_Arguments = ParamSpec("_Arguments")
_WIDTH = 100


class Call:
    """A function and its arguments, in which lists and NumPy arrays are copies that nobody can change afterwards.

    Two are equal if function and arguments are, whether they came by place, by name or by default. A function among the
    arguments is equal to itself, a partial to another of equal functions and arguments.
    """

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]):
        self.function = function
        self.args = tuple(map(_copied, args))
        self.keywords = {name: _copied(value) for name, value in keywords.items()}

    def __call__(self) -> Any:
        return self.function(*self.args, **self.keywords)

    @functools.cached_property
    def key(self) -> Any:
        bound = inspect.signature(self.function).bind(*self.args, **self.keywords)
        bound.apply_defaults()
        return self.function, _key(bound.arguments)

    @functools.cached_property
    def _hash(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Call) or self._hash != other._hash or self.key != other.key:
            return False
        self.key = other.key  # a layer has its call three times: without this 3^depth comparisons for nested ones
        return True

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self):
        return Call, (self.function, self.args, self.keywords)

    def __repr__(self) -> str:
        parameters = inspect.signature(self.function).parameters
        others = {name: v for name, v in self.keywords.items() if _key(v) != _key(parameters[name].default)}
        shown = [*map(shown_as, self.args), *(f"{name}={shown_as(value)}" for name, value in others.items())]
        return written(self.function.__name__, shown)


@dataclass(unsafe_hash=True)
class Method:
    """A function of the layer that a call makes, equal to that of an equal call."""

    call: Call
    name: str

    def bind(self, function: Callable[..., Any]) -> Method:
        """The method, with the function that it is."""
        functools.update_wrapper(self, function, updated=())
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        function = f"nn.{self.call.function.__name__}"
        if self.name == "apply":
            _require_static(function, "train", kwargs.get("train"), 'jax.jit(model.apply, static_argnames="train")')
            arguments.flag(function, "train", kwargs.get("train", False))
            if kwargs.get("key") is not None:
                arguments.random_key(function, kwargs["key"])
        if self.name == "init":
            _require_static(
                function, "input_shape", (args[1:], kwargs.get("input_shape")), "jax.jit(model.init, static_argnums=1)"
            )
        try:
            return self.__wrapped__(*args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]
        except RuntimeError:  # what JAX raises of an array that was donated
            for argument, value in zip(("params", "state", "x"), args, strict=False):
                arguments.not_used_up(function, argument, value)
            raise

    def __reduce__(self):
        return _method, (self.call, self.name)


def _require_static(function: str, argument: str, value: Any, remedy: str) -> None:
    """TypeError if `jax.jit` has made a Python value an array that has no value yet."""
    ints = [leaf for leaf in jax.tree.leaves(value) if isinstance(leaf, jax.core.Tracer) and leaf.shape == ()]
    arguments.require(not ints, function, argument, f"static: {remedy}", "a traced value", TypeError)


def _method(call: Call, name: str) -> Method:
    return getattr(call(), name)


def layer_maker(function: Callable[_Arguments, Layer]) -> Callable[_Arguments, Layer]:
    """A function that makes layers, so that equal calls make equal ones."""

    @functools.wraps(function)
    def make(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Layer:
        call = Call(make, args, kwargs)
        layer = function(*call.args, **call.keywords)
        methods = {name: Method(call, name).bind(getattr(layer, name)) for name in ("init", "apply", "parts")}
        return replace(layer, **methods)

    return make


def written(name: str, arguments: list[str]) -> str:
    """A call as it is written; one argument a line where it is long."""
    line = f"{name}({', '.join(arguments)})"
    if len(line) <= _WIDTH and "\n" not in line:
        return line
    lines = "".join(f"{argument},\n" for argument in arguments)
    return f"{name}(\n{textwrap.indent(lines, '  ')})"


def shown_as(value: Any) -> str:
    """How an argument is written: a function by its name, nothing by its address."""
    if isinstance(value, functools.partial):
        shown = [shown_as(each) for each in (value.func, *value.args)]
        return written("partial", shown + [f"{name}={shown_as(each)}" for name, each in value.keywords.items()])
    if isinstance(value, list | tuple):
        entries = ", ".join(map(shown_as, value))
        return f"[{entries}]" if isinstance(value, list) else f"({entries}{',' * (len(value) == 1)})"
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__name__
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _copied(value: Any) -> Any:
    if type(value) in (list, tuple):
        return type(value)(map(_copied, value))
    return value.copy() if isinstance(value, np.ndarray) else value


def _key(value: Any) -> Any:
    """What stands for an argument in a comparison; an argument without a hash is equal to itself only."""
    if isinstance(value, functools.partial):
        return functools.partial, _key(value.func), _key(value.args), _key(value.keywords)
    if isinstance(value, dict):
        return dict, tuple((name, _key(each)) for name, each in value.items())
    if isinstance(value, list | tuple):
        return tuple, tuple(map(_key, value))
    if isinstance(value, np.ndarray):
        return np.ndarray, value.shape, str(value.dtype), value.tobytes()
    try:
        hash(value)
    except TypeError:
        return "the one at", id(value)
    return type(value), value
