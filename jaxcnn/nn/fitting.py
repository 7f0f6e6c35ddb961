"""Whether what a layer is applied to fits: parameters and state are what `init` would make for an x of this shape."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxcnn.contract import arguments
from jaxcnn.contract.geometry import surely

Axes = tuple[int | str, ...]  # sizes, and names of what may be of any size

ABSTRACT: Any = object()  # in place of a key: `init` gives the types of the arrays that it would draw
CHANNELS_FIRST = ": channels are last"
_LARGE = 1 << 20


class ShapeOfX(tuple):
    """An input shape that is that of x in `apply`: what is wrong with it is said of x."""


class WrongTree(ValueError):
    """Parameters or state that `init` would not make. Each layer around adds its name to the path.

    Where the input may be what is wrong, the sentence is about that, unless a layer in front made it.
    """

    def __init__(
        self,
        function: str,
        argument: str,
        path: str,
        expected: str,
        got: str,
        input_message: str | None = None,
        hint: str = "",
    ):
        super().__init__(function, argument, path, expected, got, input_message, hint)
        self.function, self.argument, self.path = function, argument, path
        self.expected, self.got, self.input_message, self.hint = expected, got, input_message, hint

    def __str__(self) -> str:
        expected = f'as init makes them, "{self.path}" {self.expected}'
        return self.input_message or f"{self.function}: {self.argument} must be {expected}, got {self.got}{self.hint}"

    def enter(self, name: str, is_input: bool, is_changed: bool) -> None:
        """Notes that it is in a layer of this name, and whether the input of that is the one of the layers around.

        Where a layer in between has changed its shape, the order of its axes cannot be told from that.
        """
        self.path = f"{name}/{self.path}"
        self.input_message = self.input_message if is_input else None
        if self.input_message and is_changed:
            self.input_message = self.input_message.partition(CHANNELS_FIRST)[0]


def check_trees(function: str, params: Any, state: Any, members: Any = None) -> None:
    """TypeError unless params and state are dicts; ValueError if they have other names than those of the members."""
    for argument, tree in (("params", params), ("state", state)):
        if not isinstance(tree, Mapping):  # to describe it takes time
            expected = "nested dicts as init gives them"
            arguments.require(False, function, argument, expected, arguments.describe(tree), TypeError)
        for name in tree if members is not None else ():
            if name not in members:
                raise WrongTree(function, argument, str(name), "not among them", _described(tree[name]))


def check_fit(function, init, params, state, x_shape, input_of):
    """ValueError unless init would make these for an x of this shape."""
    try:
        wrong = _difference(init(ABSTRACT, ShapeOfX(x_shape)), params, state)
    except ValueError:
        expected = _shape_that_fits(init, params, state, x_shape, input_of)
        if expected:
            raise WrongTree(function, "x", "", "", "", _wrong_input(function, x_shape, expected)) from None
        raise
    if wrong:
        expected = _shape_that_fits(init, params, state, x_shape, input_of)
        input_message = _wrong_input(function, x_shape, expected) if expected else None
        other_size = expected and len(x_shape) == len(expected) and (len(x_shape) == 2 or x_shape[-1] == expected[-1])
        raise WrongTree(
            function, *wrong, input_message=input_message, hint=": for images of another size?" if other_size else ""
        )


def refusal(init: Callable[..., Any], x_shape: tuple[int, ...]) -> ValueError | None:
    """What init would say of an x of this shape: where the image is too small, that it is not the filters' fault."""
    try:
        jax.eval_shape(lambda: init(jax.random.key(0), ShapeOfX(x_shape)))
    except ValueError as error:
        return error
    return None


def _difference(expected, params, state):
    """The first difference, as what WrongTree takes: argument, name, expected, got."""
    for argument, template, given in (("params", expected[0], params), ("state", expected[1], state)):
        for name, type_ in template.items():
            if name not in given:
                return argument, name, str(list(type_.shape)), "none of this name"
            if not arguments.is_array(given[name]) or given[name].shape != type_.shape:
                return argument, name, str(list(type_.shape)), _described(given[name])
        for name in given:
            if name not in template:
                return argument, str(name), "not among them", _described(given[name])
    return None


def axes_of_images(spatial: int, channels: int | str) -> Axes:
    """The axes of images, of which so many are spatial: names of those that may be of any size."""
    names = {0: (), 1: ("W",), 2: ("H", "W"), 3: ("D", "H", "W")}
    return ("N", *names.get(spatial, tuple(f"S{i + 1}" for i in range(spatial))), channels)


def any_with_channels(params: Any, rank: int) -> Axes:
    """The axes of an x that ends in as many channels as there are parameters of a kind."""
    del rank
    return "N", "...", next(iter(params.values())).shape[-1]


def images_with_channels(params: Any, rank: int) -> Axes:
    """As `any_with_channels`, with at least one spatial axis."""
    return "N", "*S", any_with_channels(params, rank)[-1]


def _shape_that_fits(init, params, state, x_shape, input_of):
    """The axes of another x, for which init would make these parameters; None if there is none."""
    if input_of is None:
        return None
    try:
        expected = input_of(params, len(x_shape))
        sizes = tuple({"N": 1}.get(n, _LARGE) if isinstance(n, str) else n for n in expected if n != "...")
        fits = not _difference(init(ABSTRACT, ShapeOfX(sizes)), params, state)
    except (AttributeError, KeyError, IndexError, StopIteration, TypeError, ValueError):  # of no such filters
        return None
    return expected if fits and not _has_axes(x_shape, expected) else None


def _has_axes(x_shape, expected):
    sizes = [n == m or isinstance(m, str) for n, m in zip(x_shape, expected, strict=False)]
    return len(x_shape) == len(expected) and not {"...", "*S"} & set(expected) and all(sizes)


def _wrong_input(function, x_shape, expected):
    """That x has another shape than `expected`, and what would mend it."""
    axes = f"[{', '.join(map(str, expected))}]"
    return f"{function}: x must be {axes}, got {list(x_shape)}{_remedy(x_shape, expected)}"


def _remedy(x_shape, expected):
    count, channels = len(expected) - ("..." in expected), expected[-1]
    if set(expected) & {"...", "*S"}:
        count = max(count, len(x_shape))
    if len(x_shape) == count > 2 and x_shape[1] == channels != x_shape[-1]:
        narrow = surely(operator.lt, x_shape[-1], channels)
        return CHANNELS_FIRST + (", or init was given channels first" if narrow else "")
    if len(x_shape) == count + 1 and count > 2:
        return ": or init was given a shape without the batch axis"
    if len(x_shape) == count - 1 and x_shape[-1:] == (channels,):
        return ": the batch axis is missing, x[None]"
    if len(x_shape) == count - 1 and channels == 1:
        return ": the axis of channels is missing, x[..., None]"
    if len(x_shape) == count - 1 and count > 2:
        return ": the axis of the batch or of the channels is missing"
    if len(x_shape) == 2 and count > 3:
        return _rows_or_image(x_shape, count - 2, channels)
    return ": nn.flatten() sorts images into rows" if count == 2 < len(x_shape) else ""


def _rows_or_image(x_shape, spatial, channels):
    """What makes images of two axes: of rows that have as many entries as square images, or of one image."""
    height, width = x_shape
    known = all(isinstance(n, int) for n in (height, width, channels))
    side = round((width / channels) ** (1 / spatial)) if known and channels > 0 else 0
    is_row = side > 0 and side**spatial * channels == width
    shape = ", ".join(map(str, (-1, *(side,) * spatial, channels)))
    rows = f"rows become images by x.reshape({shape})" if is_row else "rows must be reshaped to images"
    is_image = known and spatial == 2 and channels == 1 and (height == width or not is_row)
    if not is_image or max(height, width) > 4 * min(height, width):
        return f": {rows}"
    image = ": the axes of the batch and of the channels are missing, x[None, ..., None]"
    return f"{image}; {rows}" if is_row else image


def _described(leaf):
    return (
        f"those of {', '.join(map(str, leaf)) or 'nothing'}" if isinstance(leaf, Mapping) else arguments.describe(leaf)
    )


def checked_shape(
    function: str, input_shape: Any, fits: Callable[[tuple[int, ...]], bool], axes: tuple[str, ...], more: str = ""
) -> tuple[int, ...]:
    """The shape of a batch as a tuple; ValueError unless it fits. `axes` says which there are, or are as well."""
    is_shape_of_x = isinstance(input_shape, ShapeOfX)
    shape = tuple(input_shape) if is_shape_of_x else arguments.shape(function, "input_shape", input_shape)
    expected = " or ".join(f"[{names}]" if is_shape_of_x else f"({names})" for names in axes) + more
    got = list(shape) if is_shape_of_x else shape
    arguments.require(fits(shape), function, "x" if is_shape_of_x else "input_shape", expected, got)
    return shape


def images_shape(function: str, input_shape: Any) -> tuple[int, ...]:
    """The shape of images as a tuple; ValueError unless it is (N, *S, C)."""
    return checked_shape(function, input_shape, lambda shape: len(shape) >= 3, ("N, *S, C",), " with at least 3 axes")


def rows_shape(function: str, input_shape: Any) -> tuple[int, ...]:
    """The shape of images or rows as a tuple; ValueError unless it is (N, *S, C) or (N, C)."""
    return checked_shape(function, input_shape, lambda shape: len(shape) >= 2, ("N, *S, C", "N, C"))
