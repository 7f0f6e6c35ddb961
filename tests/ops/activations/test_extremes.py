"""Activations at the ends of a dtype, up to infinity, and of what is infinite."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcnn as jc

pytestmark = pytest.mark.optimized


SCALE = 1.0507009873554805  # λ of selu
SELU = SCALE * 1.6732632423543772
# f and f' at -inf, and at inf, where None is f(z) = z; f'' and the third are 0
FAR = {
    "relu": ((0, 0), (None, 1)),
    "leaky_relu": ((0, 0), (None, 1)),
    "elu": ((-1, 0), (None, 1)),
    "celu": ((-1, 0), (None, 1)),
    "selu": ((-SELU, 0), (None, SCALE)),
    "gelu": ((0, 0), (None, 1)),
    "silu": ((0, 0), (None, 1)),
    "mish": ((0, 0), (None, 1)),
    "softplus": ((0, 0), (None, 1)),
    "softsign": ((-1, 0), (1, 0)),
    "sigmoid": ((0, 0), (1, 0)),
    "tanh": ((-1, 0), (1, 0)),
    "hard_sigmoid": ((0, 0), (1, 0)),
    "hard_silu": ((0, 0), (None, 1)),
    "hard_tanh": ((-1, 0), (1, 0)),
}
ACTIVATIONS = {
    **{name: getattr(jc, name) for name in FAR},
    "relu-output": lambda z: jc.relu(z, keeps="output"),
    "leaky_relu": lambda z: jc.leaky_relu(z, 0),
    "gelu-tanh": lambda z: jc.gelu(z, approximate=True),
}


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16, jnp.float16])
def test_activations_far_out_are_their_limits(dtype):
    """The value and three derivatives, up to ±inf; NaN stays NaN."""
    largest = float(jnp.finfo(dtype).max)
    far = np.array([min(z, largest) for z in (1e4, 1e10, 1e20, 1e30, largest)] + [np.inf])
    z = jnp.asarray(np.concatenate([-far, far, [np.nan]]), dtype)

    def derivatives(f):
        def slope(z):
            return jax.vjp(f, z)[1](jnp.ones_like(z))[0]

        def second(z):
            return jax.jvp(slope, (z,), (jnp.ones_like(z),))[1]

        third = jax.jvp(second, (z,), (jnp.ones_like(z),))[1]
        return f(z), slope(z), jax.vjp(slope, z)[1](jnp.ones_like(z))[0], second(z), third

    for name, got in jax.jit(lambda: {key: derivatives(f) for key, f in ACTIVATIONS.items()})().items():
        (low, low_slope), (high, high_slope) = FAR[name.partition("-")[0]]
        values = [high if high is not None else high_slope * float(entry) for entry in z[len(far) : -1]]
        y, slope, *further = (np.asarray(a, np.float64) for a in got)
        rtol = 2 * float(jnp.finfo(dtype).eps)
        with np.errstate(over="ignore"):
            expected = np.array([low] * len(far) + values).astype(dtype).astype(float)
        # softsign(1e4) is not yet 1
        np.testing.assert_allclose(y[:-1], expected, rtol=max(rtol, 2e-4), err_msg=name)
        slopes = np.repeat([low_slope, high_slope], len(far))
        np.testing.assert_allclose(slope[:-1], slopes, rtol=rtol, atol=2e-8, err_msg=name)
        np.testing.assert_allclose([a[:-1] for a in further], 0, atol=1e-11, err_msg=name)
        assert np.isnan(y[-1]), name
    for name in ("silu", "gelu-tanh", "softsign"):  # the rule is the same outside jit
        assert np.isfinite(jax.vjp(ACTIVATIONS[name], z[:-1])[1](jnp.ones_like(z[:-1]))[0]).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_the_mask_of_an_output_is_that_of_the_input(dtype):
    """From the smallest numbers on."""
    tiny = float(jnp.finfo(dtype).tiny)
    z = jnp.array([-np.inf, -1, -tiny, -0.0, 0, tiny, 1, np.inf, np.nan], dtype)
    slope = jax.jit(lambda z: jax.vjp(partial(jc.relu, keeps="output"), z)[1](jnp.ones_like(z))[0])
    np.testing.assert_array_equal(slope(z), [0, 0, 0, 0, 0, 1, 1, 1, 0])


def test_an_infinity_above_zero_stays_out_of_the_gradient_of_prelu():
    z, dy = jnp.array([np.inf, -2, 3]), jnp.array([1, 5, np.inf])
    np.testing.assert_array_equal(jax.vjp(jc.prelu, z, jnp.array(0.5))[1](dy)[1], -10)


def test_softmax_of_large_logits():
    z = jnp.array([[1e4, 0.0, -1e4], [1e4, 1e4, -jnp.inf]])
    y, vjp = jax.vjp(jc.softmax, z)
    np.testing.assert_allclose(y, [[1, 0, 0], [0.5, 0.5, 0]])
    assert np.isfinite(vjp(jnp.array([[1.0, 2, 3], [1, 2, 3]]))[0]).all()
    np.testing.assert_allclose(jc.softmax(z.T, axis=0), y.T)
    np.testing.assert_allclose(jc.log_softmax(z.T, axis=(0, 1))[:, 1], [-np.log(3), -np.log(3), -np.inf])
