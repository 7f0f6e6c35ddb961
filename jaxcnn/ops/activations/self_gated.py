"""Activations z g(z): z times a gate between 0 and 1, or nearly so, that it opens itself.

Lecture: "Backpropagation through Convolution: Activation": ∇_Z R = ∇_Y R ⊙ f'(Z), the rule in `entrywise.py`.

Far from 0 the gate is 0 or 1 to all digits and its derivative 0: z times them is 0, z or 0, up to z = ±inf.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.contract import arguments
from jaxcnn.ops.activations.entrywise import Activation, activate, keep_z


def gelu(z: jax.Array, *, approximate: bool = False) -> jax.Array:
    """Gaussian error linear unit, Φ and φ the distribution and density of the standard normal.

        f(z) = z Φ(z)        f'(z) = Φ(z) + z φ(z)

    With approximate=True, Φ(z) is (1 + tanh u)/2 with u = sqrt(2/π) (z + 0.044715 z³), in f and in f'.

    Args:
        z: any shape.
        approximate: whether Φ is the approximation.

    Returns:
        y = f(z), of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array, approximate is no bool.

    Gradient: dz = f'(z) dy. Keeps z.

    Source: Hendrycks and Gimpel, Gaussian error linear units, 2016.

    >>> round(float(gelu(jnp.array(1.0))), 3)
    0.841
    """
    return activate("gelu", z, _GELU_TANH if arguments.flag("gelu", "approximate", approximate) else _GELU)


_FAR = 1000.0  # of float64 as well: exp(-_FAR) is 0


def _self_gated(gate: Callable[..., jax.Array], slope: Callable[..., jax.Array]) -> Activation:
    """z gate(z), whose derivative is slope(z, near), with z cut off at `_FAR` as near, for what is times a 0 there."""

    def f(z):
        return jnp.where(z < -_FAR, 0.0, z * gate(z))

    return Activation(f, keep_z, lambda z: slope(z, jnp.clip(z, -_FAR, _FAR)))


def _normal_distribution(z):
    return 0.5 * lax.erfc(-z / math.sqrt(2))


def _gelu_slope(_, near):
    return _normal_distribution(near) + near * jnp.exp(-0.5 * near * near) / math.sqrt(2 * math.pi)


_GELU = _self_gated(_normal_distribution, _gelu_slope)


def _gelu_u(z):
    return math.sqrt(2 / math.pi) * (z + 0.044715 * z * z * z)


def _gelu_tanh_slope(_, z):
    p, q = lax.logistic(2 * _gelu_u(z)), lax.logistic(-2 * _gelu_u(z))  # (1 + tanh u)/2 and 1 minus it, to all digits
    du = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z * z)
    return p + 2 * z * p * q * du


_GELU_TANH = _self_gated(lambda z: lax.logistic(2 * _gelu_u(z)), _gelu_tanh_slope)


def silu(z: jax.Array) -> jax.Array:
    """Sigmoid linear unit, also called swish.

        f(z) = z σ(z)        f'(z) = σ(z) (1 + z (1 - σ(z)))

    Args:
        z: any shape.

    Returns:
        y = f(z), of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array.

    Gradient: dz = f'(z) dy. Keeps z.

    Source: Elfwing et al., Sigmoid-weighted linear units, 2018; Ramachandran et al., Searching for activation
        functions, 2017.

    >>> round(float(silu(jnp.array(1.0))), 3)
    0.731
    """
    return activate("silu", z, _SILU)


_SILU = _self_gated(lax.logistic, lambda z, near: lax.logistic(z) * (1 + near * (1 - lax.logistic(z))))


def hard_silu(z: jax.Array) -> jax.Array:
    """Piecewise quadratic SiLU, also called hard swish.

        f(z) = z hard_sigmoid(z)        f'(z) = 0 for z <= -3, 1 for z >= 3, else (2 z + 3) / 6

    Args:
        z: any shape.

    Returns:
        y = f(z), of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array.

    Gradient: dz = f'(z) dy. Keeps z.

    Source: Howard et al., Searching for MobileNetV3, 2019.

    >>> hard_silu(jnp.array([-4.0, 0.0, 1.5]))
    Array([0.   , 0.   , 1.125], dtype=float32)
    """
    return activate("hard_silu", z, _HARD_SILU)


_HARD_SILU = Activation(
    f=lambda z: jnp.where(z <= -3, 0.0, jnp.where(z >= 3, z, z * (z + 3) / 6)),
    kept=keep_z,
    slope=lambda z: jnp.where(z <= -3, 0.0, jnp.where(z >= 3, 1.0, (2 * z + 3) / 6)),
)


def mish(z: jax.Array) -> jax.Array:
    """Mish.

        f(z) = z t, t = tanh(softplus(z))        f'(z) = t + z (1 - t²) σ(z)

    Args:
        z: any shape.

    Returns:
        y = f(z), of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array.

    Gradient: dz = f'(z) dy. Keeps z.

    Source: Misra, Mish: a self regularized non-monotonic activation function, 2019.

    >>> round(float(mish(jnp.array(1.0))), 3)
    0.865
    """
    return activate("mish", z, _MISH)


def _mish_gate(z):
    return jnp.tanh(jnp.logaddexp(z, 0.0))


def _mish_slope(z, near):
    t = _mish_gate(z)
    return t + near * (1 - t) * (1 + t) * lax.logistic(z)


_MISH = _self_gated(_mish_gate, _mish_slope)
