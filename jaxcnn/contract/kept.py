"""What is kept for the backward pass of a function under `jax.checkpoint`, and what is computed anew.

A policy of `jax.checkpoint` says of each result of a primitive whether it is kept. A convolution of ours may be made of
several primitives, in another way on each platform. So the forward passes of rules give names to what a policy shall
know. Where no gradient is asked for, as in frozen layers, a policy sees the rule as one primitive.
"""

from typing import Any

import jax
from jax.extend import core
from jax.extend.core import primitives

CONVOLUTION = "jaxcnn.convolution"  # the output of a convolution
STATISTICS = "jaxcnn.statistics"  # mean and 1/deviation of a norm: few numbers, and two passes over the images

_RULES = (primitives.custom_vjp_call_p, primitives.custom_jvp_call_p)
_is_named = jax.checkpoint_policies.save_only_these_names(CONVOLUTION, STATISTICS)
_is_product = jax.checkpoint_policies.dots_saveable


def convolutions_saveable(primitive: Any, *types: Any, **params: Any) -> bool:
    """A policy for `jax.checkpoint`: the outputs of convolutions are kept, what lies between them is computed anew.

    Without it a network keeps much twice: the output of a convolution for the norm behind it, and what norm and
    activation make of it for the next convolution. With it the former alone is kept. The backward pass computes norms,
    activations, pools and dropout again, which takes passes over the images, and no convolution. Kept as well are the
    outputs of products of matrices, and of each norm its mean and deviation.

    It knows the convolutions of lax and ours, so also those that `explicit` puts into a function. A policy of one's own
    finds ours by name: "jaxcnn.convolution" and "jaxcnn.statistics".

    It is for GPUs. On a CPU no `jax.checkpoint` saves memory: XLA drops the barriers by which it has things computed
    later. Networks took as much memory under this policy as without it, or more. So did one on a TPU.

    Args:
        primitive, types, params: what JAX asks about.

    Returns:
        Whether the results of the primitive are kept.

    Raises:
        Nothing.

    Source: ours; Chen et al., Training deep nets with sublinear memory cost, 2016, drop the same.

    >>> import jaxcnn
    >>> def loss(w, x):
    ...     return jax.numpy.sum(jaxcnn.sigmoid(jaxcnn.conv(x, w)))
    >>> loss = jax.checkpoint(loss, policy=convolutions_saveable)
    >>> jax.grad(loss)(jax.numpy.zeros((1, 1, 1)), jax.numpy.ones((1, 4, 1)))
    Array([[[1.]]], dtype=float32)
    """
    if primitive in _RULES:
        return any(map(_has_product, core.jaxprs_in_params(params)))
    return _is_named(primitive, *types, **params) or _is_product(primitive, *types, **params)


def _has_product(jaxpr):
    """Whether a function has a convolution or a product of matrices in it."""
    inner = (each for eqn in jaxpr.eqns for each in core.jaxprs_in_params(eqn.params))
    return any(_is_product(eqn.primitive) for eqn in jaxpr.eqns) or any(map(_has_product, inner))
