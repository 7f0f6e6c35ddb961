"""Optimizers and schedules by name."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilation import quick

from jaxcnn import nn, train

KEY = jax.random.key(0, impl="rbg")  # compiles four times as fast as the default
WEIGHTS = {"w": jnp.full((2, 1), 2.0), "b": jnp.full(1, 2.0)}
GRADIENT = {"w": jnp.full((2, 1), 3.0), "b": jnp.full(1, 3.0)}
SCHEDULES = ("constant", "cosine", "linear", "step", "one_cycle")


def updated(optimizer, gradients, params=WEIGHTS):
    """The parameters after each of some updates."""
    state, results = optimizer.init(params), []
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        results.append(params)
    return results


def compiled(f):
    """What f gives; as one program, which takes less time to compile than each operation by itself."""
    with jax.numpy_dtype_promotion("standard"):  # optax relies on it
        return quick(f)()


def test_weight_decay_leaves_biases_and_norms_alone():
    model = nn.sequential(nn.conv(2, 3), nn.batch_norm(), nn.prelu(), nn.flatten(), nn.dense(2))
    params, _ = model.init(KEY, (1, 3, 3, 1))
    params = jax.tree.map(jnp.ones_like, params)
    optimizer = train.sgd(0.5, momentum=0.0, weight_decay=0.1)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    decayed = {
        jax.tree_util.keystr(path, simple=True, separator="/"): float(leaf.ravel()[0])
        for path, leaf in jax.tree_util.tree_leaves_with_path(updates)
    }
    weights = {"conv1/w": pytest.approx(-0.05), "dense1/w": pytest.approx(-0.05)}
    assert decayed == weights | dict.fromkeys(
        ["conv1/b", "batch_norm1/gamma", "batch_norm1/beta", "dense1/b", "prelu1/a"], 0
    )


def test_sgd_is_nesterovs_momentum():
    """Two steps with gradient 1: v = 1, then 1.9; w = 1 - 0.1 (1 + 0.9), then less 0.1 (1 + 0.9 · 1.9)."""
    optimizer, w = train.sgd(0.1), jnp.ones(1)
    state = optimizer.init(w)
    for _ in range(2):
        updates, state = optimizer.update(jnp.ones(1), state, w)
        w = w + updates
    np.testing.assert_allclose(w, 1 - 0.19 - 0.271, rtol=1e-6)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("learning_rate", value) for value in (-0.1, float("nan"), float("inf"), np.float32(-1), jnp.asarray(-1.0))),
        *(("momentum", value) for value in (9, -0.1, float("nan"))),
        *(("weight_decay", value) for value in (-1e-4, float("inf"))),
    ],
)
def test_sgd_refuses_what_would_not_descend(argument, value):
    expected = "number from 0 to 1" if argument == "momentum" else "finite number of at least 0"
    with pytest.raises(ValueError, match=f"^train.sgd: {argument} must be a {expected}, got"):
        train.sgd(**{"learning_rate": 0.1, argument: value})


def test_sgd_takes_rates_that_change_with_the_steps():
    optimizer = optax.inject_hyperparams(train.sgd)(learning_rate=optax.linear_schedule(0.1, 0.0, 2), momentum=0.0)
    x, y = np.ones((6, 3), np.float32), np.zeros(6, np.int32)
    state, step = train.init(nn.dense(2), optimizer, KEY, x.shape), train.make_step(nn.dense(2), optimizer)
    for _ in range(2):
        state, _ = step(state, x, y)
    assert float(state.opt_state.hyperparams["learning_rate"]) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": "0.1"}, "learning_rate must be a number or a schedule, got str '0.1'"),
        ({"learning_rate": True}, "learning_rate must be a number or a schedule, got bool True"),
        ({"momentum": None}, "momentum must be a number, got NoneType None"),
        ({"weight_decay": "no"}, "weight_decay must be a number, got str 'no'"),
    ],
)
def test_what_is_no_number(options, message):
    with pytest.raises(TypeError, match="^train.sgd: " + message):
        train.sgd(**{"learning_rate": 0.1, **options})


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "nadamw", "radam", "rmsprop", "lion", "lamb"])
def test_optimizers_by_name(name):
    """Each goes down, and weight decay is for weights only: without a gradient biases stay."""
    nothing = jax.tree.map(jnp.zeros_like, GRADIENT)
    down, decayed = compiled(
        lambda: (
            updated(train.optimizer(name, 0.1, weight_decay=0.0), [GRADIENT])[0],
            updated(train.optimizer(name, 0.1, weight_decay=0.5), [nothing])[0],
        )
    )
    assert all(np.all(down[key] < WEIGHTS[key]) for key in "wb")
    assert np.all(decayed["w"] < 2)
    assert np.all(decayed["b"] == 2)


def test_clipping_accumulation_and_schedules_count_updates():
    """The norm of the gradient is 3 √3, of which clipping leaves 1. Two steps make one update, the second of rate 0."""
    gradients = [jax.tree.map(lambda g, i=i: g * i, GRADIENT) for i in (1.0, 3.0, 7.0, 7.0)]
    accumulating = train.optimizer("sgd", train.schedule("linear", 0.1, 1), momentum=0.0, accumulate=2)
    clipping = train.optimizer("sgd", 0.1, momentum=0.0, clip=1.0)
    clipped, several = compiled(lambda: (updated(clipping, gradients[:1]), updated(accumulating, gradients)))
    np.testing.assert_allclose(clipped[0]["w"], 2 - 0.1 / math.sqrt(3), rtol=1e-6)
    np.testing.assert_allclose([w["b"][0] for w in several], [2, 2 - 0.1 * 6, 2 - 0.1 * 6, 2 - 0.1 * 6], rtol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name):
    """They rise to their largest value at the end of the warm-up."""
    rate = train.schedule(name, 0.5, 12, warmup=4)
    shortest = train.schedule(name, 0.5, 2)
    values, of_two = compiled(lambda: [jax.vmap(f)(jnp.arange(14)) for f in (rate, shortest)])
    assert np.argmax(values) == 4
    assert values[4] == pytest.approx(0.5)
    assert np.all(np.diff(values[:5]) > 0)
    assert np.all(np.diff(values[4:]) <= 0)
    if name != "one_cycle":
        np.testing.assert_allclose(values[:4], [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    half = {"constant": 0.5, "cosine": 0.25, "linear": 0.25, "step": 0.05, "one_cycle": 0.25}
    end = {"constant": 0.5, "cosine": 0.0, "linear": 0.0, "step": 0.005, "one_cycle": 0.5 / 250_000}
    assert values[8] == pytest.approx(half[name], rel=1e-4)
    assert values[12] == pytest.approx(end[name], abs=1e-7)
    assert np.all((of_two >= 0) & (of_two <= 0.5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "sdg"}, "name must be one of 'sgd', 'adam', .*, got 'sdg'"),
        ({"learning_rate": -0.1}, "learning_rate must be a finite number of at least 0, got -0.1"),
        ({"learning_rate": math.nan}, "learning_rate must be a finite number of at least 0, got nan"),
        ({"momentum": 9}, "momentum must be a number from 0 to 1, got 9"),
        ({"momentum": 1}, "momentum must be a number from 0 to less than 1, got 1.0"),
        ({"weight_decay": -1e-4}, "weight_decay must be a finite number of at least 0, got -0.0001"),
        ({"clip": 0}, "clip must be a number above 0, or None, got 0.0"),
        ({"clip": math.inf}, "clip must be a finite number of at least 0, got inf"),
        ({"accumulate": 0}, "accumulate must be an int of at least 1, got 0"),
        ({"ema": 1.5}, "ema must be a number from 0 to 1, got 1.5"),
    ],
)
def test_optimizers_refuse(options, message):
    with pytest.raises(ValueError, match="^train.optimizer: " + message):
        train.optimizer(**{"name": "adamw", "learning_rate": 0.1, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cos"}, "name must be one of 'constant', 'cosine', .*, got 'cos'"),
        ({"learning_rate": math.inf}, "learning_rate must be a finite number of at least 0, got inf"),
        ({"steps": 0}, "steps must be an int of at least 1, got 0"),
        ({"name": "one_cycle", "steps": 1}, "steps must be an int of at least 2, got 1"),
        ({"warmup": -1}, "warmup must be an int of at least 0, got -1"),
        ({"warmup": 9}, "warmup must be fewer than the 9 steps, got 9"),
    ],
)
def test_schedules_refuse(options, message):
    with pytest.raises(ValueError, match="^" + re.escape("train.schedule: ") + message):
        train.schedule(**{"name": "cosine", "learning_rate": 0.1, "steps": 9, **options})
