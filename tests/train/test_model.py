"""Trained models in a folder: what is saved can be used, and what is damaged is never loaded."""

import hashlib
import json
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcnn
from jaxcnn import data, nn, train
from jaxcnn.train.model_files import checksum

KEY = jax.random.key(0, impl="rbg")  # compiles four times as fast as the default
RNG = np.random.default_rng(0)
RAW = RNG.integers(0, 255, (7, 4, 4, 2)).astype(np.uint8)
MEAN_STD = data.fit_standardization(RAW)
MODEL = nn.sequential(nn.conv(3, 3), nn.batch_norm(), jaxcnn.relu, nn.flatten(), nn.dense(3))
SHAPE = (1, 4, 4, 2)


@pytest.fixture(scope="module")
def state():
    params, statistics = jax.jit(MODEL.init, static_argnums=1)(KEY, SHAPE)
    average, _ = jax.tree.map(lambda w: w * np.float32(0.5), (params, statistics))
    opt_state = train.ema(0.9).init(average)
    return train.TrainState(params, statistics, (opt_state,), jnp.int32(3), KEY)


@pytest.fixture(scope="module")
def saved(state, tmp_path_factory):
    """A run folder with a model; no test changes it."""
    run = tmp_path_factory.mktemp("run")
    options = {"standardization": MEAN_STD, "class_names": ["a", "b", "c"], "input_shape": SHAPE}
    train.save_model(run / "model", MODEL, state, **options, extra={"dataset": "ours"})
    return run


def test_a_loaded_model_predicts_raw_inputs(saved, state):
    """By the average of the parameters, where there is one."""
    expected = train.predict(MODEL, train.averaged(state), data.standardize(RAW, *MEAN_STD))
    for trained in (train.load(saved), train.load(str(saved / "model"), model=MODEL)):
        np.testing.assert_array_equal(trained.predict(RAW), expected)
        p = np.exp(expected) / np.sum(np.exp(expected), axis=1, keepdims=True)
        np.testing.assert_allclose(trained.probabilities(RAW, batch_size=2), p, rtol=1e-4)
        assert (trained.model, trained.class_names, trained.input_shape) == (MODEL, ("a", "b", "c"), SHAPE)
        assert trained.extra == {"dataset": "ours"}
        np.testing.assert_array_equal(trained.standardization, MEAN_STD)
        assert trained.standardization[0].dtype == np.float32
    assert sorted(os.listdir(saved / "model")) == ["model.json", "model.safetensors"]
    with pytest.raises(ValueError, match=r"^predict: x must be raw inputs \[..., 2\], got uint8\[7, 4, 4\]$"):
        trained.predict(RAW[..., 0])


def test_one_logit_has_two_probabilities_and_half_precision_stays(tmp_path):
    model, params = nn.dense(1), {"w": jnp.ones((1, 1), "bfloat16"), "b": jnp.zeros(1, "bfloat16")}
    state = train.TrainState(params, {}, (), jnp.int32(0), KEY)
    train.save_model(tmp_path / "model", model, state, class_names=["no", "yes"], input_shape=(1, 1))
    trained = train.load(tmp_path)
    assert trained.params["w"].dtype == jnp.bfloat16
    p = trained.probabilities(jnp.full((2, 1), 2.0, "bfloat16"))
    np.testing.assert_allclose(p, [[1 / (1 + np.exp(2)), 1 / (1 + np.exp(-2))]] * 2, rtol=1e-6)


def test_a_model_that_json_has_not_comes_from_the_script(tmp_path):
    model = nn.sequential(nn.dense(2), lambda x: 3 * x)
    state = train.TrainState({"dense1": {"w": np.eye(2, dtype="f"), "b": np.zeros(2, "f")}}, {}, (), 0, KEY)
    train.save_model(tmp_path / "model", model, state, input_shape=(1, 2))
    np.testing.assert_array_equal(train.load(tmp_path, model=model).predict(np.ones((1, 2), "f")), 3)
    with pytest.raises(ValueError, match=r"^train.load: model must be given, as it is not in .*got <lambda> of"):
        train.load(tmp_path)
    with pytest.raises(ValueError, match=r"^train.load: model must be the one .*dense1/b \[2\] where the model has"):
        train.load(tmp_path, model=nn.sequential(nn.dense(5)))


def test_nothing_is_lost_when_a_model_is_written(tmp_path, state, monkeypatch):
    """It is replaced only if that is said, and by a whole one: on a full disk the old one stays."""
    path = tmp_path / "model"
    train.save_model(path, MODEL, state)
    first = (path / "model.json").read_bytes()
    with pytest.raises(FileExistsError, match=r"^train.save_model: path must be new, got .*model, which exists$"):
        train.save_model(path, MODEL, state)
    with pytest.raises(FileExistsError, match=r"path must be new, or a model that is to be replaced, got"):
        train.save_model(tmp_path, MODEL, state, replace=True)

    def full(*_):
        raise OSError(28, "No space left on device")

    def full_for_the_new(source, target, rename=os.rename):
        return full() if source.name == "new" else rename(source, target)

    for name, failing in (("fsync", full), ("rename", full), ("rename", full_for_the_new)):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            with pytest.raises(OSError, match="No space left"):
                train.save_model(path, MODEL, state, class_names=["x"], replace=True)
        assert (path / "model.json").read_bytes() == first
    train.save_model(path, MODEL, state, class_names=["x"], replace=True)
    assert train.load(path).class_names == ("x",)
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"path": 3}, TypeError, "path must be a path, got int 3"),
        ({"state": {}}, TypeError, "state must be a TrainState, got dict {}"),
        ({"standardization": MEAN_STD[0]}, TypeError, "standardization must be a pair of arrays"),
        (
            {"standardization": (MEAN_STD[0], 0 * MEAN_STD[0])},
            ValueError,
            "standardization must be finite, with",
        ),
        ({"standardization": (np.ones(3), np.ones(3))}, ValueError, "standardization must be a pair of arrays"),
        ({"class_names": "abc"}, TypeError, "class_names must be strings, got str 'abc'"),
        ({"class_names": ["a"]}, ValueError, "class_names must be 3, one for each output, got 1"),
        (
            {"input_shape": (1, 5, 5, 2)},
            ValueError,
            r"state must be what .* got params/dense1/w \[48, 3\] where",
        ),
        ({"extra": {"x": np.ones(3)}}, TypeError, "extra must be made of dicts, .* got dict"),
        ({"extra": float("nan")}, TypeError, "extra must be made of dicts, .* got float nan"),
        (
            {"params": {"a": {}}},
            ValueError,
            "state must be nested dicts of arrays, none of them empty",
        ),
        ({"params": {"a/b": np.ones(3)}}, ValueError, "state must be nested dicts of arrays"),
        ({"params": {"a": "x"}}, ValueError, "state must be a tree of arrays of numbers, got params/a str 'x'"),
    ],
)
def test_what_cannot_be_saved(tmp_path, state, options, error, message):
    if "params" in options:
        options = {"state": state._replace(params=options["params"], opt_state=()), "input_shape": None}
    arguments = {"path": tmp_path / "model", "model": MODEL, "state": state, "input_shape": SHAPE, **options}
    with pytest.raises(error, match=rf"^train\.save_model: {message}"):
        train.save_model(**arguments)
    assert os.listdir(tmp_path) == []


def edited(saved, folder, entries):
    """A copy of a model with other entries, whose files agree with each other."""
    description = json.loads((saved / "model" / "model.json").read_text()) | entries
    weights = description["weights"] if isinstance(description["weights"], bytes) else None
    if weights is not None:
        description["weights"] = {"bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}
    description["sha256"] = checksum(description)
    (folder / "model.json").write_text(json.dumps(description))
    (folder / "model.safetensors").write_bytes(weights or (saved / "model" / "model.safetensors").read_bytes())
    return folder


@pytest.mark.parametrize(
    ("entries", "got"),
    [
        ({"format": "x"}, 'JSON without "format"'),
        ({"version": 2}, "version 2 of the format, where this jaxcnn reads 1"),
        ({"weights": {"bytes": 1}}, "weights dict"),
        ({"class_names": [1]}, r"class_names list \[1\]"),
        ({"standardization": {"mean": [1, 2], "std": [1, 0], "dtype": "float32"}}, "standardization dict"),
        ({"standardization": {"mean": [1, 2], "std": [1, 2], "dtype": "object"}}, "standardization dict"),
        ({"input_shape": [1, 5, 5, 2]}, r"params/dense1/w \[48, 3\] where the model has \[75, 3\]"),
        ({"input_shape": [1, 10**11, 10**11, 2]}, "nn.dense: input_shape must be of fewer than 2.48 places"),
        ({"model": {"call": "os.system", "args": ["ls"]}}, "nn.from_json: .*'os.system', which is no layer"),
        ({"model": {"call": "nn.conv", "args": [10**12, 3]}}, "params/conv1/b, which the model has not|no params"),
        ({"model": {"call": "nn.resnet", "options": {"width": 10**11}}}, "nn.conv: w must be of at least 1 and fewer"),
        ({"weights": b"\xff" * 99}, "no safetensors file"),
        ({"weights": (10 << 30).to_bytes(8, "little") + b"{}"}, "no safetensors file, .*header too large"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_descriptions_of_bad_will(saved, tmp_path, entries, got):
    message = rf"^train.load: path must be a model that train.save_model wrote, got .*: {got}"
    with pytest.raises(ValueError, match=message):
        train.load(edited(saved, tmp_path, entries))


def test_damage_is_seen(saved, tmp_path):
    """Every bit counts but for those of white space in model.json: a changed digit of the mean is an error as well."""
    for name in ("model.json", "model.safetensors"):
        whole = (edited(saved, tmp_path, {}) / name).read_bytes()
        shortened = [whole[:0], whole[: len(whole) // 2], whole[:-1], whole + b"0"]
        places = [i for i in RNG.integers(0, len(whole), 60) if not whole[i : i + 1].isspace()]
        flipped = [whole[:i] + bytes([whole[i] ^ 1 << int(RNG.integers(8))]) + whole[i + 1 :] for i in places]
        for content in shortened + flipped:
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ValueError, match=r"^train.load: path must be a model that train.save_model wrote.*$"):
                train.load(tmp_path)
        (tmp_path / name).write_bytes(whole)
    os.remove(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors: no such file$"):
        train.load(tmp_path)


def test_folders_without_a_model(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"^train.load: path must be a folder that is there, got .*no$"):
        train.load(tmp_path / "no")
    with pytest.raises(ValueError, match=r": no model.json in it or in its folder model$"):
        train.load(tmp_path)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r'takes safetensors: pip install "jaxcnn\[train\]"$'):
        train.save_model(tmp_path / "model", nn.flatten(), train.TrainState({}, {}, (), 0, KEY))
