"""The dtype in which sums are accumulated."""

from typing import Any

import jax
import jax.core
import jax.numpy as jnp


def sum_dtype(dtype: Any) -> Any:
    """The dtype that sums of `dtype` are accumulated in: float32 for the half precisions, else itself."""
    is_half = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return jnp.dtype(jnp.float32) if is_half else jnp.dtype(dtype)


def widen(a: jax.Array) -> jax.Array:
    """An array in the dtype that sums over it are accumulated in."""
    return a.astype(sum_dtype(a.dtype))
