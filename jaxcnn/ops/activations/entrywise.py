"""What all activation functions that work entry by entry have in common: one rule.

Lecture: "Backpropagation through Convolution: Activation". For Y = f(Z), entry by entry,

    ∇_Z R = ∇_Y R ⊙ f'(Z).

Each activation states its own f and f', in `rectifiers.py`, `self_gated.py` or `sigmoids.py`. What it keeps of the
forward pass is a mask where f' has two values only, Y where f' is a simple function of it (Y is the input of the next
layer, which keeps it anyway), else Z.

Half precision is computed in float32 and rounded once; a derivative that is had from Y is that of the rounded Y.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxcnn.contract import arguments
from jaxcnn.contract.rules import custom_rule


class Activation(NamedTuple):
    f: Callable[..., jax.Array]  # z, *options -> y
    kept: Callable[..., jax.Array]  # z, y -> what the backward pass needs
    slope: Callable[..., jax.Array]  # kept, *options -> f'(z)
    rounds: bool = True  # whether f rounds. Then half precision is computed in float32, else as it is: a GPU keeps less


def activate(function: str, z: Any, activation: Activation, *options: Any) -> jax.Array:
    """f(z) of the activation, with its rule; the options are numbers that f and its slope take."""
    (z,) = arguments.floating(function, z=z)
    return (_entrywise if activation.rounds else _entrywise_exact)(z, activation, options)


def _entrywise_plain(z, activation, options):
    return activation.f(z, *options)


def _entrywise_fwd(z, activation, options):
    y = _entrywise_plain(z, activation, options)
    return y, activation.kept(z, y)


def _entrywise_bwd(activation, options, kept, dy):
    """∇_Z R = ∇_Y R ⊙ f'(Z)."""
    return (dy * activation.slope(kept, *options),)


_entrywise = custom_rule(_entrywise_plain, _entrywise_fwd, _entrywise_bwd, wide=True)
_entrywise_exact = custom_rule(_entrywise_plain, _entrywise_fwd, _entrywise_bwd)


def keep_z(z, y):
    return z


def keep_y(z, y):
    return y
