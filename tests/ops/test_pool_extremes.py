"""Pools at the ends of what they take: dtypes without an infinity, powers out of range, options beyond the image."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import quick, quick_vjp
from jax import lax
from table import CASES

import jaxcnn as jc
from jaxcnn import derived

WITHOUT_INFINITY = [jnp.float8_e4m3fn, jnp.float8_e4m3fnuz, jnp.float8_e4m3b11fnuz, jnp.float8_e5m2fnuz]
KEY = jax.random.key(0, impl="rbg")


def line(*entries, dtype=None):
    """An image of one axis and one channel."""
    return jnp.asarray(np.array(entries, float).astype(dtype or float).reshape(1, -1, 1))


def entries(y):
    return np.asarray(y, np.float64)[0, :, 0]


@pytest.mark.parametrize("dtype", WITHOUT_INFINITY, ids=lambda dtype: dtype.__name__)
def test_maximum_of_a_dtype_without_infinity(dtype):
    lowest, nan = float(jnp.finfo(dtype).min), np.nan
    pool = partial(jc.max_pool, window=3, stride=1, padding=1, return_indices=True)
    y, indices = jc.max_pool(line(1, 2, dtype=dtype), 3, stride=1, padding=1, return_indices=True)
    np.testing.assert_array_equal(entries(y), [2, 2])
    np.testing.assert_array_equal(indices[0, :, 0], [1, 1])
    y, indices = pool(line(lowest, lowest, nan, 1, dtype=dtype))  # the padding is no entry, though as low
    np.testing.assert_array_equal(entries(y), [lowest, nan, nan, nan])
    np.testing.assert_array_equal(indices[0, :, 0], [0, 2, 2, 2])
    y, back = jax.vjp(lambda x: jc.max_pool(x, 2), line(1, 2, dtype=dtype))
    np.testing.assert_array_equal(entries(back(jnp.ones_like(y))[0]), [0, 1])
    soft = jc.softmax_pool(line(1, 1, dtype=dtype), jnp.ones((), dtype), 2)
    np.testing.assert_array_equal(entries(soft), [1])


def test_pools_of_float8_are_those_of_the_same_numbers_in_single_precision():
    """Where these, rounded, are finite: here all are. One case of each pool."""
    pools = {case.name: case for case in CASES if "pool" in case.name and case.name != "weighted_pool"}
    cases = list(pools.values())

    @quick
    def all_of(args):
        ys = [jax.vjp(case.f, *a) for case, a in zip(cases, args, strict=True)]
        return [(y, back(jnp.ones_like(y))) for y, back in ys]

    narrow = [case.args(jnp.float8_e4m3fn) for case in cases]
    single = jax.tree.map(lambda a: a.astype(jnp.float32), narrow)
    for got, expected in zip(*map(jax.tree.leaves, (all_of(narrow), all_of(single))), strict=True):
        assert got.dtype == jnp.float8_e4m3fn
        scale = np.max(np.abs(expected), initial=1e-3)
        np.testing.assert_allclose(np.asarray(got, np.float64), expected, rtol=0, atol=scale / 8)


@pytest.mark.parametrize("name", ["float8_e8m0fnu", "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"])
def test_dtypes_without_zero_or_nan_are_refused(name):
    x = np.ones((1, 4, 1)).astype(getattr(jnp, name))
    with pytest.raises(TypeError, match=f"max_pool: x must be of a dtype that has a 0 and a NaN, got {name}"):
        jc.max_pool(x, 2)


@pytest.mark.parametrize("size", [4, 70])
@pytest.mark.parametrize(("low", "dilation"), [(0, 1), (3, 1), (2, 2), (-1, 1)])
def test_the_only_window(size, low, dilation):
    """Ties, NaN and what nothing is larger than, against NumPy; the rest of the image has no gradient."""
    extent = dilation * (size - 1) + 1
    n = extent - low + (2 if low < 0 else 0)
    places = [p for p in (dilation * k - low for k in range(size)) if 0 <= p < n]
    rng = np.random.default_rng(size)
    x = rng.integers(0, 3, size=(5, n, 2)).astype(float)
    x[1], x[2, places[-2:]], x[3, places[0]] = -np.inf, np.nan, np.nan
    high = extent - n - low
    pool = partial(jc.max_pool, window=size, stride=size, padding=((low, high),), dilation=dilation)
    y, indices = pool(x, return_indices=True)
    expected = np.array(places)[x[:, places].argmax(axis=1)]
    np.testing.assert_array_equal(indices[:, 0], expected)
    np.testing.assert_array_equal(y[:, 0], np.take_along_axis(x, expected[:, None], axis=1)[:, 0])
    dx = jax.vjp(pool, jnp.asarray(x))[1](jnp.ones(y.shape))[0]
    np.testing.assert_array_equal(dx, np.arange(n)[:, None] == expected[:, None])


@pytest.mark.parametrize("size", [(64, 1), (1, 64), (63, 1, 1)], ids=str)
def test_gradient_of_a_long_window_of_at_most_64_entries(size):
    """Its sides have a sum of more than 64."""
    rng, window = np.random.default_rng(0), (1, *size, 1)
    x = rng.permutation(2 * math.prod(k + 3 for k in size)).astype(float).reshape(1, *(k + 3 for k in size), 2)

    def by_lax(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, window, (1,) * len(window), "VALID")

    y, back = quick_vjp(partial(jc.max_pool, window=size, stride=1), x)
    expected, expected_back = quick_vjp(by_lax, x)
    dy = rng.normal(size=y.shape)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(back(dy)[0], expected_back(dy)[0], rtol=1e-12)


@pytest.mark.parametrize(("p", "stride"), [(0.5, 1), (1.5, 3), (1.5, 2), (2, 1), (3, 3)])
def test_second_order_of_lp_pool(p, stride):
    rng = np.random.default_rng(3)
    x, v = 0.1 + rng.random(size=(2, 7, 6, 2)), rng.normal(size=(2, 7, 6, 2))
    pool = partial(jc.lp_pool, window=3, p=p, stride=stride)

    def product(f):
        return jax.jvp(jax.grad(lambda x: jnp.sum(jnp.sin(f(x)))), (x,), (v,))[1]

    np.testing.assert_allclose(quick(lambda: product(pool))(), quick(lambda: product(derived(pool)))(), rtol=1e-10)


def test_lp_pool_of_zeros():
    """A window of zeros has no slope for any p; beside a 1 the curvature of a 0 leaves that of the others as it is."""
    x = line(0, 0, 0, 1, 3, 4)
    for p, dx in ((0.5, [0, 0, np.inf, 1]), (1.5, [0, 0, 0, 1]), (2, [0, 0, 0, 1]), (1, [0, 0, 1, 1])):
        gradient = jax.jit(jax.grad(lambda x, p=p: jnp.sum(jc.lp_pool(x, 2, p))))
        np.testing.assert_allclose(entries(gradient(x))[:4], dx)
        products = jax.jvp(gradient, (x,), (line(1, 1, 0, 1, 0, 0),))[1]
        np.testing.assert_allclose(entries(products), 0, atol=1e-15)
    unused = jax.jit(jax.grad(lambda x: jc.lp_pool(x, 2, 0.5)[0, 2, 0]))(x)
    np.testing.assert_array_equal(entries(unused)[:4], 0)


def test_values_of_lp_pool_out_of_range():
    """Windows side by side and overlapping ones, with other windows at the other end of the dtype."""
    x = line(3e20, 4e20, 3e-25, 4e-25, 0, 0, 3, 4, dtype=np.float32)
    for stride, y, dx in (
        (2, [5e20, 5e-25, 0, 5], [0.6, 0.8, 0.6, 0.8, 0, 0, 0.6, 0.8]),
        (1, [5e20, 4e20, 5e-25, 4e-25, 0, 3, 5], [0.6, 1.8, 0.6, 1.8, 0, 0, 1.6, 0.8]),
    ):
        got, back = quick_vjp(partial(jc.lp_pool, window=2, p=2, stride=stride), x)
        np.testing.assert_allclose(entries(got), y, rtol=1e-6)
        np.testing.assert_allclose(entries(back(jnp.ones_like(got))[0]), dx, rtol=1e-6)
    large = line(1e30, 3e30, dtype=np.float32)
    np.testing.assert_allclose(entries(jc.stochastic_pool_inference(large, 2)), 2.5e30, rtol=1e-6)
    small = line(1e-35, 3e-35, dtype=np.float32)
    np.testing.assert_allclose(entries(jc.stochastic_pool_inference(small, 2)), 2.5e-35, rtol=1e-6)
    temperature = jnp.float32(1e30)  # of [0, T] the mean has dT = -Σ p t (t - rest) / T², as for T = 1
    slope = [
        jax.grad(lambda t, x=x: jc.softmax_pool(x, t, 2)[0, 0, 0])(t)
        for t, x in ((temperature, line(0, 1e30, dtype=np.float32)), (jnp.float32(1), line(0, 1, dtype=np.float32)))
    ]
    np.testing.assert_allclose(*slope, rtol=1e-6)


def norms_of_windows(x, p, stride, v):
    """Of windows of 3: y, and of their sum the gradient, its derivative along v, and the size of what is summed."""
    places = np.arange(0, x.size - 2, stride)[:, None] + np.arange(3)
    w, v, p = x[places].astype(np.longdouble), v[places].astype(np.longdouble), np.longdouble(p)
    m = w.max(axis=1, keepdims=True) + (w.max(axis=1, keepdims=True) == 0)
    y = m * ((w / m) ** p).sum(axis=1, keepdims=True) ** (1 / p)
    divided = y + (y == 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(y == 0, 0, (w / divided) ** (p - 1))
        own = np.where(w == 0, 0 if p > 1 and p != 2 else (p - 1) / divided, (p - 1) * share / w)
    across = (p - 1) * share * np.sum(np.where(w == 0, 0, share) * v, axis=1, keepdims=True) / divided
    own, across = (np.where(y == 0, 0, a) for a in (own, across))
    sums = []
    for a in (share, own * v - across, abs(own) + abs(across)):
        total = np.zeros(x.size, np.longdouble)
        np.add.at(total, places, a)
        sums.append(total)
    return y[:, 0], *sums


@pytest.mark.parametrize(
    ("p", "dtype"), [*((p, np.float32) for p in (0.1, 0.5, 1.5, 2, 3, 6)), (0.5, np.float16), (2, np.float16)]
)
def test_lp_pool_of_entries_far_apart(p, dtype):
    """From the smallest to the largest number of the dtype, with zeros; second order where the gradient is finite."""
    info, rng = np.finfo(dtype), np.random.default_rng(0)
    low, high = np.log([float(info.tiny), float(info.max)])
    x = np.exp(rng.uniform(low, high - 3, size=360)).astype(dtype)
    x[:60] = np.exp(rng.uniform(high - 1, high, size=60))  # y is beyond the dtype, the gradient is not
    x[60:90:4], x[90:93] = 0, 0
    v = rng.uniform(0.5, 1.5, size=x.size).astype(dtype)
    for stride in (3, 1):
        pool = partial(jc.lp_pool, window=3, p=p, stride=stride)

        @quick
        def all_of(x, v, pool=pool):
            def gradient(x):
                y, back = jax.vjp(pool, x)
                return back(jnp.ones_like(y))[0]

            return pool(x), *jax.jvp(gradient, (x,), (v,))

        got = [np.asarray(a, np.longdouble)[0, :, 0] for a in all_of(line(*x, dtype=dtype), line(*v, dtype=dtype))]
        y, dx, dv, size = norms_of_windows(x, p, stride, v)
        with np.errstate(over="ignore"):
            np.testing.assert_allclose(got[0], y.astype(dtype), rtol=20 * info.eps)
            np.testing.assert_allclose(got[1], dx.astype(dtype), rtol=40 * info.eps, atol=8 * info.tiny)
        if dtype is np.float32 and p >= 0.5:
            is_finite = (dx < info.max) & (size < info.max / 8)
            is_finite[:60] = False
            error = abs(got[2] - dv)
            np.testing.assert_array_less(error[is_finite], (200 * info.eps * size + 200 * info.tiny)[is_finite])


POOLS = {
    "max_pool": jc.max_pool,
    "mean_pool": jc.mean_pool,
    "lp_pool": lambda x, window, **options: jc.lp_pool(jnp.abs(x), window, 2, **options),
    "mixed_pool": lambda x, *args, **options: jc.mixed_pool(x, jnp.array(0.3), *args, **options),
    "softmax_pool": lambda x, *args, **options: jc.softmax_pool(x, jnp.array(0.3), *args, **options),
    "stochastic_pool": partial(jc.stochastic_pool, KEY),
    "stochastic_pool_inference": jc.stochastic_pool_inference,
    "weighted_pool": lambda x, window, **options: jc.weighted_pool(x, jnp.array([0.2, 0.5]), **options),
    "conv": lambda x, window, **options: jc.conv(x, jnp.ones((2, 1, 1)), padding="VALID", **options),
    "conv_general_dilated": lambda x, _, stride: jc.conv_general_dilated(
        x, jnp.ones((2, 1, 1)), (stride,), "VALID", dimension_numbers=("NHC", "HIO", "NHC")
    ),
    "downsample": lambda x, _, stride: jc.downsample(x, stride),
}


@pytest.mark.parametrize("name", POOLS)
def test_stride_beyond_the_image(name):
    x, pool = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 1))), POOLS[name]
    y, back = quick_vjp(lambda x: pool(x, 2, stride=5), x)
    for stride in (2**33, 2**64) if name != "conv_general_dilated" else (2**33,):
        got, far_back = quick_vjp(lambda x, stride=stride: pool(x, 2, stride=stride), x)
        np.testing.assert_array_equal(got, y)
        np.testing.assert_array_equal(far_back(y)[0], back(y)[0])


def test_other_options_beyond_the_image():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 1)))
    w = jnp.ones((1, 1, 1))
    causal = jc.max_pool(x, 2**23, stride=1, padding="CAUSAL")
    np.testing.assert_array_equal(causal, np.maximum.accumulate(x, axis=1))
    np.testing.assert_array_equal(jc.max_pool(x, 2**40, ceil_mode=True)[:, 0], x.max(axis=1))
    np.testing.assert_allclose(jc.mean_pool(x, 2**20, padding="SAME")[:, 0], x.sum(axis=1) / 2**20)
    np.testing.assert_array_equal(jc.conv(x, w, dilation=2**64), x)
    np.testing.assert_array_equal(jc.conv_transpose(x[:, :1], w, stride=2**64), x[:, :1])
    for f, message in (
        (lambda v: jc.max_pool(x, 2, padding=v), "max_pool: padding must be fewer than 2"),
        (lambda v: jc.mean_pool(x, v, padding="SAME"), "mean_pool: window must be such that padding .* fewer than 2"),
        (lambda v: jc.conv(x, w, padding=v), "conv: padding must be fewer than 2"),
        (lambda v: jc.conv(x, jnp.ones((2, 1, 1)), dilation=v), "conv: dilation must be such that padding"),
        (lambda v: jc.pad(x, v), "pad: width must be fewer than 2"),
        (lambda v: jc.conv_transpose(x, w, stride=v), "conv_transpose: stride must be for a result of fewer"),
        (lambda v: jc.upsample(x, v), "upsample: factor must be for a result of fewer"),
        (lambda v: jc.max_unpool(x, jnp.zeros(x.shape, int), v), "max_unpool: stride must be for a result of fewer"),
        (lambda v: jc.adaptive_max_pool(x, (v,)), "adaptive_max_pool: shape must be .* below 2"),
        (lambda v: jc.local_response_norm(x, size=v), "local_response_norm: size must be below"),
    ):
        for v in (2**62, 2**64):
            with pytest.raises(ValueError, match=message):
                f(v)


@pytest.mark.parametrize("shape", [(2**16, 2**15), (2**31,)])
def test_places_of_large_images(shape):
    """From types alone: such an image takes 8 GB."""
    x, zeros = jax.ShapeDtypeStruct((1, *shape, 1), jnp.float32), jnp.zeros((1, *(2 for _ in shape), 1), jnp.float32)
    calls = [
        partial(jc.max_pool, window=2, return_indices=True),
        partial(jc.max_pool, window=9, return_indices=True),
        partial(jc.adaptive_max_pool, shape=(2,) * len(shape), return_indices=True),
        partial(jc.adaptive_max_pool, shape=(3,) * len(shape), return_indices=True),
    ]
    for f in calls:
        assert jax.eval_shape(f, x)[1].dtype == jnp.int64
    unpooled = partial(jc.max_unpool, window=2, shape=shape)
    jax.eval_shape(unpooled, zeros, zeros.astype(jnp.int64))
    with jax.enable_x64(False):
        names = ["max_pool", "max_pool", "adaptive_max_pool", "adaptive_max_pool", "global_max_pool"]
        calls.append(lambda x: jax.grad(lambda x: jnp.sum(jc.global_max_pool(x)))(x))
        for f, name in zip(calls, names, strict=True):
            with pytest.raises(ValueError, match=f"^{name}: x must be of fewer than 2"):
                jax.eval_shape(f, x)
        with pytest.raises(ValueError, match="max_unpool: shape must be of fewer than 2"):
            jax.eval_shape(unpooled, zeros, zeros.astype(jnp.int32))
        assert jax.eval_shape(jc.global_max_pool, x).shape == (1, 1)


def test_masks_are_those_of_single_precision():
    """Whether or not there is double precision."""
    x = jnp.ones((2, 8, 3), jnp.float32)
    for f in (jc.dropout, jc.spatial_dropout, jc.drop_path, partial(jc.drop_block, block=2)):
        y = f(KEY, x, rate=0.4)
        with jax.enable_x64(False):
            np.testing.assert_array_equal(f(KEY, x, rate=0.4), y)
