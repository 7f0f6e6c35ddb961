"""Layers that equal calls make: they are equal, compile once, pickle, print without addresses, and have signatures."""

import functools
import inspect
import operator
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcnn
from jaxcnn import nn

KEY = jax.random.key(0, impl="rbg")  # compiles four times as fast as the default


def double(x):
    return 2 * x


def a_model(stride=1):
    """Of layers around layers, with lists, arrays, partials and initializers as arguments."""
    body = nn.sequential(
        nn.named("a", nn.conv(4, [3, 3], stride=stride, padding=[(1, 1), (1, 1)], initializer=nn.he_uniform())),
        nn.conv(4, np.array([1, 3])),
        nn.batch_norm(),
        functools.partial(jaxcnn.leaky_relu, negative_slope=0.1),
    )
    return nn.sequential(
        nn.remat(nn.residual(body, double)),
        nn.weight_norm(nn.conv(4, 1)),
        nn.parallel(jaxcnn.relu, nn.resnet_cifar(8, 4, width=4), join=operator.mul),
    )


def test_equal_calls_make_equal_layers():
    assert a_model() == a_model()
    assert hash(a_model()) == hash(a_model())
    assert nn.conv(3, size=2) == nn.conv(3, 2, stride=1) == nn.conv(channels=3, size=2)
    assert nn.unet(depth=1) == nn.unet(depth=1, width=64)
    others = [a_model(2), nn.conv(3, 2), nn.conv(3, 3), nn.named("conv", nn.conv(3, 2)), nn.sequential(double)]
    others += [nn.sequential(lambda x: x), nn.sequential(lambda x: x), nn.sequential(functools.partial(double, 1))]
    others += [nn.dense(3), nn.dense(3, initializer=nn.he_uniform()), nn.dense(3, initializer=nn.lecun_uniform())]
    assert len({a_model(), *others}) == 1 + len(others)


def test_a_list_that_is_changed_afterwards_changes_no_layer():
    size = [3, 3]
    layer = nn.conv(2, size)
    size[0] = 5
    assert layer.init(KEY, (1, 8, 8, 1))[0]["w"].shape == (3, 3, 1, 2)
    assert layer == nn.conv(2, [3, 3])


def test_equal_models_are_traced_once():
    count = 0

    def counted(x):
        nonlocal count
        count += 1
        return x

    models = [nn.sequential(nn.skip(counted)) for _ in range(2)]
    assert models[0] is not models[1]
    applied = jax.jit(lambda model, x: model.apply({}, {}, x)[0], static_argnums=0)
    kept = [jax.jit(model.apply, static_argnames="train") for model in models]
    for model, apply in zip(models, kept, strict=True):
        applied(model, jnp.ones((1, 2)))
        apply({}, {}, jnp.ones((1, 2)))
        apply({}, {}, jnp.ones((1, 2)), train=True)
    assert count == 3


@pytest.mark.parametrize("model", [a_model(), nn.autoencoder(), nn.mobilenet_v2(), nn.named("b", nn.skip(double))])
def test_models_are_pickled(model):
    again = pickle.loads(pickle.dumps(model))
    assert again == model
    assert pickle.loads(pickle.dumps(model.apply)) == model.apply
    assert again.name == model.name


def test_models_print_as_they_are_written():
    slope = functools.partial(jaxcnn.leaky_relu, negative_slope=0.1)
    block = nn.residual(nn.conv(4, [3, 3], stride=1, initializer=nn.he_uniform()), slope)
    model = nn.sequential(
        block, nn.named("mine", nn.Layer(lambda key, shape: ({}, {}), double, "mine")), lambda x: x, nn.resnet(50)
    )
    assert str(model).splitlines() == [
        "sequential(",
        "  residual(conv(4, [3, 3], initializer=he_uniform()), partial(leaky_relu, negative_slope=0.1)),",
        "  named('mine', Layer(<lambda>, double, 'mine')),",
        "  <lambda>,",
        "  resnet(50),",
        ")",
    ]
    assert repr(nn.conv(4, 3, padding="VALID")) == "conv(4, 3, padding='VALID')"


def test_signatures_are_readable():
    functions = [getattr(nn, name) for name in nn.__all__]
    texts = [str(inspect.signature(function)) for function in functions if callable(function)]
    unreadable = re.compile(r" at 0x|collections\.|_jax|_src|\*args|<")
    assert len(texts) > 60
    assert [text for text in texts if unreadable.search(text)] == []
