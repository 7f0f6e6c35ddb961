"""Negative padding in the precision and with the kernels that are used: on a CPU, XLA computes some of it wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcnn

pytestmark = pytest.mark.optimized


def assert_as_in_float64(f, *shapes):
    rng = np.random.default_rng(0)
    args = [rng.standard_normal(shape) for shape in shapes]
    exact, pull_exact = jax.vjp(f, *map(jnp.asarray, args))
    dy = rng.standard_normal(exact.shape)
    both = jax.jit(lambda dy, *args: (f(*args), *jax.vjp(f, *args)[1](dy)))
    computed = both(*(jnp.asarray(a, jnp.float32) for a in (dy, *args)))
    for ours, expected in zip(computed, (exact, *pull_exact(jnp.asarray(dy))), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("x", "w", "options"),
    [
        ((7, 39, 15, 10), (1, 3, 10, 16), {"padding": ((-3, 2), (0, 0))}),
        ((3, 24, 22, 8), (2, 3, 8, 8), {"padding": ((2, 0), (4, 1)), "stride": (2, 1)}),
        ((1, 64, 64, 5), (1, 3, 5, 8), {"padding": ((-1, 1), (1, 1))}),
        ((4, 30, 33, 12), (3, 3, 12, 24), {"padding": ((4, -3), (-2, 5))}),
        ((8, 40, 40, 16), (3, 3, 16, 64), {"padding": ((-2, -1), (3, -3))}),
        ((2, 9, 12, 12, 8), (3, 3, 3, 8, 8), {"padding": ((-2, 3), (-1, 1), (4, -1))}),
        ((2, 5, 9, 16), (3, 3, 16, 8), {"padding": ((-6, 6), (1, 1))}),
    ],
)
def test_crops(x, w, options):
    assert_as_in_float64(lambda x, w: jaxcnn.conv(x, w, **options), x, w)
