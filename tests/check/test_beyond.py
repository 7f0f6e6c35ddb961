"""Beyond the first order and beyond JAX's derivative: order 2, transforms, other references, differences, Taylor."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from rules import with_rule
from rules.layers import conv_but

import jaxcnn
from jaxcnn import check

RNG = np.random.default_rng(6)
X = jnp.asarray(RNG.normal(size=(100, 100)))
IMAGES, FILTERS = jnp.asarray(RNG.normal(size=(8, 12, 10, 10))), jnp.asarray(RNG.normal(size=(3, 3, 10, 10)))


def wrong(report):
    return [comparison.name for comparison in report.comparisons if comparison.problem]


def test_second_order():
    """A rule whose value is right and whose derivative is not: what is kept is taken for a constant."""
    constant = with_rule(jnp.sin, lambda x, dy: (dy * lax.stop_gradient(jnp.cos(x)),))
    assert check.gradients(constant, X)
    assert wrong(check.gradients(constant, X, order=2)) == ["order 2, gradient of x"]
    right = with_rule(jnp.sin, lambda x, dy: (dy * jnp.cos(x),))
    report = check.gradients(right, X, order=3)
    assert report
    assert [c.name for c in report.comparisons[2:]] == ["order 2, gradient of x", "order 3, gradient of x"]


def test_a_rule_without_a_second_derivative():
    def bwd(x, dy):
        slope = jax.pure_callback(np.cos, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims")
        return (dy * slope,)

    report = check.gradients(with_rule(jnp.sin, bwd), X[:10], order=2)
    assert wrong(report) == ["order 2"]
    assert "the gradient has none: ValueError: Pure callbacks do not support JVP" in str(report)


@pytest.mark.parametrize("f", [jaxcnn.silu, lambda x, w: jaxcnn.relu(jaxcnn.conv(x, w))], ids=["silu", "conv"])
def test_transforms_agree(f):
    args = [IMAGES, FILTERS][: 1 if f is jaxcnn.silu else 2]
    report = check.gradients(f, *args, transforms=True)
    assert report
    names = [c.name for c in report.comparisons if c.name.startswith("under ")]
    ways = ["jit", "remat", "vmap", "grad of vmap", "scan", "sharded over 8 devices"]
    assert names == [f"under {way}" for way in ways]
    assert report.notes == ()


def test_a_rule_that_is_wrong_under_vmap_only():
    """The callback gets all points at once, and takes their mean."""

    def slope(x):
        x = np.asarray(x)
        return np.cos(x) if x.ndim == 2 else np.cos(x) + x - x.mean(0, keepdims=True)

    def bwd(x, dy):
        like = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return (dy * jax.pure_callback(slope, like, x, vmap_method="expand_dims"),)

    report = check.gradients(with_rule(jnp.sin, bwd), X[:10], transforms=True)
    assert wrong(report) == ["gradient of x under vmap", "gradient of x under grad of vmap"]


def test_a_rule_that_raises_under_vmap():
    def bwd(x, dy):
        like = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return (dy * jax.pure_callback(np.cos, like, x),)

    report = check.gradients(with_rule(jnp.sin, bwd), X[:10], transforms=True)
    assert wrong(report) == ["under vmap", "under grad of vmap"]
    assert "NotImplementedError" in str(report)


@pytest.mark.parametrize(
    ("f", "x", "why"),
    [
        (jaxcnn.silu, X[:7], None),
        (jaxcnn.silu, X[:11], "a batch of 11 cannot be split over 8 devices"),
        (lambda x: jnp.sum(jaxcnn.silu(x)), X, "no argument has the batch of the output as its first axis"),
    ],
)
def test_what_was_not_looked_at_is_said(f, x, why):
    report = check.gradients(f, x, transforms=True)
    assert report
    assert report.notes == (() if why is None else (f"not looked at: sharded, as {why}",))
    assert "under sharded over 7 devices: right" in str(report) or why is not None


def test_one_device_is_said(monkeypatch):
    one = jax.devices("cpu")[:1]
    monkeypatch.setattr(jax, "devices", lambda *_: one)
    notes = check.gradients(jaxcnn.silu, X, transforms=True).notes
    assert [note.split(",")[0] for note in notes] == ["not looked at: sharded"]
    assert "one CPU device only" in notes[0]


def test_a_reference_of_the_user():
    """The function is wrong, and its rule with it."""
    both_wrong = with_rule(lambda x: 1.01 * jnp.sin(x), lambda x, dy: (1.01 * dy * jnp.cos(x),))
    assert check.gradients(both_wrong, X)
    assert wrong(check.gradients(both_wrong, X, reference=jnp.sin)) == ["output", "gradient of x"]
    assert check.gradients(jaxcnn.silu, X, reference=jax.nn.silu)


def test_argnums():
    f = conv_but(lambda dx, dw, *_: (dx, 2 * dw))
    assert check.gradients(f, IMAGES, FILTERS, argnums=0)
    assert wrong(check.gradients(f, IMAGES, FILTERS, argnums=-1)) == ["gradient of w"]
    assert wrong(check.gradients(f, IMAGES, FILTERS, argnums=(0, 1))) == ["gradient of w"]


def loop(x):
    return lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x))[1]


def loop_dx(x, dy):
    return (dy * jnp.cos(jnp.sin(x)) * jnp.cos(x),)


def test_differences_where_jax_derives_nothing():
    report = check.gradients(with_rule(loop, loop_dx), X)
    assert report
    assert "Reverse-mode differentiation does not work for lax.while_loop" in report.notes[0]
    assert re.search(r"would have seen \de-\d+ of an entry", str(report))
    assert "not looked at: higher orders" in str(check.gradients(with_rule(loop, loop_dx), X, order=2))
    one = with_rule(loop, lambda x, dy: (loop_dx(x, dy)[0].at[31, 41].multiply(1.001),))
    assert "at [31, 41]" in check.gradients(one, X).comparisons[1].worst
    assert not check.gradients(with_rule(loop, lambda x, dy: (dy * jnp.nan,)), X)
    closed = with_rule(loop, lambda x, dy: loop_dx(jnp.asarray(X, dy.dtype), dy))
    assert "at another point" in str(check.gradients(closed, X))
    assert "at another point" in str(check.gradients(with_rule(loop, lambda x, dy: loop_dx(x, jnp.clip(dy, -6, 6))), X))
    other_forward = jax.custom_vjp(loop)
    other_forward.defvjp(lambda x: (2 * loop(x), x), loop_dx)
    assert [c.name for c in check.gradients(other_forward, X).comparisons if c.problem] == ["output"]


def test_differences_keep_quiet_at_a_kink():
    def relu_loop(x):
        return lax.while_loop(lambda c: c[0] < 1, lambda c: (1, jnp.maximum(c[1], 0)), (0, x))[1]

    zeros = jnp.round(X)
    report = check.gradients(with_rule(relu_loop, lambda x, dy: (jnp.where(x > 0, dy, 0),)), zeros)
    assert report
    assert "a kink" in report.comparisons[1].kink
    assert not check.gradients(with_rule(relu_loop, lambda x, dy: (jnp.where(x > 0, dy, 0) + 0.01,)), zeros)


def test_adjoint_of_a_convolution():
    assert check.adjoint(jaxcnn.conv, IMAGES, FILTERS)
    one = conv_but(lambda dx, dw, *_: (dx.at[1, 2, 3, 4].multiply(1.001), dw))
    report = check.adjoint(one, IMAGES, FILTERS)
    assert wrong(report) == ["adjoint in x"]
    assert "at [1, 2, 3, 4]" in report.comparisons[0].worst
    assert wrong(check.adjoint(jaxcnn.silu, X)) == ["adjoint in z"]
    assert "f is not linear in z" in str(check.adjoint(jaxcnn.silu, X))


def test_taylor_remainder():
    """One entry of 10,000 off by a thousandth is enough to make it fall as h."""
    report = check.taylor(with_rule(jnp.sin, lambda x, dy: (dy * jnp.cos(x),)), X)
    assert report
    assert report.comparisons[0].worst == "falls as h^2.00"
    one = check.taylor(with_rule(jnp.sin, lambda x, dy: ((dy * jnp.cos(x)).at[1, 2].multiply(1.001),)), X)
    assert not one
    assert 0.5 < float(one.comparisons[0].worst.removeprefix("falls as h^")) < 1.2
    assert check.taylor(jaxcnn.conv, IMAGES, FILTERS).comparisons[1].worst == "nothing but rounding"
    assert not check.taylor(with_rule(jnp.sin, lambda x, dy: (dy * jnp.nan,)), X)


def test_taylor_remainder_at_a_kink():
    relu = with_rule(lambda x: jnp.maximum(x, 0), lambda x, dy: (jnp.where(x > 0, dy, 0),))
    assert check.taylor(relu, jnp.round(X))
    assert check.taylor(relu, X)


BAD = [
    (lambda: check.gradients(jnp.sin, X, argnums=1), "gradients: argnums must be positions among 1 arguments, got 1"),
    (lambda: check.gradients(jnp.sin, X, order=0), "gradients: order must be an integer of at least 1, got 0"),
    (lambda: check.gradients(jnp.sin, X, order=True), "gradients: order must be an integer of at least 1, got True"),
    (lambda: check.gradients(jnp.sin, X, reference=3), "gradients: reference must be callable, got int 3"),
    (lambda: check.gradients(jnp.sin, X, reference=jnp.sum), "gradients: reference must return what f returns"),
    (lambda: check.gradients(jnp.sin, X, rtol=-1.0), "gradients: rtol must be a positive number, got -1.0"),
    (
        lambda: check.gradients(jnp.sin, X, key=3),
        "gradients: key must be a random key, as jax.random.key(0) is, got int 3",
    ),
    (lambda: check.mutants(3, X), "mutants: f must be callable, got int 3"),
    (lambda: check.adjoint(jnp.sin), "adjoint: args must hold a floating-point array, got none"),
    (lambda: check.taylor(jnp.argmax, X), "taylor: f must return a floating-point array, got none"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_call(call, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        call()
