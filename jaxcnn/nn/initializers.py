"""How weights are drawn at first: what a layer takes as its `initializer`.

Each of these makes an initializer, a function initializer(key, shape, dtype) -> weights, with a variance that keeps the
size of what passes through a layer:

    he       2 / fan_in                 for relu: half of what comes in is 0
    lecun    1 / fan_in                 for selu, tanh and a last layer
    glorot   2 / (fan_in + fan_out)     as good for the gradient as for the output

where w [*K, C/groups, O] has fan_in = ΠK · C/groups, what one entry of the output is the sum of, and fan_out = ΠK · O.
That is so for `conv_transpose`, too: its filters are drawn in this layout and then turned into [*K, O/groups, C].
`orthogonal` gives the O filters, as vectors of fan_in entries, length 1 and right angles between them.

They are JAX's own and take its arguments, none of which is needed; they raise ValueError for weights of one axis, which
have no fan_in. Those of equal arguments are equal, unlike JAX's.

Source: `jax.nn.initializers`; He et al., Delving deep into rectifiers, 2015; Glorot and Bengio, Understanding the
difficulty of training deep feedforward neural networks, 2010; LeCun et al., Efficient backprop, 1998; Saxe et al.,
Exact solutions to the nonlinear dynamics of learning in deep linear neural networks, 2014.

>>> from jaxcnn import nn
>>> layer = nn.dense(200, initializer=nn.glorot_uniform())
>>> layer
dense(200, initializer=glorot_uniform())
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec

import jax
from jax.nn import initializers as of_jax

from jaxcnn.nn.calls import Call

_Arguments = ParamSpec("_Arguments")


@dataclass(frozen=True, repr=False)
class Initializer:
    """What a function of `jax.nn.initializers` makes, equal to what an equal call makes."""

    call: Call

    def __call__(self, *args: Any, **kwargs: Any) -> jax.Array:
        return self.call()(*args, **kwargs)

    def __repr__(self) -> str:
        return repr(self.call)


def _comparable(function: Callable[_Arguments, Any]) -> Callable[_Arguments, Initializer]:
    @functools.wraps(function)
    def make(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Initializer:
        function(*args, **kwargs)  # raises what it has to say about the arguments
        return Initializer(Call(function, args, kwargs))

    return make


constant = _comparable(of_jax.constant)
glorot_normal = _comparable(of_jax.glorot_normal)
glorot_uniform = _comparable(of_jax.glorot_uniform)
he_normal = _comparable(of_jax.he_normal)
he_uniform = _comparable(of_jax.he_uniform)
lecun_normal = _comparable(of_jax.lecun_normal)
lecun_uniform = _comparable(of_jax.lecun_uniform)
orthogonal = _comparable(of_jax.orthogonal)
