"""Equinox's layers, for one image with its channels first, under `jax.vmap`.

A layer is made where it is called, without arrays, and given its parameters. Each batch normalisation starts from an
empty state, and the running averages that it computes are dropped.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmark.layers import EPS, ConvTranspose, Shapes, forward
from benchmark.networks import draw_parameters
from benchmark.peers.jax_peer import JaxPeer

NAMES = {"w": "weight", "b": "bias", "gamma": "weight", "beta": "bias"}
MAX_POOL = {2: eqx.nn.MaxPool1d, 3: eqx.nn.MaxPool2d, 4: eqx.nn.MaxPool3d}


class Peer(JaxPeer):
    packages = ("equinox",)

    def place(self, images):
        return np.moveaxis(images, -1, 1)

    def prepare(self, network, dtype):
        kinds = [kind for kind, _ in Shapes(network).parameters]
        parameters = [
            {NAMES[key]: jnp.asarray(rearranged(kind, p), dtype) for key, p in layer.items()}
            for kind, layer in zip(kinds, draw_parameters(network), strict=True)
        ]

        def model(parameters, x):
            return jax.vmap(lambda x: forward(network.layers, iter(parameters), x, self), axis_name="batch")(x)

        return parameters, model

    def conv(self, x, p, layer):
        return make_with(p, eqx.nn.Conv, *sizes(x, layer), groups=layer.groups, use_bias=layer.bias)(x)

    def conv_transpose(self, x, p, layer):
        return make_with(p, eqx.nn.ConvTranspose, *sizes(x, layer))(x)

    def dense(self, x, p, layer):
        return make_with(p, eqx.nn.Linear, x.shape[0], layer.features)(x)

    def batch_norm(self, x, p):
        normalise, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(x.shape[0], "batch", eps=EPS, mode="batch")
        return given(normalise, p)(x, state)[0]

    def relu(self, x, _):
        return jax.nn.relu(x)

    def max_pool(self, x, window):
        return MAX_POOL[x.ndim](window, window)(x)

    def global_mean_pool(self, x):
        return jnp.mean(x, tuple(range(1, x.ndim)))

    def flatten(self, x):
        return jnp.moveaxis(x, 0, -1).ravel()  # in jaxcnn's order


def sizes(x, layer):
    return x.ndim - 1, x.shape[0], layer.filters, layer.kernel, layer.stride, layer.padding


def make_with(p, layer, *args, **options):
    """A layer with these parameters in place of random ones, which are never drawn."""
    return given(eqx.filter_eval_shape(layer, *args, **options, key=jax.random.key(0)), p)


def given(layer, p):
    """The layer with these parameters; a bias gets the axes of length 1 that Equinox gives it."""
    values = [a.reshape(getattr(layer, name).shape) for name, a in p.items()]
    return eqx.tree_at(lambda layer: [getattr(layer, name) for name in p], layer, values)


def rearranged(kind, p):
    """A parameter in Equinox's layout: filters [O, C/groups, *K], reversed if transposed, and weights [O, I]."""
    if kind is ConvTranspose and p.ndim > 1:
        return np.moveaxis(np.flip(p, tuple(range(p.ndim - 2))), (-2, -1), (0, 1))
    if p.ndim > 1:
        return np.moveaxis(p, (-1, -2), (0, 1))
    return p
