"""What a network keeps on a GPU if it keeps the outputs of its convolutions alone."""

from functools import partial

import jax
import jax.numpy as jnp
from accelerators.targets import compile_for

import jaxcnn as jc
from jaxcnn import nn


def block():
    wide = [nn.conv(96, 1), nn.batch_norm(), jc.relu, nn.depthwise_conv(3), nn.batch_norm(), jc.relu]
    return nn.residual(nn.sequential(*wide, nn.conv(16, 1), nn.batch_norm()))


def test_outputs_of_convolutions_are_enough():
    """A GPU needs less memory for inverted bottlenecks, with the same convolutions and few fusions more."""
    model, shape = nn.sequential(nn.conv(16, 3), *(block() for _ in range(3))), (8, 32, 32, 3)
    params, statistics = jax.eval_shape(partial(model.init, input_shape=shape), jax.random.key(0))

    def risk(params, statistics, x):
        y, _ = model.apply(params, statistics, x, train=True)
        return jc.mean_squared_error(y, jnp.zeros_like(y))

    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    everything, convolutions = (
        compile_for("nvidia_h100", jax.value_and_grad(f), params, statistics, images)
        for f in (risk, jax.checkpoint(risk, policy=jc.convolutions_saveable))
    )
    kinds = ("Forward", "BackwardInput", "BackwardFilter", "product")
    assert [convolutions.kernels[kind] for kind in kinds] == [everything.kernels[kind] for kind in kinds]
    assert convolutions.kernels["fusion"] <= 1.1 * everything.kernels["fusion"]
    assert convolutions.temporary <= 0.75 * everything.temporary
