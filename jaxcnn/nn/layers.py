"""What comes between and behind the convolutions, as layers."""

import math

import jax.numpy as jnp
from jax.nn.initializers import Initializer

from jaxcnn.nn.layer import HE_NORMAL, Layer, weights, without_parameters
from jaxcnn.ops import activation, batch_normalization, shapes
from jaxcnn.ops import dense as dense_op
from jaxcnn.ops import dropout as dropout_op


def dense(features: int, *, bias: bool = True, initializer: Initializer = HE_NORMAL) -> Layer:
    """Fully-connected layer, x [N, I] -> [N, features]: `jaxcnn.dense`.

    Args:
        features: how many entries come out per image, O.
        bias: whether each of them has a bias.
        initializer: of the weights, initializer(key, shape, dtype); by default normal with variance 2/I.

    Returns:
        A layer with params {"w": [I, O], "b": [O], zero at first} and no state.

    Raises:
        TypeError: features is no int.
        ValueError: features is less than 1; from init if the input is not [N, I].

    >>> import jax
    >>> params, _ = dense(10).init(jax.random.key(0), (1, 64))
    >>> params["w"].shape
    (64, 10)
    """
    features = shapes.integer("nn.dense", "features", features, 1)

    def init(key, input_shape):
        x_shape = shapes.shape("nn.dense", "input_shape", input_shape)
        expected = "(N, I): nn.flatten() sorts images into rows"
        shapes.require(len(x_shape) == 2, "nn.dense", "input_shape", expected, x_shape)
        return weights(key, (x_shape[1], features), bias, initializer), {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return dense_op.dense(x, params["w"], params.get("b")), state

    return Layer(init, apply, "dense")


def flatten() -> Layer:
    """Sorts every image into one row, x [N, *S, C] -> [N, ΠS · C]: `jaxcnn.flatten`.

    >>> y, _ = flatten().apply({}, {}, jnp.ones((2, 4, 4, 3)))
    >>> y.shape
    (2, 48)
    """
    return without_parameters("flatten", dense_op.flatten)


def batch_norm(*, momentum: float = 0.1, eps: float = 1e-5) -> Layer:
    """Normalises every channel, x [N, *S, C] or [N, C] -> the same shape: `jaxcnn.batch_norm`.

    In training by the statistics of the batch, which also move the running ones; else by the running ones:

        running mean = (1 - momentum) running mean + momentum mean
        running var = (1 - momentum) running var + momentum var M/(M - 1)

    with M = N · ΠS entries per channel: unbiased, as PyTorch has it.

    Args:
        momentum: the share of the new batch in the running statistics, from 0 to 1.
        eps: what keeps the root from zero.

    Returns:
        A layer with params {"gamma": [C], "beta": [C]} and state {"mean": [C], "var": [C]}, at first ones for gamma and
        var and zeros for beta and mean.

    Raises:
        TypeError: momentum or eps is no number.
        ValueError: momentum is not within [0, 1], eps is negative; from init if the input has less than 2 axes; from
            apply in training if a channel has a single entry, whose variance is not defined.

    >>> import jax
    >>> layer = batch_norm()
    >>> params, state = layer.init(jax.random.key(0), (2, 1))
    >>> y, state = layer.apply(params, state, jnp.array([[10.0], [30.0]]), train=True)
    >>> state["mean"], state["var"]
    (Array([2.], dtype=float32), Array([20.9], dtype=float32))
    """
    momentum = shapes.number("nn.batch_norm", "momentum", momentum, 0, 1)
    eps = shapes.number("nn.batch_norm", "eps", eps, 0)

    def init(key, input_shape):
        del key
        x_shape = shapes.shape("nn.batch_norm", "input_shape", input_shape)
        shapes.require(len(x_shape) >= 2, "nn.batch_norm", "input_shape", "(N, *S, C) or (N, C)", x_shape)
        channels = x_shape[-1]
        params = {"gamma": jnp.ones(channels, jnp.float32), "beta": jnp.zeros(channels, jnp.float32)}
        return params, {"mean": jnp.zeros(channels, jnp.float32), "var": jnp.ones(channels, jnp.float32)}

    def apply(params, state, x, *, train=False, key=None):
        del key
        gamma, beta = params["gamma"], params["beta"]
        if not train:
            return batch_normalization.batch_norm_inference(x, gamma, beta, state["mean"], state["var"], eps=eps), state
        y, mean, var = batch_normalization.batch_norm(x, gamma, beta, eps=eps)
        count = math.prod(x.shape[:-1])
        expected = "of at least 2 entries per channel when train=True"
        shapes.require(count > 1, "nn.batch_norm", "x", expected, shapes.describe(x))
        return y, {"mean": moved(state["mean"], mean), "var": moved(state["var"], var * (count / (count - 1)))}

    def moved(running, batch):
        return (1 - momentum) * running + momentum * batch.astype(running.dtype)

    return Layer(init, apply, "batch_norm")


def dropout(rate: float) -> Layer:
    """In training drops each entry with probability `rate` and scales the others by 1/(1 - rate): `jaxcnn.dropout`.

    Args:
        rate: the share that is dropped, from 0 to 1.

    Returns:
        A layer without params and state; x of any shape.

    Raises:
        TypeError: rate is no number.
        ValueError: rate is not within [0, 1]; from apply if train=True and there is no key.

    >>> import jax
    >>> y, _ = dropout(0.5).apply({}, {}, jnp.ones(100), train=True, key=jax.random.key(0))
    >>> sorted(set(y.tolist()))
    [0.0, 2.0]
    """
    rate = shapes.number("nn.dropout", "rate", rate, 0, 1)

    def apply(params, state, x, *, train=False, key=None):
        del params
        if not train:
            return x, state
        shapes.require(key is not None, "nn.dropout", "key", "a JAX random key when train=True", key)
        assert key is not None
        return dropout_op.dropout(key, x, rate), state

    return Layer(lambda key, input_shape: ({}, {}), apply, "dropout")


def prelu() -> Layer:
    """Leaky ReLU with a learnt slope for every channel, x [..., C] -> the same shape: `jaxcnn.prelu`.

    Returns:
        A layer with params {"a": [C], 0.25 at first} (He et al., 2015) and no state.

    >>> import jax
    >>> params, _ = prelu().init(jax.random.key(0), (1, 28, 28, 2))
    >>> params["a"]
    Array([0.25, 0.25], dtype=float32)
    """

    def init(key, input_shape):
        del key
        x_shape = shapes.shape("nn.prelu", "input_shape", input_shape)
        shapes.require(len(x_shape) >= 2, "nn.prelu", "input_shape", "(N, *S, C) or (N, C)", x_shape)
        return {"a": jnp.full(x_shape[-1], 0.25, jnp.float32)}, {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return activation.prelu(x, params["a"]), state

    return Layer(init, apply, "prelu")
