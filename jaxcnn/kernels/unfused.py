"""A computation that XLA compiles as a function of its own."""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata


def unfused(f: Callable[..., Any], *args: jax.Array) -> Any:
    """f(*args), of which XLA fuses nothing with what comes before or after: it is computed once, and stored.

    A barrier does not hold that off on a CPU, where XLA drops it before it fuses. No convolution belongs here: in such
    functions XLA takes the slowest kernel for it.
    """
    with set_xla_metadata(inlineable="false"):
        return jax.jit(f)(*args)
