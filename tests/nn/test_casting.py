"""Mixed precision: what is computed in half precision, and what stays in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import quick

import jaxcnn
from jaxcnn import nn

KEY = jax.random.key(0, impl="rbg")  # compiles four times as fast as the default
X = np.random.default_rng(0).integers(0, 9, (6, 5)).astype(np.uint8)


def dtypes(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


def test_a_model_computes_in_half_precision_and_stays_in_single():
    """Under remat as well; a layer in between sees bfloat16."""
    seen = []

    def look(x):
        seen.append(x.dtype.name)
        return x

    body = nn.sequential(nn.dense(4), nn.batch_norm(), jaxcnn.relu, look, nn.dropout(0.5), nn.dense(3))
    params, state = jax.jit(body.init, static_argnums=1)(KEY, X.shape)
    models = [nn.cast(body, "bfloat16"), nn.cast(nn.remat(body), "bfloat16")]
    labels = jnp.arange(6) % 3

    def loss(model, params, x):
        y, new_state = model.apply(params, state, x, train=True, key=KEY)
        return jaxcnn.softmax_cross_entropy(y, labels), (y, new_state)

    seen.clear()
    values = [quick(lambda m=m: jax.value_and_grad(loss, 1, has_aux=True)(m, params, X))() for m in models]
    assert dtypes(values) == {"float32"}
    assert set(seen) == {"bfloat16"}
    jax.tree.map(lambda a, *others: [np.testing.assert_array_equal(a, b) for b in others], *values)
    exact, inference = quick(
        lambda: (
            body.apply(params, state, jnp.asarray(X, "float32"))[0],
            models[0].apply(params, state, jnp.asarray(X, "float64"))[0],
        )
    )()
    np.testing.assert_allclose(inference, exact, atol=0.02 * float(jnp.max(jnp.abs(exact))))
    assert not np.array_equal(inference, exact)


def test_sums_and_statistics_are_float32():
    """A bfloat16 that counts ones stays at 256; a running mean that moves by 1/1000 of 1/100 would not move."""
    many = nn.cast(nn.sequential(nn.dense(1)), "bfloat16")
    params = {"dense1": {"w": np.ones((4096, 1), np.float32), "b": np.zeros(1, np.float32)}}
    y, _ = quick(lambda: many.apply(params, {}, jnp.ones((1, 4096))))()
    assert float(y[0, 0]) == 4096
    layer = nn.cast(nn.batch_norm(momentum=1e-3), "float16")
    params = {"gamma": jnp.ones(1, "float32"), "beta": jnp.zeros(1, "float32")}
    state = {"mean": jnp.ones(1, "float32"), "var": jnp.ones(1, "float32")}
    _, moved = quick(lambda: layer.apply(params, state, jnp.full((64, 1), 1.01, "float32"), train=True))()
    np.testing.assert_allclose(moved["mean"], 1 + 1e-5, atol=1e-6)


def test_the_state_of_a_layer_of_ones_own_is_float32():
    def apply(params, state, x, *, train=False, key=None):
        return x, {"last": x[0]}

    layer = nn.cast(nn.Layer(lambda key, shape: ({}, {}), apply, "mine"), "bfloat16")
    y, state = layer.apply({}, {}, np.full((2, 1), 1 + 2**-7 + 2**-9))
    assert dtypes((y, state)) == {"float32"}
    assert float(state["last"][0]) == 1 + 2**-7


def test_integers_that_are_no_images_pass():
    def places(x):
        return jnp.cumsum(x["where"], dtype=x["where"].dtype), x["image"]

    where, image = nn.cast(places, "float16").apply({}, {}, {"where": jnp.arange(3000), "image": jnp.ones(2, "uint8")})[
        0
    ]
    assert where.dtype == jnp.arange(1).dtype
    assert (where[-1], image.dtype) == (2999 * 1500, jnp.float32)


def test_cast_models_are_layers(capsys):
    model = nn.cast(nn.sequential(nn.conv(2, 3), nn.flatten(), nn.dense(3)), "bfloat16")
    assert model == nn.cast(nn.sequential(nn.conv(2, 3), nn.flatten(), nn.dense(3)), dtype="bfloat16")
    assert model != nn.cast(nn.sequential(nn.conv(2, 3), nn.flatten(), nn.dense(3)), "float16")
    assert str(nn.cast(nn.dense(3), "bfloat16")) == "cast(dense(3), 'bfloat16')"
    nn.summary(model, (1, 4, 4, 1))
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:4]] == ["conv1", "flatten1", "dense1"]
    with pytest.raises(ValueError, match=r"^nn.conv: x must be \[N, H, W, 1\], got \[2, 4, 4, 3\]$"):
        model.apply({"conv1": {"w": np.ones((3, 3, 1, 2)), "b": np.ones(2)}}, {}, np.ones((2, 4, 4, 3)))


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "int8", "float32", jnp.bfloat16, None])
def test_other_dtypes(dtype):
    with pytest.raises(ValueError, match=r"^nn.cast: dtype must be one of 'bfloat16', 'float16', got "):
        nn.cast(nn.dense(3), dtype)
