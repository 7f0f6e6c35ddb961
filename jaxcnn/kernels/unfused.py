"""A computation whose result XLA stores: it is compiled as a function of its own."""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata


def unfused(f: Callable[..., Any], *args: jax.Array) -> Any:
    """f(*args), computed once and stored: XLA fuses no operation of f with one outside.

    On a CPU `lax.optimization_barrier` does not have this effect: XLA removes it before it fuses. f must hold no
    convolution: XLA computes one in such a function by its own loops, the slowest of its kernels.
    """
    with set_xla_metadata(inlineable="false"):
        return jax.jit(f)(*args)
