"""Pooling as layers, x [N, *S, C] -> [N, *M, C].

Whether a window fits shows when x has a shape: most errors come from apply, and from the init of a model that the layer
is part of, which asks it for the shape of what comes out.
"""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp

from jaxcnn.contract import arguments, window_arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.contract.window_arguments import Padding
from jaxcnn.nn.calls import layer_maker
from jaxcnn.nn.fitting import axes_of_images, images_shape, images_with_channels
from jaxcnn.nn.layer import Layer, leaf, no_parameters, parameterless
from jaxcnn.nn.parameters import filled, one_per_channel, required_key
from jaxcnn.ops import (
    global_pooling,
    lp_pooling,
    max_pooling,
    mean_pooling,
    mixed_pooling,
    stochastic_pooling,
    weighted_pooling,
)
from jaxcnn.ops.global_pooling import Regions


@layer_maker
def max_pool(
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> Layer:
    """The largest entry of each window: `jaxcnn.max_pool`.

    Args:
        window, stride, padding, dilation, ceil_mode: as for `jaxcnn.max_pool`.

    Returns:
        A layer without params and state, x [N, *S, C] -> [N, *M, C].

    Raises:
        TypeError, ValueError: from apply, those of `jaxcnn.max_pool`.

    >>> y, _ = max_pool(2).apply({}, {}, jnp.ones((1, 8, 8, 3)))
    >>> y.shape
    (1, 4, 4, 3)
    """
    options = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    return parameterless("max_pool", partial(max_pooling.max_pool, window=window, **options))


@layer_maker
def mean_pool(
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "VALID",
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: float | None = None,
) -> Layer:
    """The mean of each window: `jaxcnn.mean_pool`.

    Args:
        window, stride, padding, ceil_mode, count_include_pad, divisor: as for `jaxcnn.mean_pool`.

    Returns:
        A layer without params and state, x [N, *S, C] -> [N, *M, C].

    Raises:
        TypeError, ValueError: from apply, those of `jaxcnn.mean_pool`.

    >>> y, _ = mean_pool(2).apply({}, {}, jnp.ones((1, 8, 8, 3)))
    >>> y.shape
    (1, 4, 4, 3)
    """
    options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    options |= {"count_include_pad": count_include_pad, "divisor": divisor}
    return parameterless("mean_pool", partial(mean_pooling.mean_pool, window=window, **options))


@layer_maker
def lp_pool(window: PerAxis, p: float, *, stride: PerAxis | None = None, ceil_mode: bool = False) -> Layer:
    """The p-norm of each window: `jaxcnn.lp_pool`.

    Args:
        window, p, stride, ceil_mode: as for `jaxcnn.lp_pool`.

    Returns:
        A layer without params and state, x [N, *S, C] -> [N, *M, C].

    Raises:
        TypeError, ValueError: from apply, those of `jaxcnn.lp_pool`.

    >>> y, _ = lp_pool(2, 2).apply({}, {}, jnp.ones((1, 8, 8, 3)))
    >>> y.shape
    (1, 4, 4, 3)
    """
    return parameterless("lp_pool", partial(lp_pooling.lp_pool, window=window, p=p, stride=stride, ceil_mode=ceil_mode))


@layer_maker
def adaptive_max_pool(shape: Regions) -> Layer:
    """The maximum of each of `shape` regions: `jaxcnn.adaptive_max_pool`.

    Args:
        shape: as for `jaxcnn.adaptive_max_pool`.

    Returns:
        A layer without params and state, x [N, *S, C] -> [N, *shape, C].

    Raises:
        TypeError, ValueError: from apply, those of `jaxcnn.adaptive_max_pool`.

    >>> y, _ = adaptive_max_pool((2, 2)).apply({}, {}, jnp.ones((1, 7, 9, 3)))
    >>> y.shape
    (1, 2, 2, 3)
    """
    return parameterless("adaptive_max_pool", partial(global_pooling.adaptive_max_pool, shape=shape))


@layer_maker
def adaptive_mean_pool(shape: Regions) -> Layer:
    """The mean of each of `shape` regions: `jaxcnn.adaptive_mean_pool`.

    Args:
        shape: as for `jaxcnn.adaptive_mean_pool`.

    Returns:
        A layer without params and state, x [N, *S, C] -> [N, *shape, C].

    Raises:
        TypeError, ValueError: from apply, those of `jaxcnn.adaptive_mean_pool`.

    >>> y, _ = adaptive_mean_pool((2, 2)).apply({}, {}, jnp.ones((1, 7, 9, 3)))
    >>> y.shape
    (1, 2, 2, 3)
    """
    return parameterless("adaptive_mean_pool", partial(global_pooling.adaptive_mean_pool, shape=shape))


@layer_maker
def weighted_pool(
    window: PerAxis, *, stride: PerAxis | None = None, padding: Padding = "VALID", shared: bool = False
) -> Layer:
    """The sum of each window with learnt weights: `jaxcnn.weighted_pool`. It starts as `mean_pool`.

    Args:
        window: size of the window, K, an int or one per spatial axis.
        stride, padding: as for `jaxcnn.weighted_pool`.
        shared: one window of weights for all channels rather than one for each.

    Returns:
        A layer with params {"w": [*K, C], or [*K] if shared; 1/ΠK at first} and no state.

    Raises:
        TypeError: an argument that must be an int is none, or shared is no bool.
        ValueError: from init if the input has no spatial axis, the padding is unknown or the window is too large.

    >>> import jax
    >>> params, _ = weighted_pool(2).init(jax.random.key(0), (1, 8, 8, 3))
    >>> params["w"].shape, float(params["w"][0, 0, 0])
    ((2, 2, 3), 0.25)
    """
    shared = arguments.flag("nn.weighted_pool", "shared", shared)

    def init(key, input_shape):
        x_shape = images_shape("nn.weighted_pool", input_shape)
        stride_ = window if stride is None else stride
        geometry = window_arguments.checked_window("nn.weighted_pool", x_shape[1:-1], window, stride_, padding)
        w_shape = geometry.size if shared else (*geometry.size, x_shape[-1])
        return {"w": filled(key, w_shape, 1 / geometry.volume)}, {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return weighted_pooling.weighted_pool(x, params["w"], stride=stride, padding=padding), state

    def input_of(params, rank):
        w = params["w"]
        return axes_of_images(w.ndim, "C") if shared else axes_of_images(w.ndim - 1, w.shape[-1])

    return leaf("weighted_pool", init, apply, input_of)


@layer_maker
def mixed_pool(window: PerAxis, *, stride: PerAxis | None = None, padding: Padding = "VALID") -> Layer:
    """A learnt share of the maximum of each window and the rest of its mean: `jaxcnn.mixed_pool`.

    Args:
        window: size of the window, an int or one per spatial axis.
        stride, padding: as for `jaxcnn.mixed_pool`.

    Returns:
        A layer with params {"share": [C], 1/2 at first: as much of the one as of the other} and no state.

    Raises:
        TypeError, ValueError: from init if the input is not [N, *S, C], from apply those of `jaxcnn.mixed_pool`.

    >>> import jax
    >>> params, _ = mixed_pool(2).init(jax.random.key(0), (1, 8, 8, 3))
    >>> params["share"]
    Array([0.5, 0.5, 0.5], dtype=float32)
    """

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return mixed_pooling.mixed_pool(x, params["share"], window, stride=stride, padding=padding), state

    init = one_per_channel("share", 0.5, partial(images_shape, "nn.mixed_pool"))
    return leaf("mixed_pool", init, apply, images_with_channels, knows_axes=False)


@layer_maker
def softmax_pool(window: PerAxis, *, stride: PerAxis | None = None, padding: Padding = "VALID") -> Layer:
    """The mean of each window, weighted with the softmax of its entries at a learnt temperature: `jaxcnn.softmax_pool`.

    What is learnt is the logarithm of the temperature, so that no step of an optimizer makes it negative.

    Args:
        window: size of the window, an int or one per spatial axis.
        stride, padding: as for `jaxcnn.softmax_pool`.

    Returns:
        A layer with params {"log_temperature": [C], 0 at first: T = 1} and no state.

    Raises:
        TypeError, ValueError: from init if the input is not [N, *S, C], from apply those of `jaxcnn.softmax_pool`.

    >>> import jax
    >>> params, _ = softmax_pool(2).init(jax.random.key(0), (1, 8, 8, 3))
    >>> params["log_temperature"]
    Array([0., 0., 0.], dtype=float32)
    """

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        temperature = jnp.exp(params["log_temperature"])
        return mixed_pooling.softmax_pool(x, temperature, window, stride=stride, padding=padding), state

    init = one_per_channel("log_temperature", 0.0, partial(images_shape, "nn.softmax_pool"))
    return leaf("softmax_pool", init, apply, images_with_channels, knows_axes=False)


@layer_maker
def stochastic_pool(window: PerAxis, *, stride: PerAxis | None = None, padding: Padding = "VALID") -> Layer:
    """In training an entry of each window, drawn in proportion to its size: `jaxcnn.stochastic_pool`.

    Otherwise the mean over the draws: `jaxcnn.stochastic_pool_inference`.

    Args:
        window: size of the window, an int or one per spatial axis.
        stride, padding: as for `jaxcnn.stochastic_pool`.

    Returns:
        A layer without params and state.

    Raises:
        TypeError, ValueError: from apply those of the two ops; ValueError if train=True and there is no key.

    >>> y, _ = stochastic_pool(2).apply({}, {}, jnp.array([1.0, 3.0]).reshape(1, 2, 1))
    >>> float(y[0, 0, 0])
    2.5
    """

    def apply(params, state, x, *, train=False, key=None):
        del params
        if not train:
            return stochastic_pooling.stochastic_pool_inference(x, window, stride=stride, padding=padding), state
        key = required_key("nn.stochastic_pool", key)
        return stochastic_pooling.stochastic_pool(key, x, window, stride=stride, padding=padding), state

    return leaf("stochastic_pool", no_parameters, apply)
