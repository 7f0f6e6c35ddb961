"""Rows of an array on the device, which are gathered where they are used: inside the compiled step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.contract import arguments


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of an array, not gathered yet: a tree of two arrays that stands for `array[index]`.

    Attributes:
        array: all of them, [N, ...].
        index: which ones, [B] integers from 0 to N - 1.
    """

    array: Any
    index: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the gathered rows, (B, ...)."""
        return (*self.index.shape, *self.array.shape[1:])

    @property
    def dtype(self) -> Any:
        """The dtype of the rows."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """How many axes the gathered rows have."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        if not arguments.is_array(self.array):  # a function of trees has put something else there
            return f"Rows(array={self.array!r}, index={self.index!r})"
        return f"Rows({self.dtype}{list(self.shape)} of {len(self.array)})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.take(), dtype)

    def take(self) -> jax.Array:
        """The rows as an array [B, ...]."""
        return jnp.take(self.array, self.index, axis=0, mode="clip")


def taken(tree: Any) -> Any:
    """A tree in which all `Rows` are gathered.

    Args:
        tree: a batch or a part of one, of arrays and `Rows`.

    Returns:
        The tree with an array in the place of each `Rows`; other leaves as they are.

    Raises:
        TypeError, ValueError: the index of `Rows` is no array of integers.

    >>> x = jnp.arange(10) ** 2
    >>> jax.jit(taken)({"squares": Rows(x, np.array([3, 1])), "scale": 2.0})
    {'scale': Array(2., dtype=float32, weak_type=True), 'squares': Array([9, 1], dtype=int32)}
    """
    return jax.tree.map(_taken, tree, is_leaf=lambda leaf: isinstance(leaf, Rows))


def _taken(leaf: Any) -> Any:
    return leaf.take() if isinstance(leaf, Rows) else leaf
