import jax
import jax.numpy as jnp
import numpy as np
import pytest
from accelerators import measuring, numbers
from accelerators.cases import Case
from accelerators.targets import TARGETS, compile_for
from jax import lax


@pytest.mark.parametrize("target", TARGETS)
def test_a_program_says_which_kernels_it_has(target):
    def f(x, w):
        return jnp.sum(lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) ** 2)

    x, w = jnp.ones((8, 8, 8, 16)), jnp.ones((3, 3, 16, 16))
    program = compile_for(target, jax.grad(f, (0, 1)), x, w)
    kernels = program.kernels
    if target.startswith("tpu"):
        assert kernels["convolution"] == 3
        assert 0 < (program.estimate or 0) < 1e-3
    else:
        assert [kernels[kind] for kind in ("Forward", "BackwardInput", "BackwardFilter")] == [1, 1, 1]


def test_a_gradient_that_is_no_number_is_no_match():
    """Neither beside float64 nor beside what JAX derives."""
    case = Case("op | both | float32", lambda x: x * jnp.nan, lambda x: x, (jax.ShapeDtypeStruct((4,), "float32"),))
    assert not numbers._distance(case.ours, case, {"op | both | 0": np.ones(4)}) < 1
    assert not measuring.difference([np.full(4, np.nan)], [np.ones(4)]) < 1
