"""Flax's linen layers. The running averages of batch normalisation are computed and dropped."""

import flax.linen as linen
import jax.numpy as jnp

from benchmark.layers import EPS, forward
from benchmark.networks import draw_parameters
from benchmark.peers.jax_peer import JaxPeer

NAMES = {"w": "kernel", "b": "bias", "gamma": "scale", "beta": "bias"}


class Peer(JaxPeer):
    """What stands for the parameters of a layer here is its name: Flax itself hands the layer its arrays."""

    packages = ("flax",)

    def prepare(self, network, dtype):
        drawn = {f"layer{k}": layer for k, layer in enumerate(draw_parameters(network))}
        parameters = {
            name: {NAMES[key]: jnp.asarray(p, dtype) for key, p in layer.items()} for name, layer in drawn.items()
        }
        peer = self

        class Model(linen.Module):
            @linen.compact
            def __call__(self, x):
                return forward(network.layers, iter(drawn), x, peer)

        return parameters, lambda parameters, x: Model().apply({"params": parameters}, x, mutable=["batch_stats"])[0]

    def conv(self, x, name, layer):
        kernel = (layer.kernel,) * (x.ndim - 2)
        options = {"feature_group_count": layer.groups, "use_bias": layer.bias, "dtype": x.dtype, "name": name}
        return linen.Conv(layer.filters, kernel, layer.stride, layer.padding, **options)(x)

    def conv_transpose(self, x, name, layer):
        axes = x.ndim - 2
        around = layer.kernel - 1 - layer.padding
        options = {"padding": around, "transpose_kernel": True, "dtype": x.dtype, "name": name}
        return linen.ConvTranspose(layer.filters, (layer.kernel,) * axes, (layer.stride,) * axes, **options)(x)

    def batch_norm(self, x, name):
        return linen.BatchNorm(use_running_average=False, epsilon=EPS, dtype=x.dtype, name=name)(x)

    def dense(self, x, name, layer):
        return linen.Dense(layer.features, dtype=x.dtype, name=name)(x)

    def relu(self, x, _):
        return linen.relu(x)

    def max_pool(self, x, window):
        return linen.max_pool(x, (window,) * (x.ndim - 2), (window,) * (x.ndim - 2))

    def global_mean_pool(self, x):
        return jnp.mean(x, tuple(range(1, x.ndim - 1)))

    def flatten(self, x):
        return x.reshape(x.shape[0], -1)
