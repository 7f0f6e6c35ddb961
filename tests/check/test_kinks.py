"""Where a function has no single derivative, a rule may take another side than JAX, but nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rules import with_rule
from rules.layers import first_of_ties, max_of_patches, max_pool

from jaxcnn import check

RNG = np.random.default_rng(5)
ZEROS = jnp.asarray(RNG.integers(-2, 3, size=(100, 100)), jnp.float64)
TIES = jnp.asarray(RNG.integers(0, 3, size=(8, 16, 12, 8)), jnp.float64)


def relu(x):
    return jnp.maximum(x, 0)


def relu_with(slope_at_zero):
    return with_rule(relu, lambda x, dy: (dy * jnp.where(x == 0, slope_at_zero(x), (x > 0).astype(x.dtype)),))


@pytest.mark.parametrize("slope", [0.0, 1.0, 0.3])
def test_relu_at_zero(slope):
    report = check.gradients(relu_with(lambda x: jnp.full_like(x, slope)), ZEROS)
    assert report
    zeros = int(np.sum(np.asarray(ZEROS) == 0))
    assert report.comparisons[1].kink == f"{zeros} entries at a kink, where JAX takes another side"
    assert "at a kink" in str(report)


def test_a_slope_at_zero_of_neither_side():
    assert not check.gradients(relu_with(lambda x: jnp.full_like(x, 7)), ZEROS)
    assert not check.gradients(relu_with(lambda x: jnp.full_like(x, -2)), ZEROS)


def test_one_of_many_slopes_at_zero_that_is_of_neither_side():
    where = np.argwhere(np.asarray(ZEROS) == 0)[17]
    report = check.gradients(relu_with(lambda x: jnp.zeros_like(x).at[tuple(where)].set(7)), ZEROS)
    assert report.comparisons[1].problem is not None
    assert report.comparisons[1].problem.startswith("1 of 10000")
    assert report.comparisons[1].where == "one entry"


def last_of_ties(x, dy):
    flipped = jax.vjp(lambda x: max_of_patches(x[:, ::-1, ::-1])[:, ::-1, ::-1], x)[0]
    assert flipped.shape == dy.shape
    dx = first_of_ties(x[:, ::-1, ::-1], dy[:, ::-1, ::-1])[0]
    return (dx[:, ::-1, ::-1],)


def shared(x, dy):
    return jax.vjp(max_of_patches, x)[1](dy)


@pytest.mark.parametrize("bwd", [first_of_ties, last_of_ties, shared])
@pytest.mark.parametrize("f", [max_pool, max_of_patches], ids=["JAX takes the first", "JAX shares"])
def test_ties_of_a_max_pool(f, bwd):
    assert check.gradients(with_rule(f, bwd), TIES)


def test_an_error_elsewhere_is_found_among_ties():
    x = TIES.at[3, 4, 5, 6].set(9.0)  # wins alone

    def bwd(x, dy):
        return (first_of_ties(x, dy)[0].at[3, 4, 5, 6].multiply(1.001),)

    row = check.gradients(with_rule(max_of_patches, bwd), x).comparisons[1]
    assert row.problem == "1 of 12288 entries"
    assert row.worst.startswith("worst at [3, 4, 5, 6]")
    assert "at a kink" in row.kink


def test_the_sum_over_a_tie_is_kept():
    """dy to every entry of a tie: each entry alone is in order."""

    def every(x, dy):
        return (dy[..., None] * (x == jnp.max(x, -1, keepdims=True)).astype(dy.dtype),)

    pairs = jnp.asarray(RNG.integers(0, 4, size=(5000, 2)), jnp.float64)
    assert not check.gradients(with_rule(lambda x: jnp.max(x, -1), every), pairs)


def test_a_smooth_function_has_no_kink():
    """A rule that is wrong at single points of it: where x is 0."""

    def bwd(x, dy):
        return (dy * jnp.where(x == 0, 0.5, jnp.cos(x)),)

    assert not check.gradients(with_rule(jnp.sin, bwd), ZEROS)


def test_a_kink_behind_a_product():
    w = jnp.asarray(RNG.integers(-3, 3, size=(100, 30)) / 8)

    def bwd(x, w, dy):
        return jax.vjp(jnp.dot, x, w)[1](jnp.where(x @ w > 0, dy, 0))

    report = check.gradients(with_rule(lambda x, w: relu(x @ w), bwd), ZEROS, w)
    assert report
    assert all("at a kink" in comparison.kink for comparison in report.comparisons[1:])
