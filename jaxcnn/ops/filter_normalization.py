"""Weight and spectral normalisation: functions that make the filters of a layer from what is trained.

The last axis of w counts the filters, as in conv [*K, C/groups, O] and dense [I, O]. Their entries may be any numbers
of the dtype, in `weight_norm` up to a quarter of its largest one. Their squares may be too small or too large for it.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.contract import arguments
from jaxcnn.contract.precision import sum_dtype
from jaxcnn.contract.rules import custom_rule
from jaxcnn.ops.normalization import channel_shaped, normalise


def weight_norm(v: jax.Array, g: jax.Array) -> jax.Array:
    """Filters by direction and length.

        w_o = g_o v_o / ‖v_o‖

    Args:
        v: directions of any length but 0, [..., O].
        g: the norm of each filter [O].

    Returns:
        w, of the shape and dtype of v. It is right for entries up to a quarter of the largest number of the dtype,
        8.5e37 in float32.

    Raises:
        TypeError: v or g is no floating-point array, or the dtypes differ.
        ValueError: v has less than 2 axes, g is not [O].

    Gradient: dg_o = ⟨dw_o, v_o⟩/‖v_o‖ and dv_o = g_o/‖v_o‖ (dw_o - dg_o v_o/‖v_o‖): orthogonal to v_o.

    Source: Salimans and Kingma, Weight normalization, 2016.

    >>> weight_norm(jnp.array([[3.0], [4.0]]), jnp.array([10.0]))[:, 0]
    Array([6., 8.], dtype=float32)
    """
    v, g = arguments.floating("weight_norm", v=v, g=g)
    arguments.require(v.ndim >= 2, "weight_norm", "v", "[..., O] with at least 2 axes", arguments.describe(v))
    arguments.vector("weight_norm", "g", g, v.shape[-1])
    count = max(math.prod(v.shape[:-1]), 1)
    # An RMS norm: ‖v‖ = sqrt(count · mean(v²)).
    gamma = channel_shaped(g, v).astype(sum_dtype(v.dtype)) / math.sqrt(count)
    w, *_ = normalise(v, gamma, None, None, tuple(range(v.ndim - 1)), 0.0, ())
    return w


def spectral_norm(w: jax.Array, u: jax.Array, *, iterations: int = 1) -> tuple[jax.Array, jax.Array]:
    """Filters divided by their largest singular value, which is found by power iteration.

        y = w / σ,        σ = vᵀ W u

    with W the filters as the columns of a matrix [ΠK · C/groups, O], and `iterations` times

        v = W u/‖W u‖,        u = Wᵀ v/‖Wᵀ v‖.

    Args:
        w: filters [..., O], not all 0.
        u: where the iteration starts, any vector [O] but 0: the u of the last step, at first a random one.
        iterations: how often u is moved. 1 is enough in training, as w changes slowly. With 0 u stays, scaled to length
            1.

    Returns:
        (y, u): y of the shape and dtype of w; the next u [O], in the dtype of the given one; u has no gradient.

    Raises:
        TypeError: w or u is no floating-point array, iterations is no int.
        ValueError: w has less than 2 axes, u is not [O], iterations is negative.

    Gradient: u and v are constants, dw = (dy - ⟨dy, y⟩ v uᵀ)/σ. That is the gradient of w/σ where u has converged, as
        the first derivative of vᵀ W u by the directions is 0 there. Keeps w, v and u.

    Source: Miyato et al., Spectral normalization for generative adversarial networks, 2018. PyTorch calls our u its u
        and keeps v as well; ours is computed from u.

    >>> y, u = spectral_norm(jnp.array([[3.0, 0.0], [0.0, 1.0]]), jnp.array([1.0, 0.0]))
    >>> y
    Array([[1.        , 0.        ],
           [0.        , 0.33333334]], dtype=float32)
    """
    (w,), (u,) = arguments.floating("spectral_norm", w=w), arguments.floating("spectral_norm", u=u)
    arguments.require(w.ndim >= 2, "spectral_norm", "w", "[..., O] with at least 2 axes", arguments.describe(w))
    arguments.vector("spectral_norm", "u", u, w.shape[-1])
    return _spectral_norm(w, u, arguments.integer("spectral_norm", "iterations", iterations, 0))


def _spectral_norm_plain(w, u, iterations):
    return _spectral_norm_fwd(w, u, iterations)[0]


def _spectral_norm_fwd(w, u, iterations):
    dtype = sum_dtype(w.dtype)
    matrix, _ = _matrix(w, dtype)
    v, moved = _power_iteration(*lax.stop_gradient((matrix, u.astype(dtype))), iterations)
    y = (matrix / _sigma(matrix, v, moved)).reshape(w.shape).astype(w.dtype)
    return (y, moved.astype(u.dtype)), (w, v, moved)


# σ = Σ v_r W_ro u_o, so dσ/dW = v uᵀ. And y = W/σ, so dW = dy/σ + dσ v uᵀ with dσ = -⟨dy, W⟩/σ². The matrix here is cW,
# and its σ is cσ: dy/(cσ) and -⟨dy, cW⟩/(cσ)² are 1/c of these two, and dW is c times their sum.
def _spectral_norm_bwd(iterations, residuals, cotangents):
    w, v, u = residuals
    matrix, c = _matrix(w, v.dtype)
    dy, sigma = cotangents[0].reshape(matrix.shape).astype(v.dtype), _sigma(matrix, v, u)
    dsigma = -jnp.sum(dy * matrix) / jnp.square(sigma)
    return (c * (dy / sigma + dsigma * jnp.outer(v, u))).reshape(w.shape), None


_spectral_norm = custom_rule(_spectral_norm_plain, _spectral_norm_fwd, _spectral_norm_bwd)


def _power_iteration(matrix, u, iterations):
    """v and u. u is moved `iterations` times, v once at least."""

    def step(_, v_and_u):
        v = _direction(_product(matrix, v_and_u[1]))
        return v, _direction(_product(v, matrix))

    u = _direction(u)
    return lax.fori_loop(0, iterations, step, (_direction(_product(matrix, u)), u))


def _sigma(matrix, v, u):
    """σ = vᵀ W u."""
    return _product(v, _product(matrix, u))


def _matrix(w, dtype):
    """c times the filters as columns [ΠK · C/groups, O], and c."""
    matrix = w.reshape(math.prod(w.shape[:-1]), w.shape[-1]).astype(dtype)
    c = _factor_near_one(matrix)
    return c * matrix, c


def _direction(a):
    """a divided by its length."""
    a *= _factor_near_one(a)
    return a / jnp.linalg.norm(a)


def _factor_near_one(a):
    """A power of 2. Times a it makes the largest entry near 1, so that squares are within the dtype."""
    largest = jnp.max(jnp.abs(lax.stop_gradient(a)), initial=0)
    _, exponent = jnp.frexp(largest)
    limit = jnp.finfo(a.dtype).maxexp - 2
    return jnp.where(jnp.isfinite(largest), jnp.ldexp(jnp.ones_like(largest), -jnp.clip(exponent, -limit, limit)), 1)


_product = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
