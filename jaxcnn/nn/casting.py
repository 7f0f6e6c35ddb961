"""Mixed precision: layers that compute in half precision with parameters in single precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn.contract import arguments
from jaxcnn.contract.precision import widen
from jaxcnn.nn.calls import layer_maker
from jaxcnn.nn.layer import Layer, LayerLike, checked_layer, knowing

_HALF = ("bfloat16", "float16")


@layer_maker
def cast(layer: LayerLike, dtype: str) -> Layer:
    """The same layer, computed in half precision, with parameters, state and output in float32.

    Inside, parameters and x have the dtype; sums are accumulated in float32 and rounded at the end, and so are the
    statistics of a batch norm. The gradient by the parameters is float32, rounded to the dtype on its way back.

    Args:
        layer: a layer or a whole model, or a function of an array.
        dtype: "bfloat16", which has the range of float32, or "float16", in which a gradient below 6e-8 is 0: scale the
            loss up for it.

    Returns:
        A layer with the same parameters and state. x may be of any floating-point dtype, or of integers of 8 bits such
        as images are; other integers pass as they are. What comes out in half precision becomes float32.

    Raises:
        TypeError: layer is neither.
        ValueError: dtype is no name of these two.

    Source: Micikevicius et al., Mixed precision training, 2018.

    >>> from jaxcnn import nn
    >>> model = nn.cast(nn.sequential(nn.conv(8, 3), nn.batch_norm(), nn.flatten(), nn.dense(10)), "bfloat16")
    >>> params, state = model.init(jax.random.key(0), (1, 6, 6, 3))
    >>> y, _ = model.apply(params, state, jnp.zeros((1, 6, 6, 3), "uint8"))
    >>> params["conv1"]["w"].dtype, y.dtype
    (dtype('float32'), dtype('float32'))
    """
    layer = checked_layer("nn.cast", "layer", layer)
    dtype = arguments.choice("nn.cast", "dtype", dtype, _HALF)

    def narrow(a: Any) -> Any:
        return jnp.asarray(a, dtype) if _has(a, jnp.floating) else a

    def narrow_image(a: Any) -> Any:
        return jnp.asarray(a, dtype) if _has(a, jnp.integer) and a.dtype.itemsize == 1 else narrow(a)

    def apply(params, state, x, *, train=False, key=None):
        params, x = jax.tree.map(narrow, params), jax.tree.map(narrow_image, x)
        y, state = layer.apply(params, state, x, train=train, key=key)
        return jax.tree.map(_widened, (y, state))

    return replace(layer, apply=knowing(apply, layer))


def _has(a: Any, kind: Any) -> bool:
    return arguments.is_array(a) and jnp.issubdtype(a.dtype, kind)


def _widened(a: Any) -> Any:
    return widen(a) if _has(a, jnp.floating) else a
