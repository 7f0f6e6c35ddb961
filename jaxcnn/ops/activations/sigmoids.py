"""Activations that rise from one bound to another: the logistic function, tanh, and what is cheaper.

Lecture: "Backpropagation through Convolution: Activation": ∇_Z R = ∇_Y R ⊙ f'(Z), the rule in `entrywise.py`.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.ops.activations.entrywise import Activation, activate, keep_y, keep_z


def sigmoid(z: jax.Array) -> jax.Array:
    """Logistic function.

        f(z) = σ(z) = 1 / (1 + exp(-z))        f'(z) = y (1 - y)

    Args:
        z: any shape.

    Returns:
        y = f(z), of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array.

    Gradient: dz = f'(z) dy. Keeps y.

    Source: lecture, "Backpropagation through Convolution: Activation".

    >>> round(float(sigmoid(jnp.array(2.0))), 3)
    0.881
    """
    return activate("sigmoid", z, _SIGMOID)


_SIGMOID = Activation(f=lax.logistic, kept=keep_y, slope=lambda y: y * (1 - y))


def tanh(z: jax.Array) -> jax.Array:
    """Hyperbolic tangent.

        f(z) = tanh(z)        f'(z) = (1 - y) (1 + y)

    Args:
        z: any shape.

    Returns:
        y = f(z), of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array.

    Gradient: dz = f'(z) dy. Keeps y.

    Source: lecture, "Backpropagation through Convolution: Activation".

    >>> round(float(tanh(jnp.array(1.0))), 3)
    0.762
    """
    return activate("tanh", z, _TANH)


_TANH = Activation(f=lax.tanh, kept=keep_y, slope=lambda y: (1 - y) * (1 + y))


def softsign(z: jax.Array) -> jax.Array:
    """Softsign.

        f(z) = z / (1 + |z|)        f'(z) = 1 / (1 + |z|)²

    Args:
        z: any shape.

    Returns:
        y = f(z), of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array.

    Gradient: dz = f'(z) dy. Keeps z.

    Source: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010.

    >>> softsign(jnp.array([-1.0, 3.0]))
    Array([-0.5 ,  0.75], dtype=float32)
    """
    return activate("softsign", z, _SOFTSIGN)


def _softsign(z):
    largest = float(jnp.finfo(z.dtype).max)  # f is ±1 there as at ±inf, which cannot be divided by itself
    finite = jnp.where(z > largest, largest, jnp.where(z < -largest, -largest, z))
    return finite / (1 + jnp.abs(finite))


# The square of the quotient: its derivative is 0 for large z, that of 1/square is 0 times infinity.
_SOFTSIGN = Activation(f=_softsign, kept=keep_z, slope=lambda z: jnp.square(1 / (1 + jnp.abs(z))))


def hard_sigmoid(z: jax.Array) -> jax.Array:
    """Piecewise linear sigmoid.

        f(z) = min(max(z + 3, 0), 6) / 6        f'(z) = 1/6 for -3 < z < 3, else 0

    Args:
        z: any shape.

    Returns:
        y = f(z), of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array.

    Gradient: dz = f'(z) dy, 0 at z = -3 and z = 3. Keeps the mask -3 < z < 3.

    Source: Howard et al., Searching for MobileNetV3, 2019.

    >>> hard_sigmoid(jnp.array([-4.0, 0.0, 1.5]))
    Array([0.  , 0.5 , 0.75], dtype=float32)
    """
    return activate("hard_sigmoid", z, _HARD_SIGMOID)


_HARD_SIGMOID = Activation(
    f=lambda z: jnp.where(z <= -3, 0.0, jnp.where(z >= 3, 1.0, (z + 3) / 6)),
    kept=lambda z, y: (z > -3) & (z < 3),
    slope=lambda is_inside: jnp.where(is_inside, 1 / 6, 0.0),
)


def hard_tanh(z: jax.Array) -> jax.Array:
    """Piecewise linear tanh.

        f(z) = min(max(z, -1), 1)        f'(z) = 1 for -1 < z < 1, else 0

    Args:
        z: any shape.

    Returns:
        y = f(z), of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array.

    Gradient: dz = f'(z) dy, 0 at z = -1 and z = 1. Keeps the mask -1 < z < 1.

    Source: Collobert, Large scale machine learning, 2004.

    >>> hard_tanh(jnp.array([-4.0, 0.5]))
    Array([-1. ,  0.5], dtype=float32)
    """
    return activate("hard_tanh", z, _HARD_TANH)


_HARD_TANH = Activation(
    f=lambda z: jnp.where(z <= -1, -1.0, jnp.where(z >= 1, 1.0, z)),
    kept=lambda z, y: (z > -1) & (z < 1),
    slope=lambda is_inside: jnp.where(is_inside, 1.0, 0.0),
)
