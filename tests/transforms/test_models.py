"""explicit(f) on models that know nothing of it. The oracle is the same training loss without it."""

import equinox
import flax.linen
import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import QUICK_TO_COMPILE

from jaxcnn import explicit, explicit_report

images = np.random.default_rng(0).normal(size=(4, 8, 6, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def _as_users_have_it():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def assert_close(got, expected):
    got, expected = (jax.tree.leaves(equinox.filter(tree, equinox.is_array)) for tree in (got, expected))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * max(1.0, float(np.max(np.abs(b)))), strict=True)


class Linen(flax.linen.Module):
    @flax.linen.compact
    def __call__(self, x, train):
        x = flax.linen.Conv(4, (3, 3), strides=2)(x)
        x = flax.linen.relu(flax.linen.BatchNorm(use_running_average=not train)(x))
        x = flax.linen.max_pool(x, (2, 2), (1, 1), "SAME")
        x = flax.linen.Conv(4, (3, 3), feature_group_count=4)(flax.linen.Dropout(0.5, deterministic=not train)(x))
        return flax.linen.Dense(2)(flax.linen.avg_pool(x, (2, 2), (2, 2)).reshape(4, -1))


@pytest.mark.parametrize("whole", [True, False], ids=["loss", "apply"])
def test_linen(whole):
    model = Linen()
    variables = model.init(jax.random.key(0), images, train=False)

    def loss(apply, variables, x):
        y, state = apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(1)})
        return jnp.sum(y**2), state

    def explicit_loss(variables, x):
        return loss(explicit(model.apply), variables, x)

    def plain_loss(variables, x):
        return loss(model.apply, variables, x)

    tried = explicit(plain_loss) if whole else explicit_loss
    ours, theirs = (jax.value_and_grad(f, has_aux=True) for f in (tried, plain_loss))
    both = jax.jit(lambda *args: (ours(*args), theirs(*args)), compiler_options=QUICK_TO_COMPILE)
    assert_close(*both(variables, images))
    assert [operation.name for operation in explicit_report(plain_loss, variables, images).replaced] == [
        "conv_general_dilated",
        "reduce_window_max",
        "conv_general_dilated",
        "reduce_window_sum",
    ]


class Nnx(flax.nnx.Module):
    def __init__(self):
        rngs = flax.nnx.Rngs(0)
        self.conv = flax.nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.norm = flax.nnx.BatchNorm(4, rngs=rngs)
        self.dropout = flax.nnx.Dropout(0.5, rngs=rngs)
        self.dense = flax.nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        x = flax.nnx.max_pool(flax.nnx.relu(self.norm(self.conv(x))), (2, 2), (2, 2))
        return self.dense(self.dropout(x).mean((1, 2)))


def squares(model, x):
    return jnp.sum(model(x) ** 2)


def test_nnx_where_the_state_is_returned():
    """As a function of the state: what the model changes comes back in its copy."""
    theirs, ours = Nnx(), Nnx()
    graph, params, rest = flax.nnx.split(ours, flax.nnx.Param, ...)

    def loss(params, rest, x):
        model = flax.nnx.merge(graph, params, rest, copy=True)
        return squares(model, x), flax.nnx.state(model, flax.nnx.Not(flax.nnx.Param))

    step = jax.jit(jax.grad(explicit(loss), has_aux=True), compiler_options=QUICK_TO_COMPILE)
    gradients, rest = step(params, rest, images)
    flax.nnx.update(ours, rest)
    expected = flax.nnx.jit(flax.nnx.grad(squares))(theirs, images)
    assert_close(flax.nnx.to_pure_dict(gradients), flax.nnx.to_pure_dict(expected))
    assert_close(*(flax.nnx.to_pure_dict(flax.nnx.state(model, flax.nnx.BatchStat)) for model in (ours, theirs)))


def test_nnx_where_nothing_is_changed():
    model = Nnx()
    model.eval()
    ours, theirs = (flax.nnx.jit(flax.nnx.grad(f))(model, images) for f in (explicit(squares), squares))
    assert_close(flax.nnx.to_pure_dict(ours), flax.nnx.to_pure_dict(theirs))
    assert len(explicit_report(squares, model, images).replaced) == 2


def test_nnx_never_loses_a_change():
    """Where it is passed or closed over, Flax refuses; a note says what to do."""
    model = Nnx()
    for call in (
        lambda: flax.nnx.grad(explicit(squares))(model, images),
        lambda: jax.grad(explicit(lambda x: squares(model, x)))(images),
        lambda: explicit_report(squares, model, images),
    ):
        with pytest.raises(flax.errors.TraceContextError, match="BatchStat from a different trace level") as caught:
            call()
        assert [note for note in caught.value.__notes__ if "by nnx.split" in note]


class Eqx(equinox.Module):
    conv: equinox.nn.Conv2d
    norm: equinox.nn.BatchNorm
    pools: list
    dense: equinox.nn.Linear
    activation: object  # a function among the leaves

    def __init__(self):
        key = jax.random.key(0)
        self.conv, self.norm = equinox.nn.Conv2d(3, 4, 3, key=key), equinox.nn.BatchNorm(4, "batch", mode="batch")
        self.pools = [equinox.nn.MaxPool2d(2, 1), equinox.nn.AvgPool2d(2, 1)]
        self.dense, self.activation = equinox.nn.Linear(4, 2, key=key), jax.nn.relu

    def __call__(self, x, state):
        x, state = self.norm(self.conv(x), state)
        for pool in self.pools:
            x = pool(self.activation(x))
        return self.dense(x.mean((1, 2))), state


def test_equinox():
    x = np.moveaxis(images, -1, 1)

    def loss(model, state, x):
        y, state = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)
        return jnp.sum(y**2), state

    def step(f):
        model, state = equinox.nn.make_with_state(Eqx)()
        return equinox.filter_jit(equinox.filter_value_and_grad(f, has_aux=True))(model, state, x)

    assert_close(step(explicit(loss)), step(loss))
    report = explicit_report(loss, *equinox.nn.make_with_state(Eqx)(), x)
    assert [operation.where for operation in report.replaced] == [
        "vmap(eqx.nn.Conv)",
        "vmap(eqx.nn.MaxPool2d)/eqx.nn.Pool",
        "vmap(eqx.nn.AvgPool2d)/eqx.nn.Pool",
    ]
