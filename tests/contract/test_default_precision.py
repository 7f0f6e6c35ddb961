"""`jax.default_matmul_precision` around a part of a gradient: the precision is that of JAX's own derivatives."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jaxcnn as jc

X, W = jnp.ones((2, 5, 4, 3)), jnp.ones((3, 2, 3, 2))


def lax_conv(x, w):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


PAIRS = {"conv": (jc.conv, lax_conv, X, W), "dense": (jc.dense, jnp.matmul, X[0, 0], W[0, 0])}


@pytest.mark.parametrize("backward", [None, "high"])
@pytest.mark.parametrize("forward", [None, "highest"])
@pytest.mark.parametrize("name", PAIRS)
def test_precision_is_that_of_the_forward_pass(name, forward, backward):
    """Where it was not set there, it is that of the backward pass."""
    ours, theirs, *args = PAIRS[name]

    def precisions(f):
        def value_and_gradients(*args):
            with jax.default_matmul_precision(forward):
                y, pull = jax.vjp(f, *args)
            with jax.default_matmul_precision(backward):
                return y, pull(y)

        lowered = jax.jit(value_and_gradients).trace(*args).lower(lowering_platforms=("cuda",))
        return re.findall(r"(?:precision = |precision_config = )\[(?:#stablehlo<precision )?(\w+)", lowered.as_text())

    first, *gradients = precisions(ours)
    assert [first, *gradients] == precisions(theirs)
    assert first == (forward or "default").upper()
    assert set(gradients) == {(forward or backward or "default").upper()}


def scanned(f, x, w):
    return lax.scan(lambda total, x: (total + f(x[None], w), None), jnp.zeros_like(f(x[:1], w)), x)[0]


AROUND = {
    "jit": lambda f, x, w: jax.jit(f)(x, w),
    "checkpoint": lambda f, x, w: jax.checkpoint(f)(x, w),
    "checkpoint with our policy": lambda f, x, w: jax.checkpoint(f, policy=jc.convolutions_saveable)(x, w),
    "scan": scanned,
}


@pytest.mark.parametrize("name", AROUND)
def test_precision_within_a_function_that_is_traced_first(name):
    """The rule is traced when the function around the call is differentiated, where the `with` is over."""

    def precisions(f):
        def precise(x, w):
            with jax.default_matmul_precision("highest"):
                return f(x, w)

        gradient = jax.grad(lambda x, w: jnp.sum(AROUND[name](precise, x, w) ** 2), (0, 1))
        lowered = jax.jit(gradient).trace(X, W).lower(lowering_platforms=("cuda",))
        return set(
            re.findall(r"(?:precision = |precision_config = )\[(?:#stablehlo<precision )?(\w+)", lowered.as_text())
        )

    assert precisions(lax_conv) == {"HIGHEST"}
    assert precisions(jc.conv) == {"HIGHEST"}
