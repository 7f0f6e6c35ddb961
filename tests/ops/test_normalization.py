"""The norms against NumPy in float64, at the edges of what they are given, and as the same function in other words."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import quick, quick_vjp

import jaxcnn as jc
from jaxcnn import check, derived, nn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 5, 6)) + 3
GAMMA, BETA = RNG.normal(size=6), RNG.normal(size=6)


def standardised(x, axes, eps):
    x = np.asarray(x, np.float64)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


NORMS = {
    "batch": lambda x, gamma, beta, eps=1e-5: jc.batch_norm(x, gamma, beta, eps=eps)[0],
    "layer": jc.layer_norm,
    "group": lambda x, gamma, beta, eps=1e-5: jc.group_norm(x, gamma, beta, groups=2, eps=eps),
    "instance": jc.instance_norm,
}
every_norm = pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)


def test_values_are_those_of_numpy():
    eps = 0.1
    expected = {
        "batch": standardised(X, (0, 1, 2), eps),
        "layer": standardised(X, (3,), eps),
        "group": standardised(X.reshape(2, 3, 5, 2, 3), (1, 2, 4), eps).reshape(X.shape),
        "instance": standardised(X, (1, 2), eps),
    }
    for name, norm in NORMS.items():
        y = quick(partial(norm, eps=eps))(X, GAMMA, BETA)
        np.testing.assert_allclose(y, GAMMA * expected[name] + BETA, rtol=1e-12, atol=1e-12, err_msg=name)
    root = np.sqrt(np.mean(X**2, -1, keepdims=True) + eps)
    np.testing.assert_allclose(jc.rms_norm(X, GAMMA, eps=eps), GAMMA * X / root, rtol=1e-12)


def test_local_response_norm_is_its_sum():
    for size in (1, 2, 5, 6, 9):
        d = np.full(X.shape, 2.0)
        for i in range(6):
            for j in range(max(i - size // 2, 0), min(i + (size - 1) // 2, 5) + 1):
                d[..., i] += 0.3 / size * X[..., j] ** 2
        y = quick(partial(jc.local_response_norm, size=size, alpha=0.3, beta=0.6, k=2.0))(X)
        np.testing.assert_allclose(y, X / d**0.6, rtol=1e-12)


def test_some_norms_are_others():
    flat = X.reshape(2, -1, 6)
    one_image, one, zero = X[:1], np.ones(6), np.zeros(6)
    ones, zeros = np.ones((3, 5, 6)), np.zeros((3, 5, 6))

    def pairs():
        return [
            (jc.group_norm(X, GAMMA, BETA, groups=6), jc.instance_norm(X, GAMMA, BETA)),
            (jc.group_norm(X, one, zero, groups=1), jc.layer_norm(X, ones, zeros, axes=(1, 2, 3))),
            (jc.instance_norm(one_image, GAMMA, BETA), jc.batch_norm(one_image, GAMMA, BETA)[0]),
            (jc.instance_norm(flat, GAMMA, BETA), jc.instance_norm(X, GAMMA, BETA).reshape(flat.shape)),
            (jc.layer_norm(X, GAMMA, BETA, axes=3), jc.layer_norm(X, GAMMA, BETA)),
        ]

    for a, b in quick(pairs)():
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@every_norm
def test_without_variance_y_is_beta_and_gradients_are_finite(norm):
    x = jnp.full((2, 3, 5, 6), 1000.25)
    y, vjp = quick_vjp(norm, x, GAMMA, BETA)
    np.testing.assert_array_equal(y, np.broadcast_to(BETA, x.shape))
    assert all(np.isfinite(g).all() for g in vjp(jnp.asarray(X)))
    assert check.gradients(norm, x, GAMMA, BETA)


@every_norm
def test_a_batch_of_one(norm):
    assert check.gradients(norm, X[:1], GAMMA, BETA)


@every_norm
def test_variance_keeps_its_digits_where_the_mean_is_large(norm):
    """In float32, with a mean 10,000 times the standard deviation: E[x²] - mean² would have none left."""
    x = jnp.asarray(np.round(RNG.normal(size=(4, 8, 8, 6)) * 64) / 64 + 1e4, jnp.float32)
    one, zero = jnp.ones(6, jnp.float32), jnp.zeros(6, jnp.float32)
    expected = quick(norm)(*(np.asarray(a, np.float64) for a in (x, one, zero)))
    np.testing.assert_allclose(quick(norm)(x, one, zero), expected, atol=5e-3)


@every_norm
def test_half_precision_with_parameters_in_float32(norm):
    x, gamma, beta = jnp.asarray(X, jnp.bfloat16), jnp.asarray(GAMMA, jnp.float32), jnp.asarray(BETA, jnp.float32)
    y, vjp = quick_vjp(norm, x, gamma, beta)
    assert y.dtype == jnp.bfloat16
    assert [g.dtype for g in vjp(y)] == [jnp.bfloat16, jnp.float32, jnp.float32]
    expected = quick(norm)(*(np.asarray(a, np.float64) for a in (x, gamma, beta)))
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=2**-8, atol=1e-5)


OTHER = np.random.default_rng(1)
FAR = [
    (jnp.float32, 1e19, 1e-5),
    (jnp.float32, 1e34, 1e-5),
    (jnp.float32, 1e-20, 0.0),
    (jnp.float32, 1e-30, 1e-12),
    (jnp.bfloat16, 1e19, 1e-5),
    (jnp.float64, 1e200, 1e-5),
    (jnp.float64, 1e-150, 0.0),
]


@pytest.mark.parametrize(("dtype", "scale", "eps"), FAR)
def test_squares_beyond_the_dtype(dtype, scale, eps):
    """As x of the size of 1, whose gradient is `scale` times as large, with eps for the squares of that size."""
    dy = OTHER.normal(size=X.shape)
    others = {"rms": lambda x, gamma, beta, eps: jc.rms_norm(x, gamma, eps=eps)}
    if eps == 0:
        others["weight"] = lambda x, gamma, beta, eps: jc.weight_norm(x, gamma)
        others["spectral"] = lambda x, gamma, beta, eps: jc.spectral_norm(x, gamma, iterations=2)[0]
    norms = {**NORMS, **others}

    def results(eps, x, gamma, beta, dy):
        return {
            name: (f(x, gamma, beta, eps=eps), *jax.vjp(lambda x, f=f: f(x, gamma, beta, eps=eps), x)[1](dy))
            for name, f in norms.items()
        }

    arrays = [jnp.asarray(a, dtype) for a in (X, GAMMA, BETA, dy)]
    x, *rest = (np.asarray(a, np.float64) for a in arrays)
    expected = quick(partial(results, eps / scale / scale))(x, *rest)
    for name, (y, dx) in quick(partial(results, eps))(arrays[0] * jnp.asarray(scale, dtype), *arrays[1:]).items():
        for got, of_one in ((y, expected[name][0]), (np.asarray(dx, np.longdouble) * scale, expected[name][1])):
            error = np.max(np.abs(np.asarray(got, np.longdouble) - np.asarray(of_one)))
            assert error < 40 * jnp.finfo(dtype).eps * np.max(np.abs(of_one)), name


@pytest.mark.parametrize("shape", [(2, 3, 5, 1), (6,), (2, 1, 1, 6)])
def test_what_is_left_out_is_zero_and_nothing_else(shape):
    """Against sums over what is left; NaN in the rest of x and of dy."""
    where = OTHER.random(size=shape) < 0.6
    whole = np.broadcast_to(where, X.shape)

    def loop(x, axes):
        if axes == "groups":
            return loop(x.reshape(2, 3, 5, 2, 3), (1, 2, 4)).reshape(X.shape)
        kept = whole.reshape(x.shape)
        count = np.maximum(kept.sum(axes, keepdims=True), 1)
        difference = np.where(kept, x - np.where(kept, x, 0).sum(axes, keepdims=True) / count, 0)
        return difference / np.sqrt((difference**2).sum(axes, keepdims=True) / count + 1e-5)

    axes = {"batch": (0, 1, 2), "layer": (3,), "group": "groups", "instance": (1, 2)}
    norms = {
        "batch": lambda x, gamma, beta: jc.batch_norm(x, gamma, beta, where=where)[0],
        "layer": partial(jc.layer_norm, where=where),
        "group": partial(jc.group_norm, groups=2, where=where),
        "instance": partial(jc.instance_norm, where=where),
    }
    poisoned, dy = np.where(whole, X, np.nan), np.where(whole, OTHER.normal(size=X.shape), np.nan)
    for name, norm in norms.items():
        expected = np.where(whole, GAMMA * loop(X, axes[name]) + BETA, 0)
        y, vjp = quick_vjp(norm, poisoned, GAMMA, BETA)
        np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-12, err_msg=name)
        gradients = quick(lambda dy, norm=norm: jax.vjp(norm, X, GAMMA, BETA)[1](dy))(np.where(whole, dy, 0))
        for got, right in zip(vjp(jnp.asarray(dy)), gradients, strict=True):
            np.testing.assert_allclose(got, right, rtol=1e-11, atol=1e-12, err_msg=name)
        assert not np.asarray(vjp(jnp.asarray(dy))[0])[~whole].any()


def test_statistics_along_the_axis_of_a_vmap():
    """A model that is written for one example: the gradient is that of the whole batch, wherever `grad` stands."""
    dy = jnp.asarray(OTHER.normal(size=X.shape))

    def risk(x, gamma, beta, around=lambda f: f, inside=lambda f: f):
        one = inside(lambda x, gamma, beta: jc.batch_norm(x, gamma, beta, axis_name="examples")[0])
        return jnp.sum(dy * around(jax.vmap(one, (0, None, None), axis_name="examples"))(x, gamma, beta) ** 2)

    def of_batch(x, gamma, beta):
        return jnp.sum(dy * derived(lambda *args: jc.batch_norm(*args)[0])(x, gamma, beta) ** 2)

    def scanned(f):
        return lambda *args: jax.lax.scan(lambda carry, _: (carry, f(*args)), 0, None, length=1)[1][0]

    def all_of(args):
        gradient = jax.grad(risk, (0, 1, 2))
        ways = [{}, {"around": jax.jit}, {"inside": jax.jit}, {"around": jax.checkpoint}, {"inside": jax.checkpoint}]
        gradients = [gradient(*args, **way) for way in [*ways, {"inside": scanned}]]
        return gradients, jax.grad(risk, 1)(*args), jax.jvp(gradient, args, args)[1]

    def expected(args):
        gradient = jax.grad(of_batch, (0, 1, 2))
        return gradient(*args), jax.jvp(gradient, args, args)[1]

    args = (jnp.asarray(X), jnp.asarray(GAMMA), jnp.asarray(BETA))
    gradients, of_gamma, second = quick(all_of)(args)
    first, expected_second = quick(expected)(args)
    for got in [*gradients, (first[0], of_gamma, first[2])]:
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-10), tuple(got), first)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), second, expected_second)
    np.testing.assert_allclose(jax.grad(risk)(*args), first[0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("norm", ["batch", "layer", "rms"])
def test_second_order_of_large_entries(norm):
    """A norm does not change with the scale of x: nor do derivatives that are multiplied by it."""
    b = np.random.default_rng(0).normal(size=(2, 4, 4, 4))
    one, zero = np.ones(4), np.zeros(4)

    def product(b, scale, dtype):
        gamma, beta, c, x, v = (jnp.asarray(a, dtype) for a in (one, zero, b, scale * b, scale * b[::-1]))

        def f(x):
            if norm == "rms":
                return jc.rms_norm(x, gamma)
            y = getattr(jc, f"{norm}_norm")(x, gamma, beta)
            return y[0] if norm == "batch" else y

        risk = jax.grad(lambda x: jnp.sum(f(x) * c))
        return jax.grad(lambda x: jnp.vdot(risk(x), v))(x).astype(float) * scale

    got, expected = (
        quick(lambda b, dtype=dtype: [product(b, s, dtype) for s in (1e12, 1e15, 3e18, 1e20, 1e30)])(b)
        for dtype in (jnp.float32, jnp.float64)
    )
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.max(np.abs(b)))


def test_statistics_along_the_axes_of_two_vmaps():
    one, zero = jnp.asarray(GAMMA), jnp.asarray(BETA)
    pairs = jnp.asarray(OTHER.normal(size=(2, 3, 4, len(GAMMA))))
    dy = jnp.asarray(OTHER.normal(size=pairs.shape))

    def normalised(x):
        return jc.batch_norm(x[None], one, zero, axis_name=("outer", "inner"))[0][0]

    def risk(x):
        return jnp.sum(dy * jax.vmap(jax.vmap(normalised, axis_name="inner"), axis_name="outer")(x))

    def of_batch(x):
        return jnp.sum(dy * jc.batch_norm(x.reshape(6, *x.shape[2:]), one, zero)[0].reshape(x.shape))

    expected = jax.grad(of_batch)(pairs)
    for gradient in (jax.grad(risk), jax.jit(jax.grad(risk))):
        np.testing.assert_allclose(gradient(pairs), expected, rtol=1e-9, atol=1e-10)


def test_running_statistics_do_not_stall():
    """In bfloat16, 1 + 0.001 is 1; a state that was saved so becomes float32."""
    layer = nn.batch_norm(momentum=0.001)
    params, state = jax.tree.map(lambda a: a.astype(jnp.bfloat16), layer.init(jax.random.key(0), (4, 1)))
    x = jnp.asarray([[0.0], [2], [0], [2]], jnp.bfloat16)
    for _ in range(3):
        _, state = layer.apply(params, state, x, train=True)
    assert {a.dtype for a in state.values()} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(state["mean"], 1 - 0.999**3, rtol=1e-5)


def test_entries_of_a_quarter_of_the_largest_number():
    """Of both signs, in float64; of `spectral_norm` up to the largest number itself."""
    rng, largest = np.random.default_rng(0), float(np.finfo(np.float32).max)
    signs, dy = rng.choice([-1.0, 1.0], size=(4, 6, 5)), rng.normal(size=(4, 6, 5)) * 1e30
    x, ones, zeros = signs * rng.uniform(0.9, 1, size=signs.shape) * largest / 4, np.ones(5), np.zeros(5)

    def gradient(x, axes, centred):
        mean = (lambda a: a.mean(axes, keepdims=True)) if centred else lambda a: 0
        r = 1 / np.sqrt(np.square(x - mean(x)).mean(axes, keepdims=True))
        y = (x - mean(x)) * r
        return y, r * (dy - mean(dy) - y * (dy * y).mean(axes, keepdims=True))

    cases = [
        (lambda x, *args: jc.batch_norm(x, *args)[0], (0, 1), True, (ones, zeros)),
        (jc.layer_norm, 2, True, (ones, zeros)),
        (jc.rms_norm, 2, False, (ones,)),
        (jc.weight_norm, (0, 1), False, (24**0.5 * ones,)),
    ]
    for f, axes, centred, args in cases:

        @quick
        def value_and_gradient(x, dy, f=f, args=args):
            y, back = jax.vjp(lambda x: f(x, *map(single, args)), x)
            return y, *back(dy)

        for got, expected in zip(value_and_gradient(*map(single, (x, dy))), gradient(x, axes, centred), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6 * abs(expected).max())
    w = signs[0] * largest
    _, s, v = np.linalg.svd(signs[0])
    y = quick(lambda w: jc.spectral_norm(w, single(v[0]), iterations=1)[0])(single(w))
    np.testing.assert_allclose(y, signs[0] / s[0], rtol=1e-5)


def single(a):
    return jnp.asarray(a, jnp.float32)


def test_local_response_of_squares_beyond_the_dtype():
    """y = x d^-3/4 with d = x²/2 + x'²/2 of the channel before; the gradient is small there, and that of 1 its own."""
    x = jnp.array([1e20, 1, 2, 3e30], jnp.float32)
    f = partial(jc.local_response_norm, size=2, alpha=1.0)
    # Of an x that is a constant of the program, the compiler of jaxlib 0.10.2 makes NaN.
    y, gradient = quick(lambda x: (f(x), jax.vjp(f, x)[1](jnp.ones(4, jnp.float32))[0]))(x)
    d = 1 + np.array([0.5e40, 0.5e40, 2.5, 4.5e60])
    np.testing.assert_allclose(y, np.asarray(x, float) * d**-0.75, rtol=1e-6)
    dx = d[0] ** -0.75 - 0.75 * 1e40 * d[0] ** -1.75 - 0.75 * 1e20 * d[1] ** -1.75
    np.testing.assert_allclose(gradient[0], dx, rtol=1e-5)
    back = quick(lambda x, dy: jax.vjp(f, x)[1](dy)[0])
    rows, dy = jnp.array([[1e20, 1], [1, 2]], jnp.float32), jnp.full((2, 2), 1e15, jnp.float32)
    np.testing.assert_allclose(back(rows, dy)[1], 1e15 * back(rows, dy / dy)[1], rtol=1e-5)


def test_weight_norm_sets_the_length_of_each_filter():
    v = RNG.normal(size=(3, 2, 4, 5))
    g = np.arange(1.0, 6.0)
    w = jc.weight_norm(v, g)
    np.testing.assert_allclose(np.linalg.norm(np.asarray(w).reshape(-1, 5), axis=0), g, rtol=1e-12)
    np.testing.assert_allclose(jc.weight_norm(7 * v, g), w, rtol=1e-12)
    dv, _ = quick_vjp(jc.weight_norm, v, g)[1](jnp.ones(v.shape))
    np.testing.assert_allclose(np.sum(dv * v, (0, 1, 2)), 0, atol=1e-12)


def test_spectral_norm_finds_the_largest_singular_value():
    w = RNG.normal(size=(3, 2, 4, 5))
    u, step = np.ones(5), quick(jc.spectral_norm)
    for _ in range(60):
        y, u = step(w, u)
    largest = np.linalg.svd(w.reshape(-1, 5), compute_uv=False)[0]
    np.testing.assert_allclose(y, w / largest, rtol=1e-8)
    np.testing.assert_allclose(np.linalg.norm(u), 1, rtol=1e-12)
    for again, same in zip(jc.spectral_norm(w, u, iterations=0), (y, u), strict=True):
        np.testing.assert_allclose(again, same, rtol=1e-8)


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_gradient_of_spectral_norm_takes_the_directions_as_constants(iterations):
    w, u = RNG.normal(size=(3, 2, 4, 5)), RNG.normal(size=5)
    report = check.gradients(lambda w, u: jc.spectral_norm(w, u, iterations=iterations), w, u)
    assert report, report
    _, vjp = quick_vjp(jc.spectral_norm, w, u)
    np.testing.assert_array_equal(vjp((jnp.ones(w.shape), jnp.ones(5)))[1], 0)
