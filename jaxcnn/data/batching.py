"""The batches of an epoch. Their order is a function of a seed and the epoch, of nothing else."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, overload

import jax
import numpy as np

from jaxcnn.contract import arguments
from jaxcnn.data.arrays import require_numbers
from jaxcnn.data.rows import Rows

LAST = ("drop", "wrap", "mask")
AHEAD = 2  # batches that the thread gathers before they are asked for


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
    index, _ = _filled(_order(len(x), seed, epoch), batch_size, "drop")
    return [(x[chosen], y[chosen]) for chosen in index]


class Batches:
    """The shuffled batches of a set, epoch by epoch.

    Called with an epoch it gives a sequence of batches (x, y), or (x, y, where) for last="mask". A set that fits is put
    on the default device at the first batch; its batches are `Rows`, which `data.taken` gathers inside the compiled
    step. Of other sets, for instance of an `np.memmap`, each batch is gathered on the host, by a thread that is two
    batches ahead.

    Args:
        x: a tree of NumPy or JAX arrays [N, ...].
        y: another, of the same N.
        batch_size: examples in a batch, B.
        seed: with the epoch the only thing that the order depends on.
        last: what becomes of the N mod B examples that are left at the end of an epoch: "drop" leaves them out; "wrap"
            fills the last batch with the first examples of the epoch; "mask" does so, too, and gives each batch a third
            part, where [B], which is False for what was filled in.
        device_bytes: how many bytes of NumPy arrays fit on the device; by default a quarter of its memory, or 2^30
            where JAX does not say what that is.

    Attributes:
        steps: how many batches an epoch has.

    Raises:
        TypeError: a leaf of x or y is no array of real numbers, batch_size, seed, device_bytes or an epoch no int.
        ValueError: x or y has no arrays, the arrays differ in number, batch_size is less than 1, or more than N with
            last="drop", seed, device_bytes or an epoch is negative, last is none of the three.

    >>> epoch = Batches(np.ones((5, 1)), np.arange(5), 2, last="mask")(0)
    >>> [(y.take().tolist(), where.tolist()) for _, y, where in epoch]
    [([2, 4], [True, True]), ([3, 0], [True, True]), ([1, 2], [True, False])]
    >>> x, y, where = epoch[0]
    >>> x
    Rows(float32[2, 1] of 5)
    """

    def __init__(
        self, x: Any, y: Any, batch_size: int, *, seed: int = 0, last: str = "drop", device_bytes: int | None = None
    ):
        self._count = _counted(x, y)
        self._batch_size = arguments.integer("data.Batches", "batch_size", batch_size, 1)
        self._seed = arguments.integer("data.Batches", "seed", seed, 0)
        self._last = arguments.choice("data.Batches", "last", last, LAST)
        if last == "drop":
            expected = f'from 1 to the {self._count} examples where last="drop"'
            arguments.require(batch_size <= self._count, "data.Batches", "batch_size", expected, batch_size)
        if device_bytes is None:
            device_bytes = _usual_device_bytes()
        limit = arguments.integer("data.Batches", "device_bytes", device_bytes, 0)
        self._fits = sum(a.nbytes for a in jax.tree.leaves((x, y)) if not isinstance(a, jax.Array)) <= limit
        self._arrays, self._on_device = (x, y), False

    @property
    def steps(self) -> int:
        whole, rest = divmod(self._count, self._batch_size)
        return whole + (rest > 0 and self._last != "drop")

    def __call__(self, epoch: int) -> Epoch:
        epoch = arguments.integer("data.Batches", "epoch", epoch, 0)
        index, where = _filled(_order(self._count, self._seed, epoch), self._batch_size, self._last)
        return Epoch(self._gathered, index, where if self._last == "mask" else None, ahead=not self._fits)

    def _gathered(self, index: np.ndarray) -> tuple[Any, Any]:
        """The examples of this index as `Rows`, or as arrays of the host."""
        if not self._fits:
            return jax.tree.map(lambda array: np.asarray(array[index]), self._arrays)
        if not self._on_device:
            self._arrays, self._on_device = jax.device_put(self._arrays), True
        return jax.tree.map(lambda array: Rows(array, index), self._arrays)

    def __repr__(self) -> str:
        return f"Batches({self.steps} of {self._batch_size}, {self._count} examples, last={self._last!r})"


class Epoch(Sequence[Any]):
    """The batches of an epoch; a slice is a sequence of some of them, as where a training goes on in the middle."""

    def __init__(
        self,
        gathered: Callable[[np.ndarray], tuple[Any, Any]],
        index: np.ndarray,
        where: np.ndarray | None,
        *,
        ahead: bool,
    ):
        self._gathered, self._index, self._where, self._ahead = gathered, index, where, ahead

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, item: int) -> tuple[Any, ...]: ...
    @overload
    def __getitem__(self, item: slice) -> Epoch: ...
    def __getitem__(self, item: int | slice) -> tuple[Any, ...] | Epoch:
        if not isinstance(item, slice):
            item = arguments.integer("data.Batches", "item", item, expected="the number of a batch or a slice")
        where = None if self._where is None else self._where[item]
        if isinstance(item, slice):
            return Epoch(self._gathered, self._index[item], where, ahead=self._ahead)
        pair = self._gathered(self._index[item])
        return pair if where is None else (*pair, where)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return _called_ahead(self.__getitem__, len(self)) if self._ahead else map(self.__getitem__, range(len(self)))

    def __repr__(self) -> str:
        return f"Epoch({len(self)} batches)"


def _called_ahead(function: Callable[[int], Any], count: int) -> Iterator[Any]:
    """function(0), ..., function(count - 1), by a thread that ends with this iterator."""
    with ThreadPoolExecutor(1, thread_name_prefix="jaxcnn-batches") as pool:
        pending = deque(pool.submit(function, i) for i in range(min(AHEAD, count)))
        for i in range(AHEAD, AHEAD + count):
            result = pending.popleft().result()
            if i < count:
                pending.append(pool.submit(function, i))
            yield result


def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The examples [N] in the order in which an epoch sees them."""
    return np.random.default_rng((seed, epoch)).permutation(count)


def _filled(order: np.ndarray, batch_size: int, last: str) -> tuple[np.ndarray, np.ndarray]:
    """Which examples are in each batch [steps, B], int32, and which of these were not filled in."""
    steps = len(order) // batch_size if last == "drop" else -(-len(order) // batch_size)
    dtype = np.int32 if len(order) < 2**31 else np.int64
    index = np.resize(order, steps * batch_size).astype(dtype)
    where = np.arange(steps * batch_size) < len(order)
    return index.reshape(steps, batch_size), where.reshape(steps, batch_size)


def _counted(x: Any, y: Any) -> int:
    """How many examples there are, N; an error unless every array has so many."""
    function, count = "data.Batches", None
    for argument, tree in (("x", x), ("y", y)):
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        arguments.require(len(leaves) > 0, function, argument, "a tree with an array", arguments.describe(tree))
        for path, leaf in leaves:
            name, got = argument + jax.tree_util.keystr(path), arguments.describe(leaf)
            require_numbers(function, name, leaf)
            some = leaf.ndim > 0 and len(leaf) > 0
            arguments.require(some, function, name, "[N, ...] with at least one example", got)
            count = len(leaf) if count is None else count
            arguments.require(len(leaf) == count, function, name, f"{count} examples as x has", got)
    assert count is not None
    return count


def _usual_device_bytes() -> int:
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return 2**30 if limit is None else limit // 4
