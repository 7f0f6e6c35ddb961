"""Whether arguments are what a function takes, and the wording of every error about one that is not.

The checks run on Python values and on the types of arrays, before anything is compiled. A bad call gets one sentence,
which names the function, the argument, what was expected and what came. In this file the checks of arrays come first,
then those of numbers and other single values, then those of shapes.
"""

import functools
import math
import numbers
import operator
from collections.abc import Callable, Collection, Sequence
from os import PathLike
from typing import Any, ParamSpec, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.export import is_symbolic_dim

from jaxcnn.contract.geometry import surely

LONGEST = 2**48  # with more places on an axis XLA counts wrong, or raises in the middle of a program
_SHORT = "fewer than 2^48 places on an axis"
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
PerAxis = int | Sequence[int] | np.ndarray


def require(
    ok: bool, function: str, argument: str, expected: str, got: Any, error: type[Exception] = ValueError
) -> None:
    """Raises the one sentence that a bad argument gets; does nothing where `ok` is true."""
    if not ok:
        raise error(f"{function}: {argument} must be {expected}, got {got}")


def is_symbolic(size: Any) -> bool:
    """Whether a size of an array is a name only, as where `jax.export` compiles for all sizes."""
    return is_symbolic_dim(size)


def describe(value: Any) -> str:
    """What came, in words: the dtype and shape of an array, the type and value of anything else."""
    if is_array(value):
        return f"{value.dtype}{list(value.shape)}"
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 100 else text[:97] + '...'}"


def is_array(value: Any) -> bool:
    """Whether a value is an array of JAX or NumPy, or the shape and dtype of one."""
    return hasattr(value, "dtype") and hasattr(value, "shape")


def has_values(value: Any) -> bool:
    """Whether a value is an array of JAX or NumPy, traced or not; False for a shape and dtype without one."""
    return is_array(value) and not isinstance(value, jax.ShapeDtypeStruct)


def floating(function: str, **arrays: Any) -> tuple[jax.Array, ...]:
    """The arguments as JAX arrays, in order; TypeError unless all are real floating-point arrays of one dtype."""
    result: list[jax.Array] = []
    for argument, value in arrays.items():
        complete = not is_array(value) or _has_zero_and_nan(value.dtype)
        require(complete, function, argument, "of a dtype that has a 0 and a NaN", describe(value), TypeError)
        array = _jax_array(value)
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


def _has_zero_and_nan(dtype: Any) -> bool:
    """False for floating-point dtypes of 4 and 6 bits, which have no NaN, and for float8_e8m0fnu, which has no 0."""
    if not jnp.issubdtype(dtype, jnp.floating):
        return True
    zero, nan = np.array([0.0, np.nan]).astype(dtype)
    return bool(zero == 0 and np.isnan(nan))


def _jax_array(value: Any) -> jax.Array | None:
    """An array as a JAX array. None for arrays of strings or objects, and for a shape and a dtype without an array."""
    if isinstance(value, jax.Array):
        return value  # not converted: that would be an operation, and jax_debug_nans stops at its NaN
    try:
        return jnp.asarray(value) if is_array(value) else None
    except TypeError:
        return None


def floating_and_bias(function: str, arrays: dict[str, Any], b: Any) -> tuple[Any, ...]:
    """The arrays and b, checked by `floating`; a b of None stays None."""
    if b is None:
        return (*floating(function, **arrays), None)
    return floating(function, **arrays, b=b)


def known_image(
    function: str, x: jax.Array, argument: str = "x", *, expected: str = "[N, *S, C] of a known size"
) -> None:
    """ValueError where S of x [N, *S, C] is symbolic."""
    names = [str(size) for size in x.shape[1:-1] if is_symbolic(size)]
    got = f"{describe(x)}: export with numbers in the place of {', '.join(names)}"
    require(not names, function, argument, expected, got)


def array(function: str, argument: str, value: Any) -> None:
    """TypeError unless `value` is an array, of any dtype."""
    require(is_array(value), function, argument, "an array", describe(value), TypeError)


def integers(function: str, argument: str, value: Any, expected: tuple[int, ...], count: int) -> jax.Array:
    """Integers of the expected shape, from 0 to count - 1. Under jit the range is not checked: values are not known."""
    is_integer = has_values(value) and jnp.issubdtype(value.dtype, jnp.integer)
    require(is_integer, function, argument, "an array of integers", describe(value), TypeError)
    require(value.shape == expected, function, argument, f"integers {list(expected)}", describe(value))
    if not isinstance(value, jax.core.Tracer):
        outside = [entry for entry in np.unique(np.asarray(value)) if not 0 <= entry < count]
        require(not outside, function, argument, f"from 0 to {count - 1}", outside[0] if outside else None)
    return jnp.asarray(value)


def random_key(function: str, key: Any) -> None:
    """TypeError unless `key` is one JAX random key, of the new style or the old."""
    if not is_random_key(key):
        is_first = (is_array(key) and jnp.issubdtype(key.dtype, jnp.number)) or isinstance(key, Sequence)
        hint = ": the key comes first" if is_first and not isinstance(key, str) else ""
        hint = f": jax.random.key({key})" if type(key) is int else hint
        require(False, function, "key", "one JAX random key", describe(key) + hint, TypeError)


def key_first(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """The function with its key checked first: Python would say that the other arguments do not fit."""

    @functools.wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        if args:
            random_key(function.__name__, args[0])
        return function(*args, **kwargs)

    return call


def is_random_key(value: Any) -> bool:
    """Whether a value is one JAX random key, of the new style or the old."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    return typed or (dtype == jnp.uint32 and shape in ((2,), (4,)))  # threefry, rbg


def not_used_up(function: str, argument: str, tree: Any) -> None:
    """ValueError if an array in a tree was donated to a function, as the state is to a step."""
    if any(is_used_up(leaf) for leaf in jax.tree.leaves(tree)):
        were, new = ("were", "ones") if argument.endswith("s") else ("was", "one")
        raise ValueError(f"{function}: the {argument} {were} used up by the step before: keep the new {new}")


def is_used_up(leaf: Any) -> bool:
    """Whether a leaf is an array that was donated: its memory belongs to another array."""
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
    """ValueError unless `value` is one number [] for all channels of x [..., C], or one for each, [C]."""
    expected = f"one {noun} [] or one per channel {list(x.shape[-1:])}"
    require(value.shape in ((), x.shape[-1:]), function, argument, expected, describe(value))


def cotangent(function: str, dy: jax.Array, expected: tuple[int, ...]) -> None:
    """ValueError unless dy has the shape of the output that it is the gradient of."""
    require(dy.shape == expected, function, "dy", f"of the output's shape {list(expected)}", describe(dy))


def positive(function: str, argument: str, value: Any) -> None:
    """ValueError unless all entries of an array are above 0. Under jit they have no values yet: nothing is checked."""
    if not isinstance(value, jax.core.Tracer):
        smallest = np.min(np.asarray(value, np.float64), initial=np.inf)  # float8 may have no infinity
        require(bool(smallest > 0), function, argument, "above 0 everywhere", smallest)


def option(value: Any) -> Any:
    """An option as a Python value: an array without axes becomes the number or bool that it holds."""
    array = _known(value)
    return value if array is None or array.ndim else array.item()


def options(value: Any) -> list[Any] | None:
    """The entries of a list, a tuple or an array with axes; None for everything else, and for a string."""
    if isinstance(value, tuple | list):
        return list(value)
    array = _known(value)
    if array is not None:
        return list(array) if array.ndim else None
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else None


def _known(value: Any) -> np.ndarray | None:
    """An array that has values already, as one of NumPy; None for everything else."""
    if type(value) in (int, float, bool, str):
        return None
    is_known = isinstance(value, jax.Array | np.ndarray | np.generic) and not isinstance(value, jax.core.Tracer)
    return np.asarray(value) if is_known and not jnp.issubdtype(value.dtype, jax.dtypes.extended) else None


def describe_option(value: Any) -> str:
    """The value of an option, in words."""
    traced = isinstance(value, jax.core.Tracer)
    more = " that is traced: options are static, known before jit (static_argnames, functools.partial)"
    return describe(value) + more if traced else describe(option(value))


def integer(
    function: str, argument: str, value: Any, minimum: int | None = None, *, expected: str | None = None
) -> int:
    """`value` as a Python int; TypeError unless it is an integer, ValueError unless it is at least `minimum`.

    `expected` rewords what the error says.
    """
    expected = expected or ("an int" if minimum is None else f"an int of at least {minimum}")
    result = value if type(value) is int else option(value)
    is_integer = isinstance(result, int | numbers.Integral) and not isinstance(result, bool)
    if not is_integer:
        require(False, function, argument, expected, describe_option(value), TypeError)
    result = int(result)
    require(minimum is None or result >= minimum, function, argument, expected, result)
    return result


def one_of(function: str, argument: str, value: Any, known: Collection[int]) -> int:
    """`value` as a Python int; TypeError unless it is an integer, ValueError unless it is among those `known`."""
    *others, last = map(str, known)
    expected = f"{', '.join(others)} or {last}"
    result = integer(function, argument, value, expected=expected)
    require(result in known, function, argument, expected, result)
    return result


def number(function: str, argument: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """`value` as a Python float; TypeError unless it is a number, ValueError unless it is finite and in [low, high].

    A string, a bool or a traced array is no number.
    """
    expected = f"a number from {low:g} to {high:g}"
    if high == math.inf:
        expected = "a finite number" if low == -math.inf else f"a finite number of at least {low:g}"
    result = option(value)
    is_number = isinstance(result, numbers.Real) and not isinstance(result, bool)
    require(is_number, function, argument, expected, describe_option(value), TypeError)
    try:
        result = float(result)
    except OverflowError:
        result = math.inf
    require(math.isfinite(result) and low <= result <= high, function, argument, expected, value)
    return result


def flag(function: str, argument: str, value: Any) -> bool:
    """`value` as a Python bool; TypeError unless it is True or False."""
    result = option(value)
    require(isinstance(result, bool), function, argument, "True or False", describe_option(value), TypeError)
    return result


def choice(function: str, argument: str, value: Any, choices: Sequence[str]) -> str:
    """ValueError unless `value` is one of the strings in `choices`."""
    known = isinstance(value, str) and value in choices
    require(known, function, argument, "one of " + ", ".join(map(repr, choices)), " ".join(repr(value).split()))
    return value


def called(function: str, argument: str, value: Any, expected: str = "a function") -> None:
    """TypeError unless `value` can be called."""
    require(callable(value), function, argument, expected, describe(value), TypeError)


def path(function: str, argument: str, value: Any, expected: str = "a path") -> None:
    """TypeError unless `value` is a path."""
    require(isinstance(value, str | PathLike), function, argument, expected, describe(value), TypeError)


def shape(function: str, argument: str, value: Any) -> tuple[int, ...]:
    """`value` as a shape. Each size is an int from 0 to 2^48 - 1, or symbolic."""
    sizes = options(value)
    if sizes is None or (is_array(value) and value.ndim > 1):
        hint = ": the key comes first" if is_random_key(value) else ", whose shape it is" if is_array(value) else ""
        require(False, function, argument, "a shape, a tuple of ints", describe_option(value) + hint, TypeError)
    assert sizes is not None
    result = tuple(n if is_symbolic(n) else integer(function, argument, n, 0) for n in sizes)
    is_short = not any(surely(operator.ge, n, LONGEST) for n in result)
    require(is_short, function, argument, f"of {_SHORT}", list(result))
    return result


def short(function: str, argument: str, image: Sequence[int], value: Any) -> None:
    """ValueError if the value of an argument makes an image that has 2^48 places or more on an axis."""
    is_short = not any(surely(operator.ge, n, LONGEST) for n in image)
    require(is_short, function, argument, f"for a result of {_SHORT}", f"{value} for one of {list(image)}")


def axes(function: str, argument: str, value: Any, rank: int) -> tuple[int, ...]:
    """`value` as axes of an array of that rank, counted from the front and in order; ValueError if one comes twice."""
    several = options(value)
    if several is None:
        given = [integer(function, argument, value, expected="an int or several ints")]
    else:
        given = [integer(function, argument, axis) for axis in several]
    counted = sorted({axis % rank for axis in given if -rank <= axis < rank})
    expected = f"one or several different axes of an array that has {rank}"
    require(0 < len(counted) == len(given), function, argument, expected, value)
    return tuple(counted)
