"""From raw images to what a network takes: standardized, of one size, with weights for its classes."""

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxcnn.contract import arguments
from jaxcnn.data.arrays import chunks, require_integers, require_numbers


def fit_standardization(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and standard deviation of each channel, over all images and places, from sums in float64.

    Args:
        x: images [N, *S, C], those of the training set only. They are read in parts: an `np.memmap` may be larger than
            the memory.

    Returns:
        (mean, std), each [C] float64 if x is, else float32, also for half precision, in which a small std would be 0;
        std is 1 for a constant channel, and for one whose std is 0 in that dtype.

    Raises:
        TypeError: x is no array of real numbers.
        ValueError: x has less than 2 axes, no entries, or one that is NaN, infinite or above 1e154.

    >>> mean, std = fit_standardization(np.array([[1.0, 7.0], [3.0, 7.0]]))
    >>> mean.tolist(), std.tolist()
    ([2.0, 7.0], [1.0, 1.0])
    """
    function = "data.fit_standardization"
    require_numbers(function, "x", x)
    fits = x.ndim >= 2 and x.size > 0
    arguments.require(fits, function, "x", "[N, *S, C] with at least one image", arguments.describe(x))
    total, low, high = 0.0, np.inf, -np.inf
    for start, part in chunks(x):
        _require_finite(function, part, start)
        rows = _rows(part)
        total, low, high = total + rows.sum(0), np.minimum(low, rows.min(0)), np.maximum(high, rows.max(0))
    count = x.size // x.shape[-1]
    mean = total / count
    with np.errstate(over="ignore"):
        squares = sum(np.square(_rows(part) - mean).sum(0) for _, part in chunks(x))
    std = np.where(low == high, 1.0, np.sqrt(squares / count))
    expected, got = "of values whose squares float64 can hold", f"one of {np.maximum(-low, high).max():g}"
    arguments.require(bool(np.isfinite(std).all()), function, "x", expected, got)
    mean, std = mean.astype(_wide_dtype(x)), std.astype(_wide_dtype(x))
    return mean, np.where(std == 0, np.ones_like(std), std)


def _rows(part: np.ndarray) -> np.ndarray:
    """The channels of all places, [N S, C] in float64."""
    return part.reshape(-1, part.shape[-1]).astype(np.float64)


def _require_finite(function: str, part: np.ndarray, start: int) -> None:
    """ValueError, with the place of the first entry that is NaN or infinite."""
    finite = np.isfinite(part)
    if not finite.all():
        image, *place, channel = map(int, np.argwhere(~finite)[0])
        where = f"in image {start + image}, " + (f"place {place}, " if place else "") + f"channel {channel}"
        arguments.require(False, function, "x", "finite", f"{part[image, *place, channel]} {where}")


def standardize(x: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Shifts and scales every channel, (x - mean) / std, in float32 if x is of half precision.

    Args:
        x: images [N, *S, C], a NumPy or JAX array.
        mean, std: [C], from `fit_standardization`.

    Returns:
        An array as x is, of the same shape and dtype, float32 for images of integers.

    Raises:
        TypeError: an argument is no array of real numbers.
        ValueError: mean or std is not [C] or not finite, std is not above 0 in the dtype that is computed in.

    >>> x = np.array([[1.0, 7.0], [3.0, 7.0]])
    >>> standardize(x, *fit_standardization(x)).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    require_numbers("data.standardize", "x", x)
    for argument, value in (("mean", mean), ("std", std)):
        require_numbers("data.standardize", argument, value)
        fits = value.shape == x.shape[-1:]
        arguments.require(
            fits, "data.standardize", argument, f"{list(x.shape[-1:])} as x has", arguments.describe(value)
        )
        is_known = not isinstance(value, jax.core.Tracer)
        is_finite = not is_known or bool(np.isfinite(np.asarray(value, np.float64)).all())
        arguments.require(is_finite, "data.standardize", argument, "finite", value)
    dtype, shape = _wide_dtype(x), (1,) * (x.ndim - 1) + (-1,)
    mean, std = mean.astype(dtype), std.astype(dtype)
    arguments.positive("data.standardize", "std", std)
    y = x.astype(dtype)
    y -= mean.reshape(shape)
    y /= std.reshape(shape)
    return y if y.dtype == _float_dtype(x) else y.astype(_float_dtype(x))


def _wide_dtype(x: np.ndarray) -> np.dtype:
    """The dtype of floating-point x if that has 32 bits or more, else float32."""
    dtype = _float_dtype(x)
    return dtype if dtype.itemsize >= 4 else np.dtype(np.float32)


def _float_dtype(x: np.ndarray) -> np.dtype:
    """The dtype of x if that is a floating-point one, else float32."""
    return x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else np.dtype(np.float32)


def pad_to(x: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Examples in the size of a larger one: zeros come in behind them, and a mask says what is theirs.

    Args:
        x: one example [*S, C], or several, [N, *S, C] or a list of arrays [*S, C] that may differ in *S.
        shape: the sizes of the spatial axes.

    Returns:
        (x, mask): [*shape, C] in the dtype of x and bools [*shape], True for the places that x had; [N, *shape, C] and
        [N, *shape] for several examples.

    Raises:
        TypeError: x is no array nor a list of arrays, shape no tuple of ints.
        ValueError: an example has other axes than shape and channels, is larger than shape, or is not of the channels
            and dtype of the first.

    >>> x, mask = pad_to([np.ones((2, 1)), np.ones((3, 1))], (4,))
    >>> x[..., 0].tolist(), mask.sum(1).tolist()
    ([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]], [2, 3])
    """
    function, shape = "data.pad_to", arguments.shape("data.pad_to", "shape", shape)
    is_several = isinstance(x, np.ndarray | jax.Array | list | tuple)
    arguments.require(is_several, function, "x", "an array or a list of arrays", arguments.describe(x), TypeError)
    if not isinstance(x, list | tuple) and x.ndim == len(shape) + 1:
        _require_example("x", x, shape, x)
        padded, mask = _padded([x], shape)
        return padded[0], mask[0]
    some = (isinstance(x, list | tuple) or x.ndim > 0) and len(x) > 0
    arguments.require(some, function, "x", "at least one example", arguments.describe(x))
    examples: Any = x
    for i, example in enumerate(examples):
        _require_example(f"x[{i}]", example, shape, examples[0])
    return _padded(examples, shape)


def _padded(examples: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    padded = np.zeros((len(examples), *shape, examples[0].shape[-1]), examples[0].dtype)
    mask = np.zeros((len(examples), *shape), bool)
    for i, example in enumerate(examples):
        inside = (i, *map(slice, example.shape[:-1]))
        padded[inside], mask[inside] = example, True
    return padded, mask


def _require_example(name: str, example: Any, shape: tuple[int, ...], first: Any) -> None:
    arguments.array("data.pad_to", name, example)
    got, axes = arguments.describe(example), len(shape) + 1
    arguments.require(example.ndim == axes, "data.pad_to", name, f"[*S, C] with {axes} axes for shape {shape}", got)
    fits = all(size <= most for size, most in zip(example.shape, shape, strict=False))
    arguments.require(fits, "data.pad_to", name, f"at most {list(shape)} and channels", got)
    alike = (example.shape[-1], example.dtype) == (first.shape[-1], first.dtype)
    arguments.require(
        alike, "data.pad_to", name, f"{first.dtype} of {first.shape[-1]} channels as the first example", got
    )


def class_weights(y: np.ndarray, classes: int) -> np.ndarray:
    """A weight for each class, so that all classes weigh the same in a mean over y.

        weight_k = N / (classes N_k),        N_k labels of class k, N of all classes

    Args:
        y: labels of any shape, integers from 0 to classes - 1; -1 is left out, as in label maps.
        classes: how many classes there are.

    Returns:
        The weights [classes], float32.

    Raises:
        TypeError: y is no array of integers, classes no int.
        ValueError: a label is no class, a class has no label, classes is less than 1.

    >>> class_weights(np.array([0, 0, 0, 1]), 2).tolist()
    [0.6666666865348816, 2.0]
    """
    function = "data.class_weights"
    classes = arguments.integer(function, "classes", classes, 1)
    require_integers(function, "y", y)
    counts = np.zeros(classes, np.int64)
    for _, part in chunks(np.asarray(y).reshape(-1)):
        outside = part[(part < -1) | (part >= classes)]
        expected = f"from 0 to {classes - 1}, or -1 for what is left out"
        arguments.require(not outside.size, function, "y", expected, outside[0] if outside.size else 0)
        counts += np.bincount(part[part >= 0].astype(np.int64), minlength=classes)
    missing = np.flatnonzero(counts == 0).tolist()
    expected = f"labels of all {classes} classes"
    arguments.require(not missing, function, "y", expected, f"none of {', '.join(map(str, missing))}")
    return (counts.sum() / (classes * counts)).astype(np.float32)
