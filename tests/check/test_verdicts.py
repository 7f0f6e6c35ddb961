"""Right, wrong or not checked: on rules as others write them."""

import functools
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import pallas as pl
from rules import with_rule

import jaxcnn
from jaxcnn import check

RANDOM = np.random.default_rng(19)


@contextmanager
def as_users_write():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


with as_users_write():
    X = jnp.asarray(RANDOM.normal(size=(6, 8)), jnp.float32)
    HALF = jnp.asarray(RANDOM.normal(size=(64, 64)), jnp.bfloat16)
    Z = lax.complex(X, X[::-1])
    UNIT, VECTOR = jnp.full(4, 0.5), jnp.arange(1.0, 4.0)
    ROWS = jax.nn.softmax(X[::-1])
    SPREAD = X @ X.T + 10 * jnp.eye(6)


@pytest.fixture(autouse=True)
def _as_users_write():
    with as_users_write():
        yield


def sine(factor=1.0):
    return with_rule(jnp.sin, lambda x, dy: (factor * dy * jnp.cos(x),))


def wrong_jvp():
    f = jax.custom_jvp(lambda x: jnp.sin(x))
    f.defjvp(lambda x, t: (f(*x), 1.001 * jnp.cos(x[0]) * t[0]))
    return f


def sampler(x):
    """Its key is made inside, and is no number to differentiate."""
    scaled = jax.custom_jvp(lambda key, x: x * jax.random.uniform(key, x.shape))
    scaled.defjvp(lambda args, t: (scaled(*args), t[1] * jax.random.uniform(args[0], t[1].shape)))
    return scaled(jax.random.key(0), x)


def norm(at_zero):
    def bwd(x, dy):
        size = jnp.linalg.norm(x, axis=-1, keepdims=True)
        return (dy[..., None] * jnp.where(size > 0, x / jnp.where(size > 0, size, 1), at_zero),)

    return with_rule(lambda x: jnp.sqrt(jnp.sum(x**2, -1)), bwd)


def x_log_y(x, y):
    return jnp.where(x == 0, 0.0, x * jnp.log(y))


def x_log_y_bwd(x, y, dy):
    zero = (x == 0) & (y == 0)
    return dy * jnp.where(zero, 0, jnp.log(y)), dy * jnp.where(zero, 0, x / y)


def loop(factor):
    """A rule that is wrong in float32 only."""

    def f(x):
        return lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x))[1]

    def bwd(x, dy):
        g = dy * jnp.cos(x) * jnp.cos(jnp.sin(x))
        return (factor * g if x.dtype == jnp.float32 else g,)

    return with_rule(f, bwd)


def pallas_norm(factor):
    def forward(x_ref, y_ref):
        x = x_ref[...]
        y_ref[...] = x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)

    def backward(x_ref, dy_ref, dx_ref):
        x, dy = x_ref[...], dy_ref[...]
        r = lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)
        dx_ref[...] = factor * (dy * r - x * r**3 * jnp.mean(dy * x, -1, keepdims=True))

    def call(kernel, *args):
        shape = jax.ShapeDtypeStruct(args[0].shape, args[0].dtype)
        return pl.pallas_call(kernel, out_shape=shape, interpret=True)(*args)

    return with_rule(lambda x: call(forward, x), lambda x, dy: (call(backward, x, dy),))


def plain_norm(x):
    return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def rotated(q, v):
    return v + 2 * jnp.cross(q[1:], jnp.cross(q[1:], v) + q[0] * v)


def rotation(factor=1.0):
    """Its gradient with respect to a unit quaternion lies in the tangent space."""

    def bwd(q, v, dy):
        dq, dv = jax.vjp(rotated, q, v)[1](dy)
        return factor * (dq - q * jnp.dot(q, dq)), factor * dv

    return with_rule(rotated, bwd)


def cross_entropy():
    """Rows of t sum to 1."""
    return with_rule(
        lambda x, t: -jnp.sum(t * jax.nn.log_softmax(x), -1),
        lambda x, t, dy: (dy[:, None] * (jax.nn.softmax(x) - t), -dy[:, None] * jax.nn.log_softmax(x)),
    )


def normalized(x, t):
    return x, t / jnp.sum(t, -1, keepdims=True)


def square(factor, conj=False):
    return with_rule(lambda z: z * z, lambda z, dy: ((jnp.conj if conj else jnp.asarray)(factor * dy * z),))


def raising(x, dy):
    raise NotImplementedError


def two_outputs(share=0.0):
    return with_rule(
        lambda x: (jnp.sin(x), jnp.cos(x)), lambda x, dy: (dy[0] * jnp.cos(x) - share * dy[1] * jnp.sin(x),)
    )


def softmin():
    return with_rule(
        lambda x, t: -t * jax.nn.logsumexp(-x / t), lambda x, t, dy: (dy * jax.nn.softmax(-x / t), jnp.zeros_like(t))
    )


def straight_through(factor=1.0):
    return with_rule(lambda x: jnp.round(x), lambda x, dy: (factor * dy,))


def normalizing_network(dtype, seed):
    """A bias in front of a batch norm has no gradient, and random bits are others in another dtype."""
    random = np.random.default_rng(seed)
    shapes = (4, 6, 6, 3), (3, 3, 3, 4), (4,), (4,), (4,)
    args = [jnp.asarray(random.normal(size=shape), dtype) for shape in shapes]

    def f(x, w, b, gamma, beta):
        y = jaxcnn.relu(jaxcnn.batch_norm(jaxcnn.conv(x, w, b), gamma, beta)[0])
        return jaxcnn.dropout(jax.random.key(seed), y, 0.3)

    return f, *args


def conditional(taken):
    return lambda x: lax.cond((jnp.sum(x) < 1e9) == taken, sine(), jnp.cos, x)


BESIDE = {"fp8": jnp.float8_e4m3fn, "bfloat16": jnp.bfloat16}


def cases():
    """The verdict, f and its arguments, options, and what the report says, by name."""
    return {
        "a network in float32": ("right", normalizing_network(jnp.float32, 0), {}, "zero, but for rounding"),
        # nothing to compare
        "no rule": ("not checked", (jnp.sin, X), {}, "no custom rule is on its way"),
        "a branch that is not taken": ("not checked", (conditional(False), X), {}, "rules not reached: sin ("),
        "a branch that is taken": ("right", (conditional(True), X), {}, "rules reached: sin ("),
        "an output that is not returned": ("not checked", (lambda x: (sine()(x), jnp.cos(x))[1], X), {}, "not reached"),
        "f is NaN": ("not checked", (lambda x: sine()(x) * jnp.nan, X), {}, "f is not finite in any entry"),
        "gradients of zero": ("not checked", (lambda x: sine()(x) * 0, X), {}, "zero, but for rounding"),
        # custom JVPs
        "a wrong custom JVP": ("wrong", (wrong_jvp(), X), {}, "by the factor 1.001"),
        "a key that is made inside": ("right", (sampler, X), {}, "rules reached"),
        # JAX derives NaN
        "a norm at 0": ("right", (norm(0.0), X.at[2].set(0)), {}, ""),
        "a norm at 0, beyond the limits": ("wrong", (norm(50.0), X.at[2].set(0)), {}, "one index: 2 of axis 0"),
        "x log y at 0": (
            "right",
            (with_rule(x_log_y, x_log_y_bwd), *[abs(X).at[0].set(0)] * 2),
            {},
            "8 of 48 entries not",
        ),
        # low precision
        "fp8 beside a wrong rule": (
            "wrong",
            (lambda x: (sine(1.3)(x), x.astype(BESIDE["fp8"])), X),
            {},
            "wrong for output 0, right for output 1",
        ),
        "a copy in bfloat16": (
            "wrong",
            (lambda x: sine(1.01)(x) + 0 * lax.stop_gradient(x.astype(jnp.bfloat16)).astype(x.dtype), X),
            {},
            "factor 1.01",
        ),
        "a common factor in bfloat16": ("wrong", (sine(jnp.bfloat16(0.97)), HALF), {}, ""),
        "through fp8": ("right", (lambda x: sine()(x.astype(BESIDE["fp8"]).astype(x.dtype)), X), {}, ""),
        # by differences
        "a loop": ("right", (loop(1), X), {}, "while has none"),
        "a loop, doubled in float32": ("wrong", (loop(2), X), {}, "everywhere, by the factor 2"),
        "a loop within its tolerance": ("right", (loop(1.00001), X), {"rtol": 1e-3}, ""),
        "a kernel": ("right", (pallas_norm(1.0), X), {}, "by differences"),
        "a kernel, off by 1 %": ("wrong", (pallas_norm(0.99), X), {}, "factor 0.99"),
        "a kernel with a reference": ("right", (pallas_norm(1.0), X), {"reference": plain_norm}, ""),
        "a kernel with a reference, off": ("wrong", (pallas_norm(0.999), X), {"reference": plain_norm}, ""),
        "a kernel in bfloat16": ("right", (pallas_norm(1.0), HALF), {"reference": plain_norm}, ""),
        "a kernel in bfloat16, off": (
            "wrong",
            (pallas_norm(0.97), HALF),
            {"reference": plain_norm},
            "common factor 0.97",
        ),
        # tolerances
        "within rtol": ("right", (sine(1.001), X), {"rtol": 1e-2}, ""),
        "beyond rtol": ("wrong", (sine(1.1), X), {"rtol": 1e-2}, ""),
        # domains
        "a unit quaternion": ("wrong", (rotation(), UNIT, VECTOR), {}, ""),
        "in its domain": (
            "right",
            (rotation(), UNIT, VECTOR),
            {"domain": lambda q, v: (q / jnp.linalg.norm(q), v)},
            "",
        ),
        "in its domain, off": (
            "wrong",
            (rotation(0.99), UNIT, VECTOR),
            {"domain": lambda q, v: (q / jnp.linalg.norm(q), v)},
            "",
        ),
        "rows that sum to 1": (
            "wrong",
            (cross_entropy(), X, ROWS),
            {},
            "right at your arguments, but 48 of 48 entries",
        ),
        "rows in their domain": ("right", (cross_entropy(), X, ROWS), {"domain": normalized}, ""),
        "rows elsewhere": (
            "right",
            (cross_entropy(), X, jax.nn.one_hot(jnp.arange(6), 8)),
            {"elsewhere": (X[::-1], jax.nn.one_hot(jnp.arange(6) + 1, 8))},
            "",
        ),
        "a domain without a derivative": (
            "wrong",
            (with_rule(lambda s: s * 2.0, lambda s, dy: (dy,)), jnp.sign(X)),
            {"domain": jnp.sign},
            "by the factor 1/2",
        ),
        "sorted numbers": (
            "right",
            (with_rule(lambda x: jnp.sort(x) ** 2, lambda x, dy: (2 * dy * x,)), jnp.sort(X.ravel())),
            {"domain": jnp.sort},
            "",
        ),
        "a symmetric matrix": (
            "right",
            (with_rule(lambda a: jnp.linalg.slogdet(a)[1], lambda a, dy: (dy * jnp.linalg.inv(a),)), SPREAD),
            {"domain": lambda a: (a + a.T) / 2},
            "",
        ),
        # complex numbers
        "a complex square": ("right", (square(2), Z), {}, "gradient of z (imaginary part)"),
        "a complex square, off": ("wrong", (square(3), Z), {}, "factor 1.5"),
        "a complex square, conjugate": ("wrong", (square(2, conj=True), Z), {}, "z (imaginary part): WRONG"),
        "complex beside real": ("wrong", (lambda x: (square(3)(x + 0j), x), X), {}, "output 0 (real part)"),
        # rules that raise
        "a rule that raises": ("wrong", (with_rule(jnp.sin, raising), X), {}, "rule.py"),
        "a rule that returns too much": ("wrong", (with_rule(jnp.sin, lambda x, dy: (dy, dy)), X), {}, "raises"),
        "a rule that cannot take bfloat16": (
            "wrong",
            (with_rule(jnp.sin, lambda x, dy: (lax.mul(dy, x.astype(jnp.float32)),)), HALF),
            {},
            "raises TypeError",
        ),
        "a reference in another dtype": (
            "right",
            (with_rule(lambda x: jnp.sin(x).astype(jnp.bfloat16), lambda x, dy: (dy.astype(x.dtype) * jnp.cos(x),)), X),
            {"reference": jnp.sin},
            "",
        ),
        # claims
        "two outputs": ("wrong", (two_outputs(), X), {}, "right for output 0, ignores the cotangent of output 1"),
        "an output that is ignored": ("right", (two_outputs(), X), {"ignores": 1}, ""),
        "an output that is not": ("wrong", (two_outputs(1.0), X), {"ignores": (1,)}, ""),
        "straight through": ("right", (straight_through(), X), {"claims": lambda x: x}, ""),
        "straight through, off": ("wrong", (straight_through(0.99), X), {"claims": lambda x: x}, "factor 0.99"),
        "a gradient that is zero on purpose": ("right", (softmin(), X[0], jnp.float32(0.5)), {"zero": 1}, ""),
        "a gradient that is zero": ("wrong", (softmin(), X[0], jnp.float32(0.5)), {}, "zero instead"),
        # arguments
        "keyword arguments": (
            "right",
            (lambda x, *, w, mode: sine()(x) * (w if mode == "product" else 0), X),
            {"kwargs": {"w": X, "mode": "product"}},
            "gradient of w: not checked: no custom rule",
        ),
        "a float of Python": ("right", (lambda x, scale: sine()(x) * (scale if scale > 1 else 1), X, 2.0), {}, ""),
        "a static array": (
            "right",
            (lambda x, scales: sine()(x) * float(scales[0]), X, np.ones(3)),
            {"static_argnums": 1},
            "",
        ),
        "a gauge": (
            "right",
            (with_rule(lambda x: x - jnp.mean(x), lambda x, dy: (dy,)), X),
            {"dy": lambda v: v - jnp.mean(v)},
            "",
        ),
        "the formula only": ("wrong", (sine(1.01), X), {"precision": "float64"}, ""),
        "the own dtype only": ("wrong", (sine(1.01), X), {"precision": "own"}, ""),
        # several bodies
        "two bodies": ("right", (sine(), X), {"implementations": {"a": jnp.sin, "b": sine()}}, "a against b, gradient"),
        "two bodies, one off": (
            "wrong",
            (sine(), X),
            {"implementations": {"a": sine(1.01), "b": sine()}},
            "a against b",
        ),
    }


with as_users_write():
    CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_verdict(name):
    verdict, (f, *args), options, said = CASES[name]
    report = check.gradients(f, *args, **options)
    assert report.verdict == verdict, report
    assert bool(report) == (verdict == "right")
    assert said in str(report)


def test_a_rule_is_named_with_its_place():
    rule = check.gradients(sine(), X).rules[0]
    assert (rule.name, rule.kind) == ("sin", "custom_vjp")
    assert rule.file.endswith("rule.py")
    assert rule.line > 1


def test_precision_of_what_is_beside_a_rule_does_not_count():
    """What would have been seen in the gradient of x is that of float32."""
    report = check.gradients(lambda x, y: (sine()(x), y.astype(jnp.bfloat16)), X, X)
    assert float(report.comparisons[2].seen.split()[-1]) < 1e-5


def test_derived_takes_custom_jvps_out():
    x = jnp.linspace(0.5, 1.0, 4)
    assert jnp.allclose(jax.grad(lambda x: jnp.sum(jaxcnn.derived(wrong_jvp())(x)))(x), jnp.cos(x), rtol=1e-6)
    assert jax.grad(lambda x: jnp.sum(jaxcnn.derived(sampler)(x)))(x).shape == x.shape


def test_small_errors_are_told_by_their_size():
    off = with_rule(jnp.sin, lambda x, dy: (dy * jnp.cos(x) + 1e-8 * jnp.sin(1e3 * x),))
    with jax.enable_x64(True):
        report = check.gradients(off, X.astype(jnp.float64))
    assert "of the largest entry, in no pattern" in str(report)
    assert "off by up to" in str(check.gradients(off, X))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"claims": 3}, "gradients: claims must be callable, got int 3"),
        ({"zero": 2}, "gradients: zero must be positions among 1 arguments, got 2"),
        ({"ignores": 1}, "gradients: ignores must be positions among 1 outputs, got 1"),
        ({"static_argnums": 5}, "gradients: static_argnums must be positions among 1 arguments, got 5"),
        ({"precision": "half"}, 'gradients: precision must be "float64", "own" or None, got \'half\''),
        ({"dy": jnp.ones(3)}, "gradients: dy must have the shapes [[6, 8]] of the outputs, got [[3]]"),
        ({"elsewhere": (X, X)}, "gradients: elsewhere must hold arguments like the 1 of f, got 2"),
        ({"elsewhere": X[:2]}, "gradients: elsewhere must have the shape [6, 8] for x, got [2, 8]"),
        ({"kwargs": 3}, "gradients: kwargs must be a dict, got int 3"),
        ({"implementations": {"a": 3}}, "gradients: implementations must hold functions, got int 3 for 'a'"),
    ],
)
def test_bad_option(options, message):
    with pytest.raises((TypeError, ValueError)) as raised:
        check.gradients(with_rule(lambda x: jnp.sin(x), lambda x, dy: (dy * jnp.cos(x),)), X, **options)
    assert str(raised.value) == message


def test_x64_is_never_on_around_f():
    def f(x):
        assert not jax.config.jax_enable_x64
        assert x.dtype == jnp.float32
        return sine()(x)

    assert check.gradients(f, X, order=2, transforms=True)
    assert check.gradients(functools.partial(loop(1)), X)
