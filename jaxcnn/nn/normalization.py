"""Normalisations as layers."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

import numpy as np
from jax import lax
from jax.nn.initializers import Initializer

from jaxcnn.contract import arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.contract.geometry import surely
from jaxcnn.contract.precision import sum_dtype
from jaxcnn.nn.calls import layer_maker
from jaxcnn.nn.fitting import (
    Axes,
    any_with_channels,
    axes_of_images,
    checked_shape,
    images_shape,
    images_with_channels,
    rows_shape,
)
from jaxcnn.nn.initializers import constant
from jaxcnn.nn.layer import Layer, Params, Shape, leaf, parameterless
from jaxcnn.nn.parameters import drawn, filled
from jaxcnn.ops import batch_normalization, local_response, normalization

_ONES = constant(1.0)


@layer_maker
def batch_norm(
    *,
    momentum: float = 0.1,
    eps: float = 1e-5,
    axis_name: str | tuple[str, ...] | None = None,
    initializer: Initializer = _ONES,
) -> Layer:
    """Normalises every channel, x [N, *S, C] or [N, C] -> the same shape: `jaxcnn.batch_norm`.

    In training by the statistics of the batch, which also move the running ones; else by the running ones:

        running mean = (1 - momentum) running mean + momentum mean
        running var = (1 - momentum) running var + momentum var M/(M - 1)

    with M = N · ΠS entries per channel: unbiased, as PyTorch has it. They are float32 whatever the dtype of x and of
    the parameters, and those of half precision become so: it would lose small steps.

    Args:
        momentum: the share of the new batch in the running statistics, from 0 to 1.
        eps: what keeps the root from zero.
        axis_name: inside `shard_map`, the axes of the mesh over which the batch is spread; or that of a `vmap` over it.
        initializer: of gamma, initializer(key, shape, dtype), ones by default; zeros make a residual branch that ends
            in it nothing at first.

    Returns:
        A layer with params {"gamma": [C], "beta": [C]} and state {"mean": [C], "var": [C]}, at first ones for gamma and
        var and zeros for beta and mean.

    Raises:
        TypeError: momentum or eps is no number; from init if initializer does not draw an array [C]; from apply in
            training if axis_name is no name.
        ValueError: momentum is not within [0, 1], eps is negative; from init if the input has less than 2 axes; from
            apply in training if a channel has a single entry, whose variance is not defined.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> layer = batch_norm()
    >>> params, state = layer.init(jax.random.key(0), (2, 1))
    >>> y, state = layer.apply(params, state, jnp.array([[10.0], [30.0]]), train=True)
    >>> state["mean"], state["var"]
    (Array([2.], dtype=float32), Array([20.9], dtype=float32))
    """
    momentum = arguments.number("nn.batch_norm", "momentum", momentum, 0, 1)
    eps = arguments.number("nn.batch_norm", "eps", eps, 0)

    def init(key, input_shape):
        channels = rows_shape("nn.batch_norm", input_shape)[-1]
        params = {
            "gamma": drawn("nn.batch_norm", initializer, key, (channels,)),
            "beta": filled(key, (channels,), 0),
        }
        return params, {"mean": filled(key, (channels,), 0), "var": filled(key, (channels,), 1)}

    def apply(params, state, x, *, train=False, key=None):
        del key
        gamma, beta = params["gamma"], params["beta"]
        if not train:
            return batch_normalization.batch_norm_inference(x, gamma, beta, state["mean"], state["var"], eps=eps), state
        y, mean, var = batch_normalization.batch_norm(x, gamma, beta, eps=eps, axis_name=axis_name)
        count = math.prod(x.shape[:-1]) * (1 if axis_name is None else lax.axis_size(axis_name))
        expected = "of at least 2 entries per channel when train=True"
        arguments.require(not surely(operator.le, count, 1), "nn.batch_norm", "x", expected, arguments.describe(x))
        return y, {"mean": moved(state["mean"], mean), "var": moved(state["var"], var * (count / (count - 1)))}

    def moved(running, batch):
        wide = sum_dtype(running.dtype)
        return (1 - momentum) * running.astype(wide) + momentum * batch.astype(wide)

    return leaf("batch_norm", init, apply, any_with_channels, knows_axes=False)


@layer_maker
def layer_norm(*, axes: PerAxis = -1, eps: float = 1e-5) -> Layer:
    """Normalises along some axes, by default the channels of each place: `jaxcnn.layer_norm`.

    Args:
        axes: an int or several, counted from the end if negative.
        eps: what keeps the root from zero.

    Returns:
        A layer with params {"gamma": ones, "beta": zeros} of the shape that x has along the axes, and no state.

    Raises:
        TypeError: eps is no number; from init if axes are no ints.
        ValueError: eps is negative; from init if the input has no such axis or an axis comes twice.

    >>> import jax
    >>> params, _ = layer_norm().init(jax.random.key(0), (1, 28, 28, 3))
    >>> params["gamma"]
    Array([1., 1., 1.], dtype=float32)
    """
    eps = arguments.number("nn.layer_norm", "eps", eps, 0)
    op = functools.partial(normalization.layer_norm, axes=axes, eps=eps)
    parameter_shape = functools.partial(_axis_lengths, "nn.layer_norm", axes)
    input_of = functools.partial(_input_of, axes)
    return _norm("layer_norm", op, ("gamma", "beta"), parameter_shape, input_of)


@layer_maker
def rms_norm(*, axes: PerAxis = -1, eps: float = 1e-5) -> Layer:
    """Divides by the root mean square along some axes, by default the channels of each place: `jaxcnn.rms_norm`.

    Args:
        axes: an int or several, counted from the end if negative.
        eps: what keeps the root from zero.

    Returns:
        A layer with params {"gamma": ones} of the shape that x has along the axes, and no state.

    Raises:
        TypeError, ValueError: as for `layer_norm`.

    >>> import jax
    >>> params, _ = rms_norm().init(jax.random.key(0), (1, 28, 28, 3))
    >>> params["gamma"]
    Array([1., 1., 1.], dtype=float32)
    """
    eps = arguments.number("nn.rms_norm", "eps", eps, 0)
    op = functools.partial(normalization.rms_norm, axes=axes, eps=eps)
    parameter_shape = functools.partial(_axis_lengths, "nn.rms_norm", axes)
    input_of = functools.partial(_input_of, axes)
    return _norm("rms_norm", op, ("gamma",), parameter_shape, input_of)


@layer_maker
def group_norm(groups: int, *, eps: float = 1e-5) -> Layer:
    """Normalises every group of channels of each image: `jaxcnn.group_norm`.

    Args:
        groups: into how many the channels are divided.
        eps: what keeps the root from zero.

    Returns:
        A layer with params {"gamma": [C], "beta": [C]}, ones and zeros at first, and no state.

    Raises:
        TypeError: groups is no int, eps is no number.
        ValueError: groups is less than 1, eps is negative; from init if the input has less than 2 axes or groups does
            not divide its channels.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> y, _ = group_norm(2).apply(*group_norm(2).init(jax.random.key(0), (1, 4)), jnp.array([[1.0, 3.0, 10.0, 30.0]]))
    >>> jnp.round(y, 2)
    Array([[-1.,  1., -1.,  1.]], dtype=float32)
    """
    groups = arguments.integer("nn.group_norm", "groups", groups, 1)
    eps = arguments.number("nn.group_norm", "eps", eps, 0)

    def parameter_shape(input_shape):
        channels = rows_shape("nn.group_norm", input_shape)[-1]
        expected = f"a divisor of the {channels} channels"
        arguments.require(channels % groups == 0, "nn.group_norm", "groups", expected, groups)
        return (channels,)

    op = functools.partial(normalization.group_norm, groups=groups, eps=eps)
    return _norm("group_norm", op, ("gamma", "beta"), parameter_shape)


@layer_maker
def instance_norm(*, eps: float = 1e-5) -> Layer:
    """Normalises every channel of each image, x [N, *S, C] -> the same shape: `jaxcnn.instance_norm`.

    Args:
        eps: what keeps the root from zero.

    Returns:
        A layer with params {"gamma": [C], "beta": [C]}, ones and zeros at first, and no state.

    Raises:
        TypeError: eps is no number.
        ValueError: eps is negative; from init if the input has less than 3 axes.

    >>> import jax
    >>> params, _ = instance_norm().init(jax.random.key(0), (1, 28, 28, 3))
    >>> params["beta"]
    Array([0., 0., 0.], dtype=float32)
    """
    eps = arguments.number("nn.instance_norm", "eps", eps, 0)

    def parameter_shape(input_shape):
        return images_shape("nn.instance_norm", input_shape)[-1:]

    op = functools.partial(normalization.instance_norm, eps=eps)
    return _norm("instance_norm", op, ("gamma", "beta"), parameter_shape, images_with_channels)


@layer_maker
def local_response_norm(size: int, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Layer:
    """Divides by a power of the mean square of the channels around: `jaxcnn.local_response_norm`.

    Args:
        size: over how many channels.
        alpha, beta, k: not negative.

    Returns:
        A layer without params and state; x [..., C].

    Raises:
        TypeError: size is no int, alpha, beta or k is no number.
        ValueError: size is less than 1, alpha, beta or k is negative.

    >>> import jax.numpy as jnp
    >>> y, _ = local_response_norm(1, alpha=1.0, beta=1.0).apply({}, {}, jnp.array([[1.0, 2.0]]))
    >>> y
    Array([[0.5, 0.4]], dtype=float32)
    """
    function = "nn.local_response_norm"
    size = arguments.integer(function, "size", size, 1)
    powers = {name: arguments.number(function, name, v, 0) for name, v in (("alpha", alpha), ("beta", beta), ("k", k))}
    op = functools.partial(local_response.local_response_norm, size=size, **powers)
    return parameterless("local_response_norm", op)


def _norm(name, op, names, parameter_shape, input_of=any_with_channels) -> Layer:
    """The layer of an op with gamma, and beta if it is named, of the shape parameter_shape(input_shape)."""

    def init(key, input_shape):
        shape, start = parameter_shape(input_shape), {"gamma": 1, "beta": 0}
        return {parameter: filled(key, shape, start[parameter]) for parameter in names}, {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return op(x, *(params[parameter] for parameter in names)), state

    return leaf(name, init, apply, input_of, knows_axes=False)


def _axis_lengths(function: str, axes: Any, input_shape: Any) -> Shape:
    x_shape = checked_shape(function, input_shape, lambda shape: True, ())
    return tuple(x_shape[axis] for axis in arguments.axes(function, "axes", axes, len(x_shape)))


def _input_of(axes: Any, params: Params, rank: int) -> Axes:
    """The axes of an x for parameters along some of its axes."""
    gamma = params["gamma"].shape
    given = [int(axis) for axis in np.ravel(axes)]
    if given == [-1]:
        return any_with_channels(params, rank)
    rank = max(rank, *(axis + 1 if axis >= 0 else 1 - axis for axis in given))  # the first axis is that of the batch
    result = list(axes_of_images(rank - 2, "C"))
    for axis, size in zip(sorted(axis % rank for axis in given), gamma, strict=True):
        result[axis] = size
    return tuple(result)
