"""From raw images to the batches of an epoch; pure functions of NumPy arrays."""

import numpy as np

from jaxcnn.contract import arguments


def fit_standardization(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and standard deviation of each channel, over all images and places.

    Args:
        x: images [N, *S, C], those of the training set only.

    Returns:
        (mean, std), each [C] in the dtype of x, float32 for images of integers; std is 1 for a constant channel.

    Raises:
        TypeError: x is no array.
        ValueError: x has less than 2 axes or no entries.

    >>> mean, std = fit_standardization(np.array([[1.0, 7.0], [3.0, 7.0]]))
    >>> mean.tolist(), std.tolist()
    ([2.0, 7.0], [1.0, 1.0])
    """
    arguments.array("data.fit_standardization", "x", x)
    fits = x.ndim >= 2 and x.size > 0
    arguments.require(
        fits, "data.fit_standardization", "x", "[N, *S, C] with at least one image", arguments.describe(x)
    )
    axes = tuple(range(x.ndim - 1))
    mean, std = x.mean(axes, dtype=np.float64), x.std(axes, dtype=np.float64)
    constant = x.max(axes) == x.min(axes)
    dtype = _float_dtype(x)
    return mean.astype(dtype), np.where(constant, 1.0, std).astype(dtype)


def standardize(x: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Shifts and scales every channel, (x - mean) / std.

    Args:
        x: images [N, *S, C], a NumPy or JAX array.
        mean, std: [C], from `fit_standardization`.

    Returns:
        An array as x is, of the same shape and dtype, float32 for images of integers.

    Raises:
        TypeError: an argument is no array.
        ValueError: mean or std is not [C].

    >>> x = np.array([[1.0, 7.0], [3.0, 7.0]])
    >>> standardize(x, *fit_standardization(x)).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    arguments.array("data.standardize", "x", x)
    for argument, value in (("mean", mean), ("std", std)):
        arguments.array("data.standardize", argument, value)
        fits = value.shape == x.shape[-1:]
        arguments.require(
            fits, "data.standardize", argument, f"{list(x.shape[-1:])} as x has", arguments.describe(value)
        )
    dtype, shape = _float_dtype(x), (1,) * (x.ndim - 1) + (-1,)
    return (x.astype(dtype) - mean.astype(dtype).reshape(shape)) / std.astype(dtype).reshape(shape)


def _float_dtype(x: np.ndarray) -> np.dtype:
    """The dtype of x if that is a floating-point one, else float32."""
    return x.dtype if np.issubdtype(x.dtype, np.floating) else np.dtype(np.float32)


def batches(
    x: np.ndarray, y: np.ndarray, batch_size: int, *, seed: int, epoch: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The shuffled batches of an epoch. Their order depends on (seed, epoch) only.

    Args:
        x: images [N, *S, C].
        y: labels [N, ...].
        batch_size: images in a batch, B; the N mod B images that are left at the end are not seen in this epoch.
        seed, epoch: which order, ints of at least 0.

    Returns:
        A list of N // B pairs (x [B, *S, C], y [B, ...]).

    Raises:
        TypeError: x or y is no array, batch_size, seed or epoch no int.
        ValueError: x or y has no axis, x and y differ in number, batch_size is not from 1 to N, seed or epoch is
            negative.

    >>> [y.tolist() for _, y in batches(np.ones((5, 1)), np.arange(5), 2, seed=0, epoch=0)]
    [[2, 4], [3, 0]]
    """
    function = "data.batches"
    for argument, value in (("x", x), ("y", y)):
        arguments.array(function, argument, value)
        arguments.require(
            value.ndim > 0, function, argument, "[N, ...] with at least 1 axis", arguments.describe(value)
        )
    arguments.require(len(x) == len(y), function, "y", f"{len(x)} labels as there are images", arguments.describe(y))
    batch_size = arguments.integer(function, "batch_size", batch_size, 1)
    arguments.require(batch_size <= len(x), function, "batch_size", f"from 1 to the {len(x)} images", batch_size)
    seed, epoch = arguments.integer(function, "seed", seed, 0), arguments.integer(function, "epoch", epoch, 0)
    order = np.random.default_rng((seed, epoch)).permutation(len(x))
    steps = len(x) // batch_size
    return [(x[chosen], y[chosen]) for chosen in order[: steps * batch_size].reshape(steps, batch_size)]
