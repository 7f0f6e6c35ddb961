"""The moving average of the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilation import quick

from jaxcnn import nn, train

KEY = jax.random.key(0, impl="rbg")  # compiles four times as fast as the default
X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
Y = np.array([0, 1, 0, 1, 1, 0], np.int32)
MODEL = nn.dense(2)


def test_the_average_follows_the_parameters_after_each_update():
    """By the recursion, a ← d a + (1 - d) w with d = min(decay, (1 + n)/(10 + n)), from the w of each update, which
    takes two steps here."""
    optimizer = train.optimizer("adam", 0.3, ema=0.25, accumulate=2)
    state, step = train.init(MODEL, optimizer, KEY, X.shape), train.make_step(MODEL, optimizer)
    expected = np.asarray(state.params["w"])
    for i in range(10):
        state, _ = step(state, X, Y)
        if i % 2 == 1:
            n = i // 2
            d = min(0.25, (1 + n) / (10 + n))
            expected = d * expected + (1 - d) * np.asarray(state.params["w"])
        np.testing.assert_allclose(train.averaged(state).params["w"], expected, rtol=1e-5)
    averaged = train.averaged(state)
    assert averaged.statistics is state.statistics
    state, _ = step(state, X, Y)  # what was donated is not in the average
    assert train.evaluate(MODEL, averaged, X, Y) != train.evaluate(MODEL, state, X, Y)


def test_the_average_of_half_precision_is_kept_in_float32():
    optimizer, w = train.ema(1.0), {"w": jnp.ones(2, "bfloat16"), "count": jnp.ones(2, "int32")}
    updates = {"w": jnp.full(2, 2**-7, "bfloat16"), "count": jnp.zeros(2, "int32")}
    _, state = quick(lambda: optimizer.update(updates, optimizer.init(w), w))()
    assert state.average["w"].dtype == jnp.float32
    np.testing.assert_allclose(state.average["w"], 1 + 0.9 * 2**-7, rtol=1e-6)
    assert train.averaged(train.TrainState(w, {}, (state,), 0, KEY)).params["w"].dtype == jnp.bfloat16


def test_parameters_without_an_average_stay():
    """Those that a mask leaves out, and all where there is none."""
    params = {"w": jnp.ones(2), "b": jnp.zeros(2)}
    masked = optax.masked(train.ema(0.0), {"w": True, "b": False})
    _, opt_state = masked.update({"w": jnp.ones(2), "b": jnp.ones(2)}, masked.init(params), params)
    averaged = train.averaged(train.TrainState(params, {}, opt_state, 0, KEY))
    assert (float(averaged.params["w"][0]), float(averaged.params["b"][0])) == (2, 0)
    state = train.TrainState(params, {}, optax.sgd(0.1).init(params), 0, KEY)
    assert train.averaged(state) is state


def test_what_has_no_average_to_give():
    ema, params = train.ema(0.5), {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"^train\.ema: params must be given to update, got None$"):
        ema.update(params, ema.init(params))
    for others in ({"v": jnp.ones(2)}, {"w": jnp.ones(3)}):
        state = train.TrainState(others, {}, ema.init(params), 0, KEY)
        with pytest.raises(ValueError, match=r"^train\.averaged: state must be one that a step has made, got the av"):
            train.averaged(state)
    with pytest.raises(TypeError, match=r"^train\.averaged: state must be a TrainState, got dict"):
        train.averaged(params)
