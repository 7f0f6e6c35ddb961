"""Input normalisation, padding and class weights."""

import tracemalloc

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


def test_a_set_is_standardized_in_parts(monkeypatch):
    """What the parts give together is what NumPy gives of the whole, and they take little memory."""
    monkeypatch.setattr("jaxcnn.data.arrays.ENTRIES", 1000)
    x = np.random.default_rng(0).integers(0, 256, (700, 10, 7, 3), np.uint8)
    x[..., 0] = np.repeat([0, 1], 350)[:, None, None]
    tracemalloc.start()
    mean, std = data.fit_standardization(x)
    assert tracemalloc.get_traced_memory()[1] < x.nbytes
    tracemalloc.stop()
    np.testing.assert_allclose(mean, x.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, x.std((0, 1, 2)), rtol=1e-6)
    broken = x.astype(np.float32)
    broken[431, 9, 2, 1] = np.inf
    with pytest.raises(ValueError, match=r"x must be finite, got inf in image 431, place \[9, 2\], channel 1$"):
        data.fit_standardization(broken)


def test_standardization_of_half_precision():
    """The std of one entry of 6e-8 among 20,000 is 4e-10, which is 0 in float16."""
    x = np.zeros((20_000, 1), np.float16)
    x[7] = 6e-8
    mean, std = data.fit_standardization(x)
    y = data.standardize(x, mean, std)
    assert (mean.dtype, std.dtype, y.dtype) == (np.float32, np.float32, np.float16)
    np.testing.assert_allclose(y[7], np.sqrt(20_000), rtol=1e-3)
    x = jnp.array([[1.0], [3.0]], jnp.bfloat16)
    y = data.standardize(x, *data.fit_standardization(x))
    assert (y.dtype, y.tolist()) == (jnp.bfloat16, [[-1], [1]])
    assert data.fit_standardization(x.astype(jnp.float64) * 1e-200)[1] == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_padding_is_behind(dtype):
    examples = [np.ones((3, 2, 2), dtype), np.full((1, 4, 2), 7, dtype)]
    padded, mask = data.pad_to(examples, (3, 5))
    assert (padded.shape, padded.dtype, mask.shape, mask.dtype) == ((2, 3, 5, 2), dtype, (2, 3, 5), bool)
    for x, one, inside in zip(examples, padded, mask, strict=True):
        expected = np.pad(x, [(0, 3 - x.shape[0]), (0, 5 - x.shape[1]), (0, 0)])
        np.testing.assert_array_equal(one, expected)
        np.testing.assert_array_equal(inside, expected[..., 0] > 0)
        for result, whole in zip(data.pad_to(x, (3, 5)), (one, inside), strict=True):
            np.testing.assert_array_equal(result, whole)
    batch, mask = data.pad_to(np.stack(examples[:1] * 2), (3, 2))
    np.testing.assert_array_equal(batch, np.stack(examples[:1] * 2))
    assert mask.all()


def test_class_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    y = np.random.default_rng(0).integers(0, 4, (9, 5, 3)) ** 2 // 4
    expected = compute_class_weight("balanced", classes=np.arange(3), y=y.ravel())
    weights = data.class_weights(y, 3)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    np.testing.assert_allclose(weights[y].mean(), 1, rtol=1e-6)
    np.testing.assert_array_equal(data.class_weights(np.append(y.ravel(), [-1, -1]), 3), weights)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: data.fit_standardization(np.ones((0, 3))), ValueError, r"x must be \[N, \*S, C\] with at least one"),
        (lambda: data.fit_standardization([[1.0]]), TypeError, r"x must be an array of real numbers, got list"),
        (lambda: data.fit_standardization(np.array([["a"]])), TypeError, r"x must be an array of real numbers, got <U"),
        (
            lambda: data.standardize("x", np.ones(2), np.ones(3)),
            TypeError,
            "x must be an array of real numbers, got str 'x'",
        ),
        (lambda: data.standardize(np.ones((2, 3)), 1.0, np.ones(3)), TypeError, "mean must be an array of real .* 1.0"),
        (
            lambda: data.standardize(np.ones((2, 3), complex), np.ones(3), np.ones(3)),
            TypeError,
            "x must be an array of real",
        ),
        (lambda: data.standardize(np.ones((2, 3)), np.ones(2), np.ones(3)), ValueError, r"mean must be \[3\] as x has"),
        (lambda: data.standardize(np.ones((2, 3)), np.ones(3), np.ones(1)), ValueError, r"std must be \[3\] as x has"),
        (lambda: data.standardize(np.ones((2, 1)), np.ones(1), np.zeros(1)), ValueError, "std must be above 0"),
        (lambda: data.standardize(np.ones((2, 1)), np.full(1, np.nan), np.ones(1)), ValueError, "mean must be finite"),
        (
            lambda: data.fit_standardization(np.array([[1e300], [0]])),
            ValueError,
            r"x must be of values .* 1e\+300",
        ),
        (lambda: data.pad_to(np.ones((4, 1)), (3,)), ValueError, r"x must be at most \[3\] and channels, got float64"),
        (lambda: data.pad_to([np.ones((2, 2))], (3, 3)), ValueError, r"x\[0\] must be \[\*S, C\] with 3 axes"),
        (lambda: data.pad_to([np.ones((2, 2)), np.ones((2, 1))], (3,)), ValueError, r"x\[1\] must be float64 of 2"),
        (lambda: data.pad_to([], (3,)), ValueError, "x must be at least one example"),
        (lambda: data.pad_to([[1.0]], (3,)), TypeError, r"x\[0\] must be an array, got list"),
        (lambda: data.pad_to(3.0, (3,)), TypeError, "x must be an array or a list of arrays, got float"),
        (lambda: data.pad_to(np.ones((2, 1)), 3), TypeError, "shape must be a shape, a tuple of ints"),
        (
            lambda: data.class_weights(np.array([0, 2]), 4),
            ValueError,
            "y must be labels of all 4 .*, got none of 1, 3",
        ),
        (lambda: data.class_weights(np.array([0, 2]), 2), ValueError, "y must be from 0 to 1, or -1 .*, got 2"),
        (lambda: data.class_weights(np.array([0.0]), 1), TypeError, "y must be an array of integers"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=r"^data\.\w+: " + message):
        call()
