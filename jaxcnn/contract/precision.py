"""The dtype in which sums are accumulated, and functions that are computed in it.

Half precision is computed in float32 and rounded once, at the end.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np


def sum_dtype(dtype: Any) -> Any:
    """The dtype that sums of `dtype` are accumulated in: float32 for the half precisions, else itself."""
    is_half = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return jnp.dtype(jnp.float32) if is_half else jnp.dtype(dtype)


def widen(a: jax.Array) -> jax.Array:
    """An array in the dtype that sums over it are accumulated in."""
    return a.astype(sum_dtype(a.dtype))


def computed_wide(f: Callable[..., Any]) -> Callable[..., Any]:
    """f of its floating-point arrays in the dtype that sums over them are accumulated in."""

    @functools.wraps(f)
    def wide(*args):
        return f(*_widened(args))

    return wide


def rounded(f: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`computed_wide(f)`, with the result in the dtype of the first floating-point array."""

    @functools.wraps(f)
    def wide(*args):
        return f(*_widened(args)).astype(_first_floating_dtype(args))

    return wide


def rounded_forward(fwd: Callable[..., Any]) -> Callable[..., Any]:
    """`rounded` for the forward pass of a rule: an argument or the result is kept as it is outside of it, not wide."""

    @functools.wraps(fwd)
    def wide(*args):
        wide_args = _widened(args)
        wide_result, residuals = fwd(*wide_args)
        result = wide_result.astype(_first_floating_dtype(args))
        outside = dict(zip(map(id, jax.tree.leaves(wide_args)), jax.tree.leaves(args), strict=True))
        outside[id(wide_result)] = result
        return result, jax.tree.map(lambda leaf: outside.get(id(leaf), leaf), residuals)

    return wide


def _widened(args):
    return jax.tree.map(lambda leaf: widen(leaf) if _is_half(leaf) else leaf, args)


def _is_half(leaf):
    return _is_floating(leaf) and leaf.dtype != sum_dtype(leaf.dtype)


def _is_floating(leaf):
    return isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating)


def _first_floating_dtype(args):
    return next(leaf.dtype for leaf in jax.tree.leaves(args) if _is_floating(leaf))
