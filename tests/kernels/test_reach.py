"""What is not finite reaches the places that depend on it, and no other, forward and backward, under jit and outside.

Which places these are is read from the Jacobian matrix at finite numbers.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import quick

import jaxcnn as jc

KEY = jax.random.key(3, impl="rbg")


def _random_settings():
    """Random options of every op that leaves some entries out, with the shape of its images."""
    rng = np.random.default_rng(16)

    def draw(low, high):
        return tuple(map(int, rng.integers(low, high + 1, 2)))

    def pairs(low, high):
        return tuple(zip(draw(low, high), draw(low, high), strict=True))

    image, large = draw(4, 6), draw(5, 17)
    regions = draw(1, 9)
    yield partial(jc.adaptive_mean_pool, shape=regions), image
    for method in ("nearest", "linear"):
        yield partial(jc.resize, shape=large, method=method), image
        yield partial(jc.resize, shape=draw(1, 3), method=method), image
    window, stride, padding = draw(1, 4), draw(1, 3), pairs(-1, 1)
    yield partial(jc.mean_pool, window=draw(2, 3), stride=stride, padding=pairs(0, 1)), image
    yield partial(jc.mean_pool, window=2, stride=3, ceil_mode=True, count_include_pad=False), image
    yield (
        partial(jc.mean_pool, window=window, stride=stride, padding=padding, divisor=3),
        tuple(n + 4 for n in image),
    )
    for mode in ("zeros", "circular", "reflect", "replicate"):
        yield partial(jc.pad, width=pairs(-1, 2), mode=mode), image
    yield partial(jc.upsample, factor=stride), image
    yield partial(jc.downsample, factor=stride), image
    yield partial(jc.resize, shape=90, method="linear"), (3,)
    yield partial(jc.resize, shape=90), (4,)
    yield partial(jc.adaptive_mean_pool, shape=3), (64,)
    yield partial(jc.adaptive_mean_pool, shape=64), (3,)
    yield jc.global_mean_pool, (3, 4)
    yield partial(jc.mean_pool, window=(9, 8), stride=(2, 1), padding="SAME"), (6, 5)
    yield partial(jc.dropout, KEY, rate=0.4), (5,)
    yield partial(jc.spatial_dropout, KEY, rate=0.4), (2, 3)
    yield partial(jc.drop_path, KEY, rate=0.4), (2, 3)
    yield partial(jc.drop_block, KEY, rate=0.4, block=2), (5, 4)


NOT_LINEAR = [  # the result of an infinite entry may be finite
    (partial(jc.local_response_norm, size=2), (3,)),
    (partial(jc.lp_pool, window=3, p=2, stride=2, ceil_mode=True), (8,)),
    (lambda x: jc.softmax_pool(x, jnp.ones(3, x.dtype), 3, stride=2, padding="SAME"), (7,)),
    (partial(jc.stochastic_pool_inference, window=3, stride=2, padding="SAME"), (7,)),
]
ONLY_BACKWARD = [  # where a NaN is the maximum of its window, or is what is drawn
    (partial(jc.max_pool, window=3, stride=2, padding="SAME"), (6, 5)),
    (partial(jc.max_pool, window=9, stride=2, padding="SAME"), (7, 5)),
    (partial(jc.adaptive_max_pool, shape=(3, 2)), (4, 5)),
    (jc.global_max_pool, (4, 5)),
    (lambda x: jc.mixed_pool(x, jnp.asarray(0.3, x.dtype), 3, stride=2, padding="SAME"), (7,)),
    (partial(jc.stochastic_pool, KEY, window=3, stride=2, padding="SAME"), (7,)),
]
SETTINGS = list(_random_settings())
EVERYTHING = [np.nan, np.inf, -np.inf]


def _matrices(f, image, values):
    """Where y depends on x, and for each entry of x or dy that is one of the values where y or dx is not finite."""
    shape = (2, *image, 3)
    x = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, shape))

    def flat(x):
        return jnp.ravel(f(x.reshape(shape)))

    def column(place, value):
        return flat(x.ravel().at[place].set(value))

    def row(i, value):
        y, backward = jax.vjp(flat, x.ravel())
        return backward(jnp.ones_like(y).at[i].set(value))[0]

    outputs = jax.eval_shape(flat, x).size
    depends = jax.vmap(lambda i: jax.vjp(flat, x.ravel())[1](jnp.zeros(outputs).at[i].set(1.0))[0])(np.arange(outputs))
    columns = jax.vmap(column)(np.arange(x.size), np.resize(values or [0.0], x.size)).T
    rows = jax.vmap(row)(np.arange(outputs), np.resize(EVERYTHING, outputs))
    return depends != 0, ~jnp.isfinite(columns), ~jnp.isfinite(rows)


def _assert_reach(f, image, values, run):
    depends, columns, rows = run(partial(_matrices, f, image, values))()
    np.testing.assert_array_equal(rows, depends)
    np.testing.assert_array_equal(columns, depends if values else np.zeros_like(depends))


ALL = [
    *((*setting, EVERYTHING) for setting in SETTINGS),
    *((*setting, [np.nan]) for setting in NOT_LINEAR),
    *((*setting, []) for setting in ONLY_BACKWARD),
]


NAN, INF = np.nan, np.inf
BY_HAND = [  # f, x, f(x), dy, dx
    (partial(jc.adaptive_mean_pool, shape=3), [NAN, 1, 2], [NAN, 1, 2], [INF, 1, NAN], [INF, 1, NAN]),
    (partial(jc.adaptive_mean_pool, shape=2), [NAN, 1, 3], [NAN, 2], [1, INF], [0.5, INF, INF]),
    (
        partial(jc.resize, shape=6, method="linear"),
        [NAN, 1, 2],
        [NAN, NAN, NAN, 1.25, 1.75, 2],
        [0] * 5 + [NAN],
        [0, 0, NAN],
    ),
    (partial(jc.resize, shape=7), [INF, 1, NAN], [INF, INF, INF, 1, 1, NAN, NAN], [INF] + [0] * 6, [INF, 0, 0]),
    (partial(jc.pad, width=1, mode="replicate"), [NAN, 1, 2], [NAN, NAN, 1, 2, 2], [0, 0, 0, 0, INF], [0, 0, INF]),
    (partial(jc.mean_pool, window=2, stride=1), [NAN, 1, 3], [NAN, 2], [0, NAN], [0, NAN, NAN]),
]


@pytest.mark.parametrize("run", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("n", range(len(BY_HAND)))
def test_by_hand(n, run):
    f, x, y, dy, dx = BY_HAND[n]
    x, y, dy, dx = (np.reshape(np.asarray(a, float), (1, -1, 1)) for a in (x, y, dy, dx))
    np.testing.assert_array_equal(run(f)(x), y)
    np.testing.assert_array_equal(run(lambda x, dy: jax.vjp(f, x)[1](dy)[0])(x, dy), dx)


def test_long_signals_take_memory_that_grows_with_them():
    """A matrix of 48,000 by 16,000 would take 6 GB."""
    x = jnp.ones((1, 48_000, 1))
    for f in (partial(jc.adaptive_mean_pool, shape=16_001), partial(jc.resize, shape=16_001, method="linear")):
        compiled = jax.jit(jax.value_and_grad(lambda x, f=f: jnp.sum(f(x)))).lower(x).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < 100 * x.nbytes
        np.testing.assert_allclose(compiled(x)[0], 16_001, rtol=1e-9)


@pytest.mark.parametrize("n", range(len(ALL)))
def test_under_jit(n):
    _assert_reach(*ALL[n], jax.jit)


def _convolutions():
    """Random convolutions and transposed ones, of few and of many channels, with enough places for all ways."""
    rng = np.random.default_rng(4)
    yield jc.conv, (1, 48, 46, 1), (3, 3, 1, 8)
    yield partial(jc.conv_transpose, stride=2), (2, 14, 30, 3), (3, 3, 12, 3)
    for _ in range(22):
        rank = int(rng.choice([1, 2, 2, 3]))
        side = {1: 999, 2: 30, 3: 9}[rank]
        image, size, stride = rng.integers(side - 2, side + 3, rank), rng.integers(1, 6, rank), rng.integers(1, 4, rank)
        channels, filters = (int(rng.choice([1, 2, 3, 4, 8, 12, 16, 24])) for _ in range(2))
        groups = int(rng.choice([g for g in (1, 1, 2, channels) if channels % g == 0 and filters % g == 0]))
        options = {"stride": stride, "groups": groups, "dilation": rng.integers(1, 3, rank)}
        if rng.random() < 0.5:
            yield partial(jc.conv_transpose, **options), (2, *image, channels), (*size, filters // groups, channels)
        else:
            yield partial(jc.conv, **options), (2, *image, channels), (*size, channels // groups, filters)


@pytest.mark.parametrize("n", range(24))
def test_convolutions(n):
    """A NaN in x reaches the places that see it, one in dz the entries of the image that the place sees.

    Where it has a part in an entry of the filter gradient, that is not finite, and other channels' entries are.
    """
    f, x_shape, w_shape = list(_convolutions())[n]
    rng = np.random.default_rng(n)
    x, w = (rng.uniform(0.5, 1.5, shape).astype(np.float32) for shape in (x_shape, w_shape))
    run = quick(lambda x, dz: (f(x, w), *jax.vjp(f, x, w)[1](dz)))
    dz = np.ones(jax.eval_shape(f, x, w).shape, np.float32)
    for value in (np.nan, np.inf):
        (place, *_), (at, *_) = rng.permutation(x.size), rng.permutation(dz.size)
        one, other = np.zeros(x.size, np.float32), np.zeros(dz.size, np.float32)
        one[place], other[at] = 1, 1
        one, other = one.reshape(x.shape), other.reshape(dz.shape)
        z, _, dw = run(np.where(one, value, x), dz)
        np.testing.assert_array_equal(~np.isfinite(z), np.asarray(run(one, dz)[0]) > 0)
        seen = np.asarray(run(one, dz)[2]) > 0
        _assert_within_its_channels(~np.isfinite(dw), seen)
        _, dx, dw = run(x, np.where(other, value, 0 * dz))
        _, dx_seen, dw_seen = run(x, other)
        np.testing.assert_array_equal(~np.isfinite(dx), np.asarray(dx_seen) > 0)
        _assert_within_its_channels(~np.isfinite(dw), np.asarray(dw_seen) > 0)


def _assert_within_its_channels(got, seen):
    assert np.all(got >= seen)
    entries = tuple(range(seen.ndim - 2))
    assert np.all(got <= np.any(seen, axis=entries))


def test_convolutions_outside_jit():
    x = np.ones((1, 48, 46, 1), np.float32)
    x[0, 20, 20, 0] = np.nan
    for filters in (1, 4, 8, 24):
        z = jc.conv(x, np.ones((3, 3, 1, filters), np.float32))
        assert np.sum(~np.isfinite(z)) == 9 * filters
