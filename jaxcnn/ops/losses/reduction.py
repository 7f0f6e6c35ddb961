"""From the loss of every example to one number, and the way back.

Lecture: "Big Picture: What to Train": the empirical risk R = 1/B Σ_b L_b. All losses end in `reduce`, and their
backward passes begin with `spread`.
"""

import math

import jax.numpy as jnp

REDUCTIONS = ("mean", "sum", "none")


def masked(x, where):
    """x with 0 for what `where` leaves out, be it NaN; `where` has the leading axes of x, None keeps all."""
    if where is None:
        return x
    return jnp.where(where.reshape(where.shape + (1,) * (x.ndim - where.ndim)), x, x.dtype.type(0))


def product(share, x):
    """share · x, and 0 where the share is 0, even if x is infinite or NaN.

    The x of a class may be -inf, the logarithm of a probability of 0. With a share of 0 the class does not count, but
    -inf times 0 is NaN.
    """
    nothing = share == 0
    # The inner choice keeps the NaN from being computed: jax_debug_nans would stop at it. The outer choice is for
    # speed: on a CPU XLA stores both factors of a sum of products, but only the terms of a sum of choices.
    return jnp.where(nothing, 0.0, share * jnp.where(nothing, 0.0, x))


def reduce(losses, reduction, where=None, weights=None):
    """The losses L_b that `where` keeps, Σ L_b, or (Σ L_b) / (Σ a_b) with weights a_b (None: all 1), 0 if Σ a_b = 0.

    The weights are 0 for what `where` leaves out.
    """
    losses = masked(losses, where)
    if reduction == "none":
        return losses
    total = jnp.sum(losses)
    return _divide(total, _denominator(losses.shape, where, weights)) if reduction == "mean" else total


def spread(dloss, shape, reduction, where=None, weights=None):
    """The backward pass of `reduce`: dL_b = dR, over Σ a_b for the mean, for the losses that are kept."""
    if reduction == "mean":
        dloss = _divide(dloss, _denominator(shape, where, weights))
    return masked(jnp.broadcast_to(dloss, shape), where)


def _denominator(shape, where, weights):
    if weights is not None:
        return jnp.sum(weights)
    return math.prod(shape) if where is None else jnp.sum(where, dtype=jnp.int32)  # float32 counts to 2^24 only


def _divide(total, denominator):
    denominator = jnp.asarray(denominator, total.dtype)
    nothing = denominator == 0
    return jnp.where(nothing, 0.0, total / jnp.where(nothing, 1.0, denominator))
