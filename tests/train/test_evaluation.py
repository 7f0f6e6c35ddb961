"""Loss, accuracy and metrics on a whole set, and the outputs that they are computed from."""

import math
from functools import partial

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcnn
from jaxcnn import nn, train

KEY = jax.random.key(0, impl="rbg")  # compiles four times as fast as the default
RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)
MODEL = nn.sequential(nn.dense(4), nn.batch_norm(), nn.dropout(0.5), nn.dense(2))


def state_of(model, x=X):
    return train.TrainState(*jax.jit(model.init, static_argnums=1)(KEY, x.shape), (), jnp.int32(0), KEY)


STATE = state_of(MODEL)
LOGITS = np.asarray(jax.jit(MODEL.apply)(STATE.params, STATE.statistics, X)[0])
WEIGHTS = np.array([1.0, 5.0], np.float32)


def weighted(logits, y):
    return jaxcnn.softmax_cross_entropy(logits, y, class_weights=jnp.asarray(WEIGHTS))


@pytest.mark.parametrize("batch_size", [7, 100])
def test_evaluation_in_batches_equals_one_big_batch(batch_size):
    """By the formula: the mean over the weights of the labels, which differ from batch to batch."""
    log_p = LOGITS - np.log(np.sum(np.exp(LOGITS), axis=1, keepdims=True))
    expected = np.average(-log_p[np.arange(23), Y], weights=WEIGHTS[Y])
    loss, accuracy = train.evaluate(MODEL, STATE, X, Y, batch_size=batch_size, loss=weighted)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert accuracy == np.mean(np.argmax(LOGITS, axis=1) == Y)


def test_another_function_each_time_compiles_nothing():
    compiled = []

    def listener(event, *_, **__):
        if "backend_compile" in event:
            compiled.append(event)

    train.evaluate(MODEL, STATE, X, Y, loss=lambda logits, y: weighted(logits, y))
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        train.evaluate(MODEL, STATE, X, Y, loss=lambda logits, y: weighted(logits, y))
        assert compiled == []
        train.evaluate(MODEL, STATE, X, Y, loss=lambda logits, y: jnp.sum(jnp.cosh(logits)))
        assert compiled != []
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


def test_ignored_labels_and_places_count_neither_in_the_loss_nor_in_the_accuracy():
    some = np.arange(23) % 3 != 1
    loss = partial(jaxcnn.softmax_cross_entropy, ignore_index=-1)
    expected = train.evaluate(MODEL, STATE, X[some], Y[some], batch_size=8)
    assert train.evaluate(MODEL, STATE, X, np.where(some, Y, -1), loss=loss) == pytest.approx(expected, rel=1e-6)
    none = train.evaluate(MODEL, STATE, X, np.full(23, -1), loss=loss)
    assert none[0] == 0
    assert math.isnan(none[1])


def test_label_maps_regression_soft_labels_and_several_heads():
    """Places of a segmentation are right or wrong, elsewhere is no accuracy. One logit tells two classes apart."""
    x = RNG.normal(size=(5, 4, 3, 2)).astype(np.float32)
    maps = (x[..., 0] > 0.5).astype(np.uint8)
    same, state = nn.sequential(lambda x: x), train.TrainState({}, {}, (), 0, KEY)
    assert train.evaluate(same, state, x, maps)[1] == np.mean(np.argmax(x, axis=-1) == maps)

    def mean(output, y):
        return jnp.mean(output)

    assert train.evaluate(same, state, x[..., :1], maps, loss=mean)[1] == np.mean((x[..., 0] > 0) == maps)
    loss, accuracy = train.evaluate(same, state, x, 0 * x, loss=jaxcnn.mean_squared_error, batch_size=2)
    assert loss == pytest.approx(np.mean(x.astype(np.float64) ** 2), rel=1e-6)
    assert math.isnan(accuracy)
    heads = nn.parallel(lambda x: x, lambda x: 2 * x)
    target = {"first": x, "second": x}
    loss, accuracy = train.evaluate(
        heads, state, x, target, loss=lambda output, y: jnp.max(jnp.abs(output[1] - 2 * y["second"]))
    )
    assert loss == 0
    assert math.isnan(accuracy)


def test_metrics_see_all_outputs_as_numpy_arrays():
    def largest(output, y):
        assert type(output) is type(y) is np.ndarray
        return np.max(output)

    metrics = {"auc": train.metrics.auc, "largest": largest, "matrix": train.metrics.confusion_matrix}
    loss, values = train.evaluate(MODEL, STATE, X, jnp.asarray(Y), metrics=metrics, batch_size=5)
    assert loss == pytest.approx(train.evaluate(MODEL, STATE, X, Y)[0])
    assert values["auc"] == pytest.approx(train.metrics.auc(LOGITS, Y))
    assert values["largest"] == pytest.approx(LOGITS.max())
    assert type(values["largest"]) is float
    assert values["matrix"].sum() == 23


def test_accuracy_of_more_classes_than_the_labels_can_count():
    """Class 300 is not class 44, which it would be as uint8."""
    x, labels = np.zeros((2, 3), np.float32), np.array([44, 44], np.uint8)
    first = jnp.asarray(np.where(np.arange(301) == 300, 1, 0), jnp.float32)
    model = nn.dense(301)
    params = {"w": jnp.broadcast_to(first, (3, 301)), "b": first}
    assert train.evaluate(model, STATE._replace(params=params, statistics={}), x, labels)[1] == 0


def test_sets_of_all_sizes_are_predicted_by_few_programs(tmp_path):
    """Arrays of JAX, memory maps and trees of arrays as well; half precision becomes float32."""
    traces = []

    def doubled(x):
        traces.append(x["a"].shape)
        return {"double": 2 * x["a"], "half": x["b"].astype(jnp.bfloat16)}

    model, state = nn.sequential(doubled), train.TrainState({}, {}, (), 0, KEY)
    for count in (1, 2, 3, 5, 8, 11, 12, 23):
        got = train.predict(model, state, {"a": X[:count], "b": Y[:count]}, batch_size=8)
        np.testing.assert_array_equal(got["double"], 2 * X[:count])
        np.testing.assert_array_equal(got["half"], Y[:count])
        assert got["half"].dtype == np.float32
    assert traces == [(1, 3), (2, 3), (4, 3), (8, 3)]
    np.save(tmp_path / "x.npy", X)
    for x in (jnp.asarray(X), np.load(tmp_path / "x.npy", mmap_mode="r")):
        np.testing.assert_allclose(train.predict(MODEL, STATE, x, batch_size=8), LOGITS, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (X, Y, {"batch_size": 0}, "train.evaluate: batch_size must be an int of at least 1, got 0"),
        (X[:0], Y[:0], {}, r"train.evaluate: x must be at least one image, got float32\[0, 3\]"),
        (X, Y[:5], {}, r"train.evaluate: y must be 23 labels as there are images, got int32\[5\]"),
        ((X, X[:5]), Y, {}, r"train.evaluate: x must be 23 images in each array, got float32\[5, 3\]"),
        (X, Y[:, None], {}, r"softmax_cross_entropy: labels must be classes \[23\], got int32\[23, 1\]"),
        (X, Y + 1, {}, "train.evaluate: y must be from 0 to 1, as the model has classes, got from 1 to 2"),
        (X, Y - 1, {}, ".* got from -1 to 0: give the loss as partial.*ignore_index=-1.* to leave some out"),
        (X, Y, {"loss": lambda output, y: output}, r"train.evaluate: loss must be a function that gives a scalar, got"),
        (X[:, :2], Y, {}, r"nn.dense: x must be \[N, 3\], got \[16, 2\]"),
    ],
)
def test_bad_sets_to_evaluate(x, y, options, message):
    with pytest.raises(ValueError, match="^" + message):
        train.evaluate(MODEL, STATE, x, y, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": None}, "model must be a Layer or a function of an array, got NoneType None"),
        ({"state": STATE.params}, "state must be a TrainState, got dict"),
        (
            {"x": [[1.0, 2.0]]},
            r"x must be an array \[N, ...\] of numbers, or a tree of them, got list \[\[1.0, 2.0\]\]",
        ),
        ({"x": np.array(["a"])}, r"x must be an array \[N, ...\] of numbers, or a tree of them, got <U1\[1\]"),
        ({"y": list(Y[:2])}, r"y must be an array \[N, ...\] of numbers, or a tree of them, got list \["),
        ({"loss": "mse"}, "loss must be a function, got str 'mse'"),
        ({"metrics": [max]}, r"metrics must be functions by name, \{name: function\}, got list"),
        ({"metrics": {"auc": 3}}, r"metrics must be functions by name, \{name: function\}, got dict"),
    ],
)
def test_no_arrays_to_evaluate(options, message):
    with pytest.raises(TypeError, match=r"^train.evaluate: " + message):
        train.evaluate(**{"model": MODEL, "state": STATE, "x": X, "y": Y, **options})


def test_a_model_without_one_output_per_image():
    with pytest.raises(
        ValueError, match=r"^train.predict: model must be a model with one output per image, \[N, ...\],"
    ):
        train.predict(jnp.sum, train.TrainState({}, {}, (), 0, KEY), X)
