import jax
import jax.numpy as jnp
import pytest
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
