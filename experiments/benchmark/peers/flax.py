"""Flax's linen layers."""

import flax.linen as linen
import jax
import jax.numpy as jnp

from benchmark.networks import EPS, Conv, ConvTranspose, Shapes, draw_parameters, forward
from benchmark.peers.in_jax import JaxPeer

NAMES = {"w": "kernel", "b": "bias", "gamma": "scale", "beta": "bias"}


class Peer(JaxPeer):
    """The parameters that the layers are given here are their names; Flax keeps the arrays."""

    packages = ("flax",)

    def prepare(self, network, dtype):
        drawn = draw_parameters(network)
        names = [f"layer{k}" for k in range(len(drawn))]
        self.dtype = dtype
        peer = self

        class Model(linen.Module):
            @linen.compact
            def __call__(self, x):
                return forward(network.layers, iter(names), x, peer)

        parameters = {
            name: {NAMES[key]: jnp.asarray(p, dtype) for key, p in layer.items()}
            for name, layer in zip(names, drawn, strict=True)
        }
        # The running averages of batch normalisation are computed and dropped.
        return parameters, lambda parameters, x: Model().apply(variables(parameters), x, mutable=["batch_stats"])[0]

    def conv(self, x, name, layer):
        axes = x.ndim - 2
        return linen.Conv(
            layer.filters,
            (layer.kernel,) * axes,
            layer.stride,
            layer.padding,
            feature_group_count=layer.groups,
            use_bias=layer.bias,
            dtype=x.dtype,
            name=name,
        )(x)
