"""Penalties on parameters.

Lecture: "We Use Advanced Techniques" (regularization).
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn.contract import arguments
from jaxcnn.contract.rules import custom_rule


def l2_penalty(params: Any) -> jax.Array:
    """Half the sum of the squares of all parameters.

        R = 1/2 Σ w²

    Added to the loss with a factor λ it is weight decay by λ under plain SGD.

    Args:
        params: a tree of floating-point arrays; pick the part of the model's parameters that is to be penalised.

    Returns:
        A scalar, float64 if a parameter is, else float32.

    Raises:
        TypeError: a leaf is no floating-point array.

    Gradient: dw = w dR.

    Source: lecture, "We Use Advanced Techniques" (regularization).

    >>> l2_penalty({"w": jnp.array([1.0, 2.0])})
    Array(2.5, dtype=float32)
    """
    return _l2_penalty(_checked_tree("l2_penalty", params))


def _l2_penalty_plain(params):
    return _tree_sum(lambda w: 0.5 * jnp.square(w), params)


def _l2_penalty_fwd(params):
    return _l2_penalty_plain(params), params


def _l2_penalty_bwd(params, dpenalty):
    return (jax.tree.map(lambda w: w.astype(dpenalty.dtype) * dpenalty, params),)


_l2_penalty = custom_rule(_l2_penalty_plain, _l2_penalty_fwd, _l2_penalty_bwd)


def l1_penalty(params: Any) -> jax.Array:
    """Sum of the magnitudes of all parameters.

        R = Σ |w|

    Args:
        params: a tree of floating-point arrays; pick the part of the model's parameters that is to be penalised.

    Returns:
        A scalar, float64 if a parameter is, else float32.

    Raises:
        TypeError: a leaf is no floating-point array.

    Gradient: dw = sign(w) dR, 0 where w is 0.

    Source: lecture, "We Use Advanced Techniques" (regularization).

    >>> l1_penalty({"w": jnp.array([1.0, -2.0])})
    Array(3., dtype=float32)
    """
    return _l1_penalty(_checked_tree("l1_penalty", params))


def _l1_penalty_plain(params):
    return _tree_sum(jnp.abs, params)


def _l1_penalty_fwd(params):
    return _l1_penalty_plain(params), params


def _l1_penalty_bwd(params, dpenalty):
    return (jax.tree.map(lambda w: jnp.sign(w).astype(dpenalty.dtype) * dpenalty, params),)


_l1_penalty = custom_rule(_l1_penalty_plain, _l1_penalty_fwd, _l1_penalty_bwd)


def _checked_tree(function, params):
    return jax.tree.map(lambda leaf: arguments.floating(function, params=leaf)[0], params)


def _tree_sum(f, params):
    leaves = jax.tree.leaves(params)
    double = any(leaf.dtype == jnp.float64 for leaf in leaves)
    dtype = jnp.float64 if double else jnp.float32
    return sum((jnp.sum(f(leaf.astype(dtype))) for leaf in leaves), start=jnp.zeros((), dtype))
