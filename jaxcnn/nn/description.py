"""A model as JSON and back: the nested calls that made it, of names that jaxcnn and jaxcnn.nn have, and no code.

A layer is {"call": "nn.conv", "args": [16, 3], "options": {"stride": 2}}, and so is an initializer; an op is
{"function": "jaxcnn.relu"}, one with options {"partial": {"function": ...}, "args": [], "options": {...}}. Numbers,
strings, true, false, null and lists are those of JSON; beside them there are {"tuple": [...]} and, of NumPy,
{"array": [...], "dtype": "int64"}.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from jaxcnn.contract import arguments
from jaxcnn.nn import initializers
from jaxcnn.nn.calls import Method, shown_as
from jaxcnn.nn.layer import Layer, LayerLike, checked_layer

_INITIALIZERS = {
    name: getattr(initializers, name)
    for name in (
        "glorot_normal",
        "glorot_uniform",
        "he_normal",
        "he_uniform",
        "lecun_normal",
        "lecun_uniform",
        "orthogonal",
    )
}
_DTYPES = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)), "float32", "float64")
_LARGEST = 1 << 10  # entries of an array
_DEEPEST = 1500  # the depth of a model that has as many layers as it is told
_NESTED = 50  # how many layers lie within each other; the stack of Python ends at about a hundred
_TEXT = 16 << 20  # characters; a model of a million layers has more


class _Unknown(ValueError):
    """What is no part of a description."""


def to_json(model: LayerLike) -> str:
    """A model as JSON: the nested calls of `jaxcnn.nn` that make it.

    Args:
        model: a layer or a function of `jaxcnn`, whose arguments are numbers, strings, bools, None, lists and tuples of
            them, small NumPy arrays, layers and functions of `jaxcnn` and `jaxcnn.nn`, and partials of these.

    Returns:
        The text, from which `from_json` makes an equal model.

    Raises:
        TypeError: model is neither.
        ValueError: a part of it was made by something else, such as a lambda or a layer of one's own; the sentence says
            which.

    >>> from jaxcnn import nn
    >>> nn.to_json(nn.sequential(nn.conv(16, 3), nn.flatten()))
    '{"call": "nn.sequential", "args": [{"call": "nn.conv", "args": [16, 3]}, {"call": "nn.flatten"}]}'
    """
    layer = checked_layer("nn.to_json", "model", model)
    try:
        text = json.dumps(_described(layer if layer is model else model), allow_nan=False)
        differs = from_json(text) != layer
    except _Unknown as error:
        part = str(error)
    except (ValueError, RecursionError) as error:
        part = f"one that cannot be written: {error}"
    else:
        if not differs:
            return text
        part = "one with an argument that is equal to itself only"
    expected = "made of layers, functions and plain arguments of jaxcnn and jaxcnn.nn"
    hint = f"{part}; train.load(path, model=model) takes the model from your script"
    raise ValueError(f"nn.to_json: model must be {expected}, got {hint}")


def from_json(text: str) -> Layer:
    """The model that `to_json` has written.

    Nothing but the functions of `jaxcnn.nn` that make layers and initializers is called, and nothing is drawn: a text
    of bad will can name large sizes, and no code.

    Args:
        text: what `to_json` gave.

    Returns:
        A layer, equal to that model.

    Raises:
        TypeError: text is no string.
        ValueError: it is no such JSON; a name in it is no layer, function or initializer of jaxcnn; one of these
            refuses its arguments.

    >>> from_json('{"call": "nn.conv", "args": [16, 3], "options": {"stride": 2}}')
    conv(16, 3, stride=2)
    """
    is_text = isinstance(text, str)
    arguments.require(is_text, "nn.from_json", "text", "a string", arguments.describe(text), TypeError)
    expected = "a model as nn.to_json writes it"
    try:
        arguments.require(len(text) <= _TEXT, "nn.from_json", "text", expected, f"{len(text)} characters")
        made = _made(json.loads(text))
        is_layer = callable(made) and not isinstance(made, initializers.Initializer)
        is_layer = is_layer or isinstance(made, Layer)
        if not is_layer:
            raise _Unknown(f"{_short(made)}, which is no layer")
        return checked_layer("nn.from_json", "text", made)
    except _Unknown as error:
        got = str(error)
    except RecursionError:
        got = f"more than {_NESTED} within each other"
    except (TypeError, ValueError, OverflowError) as error:
        got = " ".join(str(error).split())
    raise ValueError(f"nn.from_json: text must be {expected}, got {got}")


def _described(value: Any) -> Any:
    """What stands for a model or an argument of one; _Unknown where nothing does."""
    if value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
        return value
    if type(value) is list:
        return list(map(_described, value))
    if type(value) is tuple:
        return {"tuple": list(map(_described, value))}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.name in _DTYPES and value.size <= _LARGEST:
        return {"array" if isinstance(value, np.ndarray) else "scalar": value.tolist(), "dtype": value.dtype.name}
    if isinstance(value, Layer):
        return _described_layer(value)
    if isinstance(value, initializers.Initializer) and value.call.function.__name__ in _INITIALIZERS:
        return _entry({"call": f"nn.{value.call.function.__name__}"}, value.call.args, value.call.keywords)
    if type(value) is functools.partial:
        return _entry({"partial": _described(value.func)}, value.args, value.keywords)
    name = getattr(value, "__name__", None)
    if isinstance(name, str) and _functions().get(f"jaxcnn.{name}") is value:
        return {"function": f"jaxcnn.{name}"}
    raise _Unknown(_short(value))


def _described_layer(layer: Layer) -> Any:
    if not layer.numbered:
        return {"call": "nn.named", "args": [layer.name, _described_call(layer)]}
    return _described_call(layer)


def _described_call(layer: Layer) -> Any:
    methods = [layer.init, layer.apply, layer.parts]
    call = layer.apply.call if isinstance(layer.apply, Method) else None
    if call is None or not all(isinstance(method, Method) and method.call == call for method in methods):
        raise _Unknown(_short(layer))
    if call.function.__name__ == "function_layer":
        return _described(*call.args)
    name = f"nn.{call.function.__name__}"
    if _makers().get(name) is not call.function:
        raise _Unknown(_short(layer))
    return _entry({"call": name}, call.args, call.keywords)


def _entry(start: dict[str, Any], args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    if args:
        start["args"] = list(map(_described, args))
    if options:
        start["options"] = {name: _described(value) for name, value in options.items()}
    return start


def _made(value: Any, level: int = 0) -> Any:
    """What an entry stands for; TypeError, ValueError or OverflowError if that is nothing."""
    if isinstance(value, list):
        return [_made(each, level) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"tuple"} and isinstance(value["tuple"], list):
        return tuple(_made(value["tuple"], level))
    if value.keys() in ({"array", "dtype"}, {"scalar", "dtype"}) and value["dtype"] in _DTYPES:
        array = np.array(value.get("array", value.get("scalar")), value["dtype"])
        return array if "array" in value else array[()]
    if value.keys() == {"function"}:
        return _known(_functions(), value["function"], "function")
    if len({"call", "partial"} & value.keys()) != 1 or not value.keys() <= {"call", "partial", "args", "options"}:
        raise _Unknown(f"an entry with {', '.join(map(repr, value)) or 'nothing'}")
    if level >= _NESTED:
        raise RecursionError
    args, options = value.get("args", []), value.get("options", {})
    if not isinstance(args, list) or not isinstance(options, dict):
        raise _Unknown(f"args {_short(args)} and options {_short(options)}")
    args, options = _made(args, level + 1), {name: _made(each, level + 1) for name, each in options.items()}
    if "partial" in value:
        return functools.partial(_made(value["partial"], level + 1), *args, **options)
    return _called(value["call"], args, options)


def _called(name: Any, args: list[Any], options: dict[str, Any]) -> Any:
    maker = _known(_makers(), name, "layer or initializer")
    try:
        bound = inspect.signature(maker).bind(*args, **options).arguments
    except TypeError as error:
        raise _Unknown(f"{name}: {error}") from None
    depth = bound.get("depth")
    if isinstance(depth, int) and depth > _DEEPEST:
        raise _Unknown(f"{name} of depth {depth}")
    return maker(*args, **options)


def _known(table: dict[str, Callable[..., Any]], name: Any, noun: str) -> Callable[..., Any]:
    if not isinstance(name, str) or name not in table:
        raise _Unknown(f"{_short(name)}, which is no {noun} of jaxcnn")
    return table[name]


@functools.cache
def _makers() -> dict[str, Callable[..., Any]]:
    """All that makes a layer or an initializer, by name."""
    made = {f"nn.{name}": function for name, function in _public("jaxcnn.nn").items() if _makes_layer(function)}
    return made | {f"nn.{name}": function for name, function in _INITIALIZERS.items()}


@functools.cache
def _functions() -> dict[str, Callable[..., Any]]:
    """All ops, by name."""
    ops = _public("jaxcnn").items()
    return {f"jaxcnn.{name}": op for name, op in ops if op.__module__.startswith("jaxcnn.ops.")}


def _public(name: str) -> dict[str, Callable[..., Any]]:
    """The public functions of a module. It imports this one, and is known when it is asked for them."""
    module: ModuleType = importlib.import_module(name)
    return {name: getattr(module, name) for name in module.__all__ if inspect.isfunction(getattr(module, name))}


def _makes_layer(function: Callable[..., Any]) -> bool:
    return function.__annotations__.get("return") == "Layer" and function is not from_json


def _short(value: Any) -> str:
    """A value in one line; a function with the module where it is."""
    text = " ".join(shown_as(value).split())
    text += f" of {value.__module__}" if callable(value) and hasattr(value, "__name__") else ""
    return text if len(text) <= 100 else text[:97] + "..."
