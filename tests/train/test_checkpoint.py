"""What is saved can be restored."""

import sys

import jax
import numpy as np
import pytest

from jaxcnn import data, nn, train

KEY = jax.random.key(0, impl="rbg")  # compiles four times as fast as the default


def test_a_restored_model_computes_the_same(tmp_path):
    x = np.random.default_rng(0).normal(5, 2, (4, 6, 6, 2)).astype(np.float32)
    model = nn.sequential(nn.residual(nn.conv(2, 3)), nn.batch_norm(), nn.flatten(), nn.dense(3))
    optimizer = train.sgd(0.1)
    state, _ = train.make_step(model, optimizer)(train.init(model, optimizer, KEY, x.shape), x, np.arange(4) % 3)
    mean, std = data.fit_standardization(x)
    tree = {"params": state.params, "statistics": state.statistics, "standardization": {"mean": mean, "std": std}}
    train.save(tmp_path / "model", tree)

    saved = train.restore(str(tmp_path / "model"))
    y, _ = model.apply(saved["params"], saved["statistics"], data.standardize(x, **saved["standardization"]))

    expected, _ = model.apply(state.params, state.statistics, data.standardize(x, mean, std))
    np.testing.assert_array_equal(y, expected)
    assert jax.tree.structure(saved) == jax.tree.structure(tree)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(saved))


def test_nothing_is_written_over(tmp_path):
    train.save(tmp_path / "model", {"w": np.ones(3)})
    with pytest.raises(ValueError, match="already exists"):
        train.save(tmp_path / "model", {"w": np.zeros(3)})
    np.testing.assert_array_equal(train.restore(tmp_path / "model")["w"], 1)


def test_what_is_not_there_cannot_be_restored(tmp_path):
    with pytest.raises(FileNotFoundError):
        train.restore(tmp_path / "model")


def test_a_path_that_is_none():
    with pytest.raises(TypeError, match=r"^train.save: path must be a path, got NoneType None"):
        train.save(None, {"w": np.ones(3)})
    with pytest.raises(TypeError, match=r"^train.restore: path must be a path, got int 3"):
        train.restore(3)


def test_without_orbax_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(ImportError, match=r'orbax-checkpoint: pip install "jaxcnn\[train\]"$'):
        train.save(tmp_path / "model", {"w": np.ones(3)})
