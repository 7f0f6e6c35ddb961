"""Options as PyTorch, NumPy and JAX users write them: the same numbers in other types, and one number for each axis."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcnn as jc
from jaxcnn import nn

RNG = np.random.default_rng(0)
X, W = RNG.normal(size=(2, 9, 8, 4)), RNG.normal(size=(3, 2, 4, 6))
W_BACK = RNG.normal(size=(3, 2, 5, 4))
PAIRS = ((2, 2), (1, 1))  # what (2, 1) stands for

SAME = [  # f(first) is f(other), for each of the others
    (partial(jc.conv, X, W), "stride", 2, [np.int64(2), np.array(2), jnp.array(2), [2, 2], np.array([2, 2], np.uint8)]),
    (partial(jc.conv, X, W), "dilation", (2, 1), [[2, 1], np.array([2, 1]), jnp.array([2, 1]), (np.int8(2), 1)]),
    (partial(jc.conv, X, W), "padding", PAIRS, [(2, 1), [2, 1], np.array([2, 1]), np.array(PAIRS), ((2, 2), 1)]),
    (partial(jc.conv, X, W), "padding", "VALID", [0, np.int32(0), (0, 0), np.zeros((2, 2), int)]),
    (partial(jc.conv, X, W), "padding", ((1, -1), (0, 2)), [np.array([[1, -1], [0, 2]]), [[1, -1], jnp.array([0, 2])]]),
    (partial(jc.conv, X, W[:, :, :2]), "groups", 2, [np.uint8(2), jnp.array(2)]),
    (partial(jc.conv_transpose, X, W_BACK), "padding", PAIRS, [(2, 1), np.array([2, 1]), [jnp.array(2), 1]]),
    (
        partial(jc.conv_input_grad, X, W_BACK, (2, 9, 8, 5)),
        "padding",
        "SAME",
        [((1, 1), (0, 1)), np.array([[1, 1], [0, 1]])],
    ),
    (partial(jc.max_pool, X, 5), "padding", PAIRS, [(2, 1), np.array([2, 1])]),
    (partial(jc.max_pool, X, 2, stride=3), "ceil_mode", True, [np.True_, np.array(True), jnp.array(True)]),
    (partial(jc.mean_pool, X, 5), "padding", PAIRS, [(2, 1), [2, 1]]),
    (partial(jc.mean_pool, X, 5, padding=1), "count_include_pad", False, [np.bool_(False), jnp.array(False)]),
    (partial(jc.mean_pool, X, 3), "divisor", 2.5, [np.float32(2.5), np.array(2.5), jnp.array(2.5, jnp.bfloat16)]),
    (partial(jc.weighted_pool, X, W[:, :, :, 0]), "padding", PAIRS, [(2, 1), np.array([2, 1])]),
    (partial(jc.stochastic_pool_inference, X, 5), "padding", PAIRS, [(2, 1), np.array([2, 1])]),
    (partial(jc.resize, X), "shape", (5, 7), [np.array([5, 7]), [np.int64(5), jnp.array(7)]]),
    (partial(jc.pad, X), "width", ((1, 2), (0, 3)), [np.array([[1, 2], [0, 3]]), [[1, 2], (0, np.int64(3))]]),
    (partial(jc.upsample, X, 2), "shape", (18, 15), [np.array([18, 15]), jnp.array([18, 15]), [18, np.int16(15)]]),
    (partial(jc.adaptive_mean_pool, X), "shape", (3, 3), [3, np.int64(3), [3, 3], np.array([3, 3])]),
    (partial(jc.adaptive_mean_pool, X), "shape", (9, 3), [(None, 3), [None, np.array(3)]]),
    (partial(jc.adaptive_max_pool, X), "shape", (2, 8), [(2, None), np.array([2, 8])]),
    (partial(jc.adaptive_max_pool, X), "shape", (4, 4), [4, jnp.array(4)]),
    (
        partial(jc.layer_norm, X, np.ones((8, 4)), np.ones((8, 4))),
        "axes",
        (2, 3),
        [np.array([2, 3]), [3, 2], jnp.array([-2, -1])],
    ),
    (partial(jc.gelu, X), "approximate", True, [np.True_, jnp.array(True)]),
    (partial(jc.elu, X), "alpha", 0.5, [np.float16(0.5), np.array(0.5), jnp.array(0.5)]),
    (partial(jc.dropout, jax.random.key(0), X), "rate", 0.5, [np.float32(0.5), jnp.array(0.5)]),
    (partial(jc.huber, X, 2 * X), "delta", 1, [np.int64(1), np.array(1), jnp.array(1.0)]),
]


@pytest.mark.parametrize(("f", "option", "first", "others"), SAME, ids=lambda value: getattr(value, "func", value))
def test_the_same_option_in_another_type(f, option, first, others):
    expected = f(**{option: first})
    for other in others:
        np.testing.assert_array_equal(f(**{option: other}), expected)
        assert jax.eval_shape(jax.jit(partial(f, **{option: other}))).shape == expected.shape


def test_one_number_per_axis_pads_both_sides_as_in_pytorch():
    """nn.MaxPool2d(3, 1, (1, 0)) and nn.Conv2d(1, 1, 3, padding=(1, 0)) of 3x3 ones of ones, by hand."""
    x = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    np.testing.assert_array_equal(jc.max_pool(x, 3, stride=1, padding=(1, 0))[0, :, :, 0], [[6], [9], [9]])
    y = jc.conv(jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1)), padding=(1, 0))
    np.testing.assert_array_equal(y[0, :, :, 0], [[6], [9], [6]])
    np.testing.assert_array_equal(jc.max_pool(jnp.ones((1, 4, 1)), 2, padding=(1,)).shape, (1, 3, 1))


def test_layers_take_them_too():
    x = jnp.asarray(X)
    layers = [
        nn.conv(np.int64(3), np.array([3, 2]), stride=np.array([2, 1]), padding=(2, 1), bias=np.True_),
        nn.conv_transpose(3, np.array(2), stride=np.int32(2), padding=(1, 0)),
        nn.max_pool(np.array([2, 2]), padding=(1, 0), ceil_mode=np.bool_(True)),
        nn.mean_pool(jnp.array(2), padding=[0, 1], count_include_pad=np.False_),
        nn.weighted_pool(2, padding=(1, 1), shared=np.False_),
        nn.adaptive_mean_pool(3),
        nn.adaptive_max_pool((None, 2)),
    ]
    model = nn.sequential(*layers)
    params, state = model.init(jax.random.key(0), x.shape)
    params = jax.tree.map(lambda p: p.astype(x.dtype), params)
    y, _ = jax.jit(model.apply)(params, state, x)
    assert y.shape == (2, 3, 2, 3)
    assert jax.eval_shape(model.apply, params, state, x)[0].shape == y.shape


def test_conv_general_dilated_takes_what_lax_takes():
    x, w = np.moveaxis(X, -1, 1), np.moveaxis(W, (2, 3), (1, 0))
    options = {"rhs_dilation": np.array([1, 2]), "lhs_dilation": (np.int64(2), 1), "feature_group_count": np.int32(1)}
    call = (np.array([2, 1]), np.array([[1, 0], [0, 2]]))
    expected = jax.lax.conv_general_dilated(x, w, *call, **options)
    np.testing.assert_allclose(jc.conv_general_dilated(x, w, *call, **options), expected, rtol=1e-12, atol=1e-12)
