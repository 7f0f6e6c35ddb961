"""Models as JSON and back."""

import json
import operator
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

import jaxcnn
from jaxcnn import nn

NESTED = nn.dense(3)
for _ in range(20):
    NESTED = nn.sequential(NESTED)


def conv(*args, **options):
    return {"call": "nn.conv", "args": list(args), "options": options}


@pytest.mark.parametrize(
    "model",
    [
        *(getattr(nn, name)() for name in nn.models.__all__),
        nn.resnet(18, 10, cifar=True, zero_init=True),
        nn.sequential(*[nn.conv(4, [3, 3], padding=[(1, 1), (0, 2)], stride=(2, 1)) for _ in range(200)]),
        nn.sequential(nn.named("x", jaxcnn.relu), partial(jaxcnn.resize, size=(3, 3)), nn.skip(jaxcnn.silu)),
        nn.sequential(partial(jaxcnn.relu, keeps="output")),
        nn.remat(nn.named("x", nn.conv(4, np.array([1, 3]), initializer=nn.he_uniform()))),
        nn.cast(nn.residual(nn.conv(np.int32(4), np.array(3)), nn.weight_norm(nn.conv(4, 1))), "bfloat16"),
        nn.dense(3, initializer=nn.orthogonal(1.5)),
        NESTED,
    ],
    ids=lambda model: model.name,
)
def test_what_is_read_equals_what_was_written(model):
    text = nn.to_json(model)
    again = nn.from_json(text)
    assert again == model
    assert nn.to_json(again) == text
    assert str(again) == str(model)


def test_functions_are_models():
    assert nn.from_json(nn.to_json(jaxcnn.relu)) == nn.sequential(jaxcnn.relu).parts((1, 2))[0][1]
    assert json.loads(nn.to_json(nn.conv(16, (3, 5), padding="VALID"))) == conv(16, {"tuple": [3, 5]}, padding="VALID")


@pytest.mark.parametrize(
    ("model", "part"),
    [
        (nn.sequential(nn.conv(3, 3), lambda x: x), "<lambda> of .*test_description"),
        (nn.residual(nn.Layer(nn.flatten().init, nn.flatten().apply, "mine"), jaxcnn.relu), "flatten"),
        (nn.sequential(nn.Layer(lambda key, shape: ({}, {}), lambda *args, **_: args, "mine")), "Layer.*'mine'"),
        (nn.parallel(jaxcnn.relu, jaxcnn.silu, join=operator.mul), "mul of _operator"),
        (nn.sequential(jax.nn.relu), "relu of jax"),
        (nn.dense(3, initializer=jax.nn.initializers.he_normal()), "init of jax"),
        (nn.sequential(nn.load_state_dict), "load_state_dict of jaxcnn"),
        (replace(nn.conv(3, 3), init=lambda key, shape: ({}, {})), "conv"),
        (nn.dropout(jax.numpy.ones(())), "Array"),
        (nn.conv(3, np.full(2000, 3)), "array"),
    ],
)
def test_parts_that_are_not_ours(model, part):
    expected = "made of layers, functions and plain arguments of jaxcnn and jaxcnn.nn"
    with pytest.raises(
        ValueError, match=rf"^nn.to_json: model must be {expected}, got {part}.*train.load\(path, model="
    ):
        nn.to_json(model)


@pytest.mark.parametrize(
    ("entry", "got"),
    [
        ("", "Expecting value"),
        (3, "3, which is no layer"),
        ([], "\\[\\], which is no layer"),
        ({}, "an entry with nothing"),
        ({"call": "os.system", "args": ["ls"]}, "'os.system', which is no layer or initializer of jaxcnn"),
        ({"call": "nn.__init__"}, "'nn.__init__', which is no layer"),
        ({"call": "nn.load_state_dict", "args": [1, 2, "x"]}, "'nn.load_state_dict', which is no layer"),
        ({"call": ["nn.conv"]}, "\\['nn.conv'\\], which is no layer"),
        ({"call": "nn.he_normal"}, "he_normal\\(\\), which is no layer"),
        ({"function": "jaxcnn.jit"}, "'jaxcnn.jit', which is no function"),
        ({"function": "jaxcnn.data"}, "'jaxcnn.data', which is no function"),
        ({"partial": 3}, "the first argument must be callable"),
        (conv("a", 3), "nn.conv: channels must be an int of at least 1, got str 'a'"),
        (conv(), "nn.conv: missing a required argument: 'channels'"),
        (conv(3, 3, code="x"), "nn.conv: got an unexpected keyword argument 'code'"),
        (conv(3, {"array": [3], "dtype": "object"}), "an entry with 'array', 'dtype'"),
        (conv(3, {"array": [1e30], "dtype": "int8"}), "Python int too large"),
        ({"call": "nn.conv", "args": 3}, "args 3 and options {}"),
        ({"call": "nn.resnet_cifar", "args": [6 * 10**9 + 2]}, "nn.resnet_cifar of depth 6000000002"),
        ({"call": "nn.unet", "options": {"depth": 10**30}}, "nn.unet of depth 10"),
        ("[" * 100_000, "more than 50 within each other"),
        ('{"call":"nn.sequential","args":[' * 60 + "]}" * 60, "more than 50 within each other"),
        (f'{{"call":"nn.dense","args":[{"9" * 5000}]}}', "Exceeds the limit"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_texts_of_bad_will(entry, got):
    text = entry if isinstance(entry, str) else json.dumps(entry)
    with pytest.raises(ValueError, match=rf"^nn.from_json: text must be a model as nn.to_json writes it, got {got}.*$"):
        nn.from_json(text)


def test_a_large_model_is_only_named():
    assert nn.from_json(json.dumps(conv(10**12, 3))) == nn.conv(10**12, 3)
    with pytest.raises(TypeError, match=r"^nn.from_json: text must be a string, got bytes"):
        nn.from_json(b"{}")
