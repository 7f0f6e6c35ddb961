"""Rules of norms, products in groups and lookups; those of Pallas run in interpret mode."""

import jax
import jax.numpy as jnp

from foreign_rules.case import WRONG, call, case, module, normal, uniform, whole


def _normalized(x, gamma, beta, centred=True, eps=1e-5):
    x = x - jnp.mean(x, -1, keepdims=True) if centred else x
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + eps) * gamma + beta


for _name in ("layer_norm", "rms_norm"):

    @case("jax", f"pallas.ops.gpu.{_name}, interpreted")
    def _(name=_name):
        norm = getattr(module(f"jax.experimental.pallas.ops.gpu.{name}"), name)
        args = normal(2, 16, 128), 1 + normal(128) / 4, normal(128, seed=1)

        def plain(x, gamma, beta):
            return _normalized(x, gamma, beta, name == "layer_norm")

        return call(lambda x, gamma, beta: norm(x, gamma, beta, interpret=True), *args, reference=plain)


@case("jax", "pallas.ops.gpu.layer_norm, interpreted, without a reference")
def _():
    norm = module("jax.experimental.pallas.ops.gpu.layer_norm").layer_norm
    args = normal(2, 16, 128), 1 + normal(128) / 4, normal(128, seed=1)
    return call(lambda x, gamma, beta: norm(x, gamma, beta, interpret=True), *args)


@case("jax", "pallas.ops.gpu.layer_norm, interpreted, bfloat16")
def _():
    norm = module("jax.experimental.pallas.ops.gpu.layer_norm").layer_norm
    args = (a.astype(jnp.bfloat16) for a in (normal(2, 16, 128), 1 + normal(128) / 4, normal(128, seed=1)))
    return call(lambda x, gamma, beta: norm(x, gamma, beta, interpret=True), *args, reference=_normalized)


@case("jax", "pallas.ops.tpu.megablox.gmm, interpreted")
def _():
    megablox = module("jax.experimental.pallas.ops.tpu.megablox.ops")
    sizes = jnp.asarray([48, 0, 64, 16], jnp.int32)

    def product(x, w, sizes):
        return megablox.gmm(x, w, sizes, jnp.float32, (32, 32, 32), None, None, False, True)

    return call(product, normal(128, 64), normal(4, 64, 96), sizes, reference=jax.lax.ragged_dot)


@case("tokamax", "layer_norm")
def _():
    tokamax = module("tokamax")
    args = normal(32, 96), 1 + normal(96) / 4, normal(96, seed=1)
    return call(lambda x, gamma, beta: tokamax.layer_norm(x, gamma, beta, implementation="xla"), *args)


@case("tokamax", "layer_norm in bfloat16")
def _():
    tokamax = module("tokamax")
    args = (a.astype(jnp.bfloat16) for a in (normal(32, 96), 1 + normal(96) / 4, normal(96, seed=1)))
    return call(lambda x, gamma, beta: tokamax.layer_norm(x, gamma, beta, implementation="xla"), *args)


@case("tokamax", "gated_linear_unit")
def _():
    tokamax = module("tokamax")

    def unit(x, w):
        return tokamax.gated_linear_unit(x, w, activation=jax.nn.silu, implementation="xla")

    return call(unit, normal(32, 64), normal(64, 2, 48))


@case("tokamax", "ragged_dot")
def _():
    tokamax = module("tokamax")
    sizes = jnp.asarray([10, 0, 15, 7], jnp.int32)
    return call(
        lambda x, w, n: tokamax.ragged_dot(x, w, n, implementation="xla"), normal(32, 24), normal(4, 24, 20), sizes
    )


def _tokamax_loss(implementation, vocabulary):
    tokamax = module("tokamax")

    def loss(x, labels, w):
        return tokamax.linear_softmax_cross_entropy_loss(x, labels, w, implementation=implementation)

    def plain(x, labels, w):
        return -jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(x @ w), labels[:, None], 1))

    args = normal(32, 64), whole(0, vocabulary, 32), normal(64, vocabulary) / 8
    return call(loss, *args, reference=plain)


@case("tokamax", "linear_softmax_cross_entropy_loss, xla")
def _():
    return _tokamax_loss("xla", 128)


@case("tokamax", "the same, chunked_xla, vocabulary of 2,048")
def _():
    return _tokamax_loss("chunked_xla", 2048)


@case("tokamax", "the same, chunked_xla, vocabulary of 128", truth=WRONG, why="what pads the vocabulary is in the sum")
def _():
    return _tokamax_loss("chunked_xla", 128)


@case("jax-md", "uma.kernels.segment_mm")
def _():
    uma = module("jax_md._nn.uma.kernels")
    return call(uma.segment_mm, normal(32, 24), normal(4, 20, 24), jnp.asarray([10, 0, 15, 7], jnp.int32))


@case("brainstate", "nn.Embedding with padding_idx", truth=WRONG, why="the padding row gets no gradient")
def _():
    lookup = module("brainstate.nn._embedding")._embedding_lookup_fn(3, False)
    indices = whole(0, 20, 8, 16)

    def masked(table, indices):
        return jnp.where((indices == 3)[..., None], jax.lax.stop_gradient(table[indices]), table[indices])

    return call(lookup, normal(20, 24), indices).under(claims=masked)


@case("brainstate", "nn.Embedding")
def _():
    lookup = module("brainstate.nn._embedding")._embedding_lookup_fn(None, False)
    return call(lookup, normal(20, 24), whole(0, 20, 8, 16))


@case("recurrentgemma", "layers.sqrt_bound_derivative, inside its bound")
def _():
    gemma = module("recurrentgemma.jax.layers")
    return call(lambda x: gemma.sqrt_bound_derivative(x, 1000.0), uniform(0.1, 2, 40, 50))


@case("recurrentgemma", "sqrt_bound_derivative, beyond its bound", truth=WRONG, why="clips the slope at 2")
def _():
    gemma = module("recurrentgemma.jax.layers")

    def bounded(x):
        """The root, continued below 1/16 as a line with the slope 2."""
        x0 = jnp.maximum(x, 1 / 16)
        return jax.lax.stop_gradient(jnp.sqrt(x) - (jnp.sqrt(x0) + 2 * (x - x0))) + jnp.sqrt(x0) + 2 * (x - x0)

    return call(lambda x: gemma.sqrt_bound_derivative(x, 2.0), uniform(0.001, 1, 40, 50)).under(claims=bounded)
