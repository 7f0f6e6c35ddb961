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
