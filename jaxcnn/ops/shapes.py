"""Whether arguments are what a function takes, and the wording of every error about one that is not.

Everything here runs on Python values and on the types of arrays before anything is compiled. A bad call gets one
sentence, which names the function, the argument, what was expected and what came. Arrays come first, then numbers and
other single values, then shapes and windows.
"""

import math
import numbers
import operator
from collections.abc import Collection, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxcnn.ops.geometry import NAMED_PADDINGS, Window, reaching_the_end

Pads = int | Sequence[tuple[int, int]]
Padding = str | Pads
PerAxis = int | Sequence[int]


def require(
    ok: bool, function: str, argument: str, expected: str, got: Any, error: type[Exception] = ValueError
) -> None:
    """Raises the one sentence that a bad argument gets, unless `ok`."""
    if not ok:
        raise error(f"{function}: {argument} must be {expected}, got {got}")


def describe(value: Any) -> str:
    """What came, in words: an array by its dtype and shape, anything else by its type and value."""
    if is_array(value):
        return f"{value.dtype}{list(value.shape)}"
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 100 else text[:97] + '...'}"


def is_array(value: Any) -> bool:
    """Whether it is an array of JAX or NumPy, or the shape and dtype of one."""
    return hasattr(value, "dtype") and hasattr(value, "shape")


def floating(function: str, **arrays: Any) -> tuple[jax.Array, ...]:
    """The arguments as JAX arrays, in order; TypeError unless all are real floating-point arrays of one dtype."""
    result: list[jax.Array] = []
    for argument, value in arrays.items():
        array = _as_jax(value)
        is_float = array is not None and jnp.issubdtype(array.dtype, jnp.floating)
        got = describe(value if array is None else array)
        require(is_float, function, argument, "a floating-point array", got, TypeError)
        assert array is not None
        if result:
            first = next(iter(arrays))
            same = array.dtype == result[0].dtype
            require(same, function, argument, f"{result[0].dtype} as {first} is", describe(array), TypeError)
        result.append(array)
    return tuple(result)


def _as_jax(value: Any) -> jax.Array | None:
    """The JAX array of an array; None if there is none: of strings, of objects, or of a shape and a dtype alone."""
    try:
        return jnp.asarray(value) if is_array(value) else None
    except TypeError:
        return None


def with_bias(function: str, arrays: dict[str, Any], b: Any) -> tuple[Any, ...]:
    """`floating`, with b behind the arrays, where None stays None."""
    if b is None:
        return (*floating(function, **arrays), None)
    return floating(function, **arrays, b=b)


def array(function: str, argument: str, value: Any) -> None:
    """TypeError unless `value` is an array, of any dtype."""
    require(is_array(value), function, argument, "an array", describe(value), TypeError)


def integers(function: str, argument: str, value: Any, expected: tuple[int, ...], count: int) -> jax.Array:
    """Integers of the expected shape, from 0 to count - 1; under jit they have no values to look at."""
    is_integer = is_array(value) and jnp.issubdtype(value.dtype, jnp.integer)
    require(is_integer, function, argument, "an array of integers", describe(value), TypeError)
    require(value.shape == expected, function, argument, f"integers {list(expected)}", describe(value))
    if not isinstance(value, jax.core.Tracer):
        outside = [entry for entry in np.unique(np.asarray(value)) if not 0 <= entry < count]
        require(not outside, function, argument, f"from 0 to {count - 1}", outside[0] if outside else None)
    return jnp.asarray(value)


def random_key(function: str, key: Any) -> None:
    """TypeError unless `key` is one JAX random key, of the new style or the old."""
    if not is_random_key(key):
        other = (is_array(key) and jnp.issubdtype(key.dtype, jnp.number)) or isinstance(key, Sequence)
        hint = ": the key comes first" if other and not isinstance(key, str) else ""
        hint = f": jax.random.key({key})" if type(key) is int else hint
        require(False, function, "key", "one JAX random key", describe(key) + hint, TypeError)


def is_random_key(value: Any) -> bool:
    """Whether it is one JAX random key, of the new style or the old."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    return typed or (dtype == jnp.uint32 and shape in ((2,), (4,)))  # threefry, rbg


def not_used_up(function: str, argument: str, tree: Any) -> None:
    """ValueError if an array was donated to a function, as the state is to a step."""
    if any(is_used_up(leaf) for leaf in jax.tree.leaves(tree)):
        were, new = ("were", "ones") if argument.endswith("s") else ("was", "one")
        raise ValueError(f"{function}: the {argument} {were} used up by the step before: keep the new {new}")


def is_used_up(leaf: Any) -> bool:
    """Whether it is an array whose memory something else has now."""
    return isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.is_deleted()


def images(function: str, x: jax.Array, argument: str = "x") -> None:
    """ValueError unless x is [N, *S, C] with at least one spatial axis."""
    require(x.ndim >= 3, function, argument, "[N, *S, C] with at least 3 axes", describe(x))


def channels(function: str, x: jax.Array) -> None:
    """ValueError unless x [..., C] has a channel."""
    require(x.shape[-1] > 0, function, "x", "[N, *S, C] with at least one channel", describe(x))


def vector(function: str, argument: str, value: jax.Array, length: int) -> None:
    """ValueError unless `value` is one entry per channel, [length]."""
    require(value.shape == (length,), function, argument, f"one entry per channel, [{length}]", describe(value))


def one_or_per_channel(function: str, argument: str, value: jax.Array, x: jax.Array, noun: str) -> None:
    """ValueError unless `value` is one number for all channels of x [..., C], [], or one for each, [C]."""
    expected = f"one {noun} [] or one per channel {list(x.shape[-1:])}"
    require(value.shape in ((), x.shape[-1:]), function, argument, expected, describe(value))


def cotangent(function: str, dy: jax.Array, expected: tuple[int, ...]) -> None:
    """ValueError unless dy has the shape of the output that it is the gradient of."""
    require(dy.shape == expected, function, "dy", f"of the output's shape {list(expected)}", describe(dy))


def above_zero(function: str, argument: str, value: Any) -> None:
    """ValueError unless all entries of an array are; under jit they have no values to look at."""
    if not isinstance(value, jax.core.Tracer):
        smallest = np.min(np.asarray(value), initial=np.inf)
        require(bool(smallest > 0), function, argument, "above 0 everywhere", smallest)


def sum_dtype(dtype: Any) -> Any:
    """The dtype that sums of `dtype` are accumulated in: float32 for the half precisions, else itself."""
    is_half = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return jnp.dtype(jnp.float32) if is_half else jnp.dtype(dtype)


def wide(a: jax.Array) -> jax.Array:
    """An array in the dtype that sums over it are accumulated in."""
    return a.astype(sum_dtype(a.dtype))


def integer(
    function: str, argument: str, value: Any, minimum: int | None = None, *, expected: str | None = None
) -> int:
    """A Python int of at least `minimum`; a bool, float or array is a TypeError. `expected` rewords what is."""
    expected = expected or ("an int" if minimum is None else f"an int of at least {minimum}")
    try:
        result = operator.index(value)
    except TypeError:
        result = None
    require(
        result is not None and not isinstance(value, bool), function, argument, expected, describe(value), TypeError
    )
    assert result is not None
    require(minimum is None or result >= minimum, function, argument, expected, result)
    return result


def one_of(function: str, argument: str, value: Any, known: Collection[int]) -> int:
    """A Python int that is one of those `known`; anything but an int is a TypeError."""
    *others, last = map(str, known)
    expected = f"{', '.join(others)} or {last}"
    result = integer(function, argument, value, expected=expected)
    require(result in known, function, argument, expected, result)
    return result


def number(function: str, argument: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite Python float within [low, high]; a string, bool or traced array is a TypeError."""
    expected = f"a number from {low:g} to {high:g}"
    if high == math.inf:
        expected = "a finite number" if low == -math.inf else f"a finite number of at least {low:g}"
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    require(is_number, function, argument, expected, describe(value), TypeError)
    result = float(value)
    require(math.isfinite(result) and low <= result <= high, function, argument, expected, value)
    return result


def flag(function: str, argument: str, value: Any) -> bool:
    """TypeError unless `value` is True or False."""
    require(isinstance(value, bool), function, argument, "True or False", describe(value), TypeError)
    return value


def choice(function: str, argument: str, value: Any, choices: Sequence[str]) -> str:
    """ValueError unless `value` is one of the strings in `choices`."""
    known = isinstance(value, str) and value in choices
    require(known, function, argument, "one of " + ", ".join(map(repr, choices)), repr(value))
    return value


def called(function: str, argument: str, value: Any, expected: str = "a function") -> None:
    """TypeError unless `value` can be called."""
    require(callable(value), function, argument, expected, describe(value), TypeError)


def path(function: str, argument: str, value: Any, expected: str = "a path") -> None:
    """TypeError unless `value` is a path."""
    require(isinstance(value, str | PathLike), function, argument, expected, describe(value), TypeError)


def shape(function: str, argument: str, value: Any) -> tuple[int, ...]:
    """`value` as a shape: a sequence of ints that are not negative."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        hint = ": the key comes first" if is_random_key(value) else ", whose shape it is" if is_array(value) else ""
        require(False, function, argument, "a shape, a tuple of ints", describe(value) + hint, TypeError)
    return tuple(integer(function, argument, entry, 0) for entry in value)


def axes(function: str, argument: str, value: Any, rank: int) -> tuple[int, ...]:
    """One or several axes of an array, counted from the front and in order; none twice."""
    several = isinstance(value, Sequence) and not isinstance(value, str)
    given = [integer(function, argument, axis) for axis in (value if several else (value,))]
    counted = sorted({axis % rank for axis in given if -rank <= axis < rank})
    expected = f"different axes of an array that has {rank}"
    require(0 < len(counted) == len(given), function, argument, expected, value)
    return tuple(counted)


def per_axis(function: str, argument: str, value: Any, rank: int, minimum: int = 1) -> tuple[int, ...]:
    """`value` as one int per spatial axis: an int stands for all of them."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return (integer(function, argument, value, minimum),) * rank
    expected = f"an int or {rank} ints, one per spatial axis"
    require(len(value) == rank, function, argument, expected, tuple(value))
    return tuple(integer(function, argument, entry, minimum) for entry in value)


def pads(function: str, argument: str, value: Any, rank: int, otherwise: str) -> tuple[tuple[int, int], ...]:
    """`value` as (low, high) per spatial axis: an int stands for all; `otherwise` says what but pairs it may be."""
    expected = f"{otherwise} or {rank} pairs (low, high), one per spatial axis"
    if not isinstance(value, Sequence):
        both = integer(function, argument, value, expected=expected)
        return ((both, both),) * rank
    pairs = not isinstance(value, str) and all(isinstance(pair, Sequence) and len(pair) == 2 for pair in value)
    require(pairs and len(value) == rank, function, argument, expected, value)
    return tuple((integer(function, argument, low), integer(function, argument, high)) for low, high in value)


def padding_around(function: str, padding: Any, window: Window) -> tuple[tuple[int, int], ...]:
    """`padding` as (low, high) per axis of the image that the window slides over; its own padding does not matter."""
    rank = len(window.image)
    if isinstance(padding, str):
        choice(function, "padding", padding, tuple(NAMED_PADDINGS))
        return tuple(map(NAMED_PADDINGS[padding], window.image, window.extent, window.stride))
    return pads(function, "padding", padding, rank, "a string, an int")


def window(
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
    """The checked window of `function` over the spatial axes `image`; `argument` names where its size is from.

    In ceil_mode a last place may stick out behind the padded image, which may be the only one.
    """
    rank = len(image)
    size = per_axis(function, argument, size, rank)
    stride = per_axis(function, "stride", stride, rank)
    dilation = per_axis(function, "dilation", dilation, rank)
    unpadded = Window(tuple(image), size, stride, ((0, 0),) * rank, dilation, (1,) * rank)
    padded = replace(unpadded, padding=padding_around(function, padding, unpadded))
    result = reaching_the_end(padded) if ceil_mode else padded
    fits = all(e <= n for e, n in zip(result.extent, result.padded, strict=True))
    more = ", or by less than the stride" if ceil_mode else ""
    expected = f"no larger than the padded input {list(padded.padded)}{more}"
    require(fits, function, argument, expected, f"a window that spans {list(result.extent)}")
    return result


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
) -> Window:
    """The checked window of filters w [*K, C/groups, O] over images x [N, *S, C]."""
    groups = integer(function, "groups", groups, 1)
    require(len(x_shape) >= 3, function, "x", "[N, *S, C] with at least 3 axes", f"shape {list(x_shape)}")
    same_axes(function, x_shape, argument, w_shape, "[*K, C/groups, O]")
    *size, channels, filters = w_shape
    not_empty(function, argument, w_shape[:-2], w_shape)
    channels_last(function, x_shape, w_shape, channels * groups)
    divides = x_shape[-1] % groups == 0
    require(divides, function, "groups", f"a divisor of the {x_shape[-1]} channels of x", groups)
    expected = f"[*K, C/groups, O] with C/groups = {x_shape[-1]}/{groups} = {x_shape[-1] // groups}"
    require(channels * groups == x_shape[-1], function, argument, expected, f"shape {list(w_shape)}")
    require(filters % groups == 0, function, "groups", f"a divisor of the {filters} filters of {argument}", groups)
    return window(function, x_shape[1:-1], tuple(size), stride, padding, dilation, argument=argument)


def same_axes(function: str, x_shape: Sequence[int], argument: str, w_shape: Sequence[int], layout: str) -> None:
    """ValueError unless filters have as many axes as images. Where x has one less, that is more likely wrong."""
    if len(x_shape) + 1 == len(w_shape):
        expected = f"[N, *S, C] with {len(w_shape)} axes as {argument} {list(w_shape)} has"
        got = f"shape {list(x_shape)}: an image without the axis of its batch or of its channels?"
        require(False, function, "x", expected, got)
    expected = f"{layout} with {len(x_shape)} axes as x {list(x_shape)} has"
    require(len(w_shape) == len(x_shape), function, argument, expected, f"shape {list(w_shape)}")


def channels_last(function: str, x_shape: Sequence[int], w_shape: Sequence[int], count: int) -> None:
    """ValueError if images have the channels that filters are for in their second axis rather than in their last."""
    first = x_shape[1] == count and x_shape[-1] != count
    expected = f"[N, *S, {count}], channels last, or w for {x_shape[-1]} channels"
    require(not first, function, "x", expected, f"x {list(x_shape)} and w {list(w_shape)}")


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

    Its image is the result: M = (S - 1)s - low - high + extent + output_padding, of which the last `output_padding`
    entries are beyond the filter's last place.
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
    size = per_axis(function, "w", tuple(w_shape[:-2]), rank, minimum=0)
    not_empty(function, "w", size, w_shape)
    stride = per_axis(function, "stride", stride, rank)
    dilation = per_axis(function, "dilation", dilation, rank)
    behind = per_axis(function, "output_padding", output_padding, rank, minimum=0)
    between = pads(function, "padding", padding, rank, "an int")
    unpadded = Window(spatial, size, stride, ((0, 0),) * rank, dilation, (1,) * rank)
    axes = zip(spatial, stride, unpadded.extent, between, behind, strict=True)
    image = tuple((n - 1) * s - low - high + e + more for n, s, e, (low, high), more in axes)
    enough = all(n > 0 for n in (*image, *spatial))
    require(enough, function, "padding", "such that something is left", f"{padding} for a result of {list(image)}")
    reached = tuple((low, high - more) for (low, high), more in zip(between, behind, strict=True))
    return replace(unpadded, image=image, padding=reached)


def not_empty(function: str, argument: str, size: Sequence[int], shape: Sequence[int]) -> None:
    """ValueError unless filters of a shape have an entry along each of the spatial axes, `size`."""
    require(all(size), function, argument, "of at least 1 entry per spatial axis", f"shape {list(shape)}")
