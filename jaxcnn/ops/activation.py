"""Activation functions, each with its own derivative.

Lecture: "Backpropagation through Convolution: Activation". For Y = f(Z), entry by entry,

    ∇_Z R = ∇_Y R ⊙ f'(Z).

Each function below states f and f'. What it keeps of the forward pass is a mask where f' has two values only, Y where
f' is a simple function of it (Y is the input of the next layer, which keeps it anyway), else Z.

Half precision is computed in float32 and rounded once; a derivative that is had from Y is that of the rounded Y.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.ops import shapes
from jaxcnn.ops.rules import defvjp
from jaxcnn.ops.sharding import on_any_mesh


class _Activation(NamedTuple):
    f: Callable[..., jax.Array]  # z, *options -> y
    kept: Callable[..., jax.Array]  # z, y -> what the backward pass needs
    slope: Callable[..., jax.Array]  # kept, *options -> f'(z)


def _activate(function, z, activation, *options):
    (z,) = shapes.floating(function, z=z)
    return _entrywise(z, activation, options)


def _entrywise_plain(z, activation, options):
    return activation.f(_wide(z), *options).astype(z.dtype)


_entrywise = jax.custom_vjp(on_any_mesh(_entrywise_plain), nondiff_argnums=(1, 2))


def _entrywise_fwd(z, activation, options):
    y = _entrywise_plain(z, activation, options)
    return y, activation.kept(z, y)


def _entrywise_bwd(activation, options, kept, dy):
    """∇_Z R = ∇_Y R ⊙ f'(Z)."""
    slope = activation.slope(kept if kept.dtype == bool else _wide(kept), *options)
    return ((_wide(dy) * slope.astype(shapes.sum_dtype(dy.dtype))).astype(dy.dtype),)


defvjp(_entrywise, _entrywise_fwd, _entrywise_bwd)


def _wide(a):
    return a.astype(shapes.sum_dtype(a.dtype))


def _z(z, y):
    return z


def _y(z, y):
    return y


def relu(z: jax.Array) -> jax.Array:
    """Rectified linear unit.

        f(z) = max(z, 0)        f'(z) = 1 for z > 0, else 0

    Args:
        z: any shape.

    Returns:
        y = f(z), of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array.

    Gradient: dz = f'(z) dy, 0 at z = 0. Keeps the mask z > 0.

    Source: Nair and Hinton, Rectified linear units improve restricted Boltzmann machines, 2010.

    >>> relu(jnp.array([-1.0, 2.0]))
    Array([0., 2.], dtype=float32)
    """
    return _activate("relu", z, _RELU)


_RELU = _Activation(
    f=lambda z: jnp.where(z <= 0, 0.0, z),
    kept=lambda z, y: z > 0,
    slope=lambda positive: jnp.where(positive, 1.0, 0.0),
)


def leaky_relu(z: jax.Array, negative_slope: float = 0.01) -> jax.Array:
    """Leaky ReLU.

        f(z) = z for z > 0, else a z        f'(z) = 1 for z > 0, else a        a = negative_slope

    Args:
        z: any shape.
        negative_slope: a, a Python number.

    Returns:
        y = f(z), of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array, negative_slope is no number.
        ValueError: negative_slope is not finite.

    Gradient: dz = f'(z) dy, a dy at z = 0. Keeps the mask z > 0.

    Source: Maas et al., Rectifier nonlinearities improve neural network acoustic models, 2013.

    >>> leaky_relu(jnp.array([-1.0, 2.0]), 0.5)
    Array([-0.5,  2. ], dtype=float32)
    """
    return _activate("leaky_relu", z, _LEAKY_RELU, shapes.number("leaky_relu", "negative_slope", negative_slope))


_LEAKY_RELU = _Activation(
    f=lambda z, a: jnp.where(z > 0, z, a * z),
    kept=lambda z, y: z > 0,
    slope=lambda positive, a: jnp.where(positive, 1.0, a),
)


def prelu(z: jax.Array, a: jax.Array) -> jax.Array:
    """Leaky ReLU with learnt slopes.

        y = z for z > 0, else a z

    Args:
        z: [..., C].
        a: one slope per channel [C], or one for all [].

    Returns:
        y, of the shape and dtype of z.

    Raises:
        TypeError: an argument is no floating-point array, or the dtypes differ.
        ValueError: a is neither [C] nor [].

    Gradient: dz = dy for z > 0, else a dy; da = Σ z dy over the entries with z <= 0 that share the slope.

    Source: He et al., Delving deep into rectifiers, 2015.

    >>> prelu(jnp.array([[-1.0, 2.0]]), jnp.array([0.5, 0.5]))
    Array([[-0.5,  2. ]], dtype=float32)
    """
    z, a = shapes.floating("prelu", z=z, a=a)
    shapes.one_or_per_channel("prelu", "a", a, z, "slope")
    return _prelu(z, a)


def _prelu_plain(z, a):
    return jnp.where(z > 0, z, jnp.broadcast_to(a, z.shape) * z)


_prelu = jax.custom_vjp(on_any_mesh(_prelu_plain))


def _prelu_fwd(z, a):
    return _prelu_plain(z, a), (z, a)


def _prelu_bwd(residuals, dy):
    z, a = residuals
    dz = jnp.where(z > 0, dy, jnp.broadcast_to(a, z.shape) * dy)
    shared = tuple(range(z.ndim - a.ndim))
    da = jnp.sum(jnp.where(z > 0, 0.0, _wide(z) * _wide(dy)), axis=shared)
    return dz, da.astype(a.dtype)


defvjp(_prelu, _prelu_fwd, _prelu_bwd)


def elu(z: jax.Array, alpha: float = 1.0) -> jax.Array:
    """Exponential linear unit.

        f(z) = z for z > 0, else α (exp(z) - 1)        f'(z) = 1 for z > 0, else α exp(z)

    Args:
        z: any shape.
        alpha: α, a Python number.

    Returns:
        y = f(z), of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array, alpha is no number.
        ValueError: alpha is not finite.

    Gradient: dz = f'(z) dy, α dy at z = 0. Keeps z.

    Source: Clevert et al., Fast and accurate deep network learning by exponential linear units, 2016.

    >>> elu(jnp.array([0.0, 2.0]))
    Array([0., 2.], dtype=float32)
    """
    return _activate("elu", z, _ELU, shapes.number("elu", "alpha", alpha))


_ELU = _Activation(
    f=lambda z, alpha: jnp.where(z > 0, z, alpha * jnp.expm1(jnp.where(z > 0, 0.0, z))),
    kept=_z,
    slope=lambda z, alpha: jnp.where(z > 0, 1.0, alpha * jnp.exp(jnp.where(z > 0, 0.0, z))),
)


def selu(z: jax.Array) -> jax.Array:
    """Scaled exponential linear unit: mean 0 and variance 1 are a fixed point of it.

        f(z) = λ elu(z, α)        f'(z) = λ for z > 0, else λ α exp(z)        λ = 1.0507..., α = 1.6732...

    Args:
        z: any shape.

    Returns:
        y = f(z), of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array.

    Gradient: dz = f'(z) dy, λ α dy at z = 0. Keeps z.

    Source: Klambauer et al., Self-normalizing neural networks, 2017.

    >>> round(float(selu(jnp.array(1.0))), 3)
    1.051
    """
    return _activate("selu", z, _SELU)


_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946
_SELU = _Activation(
    f=lambda z: _SELU_SCALE * _ELU.f(z, _SELU_ALPHA),
    kept=_z,
    slope=lambda z: _SELU_SCALE * _ELU.slope(z, _SELU_ALPHA),
)


def celu(z: jax.Array, alpha: float = 1.0) -> jax.Array:
    """Continuously differentiable exponential linear unit.

        f(z) = z for z > 0, else α (exp(z/α) - 1)        f'(z) = 1 for z > 0, else exp(z/α)

    Args:
        z: any shape.
        alpha: α, a Python number other than 0.

    Returns:
        y = f(z), of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array, alpha is no number.
        ValueError: alpha is 0 or not finite.

    Gradient: dz = f'(z) dy. Keeps z.

    Source: Barron, Continuously differentiable exponential linear units, 2017.

    >>> celu(jnp.array([0.0, 2.0]))
    Array([0., 2.], dtype=float32)
    """
    alpha = shapes.number("celu", "alpha", alpha)
    shapes.require(alpha != 0, "celu", "alpha", "a number other than 0", alpha)
    return _activate("celu", z, _CELU, alpha)


_CELU = _Activation(
    f=lambda z, alpha: jnp.where(z > 0, z, alpha * jnp.expm1(jnp.where(z > 0, 0.0, z) / alpha)),
    kept=_z,
    slope=lambda z, alpha: jnp.where(z > 0, 1.0, jnp.exp(jnp.where(z > 0, 0.0, z) / alpha)),
)


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
    return _activate("gelu", z, _GELU_TANH if shapes.flag("gelu", "approximate", approximate) else _GELU)


_GELU = _Activation(
    f=lambda z: z * _normal_distribution(z),
    kept=_z,
    slope=lambda z: _normal_distribution(z) + z * jnp.exp(-0.5 * z * z) / math.sqrt(2 * math.pi),
)


def _normal_distribution(z):
    return 0.5 * lax.erfc(-z / math.sqrt(2))


def _gelu_u(z):
    return math.sqrt(2 / math.pi) * (z + 0.044715 * z * z * z)


def _gelu_tanh_slope(z):
    p, q = lax.logistic(2 * _gelu_u(z)), lax.logistic(-2 * _gelu_u(z))  # (1 + tanh u)/2 and 1 minus it, to all digits
    near = jnp.clip(z, -100.0, 100.0)  # beyond, p q is 0, and du may be infinite
    du = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * near * near)
    return p + 2 * near * p * q * du


_GELU_TANH = _Activation(f=lambda z: z * lax.logistic(2 * _gelu_u(z)), kept=_z, slope=_gelu_tanh_slope)


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
    return _activate("silu", z, _SILU)


_SILU = _Activation(
    f=lambda z: z * lax.logistic(z),
    kept=_z,
    slope=lambda z: lax.logistic(z) * (1 + z * (1 - lax.logistic(z))),
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
    return _activate("mish", z, _MISH)


def _mish_slope(z):
    t = jnp.tanh(_SOFTPLUS.f(z))
    return t + z * (1 - t) * (1 + t) * lax.logistic(z)


_MISH = _Activation(f=lambda z: z * jnp.tanh(_SOFTPLUS.f(z)), kept=_z, slope=_mish_slope)


def softplus(z: jax.Array) -> jax.Array:
    """Softplus, a smooth ReLU.

        f(z) = log(1 + exp(z))        f'(z) = σ(z) = 1 - exp(-f(z))

    Args:
        z: any shape.

    Returns:
        y = f(z), of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array.

    Gradient: dz = f'(z) dy. Keeps y.

    Source: Dugas et al., Incorporating second-order functional knowledge for better option pricing, 2000.

    >>> round(float(softplus(jnp.array(0.0))), 3)
    0.693
    """
    return _activate("softplus", z, _SOFTPLUS)


_SOFTPLUS = _Activation(f=lambda z: jnp.logaddexp(z, 0.0), kept=_y, slope=lambda y: -jnp.expm1(-y))


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
    return _activate("softsign", z, _SOFTSIGN)


_SOFTSIGN = _Activation(
    f=lambda z: z / (1 + jnp.abs(z)),
    kept=_z,
    slope=lambda z: 1 / jnp.square(1 + jnp.abs(z)),
)


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
    return _activate("sigmoid", z, _SIGMOID)


_SIGMOID = _Activation(f=lax.logistic, kept=_y, slope=lambda y: y * (1 - y))


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
    return _activate("tanh", z, _TANH)


_TANH = _Activation(f=lax.tanh, kept=_y, slope=lambda y: (1 - y) * (1 + y))


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
    return _activate("hard_sigmoid", z, _HARD_SIGMOID)


_HARD_SIGMOID = _Activation(
    f=lambda z: jnp.where(z <= -3, 0.0, jnp.where(z >= 3, 1.0, (z + 3) / 6)),
    kept=lambda z, y: (z > -3) & (z < 3),
    slope=lambda inside: jnp.where(inside, 1 / 6, 0.0),
)


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
    return _activate("hard_silu", z, _HARD_SILU)


_HARD_SILU = _Activation(
    f=lambda z: jnp.where(z <= -3, 0.0, jnp.where(z >= 3, z, z * (z + 3) / 6)),
    kept=_z,
    slope=lambda z: jnp.where(z <= -3, 0.0, jnp.where(z >= 3, 1.0, (2 * z + 3) / 6)),
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
    return _activate("hard_tanh", z, _HARD_TANH)


_HARD_TANH = _Activation(
    f=lambda z: jnp.where(z <= -1, -1.0, jnp.where(z >= 1, 1.0, z)),
    kept=lambda z, y: (z > -1) & (z < 1),
    slope=lambda inside: jnp.where(inside, 1.0, 0.0),
)


def softmax(z: jax.Array) -> jax.Array:
    """Softmax over the last axis.

        y_i = exp(z_i) / Σ_j exp(z_j)

    Args:
        z: [..., K].

    Returns:
        y, of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array.
        ValueError: z has no axis.

    Gradient: dz_i = y_i (dy_i - Σ_j y_j dy_j). Keeps y.

    Source: Bridle, Probabilistic interpretation of feedforward classification network outputs, 1990.

    >>> softmax(jnp.array([1.0, 1.0, 1.0, 1.0]))
    Array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """
    return _softmax(_rows("softmax", z))


def _rows(function, z):
    (z,) = shapes.floating(function, z=z)
    shapes.require(z.ndim > 0, function, "z", "[..., K] with at least 1 axis", shapes.describe(z))
    return z


def _softmax_plain(z):
    e = jnp.exp(_shifted(_wide(z)))
    return (e / jnp.sum(e, axis=-1, keepdims=True)).astype(z.dtype)


def _shifted(z):
    """z less its largest entry, which leaves the softmax as it is and exp(z) finite."""
    return z - lax.stop_gradient(jnp.max(z, axis=-1, keepdims=True, initial=-jnp.inf))


_softmax = jax.custom_vjp(on_any_mesh(_softmax_plain))


def _softmax_fwd(z):
    y = _softmax_plain(z)
    return y, y


def _softmax_bwd(y, dy):
    wide_y, wide_dy = _wide(y), _wide(dy)
    dz = wide_y * (wide_dy - jnp.sum(wide_y * wide_dy, axis=-1, keepdims=True))
    return (dz.astype(dy.dtype),)


defvjp(_softmax, _softmax_fwd, _softmax_bwd)


def log_softmax(z: jax.Array) -> jax.Array:
    """Logarithm of the softmax over the last axis, stable for large z.

        y_i = z_i - log Σ_j exp(z_j)

    Args:
        z: [..., K].

    Returns:
        y, of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array.
        ValueError: z has no axis.

    Gradient: dz_i = dy_i - exp(y_i) Σ_j dy_j. Keeps y.

    Source: as for `softmax`.

    >>> round(float(log_softmax(jnp.array([1e4, 1e4]))[0]), 3)
    -0.693
    """
    return _log_softmax(_rows("log_softmax", z))


def _log_softmax_plain(z):
    shifted = _shifted(_wide(z))
    return (shifted - jnp.log(jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True))).astype(z.dtype)


_log_softmax = jax.custom_vjp(on_any_mesh(_log_softmax_plain))


def _log_softmax_fwd(z):
    y = _log_softmax_plain(z)
    return y, y


def _log_softmax_bwd(y, dy):
    dz = _wide(dy) - jnp.exp(_wide(y)) * jnp.sum(_wide(dy), axis=-1, keepdims=True)
    return (dz.astype(dy.dtype),)


defvjp(_log_softmax, _log_softmax_fwd, _log_softmax_bwd)
