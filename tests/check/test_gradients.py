"""The checker: what it finds, what it keeps quiet about, and what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcnn
from jaxcnn import check


def with_rule(bwd, f=lambda x, w: jnp.sin(x) * w):
    """f with `bwd(x, w, dy)` as its backward pass."""
    rule = jax.custom_vjp(f)
    rule.defvjp(lambda x, w: (f(x, w), (x, w)), lambda residuals, dy: bwd(*residuals, dy))
    return rule


def right(x, w, dy):
    return dy * w * jnp.cos(x), dy * jnp.sin(x)


@pytest.fixture
def args():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(100, 100)), jnp.float32), jnp.asarray(rng.normal(size=(100, 100)), jnp.float32)


def test_right_rule(args):
    report = check.gradients(with_rule(right), *args)
    assert report
    assert [comparison.name for comparison in report.comparisons] == ["output", "gradient of x", "gradient of w"]
    report.raise_if_wrong()


def test_one_entry_of_ten_thousand_that_is_a_thousandth_off(args):
    def bwd(x, w, dy):
        dx, dw = right(x, w, dy)
        return dx, dw.at[17, 42].multiply(1.001)

    report = check.gradients(with_rule(bwd), *args)
    assert not report
    of_x, of_w = report.comparisons[1:]
    assert of_x.problem is None
    assert of_w.problem == "1 of 10000 entries"
    assert "worst at [17, 42]" in of_w.worst
    assert "relative error 1.0e-03" in of_w.worst
    with pytest.raises(AssertionError, match=r"gradient of w: WRONG: 1 of 10000 entries; worst at \[17, 42\]"):
        report.raise_if_wrong()


@pytest.mark.parametrize(
    "bwd",
    [
        lambda x, w, dy: tuple(-g for g in right(x, w, dy)),
        lambda x, w, dy: (right(x, w, dy)[0] + 1e-6, right(x, w, dy)[1]),
        lambda x, w, dy: (right(x, w, dy)[0].at[0, 0].set(jnp.nan), right(x, w, dy)[1]),
        lambda x, w, dy: (right(x, w, dy)[0].at[0, 0].set(jnp.inf), right(x, w, dy)[1]),
        lambda x, w, dy: (jnp.zeros_like(x), jnp.zeros_like(w)),
        lambda x, w, dy: (right(x, w, dy)[0].astype(jnp.float16), right(x, w, dy)[1]),
    ],
    ids=["sign", "offset", "nan", "inf", "zero", "dtype"],
)
def test_wrong_rule(bwd, args):
    assert not check.gradients(with_rule(bwd), *args)


def test_a_rule_may_use_as_little_precision_as_it_is_given(args):
    """Computed in float32, it is right for float32 and wrong for float64; an error of 0.01 % shows."""

    def rule(error):
        def bwd(x, w, dy):
            dx, dw = right(*(a.astype(jnp.float32) for a in (x, w, dy)))
            return (dx * jnp.float32(1 + error)).astype(x.dtype), dw.astype(x.dtype)

        return with_rule(bwd)

    double = [a.astype(jnp.float64) for a in args]
    assert check.gradients(rule(0), *args)
    assert not check.gradients(rule(0), *double)
    assert not check.gradients(rule(1e-4), *args)


def test_forward_pass_of_the_rule_that_differs_from_the_function(args):
    rule = jax.custom_vjp(lambda x: jnp.sin(x))
    rule.defvjp(lambda x: (jnp.sin(x) + 1e-3, x), lambda x, dy: (dy * jnp.cos(x),))
    report = check.gradients(rule, args[0])
    assert [c.name for c in report.comparisons if c.problem] == ["output"]


def test_keeps_quiet_about_rounding():
    """Large sums, gradients that cancel to nothing, half precision, many orders of magnitude."""
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(8, 20, 20, 16)), jnp.bfloat16)
    w = jnp.asarray(rng.normal(size=(3, 3, 16, 16)), jnp.bfloat16)
    assert check.gradients(jaxcnn.conv, x, w)
    cancelling = check.gradients(lambda x: jnp.sum(jaxcnn.softmax(x)), jnp.asarray(rng.normal(size=1000), jnp.float32))
    assert cancelling.verdict == "not checked"
    assert check.gradients(jaxcnn.batch_norm, x[:1, :1, :1] * 0, jnp.ones(16), jnp.ones(16))
    assert check.gradients(jaxcnn.sigmoid, jnp.linspace(-30, 30, 1000))


def test_trees_integers_and_names():
    """Only floating-point leaves have gradients; each is named as the caller knows it."""

    def f(params, labels, *rest):
        return jaxcnn.softmax_cross_entropy(jaxcnn.dense(*params["layers"][0]) + rest[0], labels), labels

    params = {"layers": [(jnp.ones((2, 3)), jnp.ones((3, 4)))], "scale": 2.0}
    report = check.gradients(f, params, jnp.array([0, 3]), jnp.ones((2, 4)))
    assert report
    assert [c.name for c in report.comparisons] == [
        "output",
        "gradient of params['layers'][0][0]",
        "gradient of params['layers'][0][1]",
        "gradient of args[2]",
    ]
    report = check.gradients(f, params, jnp.array([0, 3]), jnp.ones((2, 4)), argnums=0)
    assert report.comparisons[-1].name == "gradient of params['scale']"


def test_a_rule_that_is_right_for_some_cotangents_only(args):
    """Where the first entry of dy is not positive: found with any dy."""

    def bwd(x, w, dy):
        dx, dw = right(x, w, dy)
        return jnp.where(dy[0, 0] > 0, 2 * dx, dx), dw

    reports = [check.gradients(with_rule(bwd), *args, key=jax.random.key(seed)) for seed in range(6)]
    assert not any(reports)
    assert {"not linear in dy" in str(report) for report in reports} == {True, False}


def test_leaves_the_precision_of_the_session_alone(args):
    with jax.enable_x64(False):
        check.gradients(with_rule(right), *args)
        assert jnp.ones(()).dtype == jnp.float32


def test_static_arguments_stay_as_they_are():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 6, 3)))
    assert check.gradients(lambda x, window, padding: jaxcnn.max_pool(x, window, padding=padding), x, 3, "SAME")


def test_a_gradient_that_is_zero_but_for_rounding():
    """The bias in front of a batch norm, whose gradient is a sum of large terms that cancel."""
    rng = np.random.default_rng(0)
    x, w, b = (jnp.asarray(rng.normal(size=shape)) for shape in ((8, 6, 6, 3), (3, 3, 3, 4), (4,)))

    def f(b, w):
        y, _, _ = jaxcnn.batch_norm(jaxcnn.conv(x, w, b), jnp.ones(4), jnp.zeros(4))
        return jnp.sum(1000 * jnp.sin(y))

    assert check.gradients(f, b, w)


def test_lower_precision_inside(args):
    """What f computes in float32 is compared to the precision of float32."""
    rule = with_rule(right)
    assert check.gradients(lambda x, w: rule(x.astype(jnp.float32), w.astype(jnp.float32)), *args)
    wrong = with_rule(lambda x, w, dy: tuple(1.01 * g for g in right(x, w, dy)))
    assert not check.gradients(lambda x, w: wrong(x.astype(jnp.float32), w.astype(jnp.float32)), *args)


def test_arrays_that_are_closed_over():
    """An array of another dtype than float64 does not keep f from being looked at in float64."""
    w = jnp.ones((2, 2, 1, 1), jnp.float32)
    assert check.gradients(lambda x: jaxcnn.conv(x, w), jnp.ones((1, 3, 3, 1), jnp.float32))


def test_a_rule_inside_shard_map(args):
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))

    def spread(rule):
        return jax.shard_map(with_rule(rule), mesh=mesh, in_specs=jax.P("batch"), out_specs=jax.P("batch"))

    assert check.gradients(spread(right), *args)
    assert not check.gradients(spread(lambda x, w, dy: tuple(1.01 * g for g in right(x, w, dy))), *args)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check.gradients(3, jnp.ones(2)), "gradients: f must be callable, got int 3"),
        (lambda: check.gradients(jnp.sin), "gradients: args must hold a floating-point array, got none"),
        (lambda: check.gradients(jnp.sin, jnp.arange(3)), "gradients: args must hold a floating-point array, got none"),
        (lambda: check.gradients(jnp.argmax, jnp.ones(3)), "gradients: f must return a floating-point array, got none"),
    ],
)
def test_bad_call(call, message):
    with pytest.raises(TypeError) as raised:
        call()
    assert str(raised.value) == message


def test_a_network_whose_statistics_are_closed_over():
    """In float32, with a bias in front of a batch norm, whose gradient is zero."""
    rng = np.random.default_rng(3)
    x, w, b = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((8, 6, 6, 3), (3, 3, 3, 4), (4,)))
    running = jnp.zeros(4, jnp.float32)

    def f(b, w, x):
        y, mean, _ = jaxcnn.batch_norm(jaxcnn.conv(x, w, b), jnp.ones_like(b), jnp.zeros_like(b))
        new = running + mean.astype(jnp.float32)
        assert new.shape == (4,)
        return jnp.mean(jnp.sin(y))

    report = check.gradients(f, b, w, x)
    assert report
    assert float(report.comparisons[2].seen.split(",")[0]) < 1e-8


def test_arguments_that_are_not_looked_at_are_in_float64_as_well():
    x, w = jnp.ones((2, 5, 4, 3), jnp.float32), jnp.ones((3, 3, 3, 4), jnp.float32)
    assert check.gradients(jaxcnn.conv, x, w, argnums=1)


def test_a_rule_that_divides_by_a_cotangent():
    """What a loss masks has a cotangent of zero."""
    x = jnp.linspace(0.1, 1.0, 50)

    def f(backward):
        rule = jax.custom_vjp(jnp.sin)
        rule.defvjp(lambda x: (jnp.sin(x), x), backward)
        return rule

    assert check.gradients(f(lambda x, dy: (dy * jnp.cos(x),)), x)
    assert "NaN" in str(check.gradients(f(lambda x, dy: (dy * dy / dy * jnp.cos(x),)), x))


def test_a_deterministic_rule_is_not_said_to_draw_anew():
    """Neither a key nor a NaN that is closed over is equal to itself as an array."""
    nan = jnp.full(20, jnp.nan)

    def f(x, key):
        return jnp.sin(x) * jax.random.uniform(key, x.shape) + jnp.where(jnp.isnan(nan), 0, nan)

    rule = jax.custom_vjp(f)
    rule.defvjp(lambda x, key: (f(x, key), x), lambda x, dy: (dy, None))
    report = check.gradients(rule, jnp.linspace(0.0, 1.0, 20), jax.random.key(1))
    assert not report
    assert "each trace" not in str(report)
