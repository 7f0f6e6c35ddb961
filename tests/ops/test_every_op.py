"""What must hold for every op of the table: oracles, second order, dtypes, transforms, the empty batch."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import table
from compilation import quick
from table import CASES, RULE_OF_RELU

import jaxcnn
from jaxcnn import check, derived

every_op = pytest.mark.parametrize("case", CASES, ids=str)
FIRST_OF_EACH_OP = list({case.name: case for case in reversed(CASES)}.values())
OTHER_WAYS = ("grouped", "large", "dilated", "masked", "overlapping", "side-by-side", "indices")  # to compute an op
ONE_OF_EACH_WAY = [c for c in CASES if c in FIRST_OF_EACH_OP or any(way in c.note for way in OTHER_WAYS)]
one_of_each_way = pytest.mark.parametrize("case", ONE_OF_EACH_WAY, ids=str)
BY_THEMSELVES = ("conv", "max_pool", "softmax_pool", "batch_norm", "dropout", "softmax_cross_entropy")  # transforms
LOSSES = {case.name for case in table.LOSSES}
WIDE = LOSSES | {"prelu", "softmax", "log_softmax", "dropout", "spatial_dropout", "drop_path", "drop_block", "resize"}
FIRST_OF_EACH_RULE = [case for case in FIRST_OF_EACH_OP if case.name not in RULE_OF_RELU]


def _normal(like, seed=0):
    """Random arrays of the shapes and dtypes of `like`."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda y: jnp.asarray(rng.normal(size=y.shape).astype(y.dtype)), like)


def _gradient(f):
    """The gradients of ⟨dy, f⟩ by all arguments."""
    return lambda dy, args: jax.vjp(f, *args)[1](dy)


def _inner(a, b):
    products = jax.tree.map(lambda a, b: jnp.vdot(a, b), a, b)
    return sum(jax.tree.leaves(products))


def _assert_close(got, expected, rtol):
    """Equal within rtol of each entry and rtol / 100 of the largest."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-2 * rtol * np.max(np.abs(b), initial=1e-3))


def test_table_has_every_public_op():
    public = {
        name
        for name, value in vars(jaxcnn).items()
        if inspect.isfunction(value) and value.__module__.startswith("jaxcnn.ops.")
    }
    assert public == {case.name for case in CASES}


@every_op
def test_gradient_is_what_jax_derives(case):
    """At kinks as well; and of more than 30 ways to break the rule of an op none stays unnoticed."""
    mutants = check.mutants(case.f, *case.args()) if case in FIRST_OF_EACH_OP else None
    report = check.gradients(case.f, *case.args()) if mutants is None else mutants.report
    assert report
    assert not [comparison.kink for comparison in report.comparisons if comparison.kink]
    if mutants is not None:
        assert mutants
        assert len(mutants.caught) > 30


@pytest.mark.parametrize("case", FIRST_OF_EACH_RULE, ids=str)
def test_gradient_is_the_difference_quotient(case):
    args, v, h = case.args(), _normal(case.args(), 1), 1e-6
    # a little away from ties and kinks
    args = tuple(a + 1e-3 * offset for a, offset in zip(args, _normal(args, 2), strict=True))
    dy = _normal(jax.eval_shape(case.f, *args))
    if isinstance(dy, tuple):
        dy = (dy[0], *map(jnp.zeros_like, dy[1:]))  # statistics carry no gradient

    @quick
    def slopes(args):
        def along(t):
            return _inner(dy, case.f(*(a + t * d for a, d in zip(args, v, strict=True))))

        return (along(h) - along(-h)) / (2 * h), _inner(v, _gradient(case.f)(dy, args))

    quotient, slope = slopes(args)
    np.testing.assert_allclose(slope, quotient, rtol=1e-6, atol=1e-7)


@one_of_each_way
def test_second_order(case):
    """Hessian-vector products, reverse over reverse and forward over reverse, as JAX derives them twice."""
    args = case.args()
    dy, v = _normal(jax.eval_shape(case.f, *args)), _normal(args, 1)

    def products(f, args):
        gradient = partial(_gradient(f), dy)
        return jax.vjp(gradient, args)[1](v), jax.jvp(gradient, (args,), (v,))[1]

    def both(args):
        return products(case.f, args), products(derived(case.f), args)

    got, expected = quick(both)(args)
    _assert_close(got, expected, 1e-9)


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=pytest.mark.optimized) if c in FIRST_OF_EACH_RULE else c for c in CASES],
    ids=str,
)
def test_dtype_is_kept_and_precision_is_that_of_the_dtype(case):
    """Two units in the last place of each entry, and twelve of a usual one: what is kept is rounded to the dtype.

    The first call of each rule compiles as users do; others are called in bfloat16 only. In float16 are called those
    that round what they return, and some of those for which `custom_rule` rounds.
    """
    of_rule = case in FIRST_OF_EACH_RULE

    def both(dy, args):
        return case.f(*args), _gradient(case.f)(dy, args)

    dtypes = (jnp.bfloat16, *([jnp.float32] * of_rule), *([jnp.float16] * (of_rule and case.name not in WIDE)))
    inputs = [(_normal(jax.eval_shape(case.f, *args)), args) for args in map(case.args, dtypes)]
    wide = jax.tree.map(lambda a: np.asarray(a, np.float64), inputs)
    compiled = jax.jit if of_rule else quick
    outputs = compiled(lambda inputs: [both(*pair) for pair in inputs])(inputs)
    reference = quick(both)
    for dtype, got, pair in zip(dtypes, outputs, wide, strict=True):
        y, grads = got
        assert [g.dtype for g in grads] == [dtype for _ in pair[1]]
        assert jax.tree.leaves(y)[0].dtype == (jnp.float32 if "penalty" in case.name else dtype)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(reference(*pair)), strict=True):
            eps, usual = float(jnp.finfo(dtype).eps), np.sqrt(np.mean(np.square(b)))
            np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=2 * eps, atol=12 * eps * usual)


@pytest.mark.parametrize("case", [c for c in ONE_OF_EACH_WAY if c.name not in RULE_OF_RELU], ids=str)
def test_transforms_agree(case):
    """The gradient with jit, vmap, scan and remat nested is the gradient without, and so is that of the vmap alone.

    Each of the others by itself, and no jit, are the same for all rules: `custom_rule` is what sees them.
    """
    args = case.args()
    dy = _normal(jax.eval_shape(case.f, *args))
    gradient = partial(_gradient(case.f), dy)
    pair = tuple(np.stack([a, 2 * np.asarray(a)]) for a in args)

    def nested(pair):
        """The loss of both members of the pair."""
        f = jax.jit(jax.vmap(jax.checkpoint(case.f)))
        _, (outputs,) = jax.lax.scan(
            lambda carry, args: (carry, (f(*args),)), None, jax.tree.map(lambda a: a[None], pair)
        )
        return _inner(jax.tree.map(lambda d: jnp.stack([d, d])[None], dy), outputs)

    @quick
    def transformed(pair):
        first, second = zip(*pair, strict=True)
        of_pair = [jax.vmap(gradient)(pair), jax.grad(nested)(pair)]
        if case.name not in BY_THEMSELVES or case not in FIRST_OF_EACH_OP:
            return (gradient(first), gradient(second)), [], of_pair
        scanned = jax.lax.scan(lambda carry, args: (carry, gradient(args)), None, pair)[1]
        return (gradient(first), gradient(second)), [_gradient(jax.checkpoint(case.f))(dy, first)], [*of_pair, scanned]

    both, of_first, of_pair = transformed(pair)
    if of_first:
        of_first.append(gradient(args))
    for got in of_first:
        _assert_close(got, both[0], 1e-12)
    for got in of_pair:
        for i, expected in enumerate(both):
            _assert_close(jax.tree.map(lambda g, i=i: g[i], got), expected, 1e-12)


@every_op
def test_empty_batch(case):
    args = case.args(batch=0)
    y, grads = quick(lambda args: (case.f(*args), jax.vjp(case.f, *args)[1](case.f(*args))))(args)
    assert [g.shape for g in grads] == [a.shape for a in args]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((y, grads)))
