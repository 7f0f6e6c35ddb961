"""What is saved can be restored, and what is damaged is not."""

import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
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


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.MultiSteps(optax.adamw(1e-3), 3),
        optax.chain(optax.clip_by_global_norm(1.0), optax.lion(1e-3)),
        optax.inject_hyperparams(optax.sgd)(0.1, momentum=0.9),
        optax.masked(optax.lamb(1e-3), {"b": True, "w": False}),
    ],
    ids=["MultiSteps", "chain", "inject_hyperparams", "masked"],
)
def test_a_state_of_every_optimizer_comes_back(tmp_path, optimizer):
    state = train.init(nn.dense(2), optimizer, KEY, (4, 3))
    numbers = iter(range(99))
    state = jax.tree.map(lambda a: a if a.dtype == KEY.dtype else jnp.full_like(a, next(numbers)), state)
    train.save(tmp_path / "state", state)
    restored = train.restore(tmp_path / "state", like=state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    np.testing.assert_array_equal(jax.random.key_data(restored.key), jax.random.key_data(state.key))
    for got, leaf in zip(
        jax.tree.leaves(restored._replace(key=0)), jax.tree.leaves(state._replace(key=0)), strict=True
    ):
        np.testing.assert_array_equal(got, leaf)


def test_layout_and_dtype_are_kept(tmp_path):
    """The library writes the memory of an array as it lies, whatever its strides say."""
    tree = {
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "every other": np.arange(12)[::2],
        "half": np.ones(3, jnp.bfloat16),
        "scalar": np.float64(3),
        "none": np.zeros((0, 3), bool),
    }
    train.save(tmp_path / "tree", tree)
    for name, array in train.restore(tmp_path / "tree").items():
        np.testing.assert_array_equal(array, tree[name])
        assert (array.dtype, array.shape) == (tree[name].dtype, tree[name].shape)


def test_what_differs_is_named_by_its_path(tmp_path):
    train.save(tmp_path / "tree", {"a": {"w": np.ones(3, np.float32), "b": np.ones(2)}, "old": [np.ones(1)]})
    like = {"a": {"w": np.ones(3), "b": np.ones(3)}, "new": np.ones(1)}
    expected = (
        "like must be of the structure of the file, got another: a/b is float64[2] rather than float64[3]; "
        "a/w is float32[3] rather than float64[3]; new is missing; old/0 is not expected"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(f'train.restore: {expected}')}$"):
        train.restore(tmp_path / "tree", like)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"w": "text"}, r"tree\['w'\] must be an array, got str 'text'"),
        ({"a/b": np.ones(1)}, r"""tree must be a tree without "/" in its names, got 'a/b'"""),
        ({"w": np.ones(2, jnp.int4)}, r"tree\['w'\] must be of a dtype that safetensors has, got int4\[2\]"),
        ({"w": np.array([None])}, r"tree\['w'\] must be of a dtype that safetensors has, got object\[1\]"),
    ],
)
def test_what_cannot_be_saved(tmp_path, tree, message):
    with pytest.raises(ValueError, match=f"^train.save: {message}$"):
        train.save(tmp_path / "tree", tree)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(tmp_path):
    train.save(tmp_path / "model", {"w": np.ones(3)})
    with pytest.raises(ValueError, match="already exists"):
        train.save(tmp_path / "model", {"w": np.zeros(3)})
    np.testing.assert_array_equal(train.restore(tmp_path / "model")["w"], 1)


def test_what_is_not_there_cannot_be_restored(tmp_path):
    for path in (tmp_path / "model", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"^train.restore: there is no file "):
            train.restore(path)


def test_a_damaged_file_is_refused(tmp_path):
    """Flips at every tenth bit, and every tenth length."""
    train.save(tmp_path / "tree", {"w": np.arange(6.0), "n": np.int32(3)})
    content = (tmp_path / "tree").read_bytes()
    flipped = [
        content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
        for place in range(0, len(content), 10)
    ]
    header = json.dumps({"w": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]}}).encode()
    claims = len(header).to_bytes(8, "little") + header
    for damaged in [
        *flipped,
        *(content[:end] for end in range(0, len(content), 10)),
        content + b"0",
        claims,
        b"\x80\x04N.",
    ]:
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"^train.restore: '.*damaged' is damaged, or no file of jaxcnn: "):
            train.restore(tmp_path / "damaged")


def test_a_path_that_is_none():
    with pytest.raises(TypeError, match=r"^train.save: path must be a path, got NoneType None"):
        train.save(None, {"w": np.ones(3)})
    with pytest.raises(TypeError, match=r"^train.restore: path must be a path, got int 3"):
        train.restore(3)


def test_without_safetensors_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r'safetensors: pip install "jaxcnn\[train\]"$'):
        train.save(tmp_path / "model", {"w": np.ones(3)})
