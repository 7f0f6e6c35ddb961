"""Whether a window fits an image: the checks of sizes, strides, paddings and dilations, and of filters.

Arguments that fit become a `Window`. Others get the sentence that `arguments` words.
"""

import numbers
import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jaxcnn.contract.arguments import (
    PerAxis,
    choice,
    describe,
    flag,
    images,
    integer,
    is_symbolic,
    option,
    options,
    require,
    short,
)
from jaxcnn.contract.geometry import (
    NAMED_PADDINGS,
    Window,
    bounded_steps,
    may_be_left,
    reaching_the_end,
    sees_everywhere,
    surely,
)

THICKEST = 2**24  # a padding of so many places on a side is a mistake
Pads = int | Sequence[tuple[int, int]] | np.ndarray
Padding = str | Pads | PerAxis


def one_per_axis(function: str, argument: str, value: Any, rank: int, minimum: int = 1) -> tuple[int, ...]:
    """`value` as one int per spatial axis; one int stands for all of them."""
    several = options(value)
    if several is None:
        either = f"an int of at least {minimum} or {rank} ints, one per spatial axis"
        is_number = isinstance(option(value), numbers.Integral) and not isinstance(option(value), bool)
        return (integer(function, argument, value, minimum, expected=None if is_number else either),) * rank
    expected = f"an int or {rank} ints, one per spatial axis"
    require(len(several) == rank, function, argument, expected, tuple(map(option, several)))
    return tuple(integer(function, argument, entry, minimum) for entry in several)


def pads(
    function: str, argument: str, value: Any, rank: int, otherwise: str, *, both_sides: bool = True
) -> tuple[tuple[int, int], ...]:
    """`value` as (low, high) per spatial axis; one int stands for all of them.

    With `both_sides` an int in the place of a pair stands for low and high. `otherwise` is what an error says that the
    value may be besides pairs.
    """
    expected = f"{otherwise} or {rank} pairs (low, high), one per spatial axis"
    require(not isinstance(value, str), function, argument, expected, describe(value))
    several = options(value)
    if several is None:
        both = integer(function, argument, value, expected=expected)
        return ((both, both),) * rank
    pairs: list[Any] = [options(entry) or ((entry, entry) if both_sides else ()) for entry in several]
    if len(pairs) != rank or any(len(pair) != 2 for pair in pairs):
        got = " ".join(str(value).split())
        one_pair = rank == 1 and len(several) == 2 and all(options(entry) is None for entry in several)
        require(False, function, argument, expected, f"{got}: low and high of one axis are ({got},)" * one_pair or got)
    return tuple((width(function, argument, low), width(function, argument, high)) for low, high in pairs)


def width(function: str, argument: str, value: Any) -> int:
    """`value` as the width of a padding: a Python int, or symbolic as the size of an image."""
    return value if is_symbolic(value) else integer(function, argument, value)


def padding_around(function: str, padding: Any, window: Window) -> tuple[tuple[int, int], ...]:
    """`padding` as (low, high) per axis of the image that the window slides over. Its own padding is not used."""
    rank = len(window.image)
    if isinstance(padding, str):
        choice(function, "padding", padding, tuple(NAMED_PADDINGS))
        return tuple(map(NAMED_PADDINGS[padding], window.image, window.extent, window.stride))
    return pads(function, "padding", padding, rank, f"a string, an int, {rank} ints")


def checked_window(
    function: str,
    image: Sequence[int],
    size: Any,
    stride: Any,
    padding: Any,
    dilation: Any = 1,
    *,
    ceil_mode: bool = False,
    argument: str = "window",
) -> Window:
    """The checked window of `function` over the spatial axes `image`; `argument` is the one that its size comes from.

    In ceil_mode the last place, which may be the only one, may reach beyond the padded image.
    """
    rank = len(image)
    size = one_per_axis(function, argument, size, rank)
    stride = one_per_axis(function, "stride", stride, rank)
    dilation = one_per_axis(function, "dilation", dilation, rank)
    unpadded = Window(tuple(image), size, stride, ((0, 0),) * rank, dilation, (1,) * rank)
    padded = replace(unpadded, padding=padding_around(function, padding, unpadded))
    if isinstance(padding, str):
        wide = "dilation" if any(d > 1 for d in bounded_steps(unpadded).dilation) else argument
        thin(function, wide, padded.padding, f"such that padding {padding!r} has ")
    thin(function, "padding", padded.padding)
    result = reaching_the_end(padded) if ceil_mode else padded
    fits = not any(surely(operator.gt, e, n) for e, n in zip(result.extent, result.padded, strict=True))
    more = ", or by less than the stride" if ceil_mode else ""
    expected = f"no larger than the padded input {list(padded.padded)}{more}"
    dilated = f" with the dilation {dilation}" if result.extent != result.size else ""
    require(fits, function, argument, expected, f"a window that spans {list(result.extent)}{dilated}")
    left = padded.known or all(map(may_be_left, padded.padded))
    require(left, function, "padding", f"such that something of {list(image)} is left", padding)
    return bounded_steps(result)


def filter_window(
    function: str,
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    *,
    argument: str = "w",
    images: str = "x",
) -> Window:
    """The checked window of filters w [*K, C/groups, O] over images x [N, *S, C]; `images` names these."""
    groups = integer(function, "groups", groups, 1)
    require(len(x_shape) >= 3, function, images, "[N, *S, C] with at least 3 axes", f"shape {list(x_shape)}")
    same_axes(function, x_shape, argument, w_shape, "[*K, C/groups, O]", images)
    *size, channels, filters = w_shape
    not_empty(function, argument, w_shape[:-2], w_shape)
    channels_last(function, x_shape, w_shape, channels * groups, images)
    divides = x_shape[-1] % groups == 0
    require(divides, function, "groups", f"a divisor of the {x_shape[-1]} channels of x", groups)
    expected = f"[*K, C/groups, O] with C/groups = {x_shape[-1]}/{groups} = {x_shape[-1] // groups}"
    require(channels * groups == x_shape[-1], function, argument, expected, f"shape {list(w_shape)}")
    require(filters % groups == 0, function, "groups", f"a divisor of the {filters} filters of {argument}", groups)
    return checked_window(function, x_shape[1:-1], tuple(size), stride, padding, dilation, argument=argument)


def same_axes(
    function: str, x_shape: Sequence[int], argument: str, w_shape: Sequence[int], layout: str, images: str = "x"
) -> None:
    """ValueError unless filters have as many axes as images. If x has one axis less, the error is about x."""
    if len(x_shape) + 1 == len(w_shape):
        expected = f"[N, *S, C] with {len(w_shape)} axes as {argument} {list(w_shape)} has"
        got = f"shape {list(x_shape)}: an image without the axis of its batch or of its channels?"
        require(False, function, images, expected, got)
    expected = f"{layout} with {len(x_shape)} axes as {images} {list(x_shape)} has"
    require(len(w_shape) == len(x_shape), function, argument, expected, f"shape {list(w_shape)}")


def channels_last(function: str, x_shape: Sequence[int], w_shape: Sequence[int], count: int, images: str = "x") -> None:
    """ValueError if the second axis of images has as many channels as the filters take, and the last has not."""
    first = x_shape[1] == count and x_shape[-1] != count
    expected = f"[N, *S, {count}], channels last, or w for {x_shape[-1]} channels"
    require(not first, function, images, expected, f"{images} {list(x_shape)} and w {list(w_shape)}")


def depthwise_filters(function: str, x_shape: Sequence[int], argument: str, w_shape: Sequence[int]) -> None:
    """ValueError unless filters are [*K, 1, C·m], some for each channel of images."""
    same_axes(function, x_shape, argument, w_shape, "[*K, 1, C·m]")
    fits = w_shape[-2] == 1 and w_shape[-1] % x_shape[-1] == 0
    channels = x_shape[1] if isinstance(x_shape[1], int) else 0
    first = not fits and channels > 0 and w_shape[-1] % channels == 0
    expected = f"[*K, 1, C·m] with C = {x_shape[-1]} as x {list(x_shape)} has"
    hint = f", as for {channels} channels: they are last in x" if first else ""
    require(fits, function, argument, expected, f"shape {list(w_shape)}{hint}")


def transposed_window(
    function: str,
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: Any,
    *,
    argument: str = "w",
) -> Window:
    """The checked window of the convolution whose adjoint takes x [N, *S, C] and filters w [*K, O/groups, C].

    Its image is the result, M = (S - 1)s - low - high + extent + output_padding. The last `output_padding` entries are
    beyond the filter's last place.
    """
    groups = integer(function, "groups", groups, 1)
    require(len(x_shape) >= 3, function, "x", "[N, *S, C] with at least 3 axes", f"shape {list(x_shape)}")
    spatial, rank = tuple(x_shape[1:-1]), len(x_shape) - 2
    same_axes(function, x_shape, "w", w_shape, "[*K, O/groups, C]")
    channels_last(function, x_shape, w_shape, w_shape[-1])
    expected = f"[*K, O/groups, C] with C = {x_shape[-1]} as x has"
    require(w_shape[-1] == x_shape[-1], function, "w", expected, f"shape {list(w_shape)}")
    divides = x_shape[-1] % groups == 0
    require(divides, function, "groups", f"a divisor of the {x_shape[-1]} channels of x", groups)
    size = one_per_axis(function, "w", tuple(w_shape[:-2]), rank, minimum=0)
    not_empty(function, "w", size, w_shape)
    stride = one_per_axis(function, "stride", stride, rank)
    dilation = one_per_axis(function, "dilation", dilation, rank)
    extra = one_per_axis(function, "output_padding", output_padding, rank, minimum=0)
    pairs = pads(function, "padding", padding, rank, f"an int, {rank} ints")
    thin(function, "padding", pairs)
    unpadded = Window(spatial, size, stride, ((0, 0),) * rank, dilation, (1,) * rank)
    axes = list(zip(spatial, stride, unpadded.extent, pairs, extra, strict=True))
    image = tuple((n - 1) * s - low - high + e + more for n, s, e, (low, high), more in axes)
    enough = all(map(may_be_left, (*image, *spatial)))
    require(enough, function, "padding", "such that something is left", f"{padding} for a result of {list(image)}")
    if all(isinstance(n, int) for n in image):
        n, s, e, (low, high), more = axes[max(range(rank), key=lambda axis: image[axis])]
        parts = {"stride": (n - 1) * s, "padding": -low - high, "dilation": e, "output_padding": more}
        given = {"stride": list(stride), "padding": padding, "dilation": dilation, "output_padding": extra}
        longest = max(parts, key=lambda name: parts[name])
        short(function, longest, image, given[longest])
    reached = tuple((low, high - more) for (low, high), more in zip(pairs, extra, strict=True))
    return bounded_steps(replace(unpadded, image=image, padding=reached))


def thin(function: str, argument: str, padding: Sequence[tuple[int, int]], such: str = "") -> None:
    """ValueError for a padding of 2^24 places or more on a side, before an array of that size is made."""
    is_thin = not any(isinstance(side, int) and side >= THICKEST for pair in padding for side in pair)
    require(is_thin, function, argument, f"{such}fewer than 2^24 places on each side", padding)


def not_empty(function: str, argument: str, size: Sequence[int], shape: Sequence[int]) -> None:
    """ValueError unless filters of a shape have an entry along each of the spatial axes, `size`."""
    require(all(size), function, argument, "of at least 1 entry per spatial axis", f"shape {list(shape)}")


def require_seen(function: str, window: Window) -> Window:
    """`window`; ValueError unless each of its places has an entry inside the image."""
    expected = f"such that every window of size {window.size} sees an entry of the image"
    require(sees_everywhere(window), function, "padding", expected, window.padding)
    return window


def pooling_window(
    function: str, x: Any, size: Any, stride: Any, padding: Any, dilation: Any = 1, ceil_mode: Any = False
) -> Window:
    """The checked window of a pool over x [N, *S, C]; the stride is the size by default.

    `size` is what users of the pool give as `window`. What private functions take as `window` is a `Window`.
    """
    images(function, x)
    stride = size if stride is None else stride
    ceil_mode = flag(function, "ceil_mode", ceil_mode)
    return checked_window(function, x.shape[1:-1], size, stride, padding, dilation, ceil_mode=ceil_mode)
