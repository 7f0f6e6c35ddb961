"""parallel, concatenate, skip and remat: values, names, shapes that do not fit, and what is saved."""

import io
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcnn
from jaxcnn import nn

KEY = jax.random.key(0, impl="rbg")  # compiles four times as fast as the default
X = np.arange(12.0, dtype=np.float32).reshape(1, 3, 4, 1)


def double(x):
    return 2 * x


def test_parallel_gives_all_branches_the_same_input():
    y, state = nn.parallel(double, jaxcnn.relu, double).apply({}, {}, -X)
    for got, expected in zip(y, (-2 * X, 0 * X, -2 * X), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert state == {}
    np.testing.assert_array_equal(nn.parallel(double, jnp.square, join=operator.mul).apply({}, {}, X)[0], 2 * X**3)


def test_concatenate_joins_the_channels_or_another_axis():
    np.testing.assert_array_equal(
        nn.concatenate(double, jnp.negative).apply({}, {}, X)[0], np.concatenate([2 * X, -X], -1)
    )
    np.testing.assert_array_equal(
        nn.concatenate(double, jnp.negative, axis=1).apply({}, {}, X)[0], np.concatenate([2 * X, -X], 1)
    )


def test_skip_puts_the_input_in_front_of_the_output_and_crops_it_to_the_middle():
    np.testing.assert_array_equal(nn.skip(double).apply({}, {}, X)[0], np.concatenate([X, 2 * X], -1))
    shrunk = nn.skip(lambda x: x[:, 1:, :2], crop=True)
    expected = np.concatenate([X[:, :2, 1:3], X[:, 1:, :2]], -1)
    np.testing.assert_array_equal(shrunk.apply({}, {}, X)[0], expected)


def test_the_summary_shows_the_branches_by_name():
    level = nn.skip(nn.sequential(nn.max_pool(2), nn.conv_transpose(3, 2, stride=2)))
    joined = nn.concatenate(nn.conv(2, 1), nn.named("wide", nn.conv(4, 3)), jaxcnn.relu)
    file = io.StringIO()
    nn.summary(nn.sequential(level, nn.remat(joined)), (1, 4, 4, 1), file=file)
    assert [line.split("  ")[0] for line in file.getvalue().splitlines()[1:-1]] == [
        "skip1/inner/max_pool1",
        "skip1/inner/conv_transpose1",
        "concatenate1/conv1",
        "concatenate1/wide",
        "concatenate1/relu1",
    ]
    assert nn.output_shape(nn.parallel(level, jaxcnn.relu), (1, 4, 4, 1)) == ((1, 4, 4, 4), (1, 4, 4, 1))


def test_branches_keep_their_own_state_and_randomness():
    model = nn.concatenate(nn.batch_norm(), nn.dropout(0.5), nn.skip(nn.dropout(0.5)))
    params, state = model.init(KEY, (8, 1))
    y, new_state = model.apply(params, state, jnp.ones((8, 1), jnp.float32), train=True, key=KEY)
    assert jax.tree.structure(new_state) == jax.tree.structure(state)
    assert float(new_state["batch_norm1"]["mean"][0]) == pytest.approx(0.1)
    assert np.any(y[:, 1] != y[:, 3])


def test_remat_computes_the_same_and_saves_less():
    layers = [nn.conv(8, 3), nn.batch_norm(), jaxcnn.tanh, nn.dropout(0.5)] * 2
    block = nn.sequential(*layers)
    x = jax.random.normal(KEY, (2, 6, 6, 8), jnp.float32)
    params, state = block.init(KEY, x.shape)

    def risk(layer, params, x):
        y, new_state = layer.apply(params, state, x, train=True, key=KEY)
        return jnp.sum(y**2), new_state

    def saved(layer):
        """How many bytes the backward pass is given: a VJP is a tree of its residuals."""
        backward = jax.eval_shape(lambda *args: jax.vjp(lambda *args: risk(layer, *args)[0], *args)[1], params, x)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(backward))

    kept, *others = (
        jax.jit(jax.value_and_grad(lambda *args, layer=layer: risk(layer, *args), (0, 1), has_aux=True))(params, x)
        for layer in (block, nn.remat(block), nn.remat(block, stored="convolutions"))
    )
    for again in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), kept, again)
    small = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves((params, state)))
    assert saved(nn.remat(block)) < x.nbytes + small
    assert saved(nn.remat(block, stored="convolutions")) < 3 * x.nbytes + small  # and the outputs of two convolutions
    assert saved(block) > 5 * x.nbytes
    np.testing.assert_array_equal(nn.remat(double).apply({}, {}, X)[0], 2 * X)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.parallel(), ValueError, "nn.parallel: branches must be at least one, got none"),
        (
            lambda: nn.parallel(double, join="sum"),
            TypeError,
            "nn.parallel: join must be a function of the outputs, got str 'sum'",
        ),
        (
            lambda: nn.concatenate(double, 3),
            TypeError,
            r"nn.concatenate: branches\[1\] must be a Layer or a function of an array, got int 3",
        ),
        (
            lambda: nn.concatenate(nn.named("a", double), nn.named("a", double)),
            ValueError,
            "nn.concatenate: branches must be of different names, got two called 'a'",
        ),
        (
            lambda: nn.concatenate(nn.conv(2, 3), nn.conv(2, 3, padding=0)).init(KEY, (1, 8, 8, 3)),
            ValueError,
            r"nn.concatenate: branches must be of one output shape but for axis -1, got output shapes \[1, 8, 8, 2\], "
            r"\[1, 6, 6, 2\]",
        ),
        (
            lambda: nn.concatenate(double, axis=4).apply({}, {}, X),
            ValueError,
            "nn.concatenate: axis must be one or several different axes of an array that has 4, got 4",
        ),
        (
            lambda: nn.concatenate(double, double, axis=-4).init(KEY, X.shape),
            ValueError,
            "nn.concatenate: axis must be another one than that of the batch, got -4",
        ),
        (
            lambda: nn.skip(nn.sequential(nn.max_pool(2), nn.conv_transpose(2, 2, stride=2))).init(KEY, (1, 8, 7, 3)),
            ValueError,
            r"nn.skip: inner must be of an output shape that is \[1, 8, 7, 3\] but for the channels, got output shape "
            r"\[1, 8, 6, 2\]",
        ),
        (
            lambda: nn.skip(nn.conv(2, 1, padding=1), crop=True).init(KEY, (1, 8, 8, 3)),
            ValueError,
            r"nn.skip: inner must be of an output shape that is \[1, 8, 8, 3\] but for the channels, or less, got",
        ),
        (lambda: nn.skip(double, crop=1), TypeError, "nn.skip: crop must be True or False, got int 1"),
        (lambda: nn.remat(3), TypeError, "nn.remat: layer must be a Layer or a function of an array, got int 3"),
        (
            lambda: nn.remat(double, stored=None),
            ValueError,
            "nn.remat: stored must be one of 'input', 'convolutions', got None",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match="^" + message):
        call()
