"""Arrays of numbers, and their parts that are small, so that what is computed of them needs little memory."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.contract import arguments

ENTRIES = 2**21


def require_numbers(function: str, argument: str, value: Any) -> None:
    """TypeError unless it is a NumPy or JAX array of bools, integers or real floating-point numbers."""
    is_array = isinstance(value, np.ndarray | jax.Array)
    is_real = is_array and any(jnp.issubdtype(value.dtype, kind) for kind in (np.bool_, jnp.integer, jnp.floating))
    arguments.require(is_real, function, argument, "an array of real numbers", _described(value), TypeError)


def require_integers(function: str, argument: str, value: Any) -> None:
    """TypeError unless it is a NumPy or JAX array of integers."""
    is_integers = isinstance(value, np.ndarray | jax.Array) and jnp.issubdtype(value.dtype, jnp.integer)
    arguments.require(is_integers, function, argument, "an array of integers", _described(value), TypeError)


def _described(value: Any) -> str:
    """What came, in words; of another package's array, or of `Rows`, the type too."""
    is_other = arguments.is_array(value) and not isinstance(value, np.ndarray | jax.Array)
    return f"{type(value).__name__} {value.dtype}{list(value.shape)}" if is_other else arguments.describe(value)


def chunks(array: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Parts of an array [N, ...], each with the index of its first example: about `ENTRIES` entries, at least one
    example."""
    one = max(1, int(np.prod(array.shape[1:])))
    step = max(1, ENTRIES // one)
    for start in range(0, len(array), step):
        yield start, np.asarray(array[start : start + step])
