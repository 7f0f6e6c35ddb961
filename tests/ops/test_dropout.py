"""What is dropped, how much of it, and that the mean stays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcnn as jc

KEY = jax.random.key(0, impl="rbg")  # compiles four times as fast as the default
SHAPE = (40, 6, 5, 30)
DROPS = {
    "dropout": jc.dropout,
    "spatial_dropout": jc.spatial_dropout,
    "drop_path": jc.drop_path,
    "drop_block": lambda key, x, rate: jc.drop_block(key, x, rate, (3, 2)),
}
every_drop = pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS)


@every_drop
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_the_share_that_is_dropped_is_the_rate_and_the_mean_stays(drop, rate):
    shape = (4000, 3, 2, 2) if drop is jc.drop_path else (40, 24, 15, 30)
    y = drop(KEY, jnp.ones(shape), rate)
    share = np.mean(y == 0)
    assert share == pytest.approx(rate, abs=0.04)
    scale = 1 / (1 - share) if drop is DROPS["drop_block"] else 1 / (1 - rate)
    np.testing.assert_allclose(np.unique(y), [0, scale], rtol=1e-6)


@every_drop
def test_rates_of_none_and_of_all(drop):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6, 5, 2)))
    np.testing.assert_array_equal(drop(KEY, x, 0), x)
    y, vjp = jax.vjp(lambda x: drop(KEY, x, 1.0), x)
    assert not np.any(y)
    assert not np.any(vjp(x)[0])


@every_drop
def test_what_is_dropped_depends_on_the_key_alone(drop):
    x = jnp.full(SHAPE, jnp.nan).at[::2].set(2.0)
    dropped = drop(KEY, x, 0.5) == 0
    np.testing.assert_array_equal(dropped, drop(KEY, jnp.ones(SHAPE), 0.5) == 0)
    assert np.any(dropped != (drop(jax.random.fold_in(KEY, 1), x, 0.5) == 0))


def test_whole_channels_and_whole_images():
    y = np.asarray(jc.spatial_dropout(KEY, jnp.ones(SHAPE), 0.5))
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1, :1], SHAPE))
    assert len(np.unique(y[:, 0, 0], axis=0)) == 40
    assert len(np.unique(y[:, 0, 0], axis=1).T) == 30
    y = np.asarray(jc.drop_path(KEY, jnp.ones(SHAPE), 0.5))
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1, :1, :1], SHAPE))


def test_every_dropped_entry_is_in_a_dropped_block():
    dropped = np.asarray(DROPS["drop_block"](KEY, jnp.ones(SHAPE), 0.3) == 0)
    explained = np.zeros_like(dropped)
    for i in range(SHAPE[1] - 2):
        for j in range(SHAPE[2] - 1):
            whole = dropped[:, i : i + 3, j : j + 2].all((1, 2), keepdims=True)
            explained[:, i : i + 3, j : j + 2] |= whole
    np.testing.assert_array_equal(explained, dropped)
