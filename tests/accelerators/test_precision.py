"""What float32 means on an accelerator: `jax.default_matmul_precision` and `precision=` reach every product."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from accelerators.targets import GPUS, TARGETS, compile_for
from jax import lax

import jaxcnn as jc

NHWC = ("NHWC", "HWIO", "NHWC")
general = partial(jc.conv_general_dilated, window_strides=(1, 1), padding=((1, 1), (1, 1)), dimension_numbers=NHWC)
X, W = (8, 8, 8, 16), (3, 3, 16, 16)
# On a TPU only what compiles within 2 seconds.
CALLS = {
    "conv": (jc.conv, X, W),
    "conv, stride 2": (partial(jc.conv, stride=2), X, W),
    "conv, dilation 2": (partial(jc.conv, dilation=2), X, W),
    "conv, groups": (partial(jc.conv, groups=2), X, (3, 3, 8, 16)),
    "patches": (partial(jc.conv, stride=4), X, (4, 4, 16, 8)),
    "conv_transpose": (partial(jc.conv_transpose, stride=2), X, W),
    "conv_general_dilated": (general, X, W),
    "conv_general_dilated, upsampled": (partial(general, lhs_dilation=(2, 2)), X, W),
    "dense": (jc.dense, (128, 64), (64, 32)),
}
ON_TPU = {"conv", "dense"}
PAIRS = [(target, name) for target in TARGETS for name in CALLS if target in GPUS or name in ON_TPU]


def precisions(target, f, *shapes, dtype=jnp.float32):
    """The precision of every product and convolution in the program of value and gradients; "" for XLA's own."""

    def value_and_gradients(args, dy):
        y, backward = jax.vjp(f, *args)
        return y, backward(dy)

    args = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    text = compile_for(target, value_and_gradients, args, jax.eval_shape(f, *args)).text
    calls = re.findall(r'^.* (?:convolution|dot)\(.*$|^.*custom_call_target="__cu(?:dnn\$conv|blas).*$', text, re.M)
    return ["".join(re.findall(r"operand_precision=\{(\w+),\1\}", call)) for call in calls]


@pytest.mark.parametrize(("target", "name"), PAIRS)
def test_the_default_precision_reaches_all_products(target, name):
    """Where it is set around the forward pass alone too, as JAX's own derivative has it."""
    f, *shapes = CALLS[name]

    def precise(*args):
        with jax.default_matmul_precision("highest"):
            return f(*args)

    found = precisions(target, precise, *shapes)
    assert len(found) >= 3
    assert set(found) == {"highest"}


@pytest.mark.parametrize("target", GPUS)
@pytest.mark.parametrize("precision", [lax.Precision.HIGHEST, "float32", ("high", "high")])
def test_the_precision_of_a_convolution_reaches_all_three(target, precision):
    found = precisions(target, partial(general, precision=precision), X, W)
    assert found == ["high" if isinstance(precision, tuple) else "highest"] * 3


@pytest.mark.parametrize(("target", "name"), [(target, name) for target, name in PAIRS if name in ON_TPU])
def test_without_either_it_is_that_of_xla(target, name):
    f, *shapes = CALLS[name]
    assert precisions(target, f, *shapes) == [""] * 3
