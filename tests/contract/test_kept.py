"""What a policy of `jax.checkpoint` finds in our rules, and that names change nothing else."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import jaxcnn as jc

X, W = jax.ShapeDtypeStruct((2, 6, 6, 8), jnp.float32), jax.ShapeDtypeStruct((3, 3, 8, 8), jnp.float32)
LAYOUT = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}


def general(conv, x, w):
    return conv(x, w, (1, 1), "SAME", **LAYOUT)


CONVOLUTIONS = {
    "conv": jc.conv,
    "with strides, dilation and groups": lambda x, w: jc.conv(x, w[:, :, :4], stride=2, dilation=2, groups=2),
    "depthwise_conv": lambda x, w: jc.depthwise_conv(x, w[:, :, :1]),
    "conv_transpose": lambda x, w: jc.conv_transpose(x, w, stride=2),
    "conv_general_dilated": partial(general, jc.conv_general_dilated),
    "of lax, explicit": jc.explicit(partial(general, lax.conv_general_dilated)),
    "of lax": partial(general, lax.conv_general_dilated),
    "dense": lambda x, w: jc.dense(x, w[0, 0]),
}


def kept(f, *args):
    """The shapes of what the backward pass is given besides the arguments: a VJP is a tree of its residuals."""
    policy = jc.convolutions_saveable
    pull = jax.eval_shape(lambda *args: jax.vjp(jax.checkpoint(f, policy=policy), *args)[1], *args)
    shapes = [leaf.shape for leaf in jax.tree.leaves(pull)]
    for argument in args:
        if argument.shape in shapes:
            shapes.remove(argument.shape)
    return [shape for shape in shapes if math.prod(shape) > 1]


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_output_of_a_convolution_is_kept_and_nothing_behind_it(name):
    def f(x, w):
        z = CONVOLUTIONS[name](jnp.sin(x), w)
        return jnp.sum(jc.relu(jnp.sin(jc.max_pool(jnp.sin(z), 2))) ** 2)

    z = jax.eval_shape(CONVOLUTIONS[name], X, W)
    assert kept(f, X, W) == [z.shape]


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_so_it_is_in_a_frozen_layer(name):
    def f(gamma):
        x, w = (jnp.ones(a.shape, a.dtype) for a in (X, W))
        return jnp.sum(gamma * jnp.sin(CONVOLUTIONS[name](jnp.sin(x), w)))

    z, gamma = jax.eval_shape(CONVOLUTIONS[name], X, W), jax.ShapeDtypeStruct((), jnp.float32)
    assert kept(f, gamma) == [z.shape]


def test_of_a_norm_the_statistics_are_kept():
    def f(x, gamma, beta):
        y, _, _ = jc.batch_norm(jnp.sin(x), gamma, beta)
        return jnp.sum(jc.group_norm(jnp.sin(y), gamma, beta, groups=2) ** 2)

    shapes = kept(f, X, *2 * [jax.ShapeDtypeStruct((8,), jnp.float32)])
    assert max(map(math.prod, shapes)) == 8


def test_the_gradient_under_the_policy_is_the_gradient():
    """Nested in vmap and scan, spread over devices, and its derivative."""
    x, w = np.random.default_rng(0).normal(size=(2, 5, 3)), np.random.default_rng(1).normal(size=(2, 3, 4))

    def f(x, w):
        return jnp.sum(jc.sigmoid(jc.conv(jnp.sin(x), w)))

    def mapped(f, w):
        return jnp.sum(jax.vmap(lambda x: f(x[None], w))(x))

    def scanned(f, w):
        return lax.scan(lambda total, x: (total + f(x[None], w), None), 0.0, x)[0]

    def spread(f, w):
        mesh = jax.make_mesh((2,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
        total = jax.shard_map(
            lambda x, w: lax.psum(f(x, w), "devices"), mesh=mesh, in_specs=(P("devices"), P()), out_specs=P()
        )
        return total(x, w)

    def slope(f, w):
        return jnp.sum(jax.grad(f, 1)(x, w) ** 2)

    again = jax.checkpoint(f, policy=jc.convolutions_saveable)
    for around in (mapped, scanned, spread, slope):
        gradients = [jax.jit(jax.grad(partial(around, each)))(w) for each in (f, again)]
        np.testing.assert_allclose(*gradients, rtol=1e-10)
