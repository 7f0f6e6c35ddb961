"""Batches: their order, the last one, and where they are gathered."""

import threading
import tracemalloc

import jax
import numpy as np
import pytest

from jaxcnn import data
from jaxcnn.data.batching import _called_ahead

X, Y = np.arange(20.0).reshape(10, 2), np.arange(10)


def test_batches_are_a_function_of_seed_and_epoch():
    first = data.batches(X, Y, 3, seed=0, epoch=0)
    assert [len(labels) for _, labels in first] == [3, 3, 3]
    for images, labels in first:
        np.testing.assert_array_equal(images, X[labels])

    def order(seed, epoch):
        return np.concatenate([labels for _, labels in data.batches(X, Y, 3, seed=seed, epoch=epoch)]).tolist()

    assert len(set(order(0, 0))) == 9
    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_images_left_out_of_one_epoch_come_in_another():
    x, y = np.zeros((10, 1)), np.arange(10)
    seen = {label for epoch in range(5) for _, labels in data.batches(x, y, 4, seed=0, epoch=epoch) for label in labels}
    assert seen == set(range(10))


@pytest.mark.parametrize("device_bytes", [0, None], ids=["host", "device"])
@pytest.mark.parametrize("last", ["drop", "wrap", "mask"])
def test_an_epoch(last, device_bytes):
    """The batches are those of `data.batches`, wherever they are gathered, and no example is lost unless it is said."""
    made = data.Batches({"image": X}, (Y, None), 4, seed=5, last=last, device_bytes=device_bytes)
    epoch = made(2)
    assert made.steps == len(epoch) == (2 if last == "drop" else 3)
    seen = []
    for (x, y, *where), again in zip(epoch, [epoch[i] for i in range(len(epoch))], strict=True):
        assert isinstance(y[0], np.ndarray if device_bytes == 0 else data.Rows)
        assert (y[0].shape, len(x["image"]), x["image"].ndim) == ((4,), 4, 2)
        np.testing.assert_array_equal(x["image"], X[np.asarray(y[0])])
        np.testing.assert_array_equal(data.taken(again[1])[0], y[0])
        seen.append(np.asarray(y[0])[where[0] if where else slice(None)].tolist())
    expected = [labels.tolist() for _, labels in data.batches(X, Y, 4, seed=5, epoch=2)]
    assert seen[:2] == expected
    flat = [label for labels in seen for label in labels]
    if last == "wrap":
        assert flat[10:] == flat[:2]
    assert len(flat) == {"drop": 8, "wrap": 12, "mask": 10}[last]
    assert sorted(flat[:10]) == list(range(10)) or last == "drop"
    for part in (epoch[1:], epoch[:-1], epoch[::-1]):
        assert [data.taken(y)[0].tolist() for _, y, *_ in part] == [
            data.taken(part[i][1])[0].tolist() for i in range(len(part))
        ]
    assert data.taken(epoch[1:][0][1])[0].tolist() == expected[1]
    with pytest.raises(IndexError):
        epoch[len(epoch)]


def test_rows_are_gathered_inside_a_step_that_is_compiled_once():
    compiled = []

    @jax.jit
    def step(x, y):
        compiled.append(x.dtype)
        x, y = data.taken((x, y))
        return x.sum(), y.sum()

    batches = data.Batches(X.astype(np.float32), Y, 4)
    for epoch in range(2):
        for (x, y), (x_host, y_host) in zip(batches(epoch), data.batches(X, Y, 4, seed=0, epoch=epoch), strict=True):
            assert jax.device_get(step(x, y)) == (x_host.sum(), y_host.sum())
    assert compiled == [np.float32]
    assert x.array is batches(7)[0][0].array, "the array is put on the device once"


def gatherers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("jaxcnn-batches")]


def test_a_large_set_is_read_batch_by_batch(tmp_path):
    large = np.memmap(tmp_path / "x", np.uint8, "w+", shape=(2000, 4096))
    large[:] = np.arange(2000, dtype=np.uint8)[:, None]
    batches = data.Batches(large, np.arange(2000), 10, device_bytes=2**20)
    tracemalloc.start()
    for x, y in batches(0):
        assert type(x) is np.ndarray
        np.testing.assert_array_equal(x[:, -1], y.astype(np.uint8))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert not gatherers()


def test_the_thread_ends_with_its_consumer():
    epoch = data.Batches(X, Y, 2, device_bytes=0)(0)
    for _ in epoch:
        assert gatherers()
        break
    assert not gatherers()
    iterator = iter(epoch)
    next(iterator)
    iterator.close()
    assert not gatherers()


def test_an_error_of_the_thread_reaches_the_consumer():
    def broken(i):
        if i == 2:
            raise OSError("the disk is gone")
        return i

    got = []
    with pytest.raises(OSError, match="the disk is gone"):
        got.extend(_called_ahead(broken, 5))
    assert not gatherers()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: data.batches(X, Y[:4], 2, seed=0, epoch=0), ValueError, "y must be 10 labels as there"),
        (lambda: data.batches(X, Y, 11, seed=0, epoch=0), ValueError, "batch_size must be from 1 to"),
        (lambda: data.batches(X, Y, 0, seed=0, epoch=0), ValueError, "batch_size must be an int of"),
        (lambda: data.batches(X, Y, 2.0, seed=0, epoch=0), TypeError, "batch_size must be an int of"),
        (lambda: data.batches(X, Y, 2, seed=-1, epoch=0), ValueError, "seed must be an int of at"),
        (lambda: data.batches([1.0], [0], 1, seed=0, epoch=0), TypeError, r"x must be an array, got list \[1.0\]"),
        (lambda: data.batches(np.ones(1), None, 1, seed=0, epoch=0), TypeError, "y must be an array, got NoneType"),
        (lambda: data.batches(np.float32(1), np.ones(1), 1, seed=0, epoch=0), ValueError, r"x must be \[N, \.\.\.\] w"),
        (lambda: data.Batches(X, {"a": Y, "b": Y[:9]}, 2), ValueError, r"y\['b'\] must be 10 examples as x has"),
        (lambda: data.Batches(X, Y.astype(str), 2), TypeError, "y must be an array of real numbers"),
        (lambda: data.Batches([1, 2], Y, 2), TypeError, r"x\[0\] must be an array of real numbers, got int 1"),
        (lambda: data.Batches(X, None, 2), ValueError, "y must be a tree with an array, got NoneType None"),
        (lambda: data.Batches(X[:0], Y[:0], 2), ValueError, "x must be .* at least one example"),
        (lambda: data.Batches(X, Y, 11), ValueError, 'batch_size must be from 1 to the 10 examples where last="drop"'),
        (lambda: data.Batches(X, Y, 2, last="keep"), ValueError, "last must be one of 'drop', 'wrap', 'mask', got"),
        (lambda: data.Batches(X, Y, 2, device_bytes=-1), ValueError, "device_bytes must be an int of at least 0"),
        (lambda: data.Batches(X, Y, 2)(1.0), TypeError, "epoch must be an int of at least 0"),
        (lambda: data.Batches(X, Y, 2)(0)[True], TypeError, "item must be the number of a batch or a slice, got bool"),
        (lambda: data.Batches(X, Y, 2)(0)[[0, 1]], TypeError, "item must be the number of a batch or a slice, got lis"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=r"^data\.[bB]atches: " + message):
        call()
