"""Input normalisation and batches."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import data


def test_standardization_gives_each_channel_mean_zero_and_std_one():
    x = np.random.default_rng(0).normal([3.0, -200.0], [2.0, 0.1], (7, 5, 4, 2)).astype(np.float32)
    mean, std = data.fit_standardization(x)
    assert {mean.dtype, std.dtype} == {np.dtype(np.float32)}
    y = data.standardize(x, mean, std)
    assert (y.shape, y.dtype) == (x.shape, np.float32)
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(y.std((0, 1, 2)), 1, rtol=1e-4)
    np.testing.assert_allclose(data.standardize(jnp.asarray(x), mean, std), y, rtol=1e-5)


def test_images_of_integers_become_float32():
    x = np.array([[0], [10], [21]], np.uint8)
    mean, std = data.fit_standardization(x)
    y = data.standardize(x, mean, std)
    assert mean.dtype == std.dtype == y.dtype == np.float32
    np.testing.assert_allclose(y[:, 0], (np.array([0, 10, 21]) - 31 / 3) / np.std([0, 10, 21]), rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 7.0, 0.1])
def test_a_constant_channel_becomes_zero(value):
    x = np.full((1000, 3, 1), value, np.float32)
    mean, std = data.fit_standardization(x)
    assert std == 1
    np.testing.assert_allclose(data.standardize(x, mean, std), 0, atol=1e-7)


def test_batches_are_a_function_of_seed_and_epoch():
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10)
    first = data.batches(x, y, 3, seed=0, epoch=0)
    assert [len(labels) for _, labels in first] == [3, 3, 3]
    for images, labels in first:
        np.testing.assert_array_equal(images, x[labels])

    def order(seed, epoch):
        return np.concatenate([labels for _, labels in data.batches(x, y, 3, seed=seed, epoch=epoch)]).tolist()

    assert len(set(order(0, 0))) == 9
    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_images_left_out_of_one_epoch_come_in_another():
    x, y = np.zeros((10, 1)), np.arange(10)
    seen = {label for epoch in range(5) for _, labels in data.batches(x, y, 4, seed=0, epoch=epoch) for label in labels}
    assert seen == set(range(10))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: data.batches(np.ones((5, 1)), np.ones(4), 2, seed=0, epoch=0),
            ValueError,
            "y must be 5 labels as there",
        ),
        (
            lambda: data.batches(np.ones((5, 1)), np.ones(5), 6, seed=0, epoch=0),
            ValueError,
            "batch_size must be from 1 to",
        ),
        (
            lambda: data.batches(np.ones((5, 1)), np.ones(5), 0, seed=0, epoch=0),
            ValueError,
            "batch_size must be an int of",
        ),
        (
            lambda: data.batches(np.ones((5, 1)), np.ones(5), 2.0, seed=0, epoch=0),
            TypeError,
            "batch_size must be an int of",
        ),
        (
            lambda: data.batches(np.ones((5, 1)), np.ones(5), 2, seed=-1, epoch=0),
            ValueError,
            "seed must be an int of at",
        ),
        (
            lambda: data.fit_standardization(np.ones((0, 3))),
            ValueError,
            r"x must be \[N, \*S, C\] with at least one image",
        ),
        (lambda: data.batches([1.0], [0], 1, seed=0, epoch=0), TypeError, r"x must be an array, got list \[1.0\]"),
        (lambda: data.batches(np.ones(1), None, 1, seed=0, epoch=0), TypeError, "y must be an array, got NoneType"),
        (lambda: data.batches(np.float32(1), np.ones(1), 1, seed=0, epoch=0), ValueError, r"x must be \[N, \.\.\.\] w"),
        (lambda: data.fit_standardization([[1.0]]), TypeError, r"x must be an array, got list \[\[1.0\]\]"),
        (lambda: data.standardize("x", np.ones(2), np.ones(3)), TypeError, "x must be an array, got str 'x'"),
        (lambda: data.standardize(np.ones((2, 3)), 1.0, np.ones(3)), TypeError, "mean must be an array, got float 1.0"),
        (lambda: data.standardize(np.ones((2, 3)), np.ones(2), np.ones(3)), ValueError, r"mean must be \[3\] as x has"),
        (lambda: data.standardize(np.ones((2, 3)), np.ones(3), np.ones(1)), ValueError, r"std must be \[3\] as x has"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=r"^data\.\w+: " + message):
        call()
