"""pad place by place: where each entry is from, and that its derivative goes back there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import QUICK_TO_COMPILE

import jaxcnn as jc

RNG = np.random.default_rng(0)


def sources(n, low, high, mode):
    """For each place of the result where in an axis of n entries it is from, None where it is a zero."""
    if mode == "circular":
        kept = list(range(n))[max(-low, 0) : n - max(-high, 0)]
        return [kept[i % len(kept)] for i in range(-max(low, 0), len(kept) + max(high, 0))]
    places = []
    for i in range(-low, n + high):
        if mode == "reflect":
            while not 0 <= i < n:
                i = -i if i < 0 else 2 * (n - 1) - i
        inside = 0 <= i < n
        places.append(i if inside else None if mode == "zeros" else min(max(i, 0), n - 1))
    return places


@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect", "replicate"])
@pytest.mark.parametrize(
    ("image", "width"),
    [
        ((5, 3), ((4, 0), (1, 2))),
        ((6, 4), ((-2, 3), (2, -1))),
        ((5,), ((-7, 4),)),
        ((1, 2, 3), ((0, 0), (1, 1), (2, 0))),
    ],
)
def test_places_and_their_derivatives(image, width, mode):
    if mode == "circular" and image == (5,):
        width = ((-4, 1),)  # it crops first
    x = RNG.normal(size=(2, *image, 3))
    axes = [sources(n, low, high, mode) for n, (low, high) in zip(image, width, strict=True)]
    y, dx = np.zeros((2, *map(len, axes), 3)), np.zeros_like(x)
    dy = RNG.normal(size=y.shape)
    for i in np.ndindex(*y.shape[1:-1]):
        j = tuple(axis[a] for axis, a in zip(axes, i, strict=True))
        if None not in j:
            y[:, *i] = x[:, *j]
            dx[:, *j] += dy[:, *i]

    @jax.jit(compiler_options=QUICK_TO_COMPILE)
    def value_and_gradient(x, dy):
        y, vjp = jax.vjp(lambda x: jc.pad(x, width, mode), x)
        return y, vjp(dy)[0]

    got = value_and_gradient(jnp.asarray(x), jnp.asarray(dy))
    np.testing.assert_array_equal(got[0], y)
    np.testing.assert_allclose(got[1], dx, rtol=1e-12, atol=1e-14)


def test_an_int_is_for_all_sides():
    x = RNG.normal(size=(2, 4, 3, 1))
    np.testing.assert_array_equal(jc.pad(x, 1), np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))))
    np.testing.assert_array_equal(jc.pad(x, -1), x[:, 1:-1, 1:-1])
