"""Each layer by itself: what init gives, what apply does with it, and what is said of bad arguments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcnn
from jaxcnn import nn

KEY = jax.random.key(0, impl="rbg")  # compiles four times as fast as the default

# layer, input shape, shapes of the parameters, output shape
SHAPES = {
    "conv": (nn.conv(6, 3), (2, 5, 7, 4), {"w": (3, 3, 4, 6), "b": (6,)}, (2, 5, 7, 6)),
    "conv of one axis": (nn.conv(6, 3, padding="VALID"), (2, 7, 4), {"w": (3, 4, 6), "b": (6,)}, (2, 5, 6)),
    "conv of three axes": (nn.conv(2, (1, 2, 3)), (1, 3, 4, 5, 2), {"w": (1, 2, 3, 2, 2), "b": (2,)}, (1, 3, 4, 5, 2)),
    "conv with all options": (
        nn.conv(6, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), groups=2, bias=False),
        (2, 5, 7, 4),
        {"w": (3, 2, 2, 6)},
        (2, 3, 7, 6),
    ),
    "depthwise_conv": (nn.depthwise_conv(3, multiplier=2), (2, 5, 7, 4), {"w": (3, 3, 1, 8), "b": (8,)}, (2, 5, 7, 8)),
    "depthwise_conv with all options": (
        nn.depthwise_conv((3, 2), stride=2, padding="VALID", dilation=(1, 2), bias=False),
        (2, 5, 7, 4),
        {"w": (3, 2, 1, 4)},
        (2, 2, 3, 4),
    ),
    "separable_conv": (
        nn.separable_conv(6, 3, multiplier=2, stride=2),
        (2, 5, 7, 4),
        {"w_depth": (3, 3, 1, 8), "w_point": (1, 1, 8, 6), "b": (6,)},
        (2, 3, 4, 6),
    ),
    "conv_transpose": (nn.conv_transpose(6, 3), (2, 5, 7, 4), {"w": (3, 3, 6, 4), "b": (6,)}, (2, 7, 9, 6)),
    "conv_transpose with all options": (
        nn.conv_transpose(6, 2, stride=2, padding=1, output_padding=1, dilation=2, groups=2, bias=False),
        (2, 5, 7, 4),
        {"w": (2, 2, 3, 4)},
        (2, 10, 14, 6),
    ),
    "dense": (nn.dense(3), (2, 4), {"w": (4, 3), "b": (3,)}, (2, 3)),
    "dense without bias": (nn.dense(3, bias=False), (2, 4), {"w": (4, 3)}, (2, 3)),
    "flatten": (nn.flatten(), (2, 5, 7, 4), {}, (2, 140)),
    "max_pool": (nn.max_pool(2), (2, 5, 7, 4), {}, (2, 2, 3, 4)),
    "max_pool with all options": (nn.max_pool((3, 2), stride=1, padding="SAME"), (2, 5, 7, 4), {}, (2, 5, 7, 4)),
    "max_pool in ceil_mode": (nn.max_pool(2, dilation=2, ceil_mode=True), (2, 5, 8, 4), {}, (2, 2, 4, 4)),
    "mean_pool in ceil_mode": (nn.mean_pool(3, ceil_mode=True, divisor=2.0), (2, 5, 7, 4), {}, (2, 2, 3, 4)),
    "adaptive_max_pool": (nn.adaptive_max_pool((3, 2)), (2, 5, 7, 4), {}, (2, 3, 2, 4)),
    "adaptive_mean_pool": (nn.adaptive_mean_pool((3, 2)), (2, 5, 7, 4), {}, (2, 3, 2, 4)),
    "mean_pool": (nn.mean_pool(2, stride=1), (2, 5, 7, 4), {}, (2, 4, 6, 4)),
    "lp_pool": (nn.lp_pool(3, 2, stride=2, ceil_mode=True), (2, 5, 8, 4), {}, (2, 2, 4, 4)),
    "weighted_pool": (nn.weighted_pool((2, 3)), (2, 5, 7, 4), {"w": (2, 3, 4)}, (2, 2, 2, 4)),
    "shared weighted_pool": (nn.weighted_pool(2, stride=1, shared=True), (2, 5, 7, 4), {"w": (2, 2)}, (2, 4, 6, 4)),
    "mixed_pool": (nn.mixed_pool((2, 3), stride=1, padding="SAME"), (2, 5, 7, 4), {"share": (4,)}, (2, 5, 7, 4)),
    "softmax_pool": (nn.softmax_pool((2, 3)), (2, 5, 7, 4), {"log_temperature": (4,)}, (2, 2, 2, 4)),
    "stochastic_pool": (nn.stochastic_pool((2, 3)), (2, 5, 7, 4), {}, (2, 2, 2, 4)),
    "batch_norm": (nn.batch_norm(), (2, 5, 7, 4), {"gamma": (4,), "beta": (4,)}, (2, 5, 7, 4)),
    "batch_norm of rows": (nn.batch_norm(), (2, 4), {"gamma": (4,), "beta": (4,)}, (2, 4)),
    "dropout": (nn.dropout(0.5), (2, 4), {}, (2, 4)),
    "spatial_dropout": (nn.spatial_dropout(0.5), (2, 5, 4), {}, (2, 5, 4)),
    "drop_path": (nn.drop_path(0.5), (2, 5, 4), {}, (2, 5, 4)),
    "drop_block": (nn.drop_block(0.5, (3, 2)), (2, 5, 7, 4), {}, (2, 5, 7, 4)),
    "layer_norm": (nn.layer_norm(), (2, 5, 7, 4), {"gamma": (4,), "beta": (4,)}, (2, 5, 7, 4)),
    "layer_norm of images": (
        nn.layer_norm(axes=(1, 2, 3)),
        (2, 5, 7, 4),
        {"gamma": (5, 7, 4), "beta": (5, 7, 4)},
        (2, 5, 7, 4),
    ),
    "rms_norm": (nn.rms_norm(), (2, 5, 7, 4), {"gamma": (4,)}, (2, 5, 7, 4)),
    "rms_norm of rows": (nn.rms_norm(axes=(-2, -1)), (2, 7, 4), {"gamma": (7, 4)}, (2, 7, 4)),
    "group_norm": (nn.group_norm(2), (2, 5, 7, 4), {"gamma": (4,), "beta": (4,)}, (2, 5, 7, 4)),
    "instance_norm": (nn.instance_norm(), (2, 5, 7, 4), {"gamma": (4,), "beta": (4,)}, (2, 5, 7, 4)),
    "local_response_norm": (nn.local_response_norm(5), (2, 5, 7, 4), {}, (2, 5, 7, 4)),
    "weight_norm": (
        nn.weight_norm(nn.conv(6, 3)),
        (2, 5, 7, 4),
        {"v": (3, 3, 4, 6), "g": (6,), "b": (6,)},
        (2, 5, 7, 6),
    ),
    "spectral_norm": (nn.spectral_norm(nn.dense(3)), (2, 4), {"w": (4, 3), "b": (3,)}, (2, 3)),
    "pixel_shuffle": (nn.pixel_shuffle((2, 1)), (2, 5, 7, 4), {}, (2, 10, 7, 2)),
    "pixel_unshuffle": (nn.pixel_unshuffle(2), (2, 6, 4, 4), {}, (2, 3, 2, 16)),
    "resize": (nn.resize((9, 2), "linear"), (2, 5, 7, 4), {}, (2, 9, 2, 4)),
    "layer_scale": (nn.layer_scale(), (2, 5, 4), {"gamma": (4,)}, (2, 5, 4)),
    "pad": (nn.pad(((1, 2), (3, -1)), "circular"), (2, 5, 7, 4), {}, (2, 8, 9, 4)),
    "prelu": (nn.prelu(), (2, 5, 4), {"a": (4,)}, (2, 5, 4)),
}


@pytest.mark.parametrize("case", SHAPES)
def test_init_and_apply_agree_on_shapes(case):
    layer, input_shape, expected, output = SHAPES[case]
    params, state = jax.eval_shape(lambda key: layer.init(key, input_shape), KEY)
    assert {name: leaf.shape for name, leaf in params.items()} == expected
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((params, state)))
    x = jax.ShapeDtypeStruct(input_shape, jnp.float32)
    for train in (False, True):
        y, new_state = jax.eval_shape(functools.partial(layer.apply, train=train, key=KEY), params, state, x)
        assert (y.shape, y.dtype) == (output, jnp.float32)
        assert jax.tree.map(lambda a: (a.shape, a.dtype), new_state) == jax.tree.map(
            lambda a: (a.shape, a.dtype), state
        )
    assert nn.output_shape(layer, input_shape) == output


@pytest.mark.parametrize(
    ("layer", "input_shape", "variance"),
    [
        (nn.conv(64, 3, groups=2), (1, 8, 8, 32), 2 / (9 * 16)),
        (nn.depthwise_conv(3, multiplier=128), (1, 8, 8, 16), 2 / 9),
        (nn.conv_transpose(64, 3), (1, 8, 8, 32), 2 / (9 * 32)),
        (nn.conv_transpose(64, 3, groups=2), (1, 8, 8, 32), 2 / (9 * 16)),
        (nn.dense(128), (1, 64), 2 / 64),
    ],
    ids=["conv", "depthwise_conv", "conv_transpose", "grouped conv_transpose", "dense"],
)
def test_weights_have_the_variance_of_he_and_biases_are_zero(layer, input_shape, variance):
    params, _ = layer.init(KEY, input_shape)
    assert np.var(params["w"]) == pytest.approx(variance, rel=0.1)
    np.testing.assert_array_equal(params["b"], 0)


def test_an_initializer_is_used():
    ones = jax.nn.initializers.ones
    for layer in (nn.conv(2, 3, initializer=ones), nn.depthwise_conv(3, initializer=ones)):
        np.testing.assert_array_equal(layer.init(KEY, (1, 5, 5, 2))[0]["w"], 1)
    np.testing.assert_array_equal(nn.dense(2, initializer=ones).init(KEY, (1, 5))[0]["w"], 1)


@pytest.mark.parametrize(
    ("initializer", "variance"),
    [
        (nn.he_uniform(), 2 / (9 * 24)),
        (nn.lecun_normal(), 1 / (9 * 24)),
        (nn.lecun_uniform(), 1 / (9 * 24)),
        (nn.glorot_normal(), 2 / (9 * 24 + 9 * 80)),
        (nn.glorot_uniform(), 2 / (9 * 24 + 9 * 80)),
    ],
)
@pytest.mark.parametrize("layer", [nn.conv, nn.conv_transpose])
def test_initializers_take_what_comes_in_from_the_layout_of_the_filters(layer, initializer, variance):
    params, _ = layer(80, 3, initializer=initializer).init(KEY, (1, 8, 8, 24))
    assert np.var(params["w"]) == pytest.approx(variance, rel=0.05)


def test_filters_of_a_grouped_transposed_convolution_are_those_of_a_convolution_group_by_group():
    seen = nn.conv(6, 1, groups=2).init(KEY, (1, 4, 8))[0]["w"][0]  # [4, 6]
    turned = nn.conv_transpose(6, 1, groups=2).init(KEY, (1, 4, 8))[0]["w"][0]  # [3, 8]
    np.testing.assert_array_equal(turned, np.concatenate([seen[:, :3].T, seen[:, 3:].T], axis=1))


@pytest.mark.parametrize("layer", [nn.conv, nn.conv_transpose])
def test_orthogonal_filters(layer):
    w = layer(6, 2, initializer=nn.orthogonal()).init(KEY, (1, 4, 4, 3))[0]["w"]
    vectors = (w if layer is nn.conv else jnp.swapaxes(w, -1, -2)).reshape(12, 6)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(6), atol=1e-6)


def test_batch_norm_may_start_with_nothing():
    params, _ = nn.batch_norm(initializer=jax.nn.initializers.zeros).init(KEY, (1, 3))
    np.testing.assert_array_equal(params["gamma"], 0)


def test_layers_compute_what_their_ops_compute():
    x = jax.random.normal(KEY, (2, 5, 7, 4), jnp.float32)
    options = {"stride": 2, "padding": "VALID", "dilation": 2}
    for layer, op in (
        (nn.conv(6, (2, 3), groups=2, **options), functools.partial(jaxcnn.conv, groups=2, **options)),
        (nn.depthwise_conv((2, 3), **options), functools.partial(jaxcnn.depthwise_conv, **options)),
    ):
        params, state = layer.init(KEY, x.shape)
        params["b"] = jnp.arange(len(params["b"]), dtype=jnp.float32)
        np.testing.assert_array_equal(layer.apply(params, state, x)[0], op(x, params["w"], params["b"]))
    for layer, op in (
        (nn.max_pool(2, stride=1, padding=1), functools.partial(jaxcnn.max_pool, window=2, stride=1, padding=1)),
        (nn.mean_pool(2, stride=1, padding=1), functools.partial(jaxcnn.mean_pool, window=2, stride=1, padding=1)),
        (nn.flatten(), jaxcnn.flatten),
    ):
        np.testing.assert_array_equal(layer.apply({}, {}, x)[0], op(x))
    rows, dense = x[0, 0], nn.dense(3)
    params, _ = dense.init(KEY, rows.shape)
    np.testing.assert_array_equal(dense.apply(params, {}, rows)[0], jaxcnn.dense(rows, params["w"], params["b"]))


@pytest.mark.parametrize("shared", [False, True])
def test_weighted_pool_starts_as_mean_pool(shared):
    x = jax.random.normal(KEY, (2, 5, 7, 3), jnp.float32)
    layer = nn.weighted_pool((2, 3), stride=2, padding="SAME", shared=shared)
    y, _ = layer.apply(*layer.init(KEY, x.shape), x)
    np.testing.assert_allclose(y, jaxcnn.mean_pool(x, (2, 3), stride=2, padding="SAME"), rtol=1e-5, atol=1e-6)


def test_pools_with_a_parameter_start_between_the_maximum_and_the_mean():
    x = jnp.asarray([[[1.0], [3.0], [2.0], [0.0], [5.0]]], jnp.float32)
    layer = nn.mixed_pool(3, stride=2)
    y, _ = jax.jit(layer.apply)(*layer.init(KEY, x.shape), x)
    np.testing.assert_allclose(y[0, :, 0], [(3 + 2) / 2, (5 + 7 / 3) / 2], rtol=1e-6)
    layer = nn.softmax_pool(3, stride=2)
    params, _ = layer.init(KEY, x.shape)
    apply = jax.jit(lambda log: layer.apply({"log_temperature": log}, {}, x)[0])
    weights = np.exp([1, 3, 2])
    np.testing.assert_allclose(apply(params["log_temperature"])[0, 0], weights @ [1, 3, 2] / weights.sum(), rtol=1e-6)
    y = apply(jnp.full(1, -20, jnp.float32))
    np.testing.assert_allclose(y[0, :, 0], [3, 5], rtol=1e-6)


def test_stochastic_pool_draws_in_training_only():
    x, layer = jnp.asarray([1.0, 3.0] * 20, jnp.float32).reshape(1, 40, 1), nn.stochastic_pool(2)
    y, drawn = jax.jit(lambda x: [layer.apply({}, {}, x, train=train, key=KEY)[0] for train in (False, True)])(x)
    np.testing.assert_array_equal(y, 2.5)
    assert set(drawn.ravel().tolist()) == {1.0, 3.0}


def test_prelu_starts_with_a_quarter():
    layer = nn.prelu()
    y, _ = layer.apply(*layer.init(KEY, (1, 2)), jnp.array([[-1.0, 2.0]], jnp.float32))
    np.testing.assert_array_equal(y, [[-0.25, 2.0]])


def test_layer_scale_multiplies_each_channel():
    y, _ = nn.layer_scale().apply({"gamma": jnp.array([2.0, 3.0])}, {}, jnp.ones((1, 2, 2)))
    np.testing.assert_array_equal(y, [[[2, 3], [2, 3]]])


def test_batch_norm_moves_its_running_statistics_as_pytorch_does():
    """One channel, the batches (1, 2, 3, 6) and (0, 0, 0, 4): means 3 and 1, unbiased variances 14/3 and 4."""
    layer = nn.batch_norm(momentum=0.25)
    params, state = layer.init(KEY, (2, 2, 1))
    first, second = (jnp.array(b, jnp.float32).reshape(2, 2, 1) for b in ([1, 2, 3, 6], [0, 0, 0, 4]))
    y, state = layer.apply(params, state, first, train=True)
    np.testing.assert_allclose(y.reshape(-1), np.array([-2, -1, 0, 3]) / np.sqrt(3.5 + 1e-5), rtol=1e-6)
    np.testing.assert_allclose([state["mean"][0], state["var"][0]], [0.75, 0.75 + 14 / 12], rtol=1e-6)
    _, state = layer.apply(params, state, second, train=True)
    mean, var = 0.75 * 0.75 + 0.25 * 1, 0.75 * (0.75 + 14 / 12) + 0.25 * 4
    np.testing.assert_allclose([state["mean"][0], state["var"][0]], [mean, var], rtol=1e-6)
    y, unmoved = layer.apply(params, state, first)
    np.testing.assert_allclose(y.reshape(-1), (np.array([1, 2, 3, 6]) - mean) / np.sqrt(var + 1e-5), rtol=1e-6)
    assert unmoved is state


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float64])
def test_batch_norm_keeps_the_dtype_of_its_state(dtype):
    layer = nn.batch_norm()
    params, state = layer.init(KEY, (4, 2))
    y, state = layer.apply(params, state, jnp.arange(8, dtype=dtype).reshape(4, 2), train=True)
    assert (y.dtype, state["mean"].dtype, state["var"].dtype) == (dtype, jnp.float32, jnp.float32)


DROPS = {
    "dropout": nn.dropout(0.25),
    "spatial_dropout": nn.spatial_dropout(0.25),
    "drop_path": nn.drop_path(0.25),
    "drop_block": nn.drop_block(0.25, 3),
}


@pytest.mark.parametrize("layer", DROPS.values(), ids=DROPS)
def test_dropout_drops_in_training_only(layer):
    x = jnp.ones((2000, 1, 2) if layer.name == "drop_path" else (40, 30, 50), jnp.float32)
    assert layer.apply({}, {}, x)[0] is x
    assert layer.apply({}, {}, x, key=KEY)[0] is x
    y, _ = layer.apply({}, {}, x, train=True, key=KEY)
    assert np.mean(y == 0) == pytest.approx(0.25, abs=0.03)
    other, _ = layer.apply({}, {}, x, train=True, key=jax.random.fold_in(KEY, 1))
    assert np.any(y != other)


def test_norms_compute_what_their_ops_compute():
    x, response = jax.random.normal(KEY, (2, 5, 7, 4), jnp.float32), {"alpha": 1.0, "beta": 0.5, "k": 2.0}
    for layer, op in (
        (nn.layer_norm(eps=0.1), functools.partial(jaxcnn.layer_norm, eps=0.1)),
        (nn.layer_norm(axes=(1, 3)), functools.partial(jaxcnn.layer_norm, axes=(1, 3))),
        (nn.group_norm(2, eps=0.1), functools.partial(jaxcnn.group_norm, groups=2, eps=0.1)),
        (nn.instance_norm(eps=0.1), functools.partial(jaxcnn.instance_norm, eps=0.1)),
        (nn.rms_norm(eps=0.1), functools.partial(jaxcnn.rms_norm, eps=0.1)),
        (nn.local_response_norm(3, **response), functools.partial(jaxcnn.local_response_norm, size=3, **response)),
    ):
        params, state = layer.init(KEY, x.shape)
        assert [(name, float(p.min()), float(p.max())) for name, p in params.items()] == [
            entry for entry in (("gamma", 1.0, 1.0), ("beta", 0.0, 0.0)) if entry[0] in params
        ]
        params = {name: p + jnp.arange(p.size, dtype=p.dtype).reshape(p.shape) for name, p in params.items()}
        y, new_state = layer.apply(params, state, x, train=True)
        np.testing.assert_array_equal(y, op(x, *params.values()))
        assert new_state == {}


def test_weight_norm_starts_with_the_filters_of_its_layer():
    x, layer = jax.random.normal(KEY, (2, 5, 7, 4), jnp.float32), nn.conv(6, 3, stride=2)
    normed = nn.weight_norm(layer)
    y, _ = normed.apply(*normed.init(KEY, x.shape), x)
    np.testing.assert_allclose(y, layer.apply(*layer.init(KEY, x.shape), x)[0], rtol=1e-4, atol=1e-5)
    params, state = normed.init(KEY, x.shape)
    twice, _ = normed.apply({**params, "v": 3 * params["v"], "g": 2 * params["g"]}, state, x)
    np.testing.assert_allclose(twice, 2 * y, rtol=1e-4, atol=1e-5)


def test_spectral_norm_learns_its_direction_in_training_only():
    x = jnp.eye(4, dtype=jnp.float32)
    layer = nn.spectral_norm(nn.dense(3, bias=False))
    params, state = layer.init(KEY, x.shape)
    assert layer.apply(params, state, x)[1] is state
    train = jax.jit(lambda state: layer.apply(params, state, x, train=True)[1])
    for _ in range(100):
        state = train(state)
    w, _ = layer.apply(params, state, x)
    assert np.linalg.norm(w, 2) == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(w * np.linalg.norm(params["w"], 2), params["w"], rtol=1e-3)


def initialised(layer, *input_shape):
    return lambda: layer.init(KEY, input_shape)


BAD = [
    (lambda: nn.conv(0, 3), ValueError, "nn.conv: channels must be an int of at least 1, got 0"),
    (lambda: nn.conv(2.0, 3), TypeError, "nn.conv: channels must be an int of at least 1, got float 2.0"),
    (lambda: nn.conv(4, 3, groups=0), ValueError, "nn.conv: groups must be an int of at least 1, got 0"),
    (lambda: nn.conv(4, 3, bias=None), TypeError, "nn.conv: bias must be True or False, got NoneType None"),
    (lambda: nn.depthwise_conv(3, bias=0), TypeError, "nn.depthwise_conv: bias must be True or False, got int 0"),
    (lambda: nn.conv_transpose(4, 3, bias=0), TypeError, "nn.conv_transpose: bias must be True or False, got int 0"),
    (lambda: nn.dense(4, bias="no"), TypeError, "nn.dense: bias must be True or False, got str 'no'"),
    (lambda: nn.weighted_pool(2, shared=1), TypeError, "nn.weighted_pool: shared must be True or False, got int 1"),
    (lambda: nn.conv(4, 3, groups=3), ValueError, "nn.conv: channels must be a multiple of groups = 3, got 4"),
    (initialised(nn.conv(4, 0), 1, 8, 8, 3), ValueError, "nn.conv: size must be an int of at least 1, got 0"),
    (
        initialised(nn.conv(4, (3, 3)), 1, 8, 3),
        ValueError,
        "nn.conv: size must be an int or 1 ints, one per spatial axis",
    ),
    (initialised(nn.conv(4, 3), 8, 3), ValueError, r"nn.conv: input_shape must be \(N, \*S, C\) with at least 3 axes"),
    (
        initialised(nn.conv(4, 3), None, 8, 8, 3),
        TypeError,
        "nn.conv: input_shape must be an int of at least 0, got None",
    ),
    (
        initialised(nn.conv(2**63, 3), 1, 8, 3),
        ValueError,
        r"nn.conv: w must be of at least 1 and fewer than 2\^48 entr",
    ),
    (initialised(nn.dense(5), 0, 0), ValueError, "nn.dense: w must be of at least 1 and fewer than"),
    (initialised(nn.depthwise_conv(3), 1, 8, 0), ValueError, "nn.depthwise_conv: w must be of at least 1 and fewer"),
    (
        lambda: nn.separable_conv(4, 3).init(0, (1, 8, 3)),
        TypeError,
        "nn.separable_conv: key must be one JAX random key",
    ),
    (
        lambda: nn.sequential(nn.flatten()).apply({}, {}, jnp.ones((1, 2)), key=3),
        TypeError,
        "nn.sequential: key must be one JAX random key, got int 3",
    ),
    (
        lambda: nn.dropout(0.5).apply({}, {}, jnp.ones((1, 2)), train=jnp.ones(2)),
        TypeError,
        "nn.dropout: train must be True or False, got float64",
    ),
    (
        lambda: nn.summary(nn.flatten(), (1, 2), file=3),
        TypeError,
        "nn.summary: file must be None or a file to write to",
    ),
    (lambda: nn.conv(4, 3).init(KEY, 8), TypeError, "nn.conv: input_shape must be a shape, a tuple of ints, got int 8"),
    (initialised(nn.conv(4, 3, groups=2), 1, 8, 3), ValueError, "nn.conv: groups must be a divisor of the 3 channels"),
    (initialised(nn.conv(4, 3, padding="same"), 1, 8, 3), ValueError, "nn.conv: padding must be one of 'SAME', "),
    (initialised(nn.conv(4, 3, stride=0), 1, 8, 3), ValueError, "nn.conv: stride must be an int of at least 1, got 0"),
    (
        initialised(nn.conv(4, 9, padding=0), 1, 8, 3),
        ValueError,
        "nn.conv: size must be no larger than the padded input",
    ),
    (
        lambda: nn.depthwise_conv(3, multiplier=0),
        ValueError,
        "nn.depthwise_conv: multiplier must be an int of at least 1",
    ),
    (initialised(nn.depthwise_conv(3), 8, 3), ValueError, "nn.depthwise_conv: input_shape must be "),
    (
        initialised(nn.conv(4, 3, initializer="zeros"), 1, 8, 3),
        TypeError,
        r"nn.conv: initializer must be a function of key, shape and dtype such as nn.he_normal\(\), got str 'zeros'",
    ),
    (initialised(nn.dense(4, initializer=nn.he_normal), 1, 8), TypeError, "nn.dense: initializer must be a function"),
    (initialised(nn.conv_transpose(4, 3, initializer=None), 1, 8, 3), TypeError, "nn.conv_transpose: initializer must"),
    (initialised(nn.depthwise_conv(3, initializer=0.1), 1, 8, 3), TypeError, "nn.depthwise_conv: initializer must be"),
    (initialised(nn.separable_conv(4, 3, initializer=1), 1, 8, 3), TypeError, "nn.separable_conv: initializer must be"),
    (initialised(nn.separable_conv(4, 3), 8, 3), ValueError, "nn.separable_conv: input_shape must be "),
    (lambda: nn.separable_conv(0, 3), ValueError, "nn.separable_conv: channels must be an int of at least 1, got 0"),
    (initialised(nn.batch_norm(initializer=1), 1, 8), TypeError, "nn.batch_norm: initializer must be a function"),
    (lambda: nn.dense(0), ValueError, "nn.dense: features must be an int of at least 1, got 0"),
    (initialised(nn.dense(3), 1, 8, 8, 3), ValueError, r"nn.dense: input_shape must be \(N, I\): nn.flatten\(\) sorts"),
    (initialised(nn.batch_norm(), 3), ValueError, "nn.batch_norm: input_shape must be "),
    (lambda: nn.batch_norm(momentum=2), ValueError, "nn.batch_norm: momentum must be a number from 0 to 1, got 2"),
    (lambda: nn.batch_norm(eps=-1), ValueError, "nn.batch_norm: eps must be "),
    (
        initialised(nn.layer_norm(axes=3), 1, 3),
        ValueError,
        "nn.layer_norm: axes must be one or several different axes of an array",
    ),
    (lambda: nn.layer_norm(eps=-1), ValueError, "nn.layer_norm: eps must be "),
    (
        initialised(nn.rms_norm(axes="C"), 1, 3),
        TypeError,
        "nn.rms_norm: axes must be an int or several ints, got str 'C'",
    ),
    (lambda: nn.group_norm(0), ValueError, "nn.group_norm: groups must be an int of at least 1, got 0"),
    (initialised(nn.group_norm(2), 1, 3), ValueError, "nn.group_norm: groups must be a divisor of the 3 channels"),
    (initialised(nn.group_norm(1), 3), ValueError, "nn.group_norm: input_shape must be "),
    (initialised(nn.instance_norm(), 1, 3), ValueError, "nn.instance_norm: input_shape must be "),
    (lambda: nn.local_response_norm(0), ValueError, "nn.local_response_norm: size must be an int of at least 1"),
    (lambda: nn.local_response_norm(3, k=-1), ValueError, "nn.local_response_norm: k must be "),
    (lambda: nn.weight_norm(jaxcnn.relu), TypeError, "nn.weight_norm: layer must be a Layer, got "),
    (
        initialised(nn.weight_norm(nn.flatten()), 1, 3),
        ValueError,
        r'nn.weight_norm: layer must be one with a param "w" \[..., O\], got params \[\]',
    ),
    (initialised(nn.spectral_norm(nn.batch_norm()), 1, 3), ValueError, "nn.spectral_norm: layer must be one with a"),
    (lambda: nn.drop_block(2, 3), ValueError, "nn.drop_block: rate must be a number from 0 to 1, got 2"),
    (
        lambda: nn.drop_path(0.5).apply({}, {}, jnp.ones(3), train=True),
        ValueError,
        "nn.drop_path: key must be a JAX random key when train=True, got None",
    ),
    (lambda: nn.layer_scale("small"), TypeError, "nn.layer_scale: initial must be a finite number, got str 'small'"),
    (initialised(nn.layer_scale(), 3), ValueError, "nn.layer_scale: input_shape must be "),
    (initialised(nn.prelu(), 3), ValueError, "nn.prelu: input_shape must be "),
    (initialised(nn.weighted_pool(2), 8, 3), ValueError, "nn.weighted_pool: input_shape must be "),
    (initialised(nn.weighted_pool(9), 1, 8, 3), ValueError, "nn.weighted_pool: window must be no larger than "),
    (initialised(nn.mixed_pool(2), 8, 3), ValueError, "nn.mixed_pool: input_shape must be "),
    (
        lambda: nn.stochastic_pool(2).apply({}, {}, jnp.ones((1, 4, 1)), train=True),
        ValueError,
        "nn.stochastic_pool: key must be a JAX random key when train=True, got None",
    ),
    (lambda: nn.dropout(1.5), ValueError, "nn.dropout: rate must be a number from 0 to 1, got 1.5"),
    (lambda: nn.dropout("0.5"), TypeError, "nn.dropout: rate must be a number from 0 to 1, got str '0.5'"),
    (
        lambda: nn.dropout(0.5).apply({}, {}, jnp.ones(3), train=True),
        ValueError,
        "nn.dropout: key must be a JAX random key when train=True, got None",
    ),
    (
        lambda: nn.batch_norm().apply(*nn.batch_norm().init(KEY, (1, 3)), jnp.ones((1, 3), jnp.float32), train=True),
        ValueError,
        r"nn.batch_norm: x must be of at least 2 entries per channel when train=True, got float32\[1, 3\]",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message[:50] for _, _, message in BAD])
def test_bad_arguments_are_told_in_one_sentence(call, error, message):
    with pytest.raises(error, match="^" + message) as caught:
        call()
    assert "\n" not in str(caught.value)
