"""lp_pool, mixed_pool, softmax_pool and stochastic_pool: one window after the other, and what is particular to each."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from compilation import QUICK_TO_COMPILE, quick_vjp

import jaxcnn as jc
from jaxcnn.contract import window_arguments
from jaxcnn.kernels.windows import maps_per_window

RNG = np.random.default_rng(0)
quick = partial(jax.jit, compiler_options=QUICK_TO_COMPILE)


def pooled(x, of_window, size, stride, padding=0, more=0):
    """of_window(entries of x [L] inside the image, channel) for each window; `more` places behind the padding."""
    rank = x.ndim - 2
    pads = [(padding, padding + more)] * rank
    geometry = x.shape[1:-1], size, stride, pads, (1,) * rank
    y = np.zeros((len(x), *oracles.outputs(*geometry), x.shape[-1]))
    for i, entries in oracles.windows(*geometry):
        for n, c in np.ndindex(len(x), x.shape[-1]):
            y[(n, *i, c)] = of_window(np.array([x[(n, *p, c)] for _, p in entries]), c)
    return y


@pytest.mark.parametrize("p", [0.5, 1, 3])
def test_lp_pool(p):
    """In ceil_mode the last windows, of which 1 of 3 places sticks out, count as if they were whole."""
    x = 0.1 + RNG.random(size=(2, 6, 4, 2))
    expected = pooled(x, lambda entries, c: (9 / len(entries) * np.sum(entries**p)) ** (1 / p), (3, 3), (2, 2), more=1)
    y = quick(partial(jc.lp_pool, window=3, p=p, stride=2, ceil_mode=True))(x)
    np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_lp_pool_of_what_pytorch_has_no_number_for():
    """torch 2.13.0: lp_pool1d with windows of 2, and the gradient of the sum."""
    x, nan = jnp.array([1.0, -2.0, 3.0, -4.0, 0.0, 0.0, -5.0, 2.0]).reshape(1, 8, 1), np.nan
    for p, y, dx in (
        (1, [-1, -1, 0, -3], [1, 1, 1, 1, 0, 0, 1, 1]),
        (3, [nan, nan, 0, nan], [nan, nan, nan, nan, 0, 0, nan, nan]),
        (0.5, [nan, nan, 0, nan], [nan, nan, nan, nan, 0, 0, nan, nan]),  # torch has NaN for the two zeros
    ):
        pool = partial(jc.lp_pool, window=2, p=p)
        got = quick(lambda x, pool=pool: (pool(x), jax.vjp(pool, x)[1](jnp.ones((1, 4, 1)))[0]))(x)
        np.testing.assert_allclose(got[0][0, :, 0], y, rtol=1e-12)
        np.testing.assert_allclose(got[1][0, :, 0], dx, rtol=1e-12)


def test_mixed_pool():
    """A window over a corner of the image has zeros in its mean, but not in its maximum."""
    x, share = RNG.normal(size=(2, 5, 4, 2)) - 2, np.array([0.3, 1.5])
    expected = pooled(x, lambda e, c: share[c] * e.max() + (1 - share[c]) * e.sum() / 9, (3, 3), (2, 2), padding=1)
    y = quick(partial(jc.mixed_pool, window=3, stride=2, padding=1))(x, share)
    np.testing.assert_allclose(y, expected, rtol=1e-12)


def softmax_mean(entries, temperature):
    weights = np.exp((entries - entries.max()) / temperature)
    return np.sum(weights * entries) / np.sum(weights)


def test_softmax_pool():
    x, temperature = RNG.normal(size=(2, 5, 4, 2)), np.array([0.3, 2.0])
    expected = pooled(x, lambda entries, c: softmax_mean(entries, temperature[c]), (3, 3), (2, 2), padding=1)
    y = quick(partial(jc.softmax_pool, window=3, stride=2, padding=1))(x, temperature)
    np.testing.assert_allclose(y, expected, rtol=1e-12)


@pytest.mark.parametrize(("window", "stride"), [((9, 8), (9, 8)), ((9, 8), (2, 3)), ((13, 9), (1, 1))])
def test_softmax_pool_of_large_windows(window, stride):
    """The entries are in a loop; in the last case so are the windows that a place is in."""
    x, temperature = RNG.normal(size=(2, 15, 11, 1)), np.array([0.3])
    expected = pooled(x, lambda entries, c: softmax_mean(entries, temperature[c]), window, stride, padding=1)

    pool = partial(jc.softmax_pool, window=window, stride=stride, padding=1)
    y, backward = quick_vjp(pool, x, temperature)
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    dy = RNG.normal(size=expected.shape)
    _, derived_backward = quick_vjp(jc.derived(pool), x, temperature)
    for got, derived in zip(backward(dy), derived_backward(dy), strict=True):
        np.testing.assert_allclose(got, derived, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_softmax_pool_of_large_entries(dtype):
    """Entries of 1e4 that differ by T keep their weights; the gradients sum to 1, as y moves with x."""
    x = jnp.asarray(1e4 + 64 * RNG.integers(0, 3, size=(1, 8, 1)), dtype)
    x = x.at[0, 5, 0].set(-np.inf).at[0, 2, 0].set(jnp.finfo(dtype).min)
    entries = np.asarray(x, np.float64).reshape(2, 4)

    @quick
    def value_and_gradients(x, temperature):
        y, vjp = jax.vjp(lambda x, t: jc.softmax_pool(x, t, 4), x, temperature)
        return y, *vjp(jnp.ones_like(y))

    for temperature in (1e-5, 1e-2, 64.0, 1e5):
        t = jnp.asarray(temperature, dtype)
        y, dx, dt = (np.asarray(a, np.float64) for a in value_and_gradients(x, t))
        expected = [softmax_mean(row[row > -np.inf], float(t)) for row in entries]
        np.testing.assert_allclose(y[0, :, 0], expected, rtol=2 * float(jnp.finfo(dtype).eps))
        np.testing.assert_allclose(dx.reshape(2, 4).sum(axis=1), 1, rtol=0.02)
        assert not dx[0, 5, 0]
        assert np.isfinite(dx).all()
        assert np.isfinite(dt)


def test_softmax_pool_of_infinity_is_nan():
    x = jnp.array([1.0, np.inf, 2.0, 3.0]).reshape(1, 4, 1)
    y = quick(lambda x: jc.softmax_pool(x, jnp.array(1.0), 2))(x)[0, :, 0]
    assert np.isnan(y).tolist() == [True, False]


@pytest.mark.parametrize(("window", "stride", "low", "high"), [(3, 2, 1, 1), (2, 3, 0, 1), (4, 4, -1, 3)])
def test_the_windows_over_a_place(window, stride, low, high):
    """Each window comes up once at each of the places that it is over, and nothing else does."""
    geometry = window_arguments.checked_window("test", (9, 5), (window, 2), (stride, 1), ((low, high), (0, 0)))
    number = np.arange(1, 1 + math.prod(geometry.output)).reshape(1, *geometry.output, 1)
    maps = np.stack(quick(lambda y: list(maps_per_window(y, geometry, np.array(0))))(number))
    over = {place: [] for place in np.ndindex(9, 5)}
    for i, entries in oracles.windows((9, 5), (window, 2), (stride, 1), [(low, high), (0, 0)], (1, 1)):
        for _, place in entries:
            over[place].append(number[0, *i, 0])
    for place, expected in over.items():
        assert sorted(maps[:, 0, *place, 0]) == [0] * (len(maps) - len(expected)) + expected


def expectation(entries, c=0):
    w = np.maximum(entries, 0)
    return np.sum(w / np.sum(w) * entries) if np.any(w) else np.mean(entries)


def test_stochastic_pool_inference():
    x = RNG.normal(size=(2, 5, 4, 2)) - 0.5
    expected = pooled(x, expectation, (2, 3), (2, 2), padding=1)
    y = quick(partial(jc.stochastic_pool_inference, window=(2, 3), stride=2, padding=1))(x)
    np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_stochastic_pool_draws_each_entry_as_often_as_it_should():
    """Four windows: over the border, with a zero in it, of zeros and of negative entries."""
    draws, row = 20_000, np.array([1.0, 3, 2, 0, 5, 1, 0, 0, 0, 0, -1, -2, -3, -4])
    x = np.broadcast_to(row[:, None], (1, 14, draws))
    draw = jax.jit(lambda x: jc.stochastic_pool(jax.random.key(0, impl="rbg"), x, 4, padding=((2, 0),)))
    y = np.asarray(draw(jnp.asarray(x)))[0]
    quarters = dict.fromkeys([-1, -2, -3, -4], 1 / 4)
    for drawn, shares in zip(y, ({1: 1 / 4, 3: 3 / 4}, {2: 2 / 8, 5: 5 / 8, 1: 1 / 8}, {0: 1}, quarters), strict=True):
        values, counts = np.unique(drawn, return_counts=True)
        assert dict(zip(values, counts / draws, strict=True)) == pytest.approx(shares, abs=0.02)
    assert np.mean(y[1]) == pytest.approx(expectation(row[2:6]), abs=0.05)


@pytest.mark.parametrize("size", [(2, 3), (9, 8)])
def test_stochastic_pool_and_its_derivative_come_from_one_entry(size):
    """Also where a window has too many entries for the loop over them; infinities and NaN are drawn before all."""
    x, key = RNG.normal(size=(2, 9, 8, 3)), jax.random.key(2, impl="rbg")
    x[0, 0, 1, 0], x[0, 1, 1, 1] = np.inf, np.nan
    dy = RNG.normal(size=(2, 9 // size[0], 8 // size[1], 3))

    @quick
    def value_and_gradient(x, dy):
        y, vjp = jax.vjp(lambda x: jc.stochastic_pool(key, x, size), x)
        return y, vjp(dy)[0]

    y, dx = map(np.asarray, value_and_gradient(x, dy))
    assert (y[0, 0, 0, 0], dx[0, 0, 1, 0]) == (np.inf, dy[0, 0, 0, 0])
    assert np.isnan(y[0, 0, 0, 1])
    for i, entries in oracles.windows((9, 8), size, size, [(0, 0)] * 2, (1, 1)):
        for n, c in np.ndindex(2, 3):
            (place,) = [p for _, p in entries if dx[(n, *p, c)]]
            np.testing.assert_array_equal(x[(n, *place, c)], y[(n, *i, c)])
            assert dx[(n, *place, c)] == dy[(n, *i, c)]
    assert np.count_nonzero(dx) == y.size


def test_what_they_keep():
    x, a, key = jnp.ones((2, 12, 9, 4), jnp.float32), jnp.ones(4, jnp.float32), jax.random.key(0)
    outputs = 2 * 4 * 3 * 4
    for f, expected in (
        (lambda x: jc.lp_pool(x, 3, 2), 4 * (x.size + outputs)),
        (lambda x: jc.mixed_pool(x, a, 3), 4 * x.size + (1 + 4) * outputs + 4 * 4),
        (lambda x: jc.softmax_pool(x, a, 3), 4 * (x.size + 3 * outputs) + 4 * 4),
        (lambda x: jc.stochastic_pool(key, x, 3), outputs),
        (lambda x: jc.stochastic_pool_inference(x, 3), 4 * (x.size + 2 * outputs)),
    ):
        kept = jax.eval_shape(lambda x, f=f: jax.vjp(f, x)[1], x)
        assert sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept)) == expected
