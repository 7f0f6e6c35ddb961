"""Whether what a layer is applied to fits: parameters and state are what `init` would make for an x of this shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jaxcnn.ops import shapes

ABSTRACT: Any = object()  # in place of a key: `init` gives the types of the arrays that it would draw
_LARGE = 1 << 20


class ShapeOfX(tuple):
    """An input shape that is that of x in `apply`: what is wrong with it is said of x."""


class WrongTree(ValueError):
    """Parameters or state that `init` would not make. Each layer around adds its name to the path.

    Where the input may be what is wrong, the sentence is about that, unless a layer in front made it.
    """

    def __init__(
        self, function: str, argument: str, path: str, expected: str, got: str, of_x: str | None = None, hint: str = ""
    ):
        super().__init__(function, argument, path, expected, got, of_x, hint)
        self.function, self.argument, self.path = function, argument, path
        self.expected, self.got, self.of_x, self.hint = expected, got, of_x, hint

    def __str__(self) -> str:
        expected = f'as init makes them, "{self.path}" {self.expected}'
        return self.of_x or f"{self.function}: {self.argument} must be {expected}, got {self.got}{self.hint}"

    def enter(self, name: str, is_input: bool) -> None:
        """Notes that it is in a layer of this name, and whether the input of that is the one of the layers around."""
        self.path = f"{name}/{self.path}"
        self.of_x = self.of_x if is_input else None


def check_trees(function: str, params: Any, state: Any, members: Any = None) -> None:
    """TypeError unless params and state are dicts; ValueError if they have other names than those of the members."""
    for argument, tree in (("params", params), ("state", state)):
        if not isinstance(tree, Mapping):  # to describe it takes time
            expected = "nested dicts as init gives them"
            shapes.require(False, function, argument, expected, shapes.describe(tree), TypeError)
        for name in tree if members is not None else ():
            if name not in members:
                raise WrongTree(function, argument, str(name), "not among them", _described(tree[name]))


def check_fit(function, init, params, state, x_shape, input_of):
    """ValueError unless init would make these for an x of this shape."""
    try:
        wrong = _difference(init(ABSTRACT, ShapeOfX(x_shape)), params, state)
    except ValueError:
        of_x = _wrong_input(function, init, params, state, x_shape, input_of)
        if of_x:
            raise WrongTree(function, "x", "", "", "", of_x) from None
        raise
    if wrong:
        of_x = _wrong_input(function, init, params, state, x_shape, input_of)
        is_row = of_x is not None and len(x_shape) == 2
        raise WrongTree(function, *wrong, of_x, ": for images of another size?" if is_row else "")


def _difference(expected, params, state):
    """The first difference, as what WrongTree takes: argument, name, expected, got."""
    for argument, template, given in (("params", expected[0], params), ("state", expected[1], state)):
        for name, type_ in template.items():
            if name not in given:
                return argument, name, str(list(type_.shape)), "none of this name"
            if not shapes.is_array(given[name]) or given[name].shape != type_.shape:
                return argument, name, str(list(type_.shape)), _described(given[name])
        for name in given:
            if name not in template:
                return argument, str(name), "not among them", _described(given[name])
    return None


def _wrong_input(function, init, params, state, x_shape, input_of):
    """What is wrong with x, if the parameters are what init would make for another; else None."""
    if input_of is None:
        lengths = {leaf.shape for leaf in params.values() if shapes.is_array(leaf)}
        first = len(x_shape) >= 3 and lengths == {(x_shape[1],)}
        expected = f"[N, *S, {x_shape[1]}]" if first else ""
        return f"{function}: x must be {expected}, got {list(x_shape)}: channels are last" if first else None
    try:
        spatial, channels = input_of(params)
        fits = not _difference(init(ABSTRACT, ShapeOfX((1, *(_LARGE,) * spatial, channels))), params, state)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):  # of no such filters
        return None
    if not fits:
        return None
    axes = {0: ("N",), 1: ("N", "W"), 2: ("N", "H", "W"), 3: ("N", "D", "H", "W")}.get(spatial, ("N", "*S"))
    expected = f"[{', '.join(axes)}, {channels}]"
    return f"{function}: x must be {expected}, got {list(x_shape)}{_remedy(x_shape, spatial + 2, channels)}"


def _remedy(x_shape, count, channels):
    """What would make an x of another shape one of `count` axes with so many channels."""
    ends_in_channels = x_shape[-1:] == (channels,)
    if len(x_shape) == count and count > 2 and x_shape[1] == channels:
        return ": channels are last"
    if len(x_shape) == count + 1 and count > 2:
        return ": or init was given a shape without the batch axis"
    if len(x_shape) == count - 1 and ends_in_channels:
        return ": the batch axis is missing, x[None]"
    if len(x_shape) == count - 1 and channels == 1:
        return ": the axis of channels is missing, x[..., None]"
    if len(x_shape) == count - 1 and count > 2:
        return ": the axis of the batch or of the channels is missing"
    if len(x_shape) == count - 2 and channels == 1:
        return ": the axes of the batch and of the channels are missing, x[None, ..., None]"
    return ": nn.flatten() sorts images into rows" if count == 2 < len(x_shape) else ""


def _described(leaf):
    return f"those of {', '.join(map(str, leaf)) or 'nothing'}" if isinstance(leaf, Mapping) else shapes.describe(leaf)


def checked_shape(
    function: str, input_shape: Any, fits: Callable[[tuple[int, ...]], bool], axes: tuple[str, ...], more: str = ""
) -> tuple[int, ...]:
    """The shape of a batch as a tuple; ValueError unless it fits. `axes` says which there are, or are as well."""
    of_x = isinstance(input_shape, ShapeOfX)
    shape = tuple(input_shape) if of_x else shapes.shape(function, "input_shape", input_shape)
    expected = " or ".join(f"[{names}]" if of_x else f"({names})" for names in axes) + more
    got = list(shape) if of_x else shape
    shapes.require(fits(shape), function, "x" if of_x else "input_shape", expected, got)
    return shape


def images_shape(function: str, input_shape: Any) -> tuple[int, ...]:
    """The shape of images as a tuple; ValueError unless it is (N, *S, C)."""
    return checked_shape(function, input_shape, lambda shape: len(shape) >= 3, ("N, *S, C",), " with at least 3 axes")


def rows_shape(function: str, input_shape: Any) -> tuple[int, ...]:
    """The shape of images or rows as a tuple; ValueError unless it is (N, *S, C) or (N, C)."""
    return checked_shape(function, input_shape, lambda shape: len(shape) >= 2, ("N, *S, C", "N, C"))
