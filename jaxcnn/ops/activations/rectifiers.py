"""ReLU and its relatives: z where it is above zero, or nearly so, and little of it below.

Lecture: "Backpropagation through Convolution: Activation": ∇_Z R = ∇_Y R ⊙ f'(Z), the rule in `entrywise.py`.
That of `prelu`, whose slope is learnt, is below.
"""

import jax
import jax.numpy as jnp

from jaxcnn.contract import arguments
from jaxcnn.contract.rules import custom_rule
from jaxcnn.ops.activations.entrywise import Activation, activate, keep_y, keep_z


def relu(z: jax.Array, *, keeps: str = "input") -> jax.Array:
    """Rectified linear unit.

        f(z) = max(z, 0)        f'(z) = 1 for z > 0, else 0

    The gradient needs the mask z > 0, which is y > 0. XLA stores the array that it is taken from in its place. Behind
    a norm z costs nothing: it is computed again from the output of the convolution, which the norm keeps. Between two
    convolutions `partial(relu, keeps="output")` takes less: the second one keeps y anyway.

    Args:
        z: any shape.
        keeps: what the mask is taken from, "input" or "output". Values and gradients are the same.

    Returns:
        y = f(z), of the shape and dtype of z.

    Raises:
        TypeError: z is no floating-point array.
        ValueError: keeps is another.

    Gradient: dz = f'(z) dy, 0 at z = 0. Keeps the mask z > 0.

    Source: Nair and Hinton, Rectified linear units improve restricted Boltzmann machines, 2010.

    >>> relu(jnp.array([-1.0, 2.0]))
    Array([0., 2.], dtype=float32)
    """
    return activate("relu", z, _RELUS[arguments.choice("relu", "keeps", keeps, tuple(_RELUS))])


_RELU = Activation(
    f=lambda z: jnp.where(z <= 0, 0.0, z),
    kept=lambda z, y: z > 0,
    slope=lambda positive: jnp.where(positive, 1.0, 0.0),
    rounds=False,
)
_RELUS = {"input": _RELU, "output": _RELU._replace(kept=lambda z, y: y > 0)}


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
    return activate("leaky_relu", z, _LEAKY_RELU, arguments.number("leaky_relu", "negative_slope", negative_slope))


_LEAKY_RELU = Activation(
    f=lambda z, a: jnp.where(z > 0, z, a * z) if a else _RELU.f(z),  # 0 times -inf would be NaN
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
    z, a = arguments.floating("prelu", z=z, a=a)
    arguments.one_or_per_channel("prelu", "a", a, z, "slope")
    return _prelu(z, a)


def _prelu_plain(z, a):
    return jnp.where(z > 0, z, jnp.broadcast_to(a, z.shape) * z)


def _prelu_fwd(z, a):
    return _prelu_plain(z, a), (z, a)


def _prelu_bwd(residuals, dy):
    z, a = residuals
    dz = jnp.where(z > 0, dy, jnp.broadcast_to(a, z.shape) * dy)
    shared = tuple(range(z.ndim - a.ndim))
    # each factor, as zero times infinity is NaN
    below, dbelow = jnp.where(z > 0, 0.0, z), jnp.where(z > 0, 0.0, dy)
    da = jnp.sum(below * dbelow, axis=shared)
    return dz, da


_prelu = custom_rule(_prelu_plain, _prelu_fwd, _prelu_bwd, wide=True)


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
    return activate("elu", z, _ELU, arguments.number("elu", "alpha", alpha))


_ELU = Activation(
    f=lambda z, alpha: jnp.where(z > 0, z, alpha * jnp.expm1(jnp.where(z > 0, 0.0, z))),
    kept=keep_z,
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
    return activate("selu", z, _SELU)


_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946
_SELU = Activation(
    f=lambda z: _SELU_SCALE * _ELU.f(z, _SELU_ALPHA),
    kept=keep_z,
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
    alpha = arguments.number("celu", "alpha", alpha)
    arguments.require(alpha != 0, "celu", "alpha", "a number other than 0", alpha)
    return activate("celu", z, _CELU, alpha)


_CELU = Activation(
    f=lambda z, alpha: jnp.where(z > 0, z, alpha * jnp.expm1(jnp.where(z > 0, 0.0, z) / alpha)),
    kept=keep_z,
    slope=lambda z, alpha: jnp.where(z > 0, 1.0, jnp.exp(jnp.where(z > 0, 0.0, z) / alpha)),
)


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
    return activate("softplus", z, _SOFTPLUS)


_SOFTPLUS = Activation(f=lambda z: jnp.logaddexp(z, 0.0), kept=keep_y, slope=lambda y: -jnp.expm1(-y))
