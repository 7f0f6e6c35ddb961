"""The pools between the maximum and the mean, one window after the other, and what is particular to each."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import jaxcnn as jc

RNG = np.random.default_rng(0)


def pooled(x, of_window, size, stride, padding=0, more=0):
    """of_window(entries of x [L] inside the image, channel) for each window; `more` places behind the padding."""
    rank = x.ndim - 2
    pads = [(padding, padding + more)] * rank
    geometry = x.shape[1:-1], size, stride, pads, (1,) * rank
    y = np.zeros((len(x), *oracles.outputs(*geometry), x.shape[-1]))
    for i, entries in oracles.windows(*geometry):
        for n, c in np.ndindex(len(x), x.shape[-1]):
            y[(n, *i, c)] = of_window(np.array([x[(n, *p, c)] for _, p in entries]), c)
    return y


@pytest.mark.parametrize("p", [0.5, 1, 2, 3, 2.5])
def test_lp_pool(p):
    """In ceil_mode the last windows, of which 1 of 3 places sticks out, count as if they were whole."""
    x = 0.1 + RNG.random(size=(2, 6, 4, 2))
    expected = pooled(x, lambda entries, c: (9 / len(entries) * np.sum(entries**p)) ** (1 / p), (3, 3), (2, 2), more=1)
    np.testing.assert_allclose(jc.lp_pool(x, 3, p, stride=2, ceil_mode=True), expected, rtol=1e-12)


def test_lp_pool_of_what_pytorch_has_no_number_for():
    """torch 2.13.0: lp_pool1d with windows of 2, and the gradient of the sum."""
    x, nan = jnp.array([1.0, -2.0, 3.0, -4.0, 0.0, 0.0, -5.0, 2.0]).reshape(1, 8, 1), np.nan
    for p, y, dx in (
        (1, [-1, -1, 0, -3], [1, 1, 1, 1, 0, 0, 1, 1]),
        (2.0, np.sqrt([5, 25, 0, 29]), [1 / 5**0.5, -2 / 5**0.5, 0.6, -0.8, 0, 0, -5 / 29**0.5, 2 / 29**0.5]),
        (3, [nan, nan, 0, nan], [nan, nan, nan, nan, 0, 0, nan, nan]),
        (1.5, [nan, nan, 0, nan], [nan, nan, nan, nan, 0, 0, nan, nan]),
        (0.5, [nan, nan, 0, nan], [nan] * 8),
    ):
        got, vjp = jax.vjp(lambda x, p=p: jc.lp_pool(x, 2, p), x)
        np.testing.assert_allclose(got[0, :, 0], y, rtol=1e-12)
        np.testing.assert_allclose(vjp(jnp.ones_like(got))[0][0, :, 0], dx, rtol=1e-12)
