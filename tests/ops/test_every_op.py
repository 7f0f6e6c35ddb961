"""What must hold for every op of the table: oracles, second order, dtypes, transforms, the empty batch."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import QUICK_TO_COMPILE
from table import CASES

import jaxcnn
from jaxcnn import check, derived

every_op = pytest.mark.parametrize("case", CASES, ids=str)


def _normal(like, seed=0):
    """Random arrays of the shapes and dtypes of `like`."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda y: jnp.asarray(rng.normal(size=y.shape), y.dtype), like)


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
    report = check.gradients(case.f, *case.args())
    assert report, report


@every_op
def test_gradient_is_the_difference_quotient(case):
    args, v, h = case.args(), _normal(case.args(), 1), 1e-6
    # a little away from ties and kinks
    args = tuple(a + 1e-3 * offset for a, offset in zip(args, _normal(args, 2), strict=True))
    dy = _normal(jax.eval_shape(case.f, *args))
    if isinstance(dy, tuple):
        dy = (dy[0], *map(jnp.zeros_like, dy[1:]))  # statistics carry no gradient

    @partial(jax.jit, compiler_options=QUICK_TO_COMPILE)
    def slopes(args):
        def along(t):
            return _inner(dy, case.f(*(a + t * d for a, d in zip(args, v, strict=True))))

        return (along(h) - along(-h)) / (2 * h), _inner(v, _gradient(case.f)(dy, args))

    quotient, slope = slopes(args)
    np.testing.assert_allclose(slope, quotient, rtol=1e-6, atol=1e-7)


@every_op
def test_second_order(case):
    """Hessian-vector products, reverse over reverse and forward over reverse, as JAX derives them twice."""
    args = case.args()
    dy, v = _normal(jax.eval_shape(case.f, *args)), _normal(args, 1)

    def products(f, args):
        gradient = partial(_gradient(f), dy)
        return jax.vjp(gradient, args)[1](v), jax.jvp(gradient, (args,), (v,))[1]

    def both(args):
        return products(case.f, args), products(derived(case.f), args)

    got, expected = jax.jit(both, compiler_options=QUICK_TO_COMPILE)(args)
    _assert_close(got, expected, 1e-9)


@pytest.mark.optimized
@every_op
def test_dtype_is_kept_and_precision_is_that_of_the_dtype(case):
    def both(dy, args):
        return case.f(*args), _gradient(case.f)(dy, args)

    reference = jax.jit(both, compiler_options=QUICK_TO_COMPILE)
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        args = case.args(dtype)
        dy = _normal(jax.eval_shape(case.f, *args))
        y, grads = jax.jit(both)(dy, args)
        assert [g.dtype for g in grads] == [a.dtype for a in args]
        assert jax.tree.leaves(y)[0].dtype == (jnp.float32 if "penalty" in case.name else dtype)

        expected = reference(*jax.tree.map(lambda a: jnp.asarray(np.asarray(a, np.float64)), (dy, args)))
        for a, b in zip(jax.tree.leaves((y, grads)), jax.tree.leaves(expected), strict=True):
            tolerance = 8 * float(jnp.finfo(dtype).eps) * np.max(np.abs(b), initial=0)
            np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=0, atol=tolerance)


@every_op
def test_transforms_agree(case):
    """The gradient under jit, vmap, scan and remat, and with all of them nested, is the gradient without."""
    args = case.args()
    dy = _normal(jax.eval_shape(case.f, *args))
    gradient = partial(_gradient(case.f), dy)
    pair = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), args)

    def nested(pair):
        """The loss of both members of the pair."""
        f = jax.jit(jax.vmap(jax.checkpoint(case.f)))
        _, (outputs,) = jax.lax.scan(
            lambda carry, args: (carry, (f(*args),)), None, jax.tree.map(lambda a: a[None], pair)
        )
        return _inner(jax.tree.map(lambda d: jnp.stack([d, d])[None], dy), outputs)

    @partial(jax.jit, compiler_options=QUICK_TO_COMPILE)
    def transformed(pair):
        first = jax.tree.map(lambda a: a[0], pair)
        plain, remat = gradient(first), _gradient(jax.checkpoint(case.f))(dy, first)
        scanned = jax.lax.scan(lambda carry, args: (carry, gradient(args)), None, pair)[1]
        return (plain, remat), (jax.vmap(gradient)(pair), scanned, jax.grad(nested)(pair))

    eager = gradient(args)
    of_first, of_pair = transformed(pair)
    for got in of_first:
        _assert_close(got, eager, 1e-12)
    for got in of_pair:
        _assert_close(jax.tree.map(lambda g: g[0], got), eager, 1e-12)
        _assert_close(got, of_pair[0], 1e-12)


@every_op
def test_empty_batch(case):
    args = case.args(batch=0)
    y, grads = jax.jit(lambda args: (case.f(*args), jax.vjp(case.f, *args)[1](case.f(*args))))(args)
    assert [g.shape for g in grads] == [a.shape for a in args]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((y, grads)))
