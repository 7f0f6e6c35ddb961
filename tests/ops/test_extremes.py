"""Values at the ends of a dtype, where a careless formula overflows, underflows or loses all digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcnn as jc

pytestmark = pytest.mark.optimized


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize(
    ("penalty", "scale", "w", "expected"),
    [
        (jc.l2_penalty, 1e-8, 1000.0, 1e-5),
        (jc.l2_penalty, 1e6, 1e-3, 1e3),
        (jc.l1_penalty, 1e-5, 3.0, 1e-5),
    ],
)
def test_penalty_of_half_precision_with_a_factor_beyond_it(penalty, scale, w, expected, dtype):
    dw = jax.grad(lambda params: scale * penalty(params))({"w": jnp.full(2, w, dtype)})["w"]
    np.testing.assert_allclose(dw.astype(jnp.float32), expected, rtol=0.02)


def test_squared_error_of_half_precision_whose_difference_is_beyond_it():
    y = jnp.array([60000.0] + [0.0] * 99, jnp.float16)
    target = jnp.array([-60000.0] + [0.0] * 99, jnp.float16)
    dy = jax.grad(lambda y: jc.mean_squared_error(y, target))(y)
    np.testing.assert_allclose(dy[0].astype(jnp.float32), 2 * 120000 / 100, rtol=1e-3)
    big, small = jnp.full(1000, 100, jnp.bfloat16), jnp.full(1000, 0.9, jnp.bfloat16)
    exact = (100 - float(small[0])) ** 2
    np.testing.assert_allclose(float(jc.mean_squared_error(big, small)), exact, rtol=2**-8)


def test_batch_norm_of_a_mean_that_is_large_against_the_deviation():
    """A variance as E[x²] - E[x]² would have no digit left."""
    rng = np.random.default_rng(0)
    x = 1e4 + rng.normal(size=(64, 8, 3))
    _, _, var = jc.batch_norm(jnp.asarray(x, jnp.float32), jnp.ones(3, jnp.float32), jnp.zeros(3, jnp.float32))
    np.testing.assert_allclose(var, x.astype(np.float32).astype(float).var(axis=(0, 1)), rtol=1e-3)


def test_long_sums_of_half_precision():
    """10,000 ones: bfloat16 counts to 256 only."""
    ones = jnp.ones((100, 10, 10, 2), jnp.bfloat16)
    w, b = jnp.ones((1, 1, 2, 1), jnp.bfloat16), jnp.zeros(1, jnp.bfloat16)
    db = jax.grad(lambda b: jnp.sum(jc.conv(ones, w, b).astype(jnp.float32)))(b)
    np.testing.assert_allclose(db.astype(jnp.float32), 10000, rtol=2**-8)
    np.testing.assert_allclose(jc.mean_pool(ones[:1], 10).astype(jnp.float32), 1)
    np.testing.assert_allclose(jc.batch_norm(ones, b.repeat(2), b.repeat(2))[1], 1)


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_dropout_takes_keys_of_the_old_style(implementation):
    with jax.default_prng_impl(implementation):
        y = jc.dropout(jax.random.PRNGKey(0), jnp.ones(100), np.float32(0.5))
    assert set(y.tolist()) == {0, 2}


def test_an_infinity_that_no_filter_meets_stays_out_of_a_depthwise_filter_gradient():
    """The last row, behind the remainder of the stride; 11 rows of places, which are not a multiple of what is summed
    at once."""
    x = jnp.ones((8, 24, 24, 64)).at[:, -1].set(jnp.inf)
    dw = jax.jit(jax.grad(lambda w: jnp.sum(jc.depthwise_conv(x, w, stride=2, padding="VALID"))))(
        jnp.ones((3, 3, 1, 64))
    )
    np.testing.assert_array_equal(dw, 8.0 * 11 * 11)
