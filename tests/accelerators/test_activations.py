"""What a GPU keeps of activations between convolutions."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from accelerators.targets import GPUS, compile_for

import jaxcnn as jc


@pytest.mark.parametrize("target", GPUS)
def test_relu_that_keeps_its_output_keeps_no_output_of_a_convolution(target):
    """A convolution keeps its input, which is the output of the relu in front."""

    def risk(relu, x, filters):
        for w in filters:
            x = relu(jc.conv(x, w))
        return jnp.sum(x)

    x, w = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((8, 32, 32, 16), (3, 3, 16, 16)))
    image = 4 * x.size
    risks = [partial(risk, partial(jc.relu, keeps=keeps)) for keeps in ("input", "output")]
    of_input, of_output, derived = (
        compile_for(target, jax.grad(f, 1), x, 4 * [w]).temporary for f in (*risks, jc.derived(risks[0]))
    )
    assert of_output <= of_input - 2 * image
    assert of_output <= derived - 2 * image
