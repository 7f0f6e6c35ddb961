"""Dilation, ceil_mode, what counts in a mean, and indices, against windows listed one by one."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import quick, quick_vjp

import jaxcnn as jc

rng = np.random.default_rng(0)
OPTIONS = [
    {"window": k, "stride": s, "padding": ((low, high),), "dilation": d, "ceil_mode": ceil}
    for k, s, low, high, d, ceil in itertools.product((2, 3), (1, 2, 3), (0, 1), (0, 1), (1, 2), (False, True))
]


def windows(n, window, stride, padding, dilation, ceil_mode):
    """For each place the positions of the window's entries, the padding's included."""
    ((low, high),) = padding
    places, start, end = [], -low, n + high
    while start + dilation * (window - 1) < end:
        places.append([start + dilation * k for k in range(window)])
        start += stride
    if ceil_mode and places[-1][-1] + 1 < end and start < n:  # what is left over gets a window of its own
        places.append([start + dilation * k for k in range(window)])
    return places


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_max_pool_and_indices(options):
    n = 8
    x = rng.integers(0, 4, size=(2, n, 3)).astype(float)
    inside = [[p for p in entries if 0 <= p < n] for entries in windows(n, **options)]
    expected = np.stack([x[:, places].max(axis=1) for places in inside], axis=1)
    indices = np.stack([np.array(places)[x[:, places].argmax(axis=1)] for places in inside], axis=1)
    y, got = quick(partial(jc.max_pool, **options, return_indices=True))(x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(got, indices)
    assert got.dtype == jnp.int32


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize(
    "options", [o for o in OPTIONS if o["dilation"] == 1], ids=lambda o: "-".join(map(str, o.values()))
)
def test_mean_pool(options, include):
    n, ((low, high),) = 8, options["padding"]
    x = rng.normal(size=(2, n, 3))
    means = []
    for entries in windows(n, **options):
        counted = [p for p in entries if (-low <= p < n + high if include else 0 <= p < n)]
        means.append(x[:, [p for p in entries if 0 <= p < n]].sum(axis=1) / len(counted))
    pooling = {key: value for key, value in options.items() if key != "dilation"}
    y = jc.mean_pool(x, **pooling, count_include_pad=include)
    np.testing.assert_allclose(y, np.stack(means, axis=1), rtol=1e-12)


def test_numbers_of_pytorch():
    """avg_pool2d and max_pool2d of torch 2.13.0 with kernel 3, stride 2, padding 1, ceil_mode on 0, ..., 29 as 5x6."""
    x = jnp.arange(30.0).reshape(1, 5, 6, 1)
    options = {"window": 3, "stride": 2, "padding": 1, "ceil_mode": True}
    means = {
        (): [[14 / 9, 10 / 3, 14 / 3, 8 / 3], [25 / 3, 14, 16, 8.5], [86 / 9, 46 / 3, 50 / 3, 26 / 3]],
        (("count_include_pad", False),): [[3.5, 5, 7, 8], [12.5, 14, 16, 17], [21.5, 23, 25, 26]],
        (("divisor", 4),): [[3.5, 7.5, 10.5, 4], [18.75, 31.5, 36, 12.75], [21.5, 34.5, 37.5, 13]],
    }
    for more, expected in means.items():
        y = quick(partial(jc.mean_pool, **options, **dict(more)))(x)
        np.testing.assert_allclose(y[0, ..., 0], expected, rtol=1e-12)
    y, indices = quick(partial(jc.max_pool, **options, return_indices=True))(x)
    np.testing.assert_array_equal(y[0, ..., 0], [[7, 9, 11, 11], [19, 21, 23, 23], [25, 27, 29, 29]])
    np.testing.assert_array_equal(indices[0, ..., 0], y[0, ..., 0])
    y = jc.max_pool(x, 2, dilation=2, ceil_mode=True)
    np.testing.assert_array_equal(y[0, ..., 0], [[14, 16, 16], [26, 28, 28]])


@pytest.mark.parametrize("window", [2, 9], ids=["few entries", "many entries"])
def test_max_unpool_puts_the_maxima_back(window):
    """It is the backward pass of max_pool, also where a maximum won several windows."""
    x = jnp.asarray(rng.normal(size=(2, 13, 11, 3)))
    y, indices = quick(partial(jc.max_pool, window=window, stride=2, return_indices=True))(x)
    dy = jnp.asarray(rng.normal(size=y.shape))
    expected = quick_vjp(partial(jc.max_pool, window=window, stride=2), x)[1](dy)[0]
    np.testing.assert_allclose(jc.max_unpool(dy, indices, window, shape=(13, 11)), expected, rtol=1e-12)
    np.testing.assert_array_equal(
        jnp.take_along_axis(x.reshape(2, -1, 3), indices.reshape(2, -1, 3), axis=1), y.reshape(2, -1, 3)
    )


def test_indices_under_jit_that_are_out_of_range_get_lost():
    """As do their gradients: an index of -1 is not the last place."""
    y, places = jnp.ones((1, 3, 1)), jnp.array([1, 6, -1]).reshape(1, 3, 1)

    @jax.jit
    def value_and_gradient(y, indices):
        x, vjp = jax.vjp(lambda y: jc.max_unpool(y, indices, 2), y)
        return x, vjp(jnp.ones_like(x))[0]

    for indices in (places, places.astype(jnp.int8)):
        x, dy = value_and_gradient(y, indices)
        np.testing.assert_array_equal(x[0, :, 0], [0, 1, 0, 0, 0, 0])
        np.testing.assert_array_equal(dy[0, :, 0], [1, 0, 0])


@pytest.mark.parametrize(("n", "m"), [(7, 3), (7, 7), (3, 5), (8, 2), (5, 1)])
def test_adaptive_pools(n, m):
    """Region i of M is from floor(i S / M) to ceil((i + 1) S / M), as in PyTorch."""
    x = rng.integers(0, 4, size=(2, n, 4, 3)).astype(float)
    rows = [range(int(np.floor(i * n / m)), int(np.ceil((i + 1) * n / m))) for i in range(m)]
    halves = [range(0, 2), range(2, 4)]
    boxes = [[x[:, list(r)][:, :, list(h)] for h in halves] for r in rows]
    means = np.stack([np.stack([box.mean(axis=(1, 2)) for box in row], axis=1) for row in boxes], axis=1)
    maxima = np.stack([np.stack([box.max(axis=(1, 2)) for box in row], axis=1) for row in boxes], axis=1)
    np.testing.assert_allclose(quick(partial(jc.adaptive_mean_pool, shape=(m, 2)))(x), means, rtol=1e-12)
    y, indices = map(np.asarray, quick(partial(jc.adaptive_max_pool, shape=(m, 2), return_indices=True))(x))
    np.testing.assert_array_equal(y, maxima)
    for i, a, j, c in np.ndindex(2, m, 2, 3):
        places = [r * 4 + h for r in rows[a] for h in halves[j]]
        values = x[i].reshape(-1, 3)[places, c]
        assert indices[i, a, j, c] == places[values.argmax()], (i, a, j, c)


def test_global_pools():
    """The mean and the maximum over all places; the gradient of a maximum goes to the first, a NaN is the maximum."""
    x = rng.integers(0, 3, size=(2, 4, 5, 3)).astype(float)
    np.testing.assert_allclose(jc.global_mean_pool(x), x.mean(axis=(1, 2)), rtol=1e-12)
    np.testing.assert_array_equal(jc.global_max_pool(x), x.max(axis=(1, 2)))
    gradient = quick(jax.grad(lambda x: jc.global_max_pool(x).sum()))
    dx = np.asarray(gradient(x)).reshape(2, 20, 3)
    np.testing.assert_array_equal(dx.argmax(axis=1), x.reshape(2, 20, 3).argmax(axis=1))
    np.testing.assert_array_equal(dx.sum(axis=1), 1)
    x[0, 2, 3, 1] = x[0, 3, 3, 1] = np.nan
    dx = np.asarray(gradient(x))
    assert np.isnan(jc.global_max_pool(x)[0, 1])
    assert dx[0, 2, 3, 1] == 1
    assert dx[0, :, :, 1].sum() == 1
