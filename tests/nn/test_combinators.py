"""sequential, residual and named: names, paths, keys, states and errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcnn
from jaxcnn import nn

KEY = jax.random.key(0, impl="rbg")  # compiles four times as fast as the default


def paths(tree):
    return [
        jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]


def small_model():
    block = nn.residual(
        nn.sequential(nn.conv(4, 3, bias=False), nn.batch_norm(), jaxcnn.relu, nn.conv(4, 3)), shortcut=nn.conv(4, 1)
    )
    return nn.sequential(
        nn.named("stem", nn.conv(3, 3)),
        nn.batch_norm(),
        block,
        nn.prelu(),
        nn.weighted_pool(2),
        nn.flatten(),
        nn.dense(5),
    )


def test_parameters_and_state_have_readable_paths():
    params, state = jax.eval_shape(lambda: small_model().init(KEY, (1, 6, 6, 2)))
    assert paths(params) == [
        "batch_norm1/beta",
        "batch_norm1/gamma",
        "dense1/b",
        "dense1/w",
        "prelu1/a",
        "residual1/body/batch_norm1/beta",
        "residual1/body/batch_norm1/gamma",
        "residual1/body/conv1/w",
        "residual1/body/conv2/b",
        "residual1/body/conv2/w",
        "residual1/shortcut/b",
        "residual1/shortcut/w",
        "stem/b",
        "stem/w",
        "weighted_pool1/w",
    ]
    assert paths(state) == [
        "batch_norm1/mean",
        "batch_norm1/var",
        "residual1/body/batch_norm1/mean",
        "residual1/body/batch_norm1/var",
    ]


def test_every_parameter_of_a_model_has_a_gradient_and_every_state_moves():
    model = small_model()
    x = jax.random.normal(KEY, (5, 6, 6, 2), jnp.float32)
    params, state = model.init(KEY, x.shape)

    @jax.jit
    def risk(params):
        logits, new_state = model.apply(params, state, x, train=True, key=KEY)
        return jaxcnn.softmax_cross_entropy(logits, jnp.arange(5)), new_state

    dparams, new_state = jax.grad(risk, has_aux=True)(params)
    assert jax.tree.map(jnp.shape, dparams) == jax.tree.map(jnp.shape, params)
    without = [path for path, leaf in zip(paths(dparams), jax.tree.leaves(dparams), strict=True) if not jnp.any(leaf)]
    assert without == []
    moved = [jnp.any(new != old) for new, old in zip(jax.tree.leaves(new_state), jax.tree.leaves(state), strict=True)]
    assert paths(new_state) == paths(state)
    assert all(moved)


def test_sequential_applies_one_after_the_other():
    double, plus_one = (lambda x: 2 * x), (lambda x: x + 1)
    y, state = nn.sequential(double, plus_one, nn.sequential()).apply({}, {}, jnp.array([3.0]))
    assert (y.tolist(), state) == ([7.0], {})


def test_residual_adds_the_way_around():
    x = jnp.array([[3.0]])
    assert nn.residual(jnp.square).apply({}, {}, x)[0] == 12
    assert nn.residual(jnp.square, shortcut=lambda x: 10 * x).apply({}, {}, x)[0] == 39


def test_functions_are_named_by_their_name():
    slope = functools.partial(functools.partial(jaxcnn.leaky_relu), negative_slope=0.1)
    model = nn.sequential(jaxcnn.relu, slope, jax.jit(jaxcnn.tanh), lambda x: x, jaxcnn.relu)
    names = [name for name, _, _ in model.parts((1, 3))]
    assert names == ["relu1", "leaky_relu1", "tanh1", "function1", "relu2"]


def test_a_layer_added_behind_leaves_the_other_parameters_as_they_are():
    short, long = (nn.sequential(nn.dense(3), jaxcnn.relu, *more) for more in ([], [nn.dense(2)]))
    first, _ = short.init(KEY, (1, 4))
    second, _ = long.init(KEY, (1, 4))
    np.testing.assert_array_equal(first["dense1"]["w"], second["dense1"]["w"])
    again, _ = long.init(KEY, (1, 4))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, second, again)))


def test_no_two_layers_draw_the_same():
    model = nn.sequential(nn.dense(4), nn.dense(4), nn.residual(nn.dense(4), shortcut=nn.dense(4)))
    params, _ = model.init(KEY, (1, 4))
    weights = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    assert len({w.tobytes() for w in map(np.asarray, weights)}) == 4
    drops = nn.residual(nn.sequential(nn.dropout(0.5)), shortcut=nn.dropout(0.5))
    y, _ = drops.apply({}, {}, jnp.ones(100), train=True, key=KEY)
    assert set(y.tolist()) == {0.0, 2.0, 4.0}


def test_dropout_in_a_model_needs_a_key_in_training_only():
    model = nn.sequential(nn.named("drop", nn.dropout(0.5)))
    x = jnp.ones((1, 3))
    assert model.apply({}, {}, x)[0] is x
    with pytest.raises(ValueError, match=r"nn.dropout: key must be") as caught:
        model.apply({}, {}, x, train=True)
    assert caught.value.__notes__ == ["in drop"]


def test_residual_shapes_that_differ_are_both_named():
    message = (
        r"nn.residual: shortcut must be of the output shape \[1, 8, 8, 4\] of body, got output shape \[1, 8, 8, 3\]"
    )
    block = nn.residual(nn.conv(4, 3))
    with pytest.raises(ValueError, match=message):
        block.init(KEY, (1, 8, 8, 3))
    with pytest.raises(ValueError, match=message) as caught:
        nn.sequential(jaxcnn.relu, block).init(KEY, (1, 8, 8, 3))
    assert caught.value.__notes__ == ["in residual1"]
    with pytest.raises(ValueError, match=r"of the output shape \[1, 2\] of body, got output shape \[1, 1\]"):
        nn.residual(lambda x: jnp.concatenate([x, x], axis=1)).apply({}, {}, jnp.ones((1, 1)))


def test_an_error_says_in_which_layer_it_arose():
    model = nn.sequential(nn.conv(4, 3), nn.residual(nn.sequential(nn.conv(4, 3), nn.conv(4, 3, groups=2))))
    odd = nn.sequential(nn.conv(3, 3), nn.residual(nn.sequential(jaxcnn.relu, nn.conv(4, 3, groups=2))))
    assert nn.output_shape(model, (1, 8, 8, 1)) == (1, 8, 8, 4)
    with pytest.raises(ValueError, match=r"^nn.conv: groups must be a divisor of the 3 channels of x, got 2") as caught:
        odd.init(KEY, (1, 8, 8, 1))
    assert caught.value.__notes__ == ["in conv1", "in body", "in residual1"]
    params, state = nn.sequential(nn.dense(3), nn.dense(2)).init(KEY, (1, 4))
    with pytest.raises(
        ValueError, match=r'^nn.dense: params must be as init makes them, "dense2/w" \[3, 2\], got none'
    ):
        nn.sequential(nn.dense(3), nn.dense(2)).apply(
            {"dense1": params["dense1"]}, state, jnp.ones((1, 4), jnp.float32)
        )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: nn.sequential(nn.dense(1), 3),
            TypeError,
            r"nn.sequential: layers\[1\] must be a Layer or a function of",
        ),
        (
            lambda: nn.sequential(nn.parallel(jnp.sin, jnp.cos), nn.dense(3)).init(KEY, (1, 8)),
            ValueError,
            "nn.sequential: the input of dense1 must be one array, got 2: nn.parallel has a join for them$",
        ),
        (
            lambda: nn.sequential(nn.parallel(jnp.sin, jnp.cos), jaxcnn.relu).apply({}, {}, jnp.ones(3)),
            ValueError,
            "nn.sequential: the input of relu1 must be one array, got 2: nn.parallel has a join for them$",
        ),
        (
            lambda: nn.sequential(jnp.sin).init(0, (1, 8)),
            TypeError,
            "nn.sequential: key must be one JAX random key, got int 0",
        ),
        (
            lambda: nn.residual(jnp.sin).init(None, (1, 8)),
            TypeError,
            "nn.residual: key must be one JAX random key, got NoneType None",
        ),
        (
            lambda: nn.dense(3).init((1, 8), KEY),
            TypeError,
            "nn.dense: input_shape must be a shape, a tuple of ints, got key<",
        ),
        (
            lambda: nn.dense(3).init("key", (1, 8)),
            TypeError,
            "nn.dense: key must be one JAX random key, got str 'key'",
        ),
        (
            lambda: nn.sequential(jnp.sin).apply(jnp.ones(3), {}, {}),
            TypeError,
            r"nn.sequential: params must be nested dicts as init gives them, got float64\[3\]",
        ),
        (
            lambda: nn.skip(jnp.sin).apply({}, None, jnp.ones(3)),
            TypeError,
            "nn.skip: state must be nested dicts as init gives them, got NoneType None",
        ),
        (
            lambda: nn.residual("body"),
            TypeError,
            "nn.residual: body must be a Layer or a function of an array, got str",
        ),
        (
            lambda: nn.sequential(nn.dense(1), nn.flatten),
            TypeError,
            r"nn.sequential: layers\[1\] must be the layer nn.flatten\(...\) that it makes, got the function",
        ),
        (lambda: nn.residual(jnp.sin, 3), TypeError, "nn.residual: shortcut must be a Layer or a function of an array"),
        (
            lambda: nn.named("a/b", nn.dense(1)),
            ValueError,
            "nn.named: name must be a string that is not empty and has no",
        ),
        (lambda: nn.named("", nn.dense(1)), ValueError, "nn.named: name must be a string that is not empty"),
        (lambda: nn.named(3, nn.dense(1)), ValueError, "nn.named: name must be a string that is not empty"),
        (lambda: nn.named("a", 3), TypeError, "nn.named: layer must be a Layer or a function of an array, got int 3"),
        (
            lambda: nn.sequential(nn.named("stem", nn.dense(1)), nn.named("stem", nn.dense(1))),
            ValueError,
            "nn.sequential: layers must be of different names, got two called 'stem'",
        ),
        (
            lambda: nn.sequential(nn.dense(1), nn.named("dense1", nn.dense(1))),
            ValueError,
            "nn.sequential: layers must be of different names, got two called 'dense1'",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match="^" + message):
        call()
