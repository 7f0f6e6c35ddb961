"""The training state, the jitted step and the default optimizer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcnn
from jaxcnn import nn, train

KEY = jax.random.key(0, impl="rbg")  # compiles four times as fast as the default
X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
Y = np.array([0, 1, 0, 1, 1, 0], np.int32)
SGD = train.sgd(0.1)


def small_model():
    return nn.sequential(nn.dense(4), nn.batch_norm(), jaxcnn.relu, nn.dropout(0.5), nn.dense(2))


def test_a_step_is_the_gradient_step_of_the_risk():
    model, rate, factor = nn.dense(2), 0.5, 0.1
    state = train.init(model, optax.sgd(rate), KEY, X.shape)

    def risk(params):
        logits, _ = model.apply(params, {}, X)
        return jaxcnn.softmax_cross_entropy(logits, Y) + factor * jaxcnn.l2_penalty(params).astype(logits.dtype)

    value, dparams = jax.value_and_grad(risk)(state.params)
    expected = jax.tree.map(lambda w, dw: w - rate * dw, state.params, dparams)
    step = train.make_step(model, optax.sgd(rate), penalty=lambda params: factor * jaxcnn.l2_penalty(params))
    state, loss = step(state, X, Y)
    np.testing.assert_allclose(loss, value, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state.params, expected)
    assert int(state.step) == 1


def test_what_is_kept_changes_no_step():
    """Dropout draws the same when it is computed again, and running statistics move once."""
    x = X.reshape(6, 3, 1)
    model = nn.sequential(nn.conv(4, 2), nn.batch_norm(), jaxcnn.relu, nn.dropout(0.5), nn.flatten(), nn.dense(2))
    states = []
    for stored in ("everything", "convolutions"):
        step = train.make_step(model, SGD, penalty=jaxcnn.l2_penalty, stored=stored)
        first, _ = step(train.init(model, SGD, KEY, x.shape), x, Y)
        state, loss = step(first, x, Y)
        states.append((state.params, state.statistics, loss))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), *states)


def test_a_step_stores_what_there_is_a_word_for():
    message = "^train.make_step: stored must be one of 'everything', 'convolutions', got 'dots'$"
    with pytest.raises(ValueError, match=message):
        train.make_step(nn.dense(2), SGD, stored="dots")


def test_labels_in_a_step():
    """One that is no class is no loss of 0; those that the loss ignores are as if their images were not there."""
    model, some = nn.dense(2), np.arange(6) % 3 != 1
    state = train.init(model, optax.sgd(0.1), KEY, X.shape)
    loss = partial(jaxcnn.softmax_cross_entropy, ignore_index=-1)
    steps = [jax.jit(train.make_step(model, optax.sgd(0.1), loss=f)) for f in (jaxcnn.softmax_cross_entropy, loss)]
    assert np.isnan(steps[0](state, X, Y + 1)[1])
    expected, got = steps[0](state, X[some], Y[some]), steps[1](state, X, np.where(some, Y, -1))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        (got[0].params, got[1]),
        (expected[0].params, expected[1]),
    )


def test_another_loss():
    model, target = nn.dense(1), np.ones((6, 1), np.float32)
    state = train.init(model, optax.sgd(0.0), KEY, X.shape)
    predicted, _ = model.apply(state.params, {}, X)
    _, loss = train.make_step(model, optax.sgd(0.0), loss=jaxcnn.mean_squared_error)(state, X, target)
    np.testing.assert_allclose(loss, np.mean((predicted - 1) ** 2), rtol=1e-5)


@pytest.mark.parametrize(
    "optimizer",
    [
        train.sgd(train.cosine_decay_schedule(0.1, 100), weight_decay=1e-4),
        optax.adamw(1e-3),
        optax.chain(optax.clip_by_global_norm(1.0), optax.rmsprop(optax.warmup_cosine_decay_schedule(0.0, 0.1, 2, 9))),
        optax.contrib.schedule_free_adamw(1e-2),
        optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(patience=3)),
        optax.polyak_sgd(0.1),
    ],
    ids=["sgd", "adamw", "chain", "schedule_free", "reduce_on_plateau", "polyak"],
)
def test_any_optimizer_lowers_the_loss(optimizer):
    model = nn.dense(2)
    state, step = train.init(model, optimizer, KEY, X.shape), train.make_step(model, optimizer)
    losses = []
    for _ in range(12):
        state, loss = step(state, X, Y)
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state.params))


def test_an_optimizer_that_searches_along_a_line():
    """It asks for the risk at other parameters; with x64 on, optax 0.2.8 would make float64 of them."""
    with jax.enable_x64(False):
        test_any_optimizer_lowers_the_loss(optax.lbfgs())


def test_the_step_is_compiled_once():
    traces = []

    def counted(x):
        traces.append(x.shape)
        return x

    model, optimizer = nn.sequential(nn.dense(2), counted, nn.dropout(0.5)), train.sgd(0.1, weight_decay=1e-3)
    state = train.init(model, optimizer, KEY, X.shape)
    step = train.make_step(model, optimizer)
    traces.clear()
    for epoch in range(3):
        for batch in range(3):
            state, _ = step(state, X + epoch, Y)
            assert int(state.step) == 3 * epoch + batch + 1
    assert traces == [(6, 2)]


def test_the_parameters_of_equal_models_are_drawn_by_one_program():
    """The optimizer may be another: it is the model whose parameters take long to compile."""
    traces = []

    def counted(key, shape, dtype=jnp.float32):
        traces.append(shape)
        return jax.random.normal(key, shape, dtype)

    def start(optimizer, key, features=2):
        return train.init(nn.dense(features, initializer=counted), optimizer, key, X.shape).params["w"]

    first, second = start(SGD, KEY), start(train.sgd(0.1), jax.random.fold_in(KEY, 1))
    assert traces == [(3, 2)]
    assert not np.array_equal(first, second)
    start(SGD, KEY, features=4)
    assert traces == [(3, 2), (3, 4)]


def test_a_state_of_another_optimizer():
    model = nn.dense(2)
    state = train.init(model, optax.adam(0.1), KEY, X.shape)
    for optimizer in (SGD, optax.sgd(0.1)):
        with pytest.raises(ValueError, match=r"^step: state must be what train\.init makes for this optimizer, got"):
            train.make_step(model, optimizer)(state, X, Y)


def test_a_step_reuses_the_buffers_of_the_state():
    model, optimizer = small_model(), train.sgd(0.1)
    before = train.init(model, optimizer, KEY, X.shape)
    after, _ = train.make_step(model, optimizer)(before, X, Y)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(after))
    assert not KEY.is_deleted()


def test_a_state_whose_optimizer_keeps_the_parameters_can_be_donated():
    """schedule_free has the parameters in its state: one buffer in two places could not be donated."""
    model, optimizer = nn.dense(2), optax.contrib.schedule_free_sgd(0.1)
    state = train.init(model, optimizer, KEY, X.shape)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state._replace(key=()))]
    assert len(set(pointers)) == len(pointers)
    state, loss = train.make_step(model, optimizer)(state, X, Y)
    assert np.isfinite(loss)


def test_the_same_key_gives_the_same_run_and_each_step_its_own_dropout():
    model, optimizer = nn.sequential(nn.dropout(0.5), nn.dense(2)), optax.sgd(0.0)
    step = train.make_step(model, optimizer)

    def losses(key):
        state, values = train.init(model, optimizer, key, X.shape), []
        for _ in range(4):
            state, loss = step(state, X, Y)
            values.append(float(loss))
        return values

    assert losses(KEY) == losses(KEY)
    assert len(set(losses(KEY))) == 4
    assert losses(KEY) != losses(jax.random.fold_in(KEY, 1))


def test_statistics_move_with_the_steps():
    model, optimizer = small_model(), train.sgd(0.0)
    state = train.init(model, optimizer, KEY, X.shape)
    hidden = X @ np.asarray(state.params["dense1"]["w"])
    state, _ = train.make_step(model, optimizer)(state, X, Y)
    np.testing.assert_allclose(state.statistics["batch_norm1"]["mean"], 0.1 * hidden.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state.statistics["batch_norm1"]["var"], 0.9 + 0.1 * hidden.var(0, ddof=1), rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train.init(None, SGD, KEY, (1, 4)), "train.init: model must be a Layer or a function of"),
        (lambda: train.init(nn.flatten, SGD, KEY, (1, 4)), r"train.init: model must be the layer nn.flatten\("),
        (lambda: train.init(nn.dense(2), "sgd", KEY, (1, 4)), "train.init: optimizer must be an optax optimizer, got"),
        (lambda: train.init(nn.dense(2), SGD, 0, (1, 4)), "train.init: key must be one JAX random key, got int"),
        (lambda: train.init(nn.dense(2), SGD, KEY, 4), "train.init: input_shape must be a shape, a tuple of"),
        (lambda: train.make_step(None, SGD), "train.make_step: model must be a Layer or a function of an arr"),
        (lambda: train.make_step(nn.dense(2), train.sgd), "train.make_step: optimizer must be an optax optimizer"),
        (lambda: train.make_step(nn.dense(2), SGD, "mse"), "train.make_step: loss must be a function, got str"),
        (
            lambda: train.make_step(nn.dense(2), SGD, penalty=1e-4),
            "train.make_step: penalty must be a function or None, got float 0.0001",
        ),
        (
            lambda: train.make_step(nn.dense(2), SGD)({"w": X}, X, Y),
            "step: state must be a TrainState, got dict {'w': ",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(TypeError, match="^" + message):
        call()


def test_a_state_that_a_step_has_used_up(tmp_path):
    model, optimizer = nn.dense(2), train.sgd(0.1)
    x, y = np.ones((3, 4), np.float32), np.zeros(3, np.int32)
    state, step = train.init(model, optimizer, KEY, x.shape), train.make_step(model, optimizer)
    new, _ = step(state, x, y)
    for call, what in (
        (lambda: step(state, x, y), "step: the state was"),
        (lambda: train.evaluate(model, state, x, y), "train.evaluate: the state was"),
        (lambda: model.apply(state.params, state.statistics, x), "nn.dense: the params were"),
        (lambda: train.save(tmp_path / "model", {"params": state.params}), "train.save: the tree was"),
    ):
        with pytest.raises(ValueError, match=rf"^{what} used up by the step before: keep the new ones?$"):
            call()
    assert int(step(new, x, y)[0].step) == 2
