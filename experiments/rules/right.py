"""Right rules of the layers of a network."""

import jax
import jax.numpy as jnp

from rules.layers import (
    A_MILLION,
    BETA,
    BIAS,
    GAMMA,
    IMAGES,
    PIXELS,
    POSITIVE,
    TIES,
    ZEROS,
    add_bias,
    added_up_in_turn,
    batch_norm_without,
    conv_but,
    dropped,
    first_of_ties,
    halved_rule,
    halved_while_large,
    max_of_patches,
    max_pool,
    mean_pool,
    mean_pool_dx,
    softplus,
)
from rules.rule import Rule, normal, with_rule

RIGHT_LAYERS = [
    Rule("convolution", conv_but(lambda dx, dw, *_: (dx, dw)), (IMAGES, normal(3, 3, 16, 16))),
    Rule(
        "convolution in bfloat16",
        conv_but(lambda dx, dw, *_: (dx, dw)),
        (IMAGES.astype(jnp.bfloat16), normal(3, 3, 16, 16, dtype=jnp.bfloat16)),
    ),
    Rule("batch norm", batch_norm_without(), (IMAGES, GAMMA, BETA)),
    Rule("mean-pool, overlapping", with_rule(mean_pool, mean_pool_dx), (IMAGES[:, :31, :31],)),
    Rule("relu", with_rule(lambda x: jnp.maximum(x, 0), lambda x, dy: (dy * (x > 0),)), (PIXELS,)),
    Rule("relu at zero", with_rule(lambda x: jnp.maximum(x, 0), lambda x, dy: (dy * (x > 0),)), (ZEROS,)),
    Rule(
        "relu at zero, the derivative 1",
        with_rule(lambda x: jnp.maximum(x, 0), lambda x, dy: (dy * (x >= 0),)),
        (ZEROS,),
    ),
    Rule("absolute value at zero", with_rule(jnp.abs, lambda x, dy: (dy * jnp.where(x < 0, -1, 1),)), (ZEROS,)),
    Rule("max-pool without ties", with_rule(max_of_patches, first_of_ties), (normal(8, 32, 32, 8),)),
    Rule("max-pool with ties, the first takes all", with_rule(max_of_patches, first_of_ties), (TIES,)),
    Rule("max-pool with ties, shared", with_rule(max_pool, lambda x, dy: jax.vjp(max_of_patches, x)[1](dy)), (TIES,)),
    Rule(
        "sum of a million in float32",
        with_rule(lambda x: jnp.sum(jnp.square(x)), lambda x, dy: (2 * x * dy,)),
        (A_MILLION,),
    ),
    Rule("bias: a sum of 16,384 in float32", with_rule(add_bias, added_up_in_turn), (IMAGES, BIAS)),
    Rule(
        "bias: a sum of 65,536 in bfloat16",
        with_rule(add_bias, lambda x, b, dy: (dy, jnp.sum(dy, (0, 1, 2), dtype=jnp.float32).astype(b.dtype))),
        (POSITIVE, normal(4, dtype=jnp.bfloat16)),
    ),
    Rule(
        "a gradient that cancels",
        with_rule(lambda x: jnp.sum(jax.nn.softmax(x)), lambda x, dy: (dy * jnp.zeros_like(x),)),
        (PIXELS,),
    ),
    Rule(
        "softplus",
        with_rule(softplus, lambda x, dy: (dy * jax.nn.sigmoid(x),)),
        (jnp.linspace(-50, 95, 10000, dtype=jnp.float32),),
    ),
    Rule(
        "dropout",
        with_rule(lambda x: dropped(x, jax.random.key(0)), lambda x, dy: (dropped(dy, jax.random.key(0)),)),
        (PIXELS,),
    ),
    Rule("a loop that JAX does not derive", with_rule(halved_while_large, halved_rule), (PIXELS,)),
    Rule(
        "1e-6 beside 1e6",
        with_rule(jnp.exp, lambda x, dy: (dy * jnp.exp(x),)),
        (jnp.linspace(-14, 14, 10000, dtype=jnp.float32),),
    ),
]
