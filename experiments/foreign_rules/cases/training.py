"""Rules that a training step uses: scaled and clipped gradients, spikes, losses, surrogates."""

import jax
import jax.numpy as jnp

from foreign_rules.case import WRONG, call, case, module, normal, straight_through, uniform


@case("optax", "scale_gradient, 0.5", truth=WRONG, why="scales the gradient on purpose")
def _():
    scale = module("optax").scale_gradient
    return call(scale, normal(40, 50), 0.5).under(claims=lambda x, s: straight_through(x, s * x))


@case("optax", "losses.weighted_logsoftmax", kind="custom_jvp")
def _():
    return call(module("optax.losses._classification").weighted_logsoftmax, normal(30, 40), uniform(0, 1, 30, 40))


@case("optax", "safe_softmax_cross_entropy, labels of 0, logits of -inf", kind="custom_jvp")
def _():
    loss = module("optax").safe_softmax_cross_entropy
    labels = jax.nn.one_hot(jnp.arange(30), 40)
    return call(loss, normal(30, 40).at[:, 35].set(-jnp.inf), labels, argnums=0)


@case("optax", "projections.projection_simplex", kind="custom_jvp")
def _():
    return call(module("optax").projections.projection_simplex, normal(200))


@case("rlax", "clip_gradient", truth=WRONG, why="clips dy on purpose")
def _():
    clip = module("rlax").clip_gradient
    return call(lambda x: clip(x, -1.0, 1.0), normal(40, 50)).under(dy=lambda dy: jnp.clip(dy, -0.9, 0.9))


def _surrogate(slope):
    """A step that has the slope of the surrogate."""

    def claimed(x):
        return straight_through(jnp.where(x > 0, 1.0, 0.0).astype(x.dtype), x * jax.lax.stop_gradient(slope(x)))

    return claimed


_SLOPES = {
    "superspike": lambda x: 1 / (1 + 25 * jnp.abs(x)) ** 2,
    "tanh": lambda x: 4 / (jnp.exp(-x) + jnp.exp(x)) ** 2,
    "boxcar": lambda x: jnp.where(jnp.abs(x) < 1, 0.5, 0.0).astype(x.dtype),
    "triangular": lambda x: jnp.maximum(0, 1 - jnp.abs(2 * x)),
    "arctan": lambda x: 1 / (1 + jnp.square(2 * jnp.pi * x)) / jnp.pi,
}
for _name in _SLOPES:

    @case("spyx", f"axn.{_name}", truth=WRONG, why="the surrogate gradient of a spike")
    def _(name=_name):
        return call(getattr(module("spyx.axn"), name)(), normal(40, 50)).under(claims=_surrogate(_SLOPES[name]))


@case("spyx", "experimental.packed_spike_dense")
def _():
    dense = module("spyx.experimental.compress").packed_spike_dense
    spikes, others = ((normal(8, 16, 30, seed=seed) > 0).astype(jnp.float32) for seed in (0, 1))
    return call(dense, spikes, normal(30, 20), elsewhere=(others, normal(30, 20, seed=1)))


@case("equinox", "filter_custom_vjp")
def _():
    equinox = module("equinox")

    @equinox.filter_custom_vjp
    def swish(x, power):
        return (x * jax.nn.sigmoid(x)) ** power

    def fwd(perturbed, x, power):
        return swish(x, power), x

    def bwd(x, dy, perturbed, _, power):
        s = jax.nn.sigmoid(x)
        return dy * power * (x * s) ** (power - 1) * (s + x * s * (1 - s))

    swish.def_fwd(fwd)
    swish.def_bwd(bwd)
    return call(lambda x: swish(x, 2), normal(40, 50))


@case("equinox", "filter_custom_jvp", kind="custom_jvp")
def _():
    equinox = module("equinox")

    @equinox.filter_custom_jvp
    def cubed(x):
        return x**3

    @cubed.def_jvp
    def rule(primals, tangents):
        return primals[0] ** 3, 3 * primals[0] ** 2 * tangents[0]

    return call(cubed, normal(40, 50))


@case("flax", "nnx.custom_vjp")
def _():
    nnx = module("flax.nnx")

    class Scale(nnx.Module):
        def __init__(self, w):
            self.w = nnx.Param(w)

    @nnx.custom_vjp
    def scaled(m, x):
        return jnp.sin(m.w[...] * x)

    def fwd(m, x):
        return scaled(m, x), (x, m)

    def bwd(residuals, dy):
        dy, (x, m) = (dy[1] if isinstance(dy, tuple) else dy), residuals
        inner = dy * jnp.cos(m.w[...] * x)
        return jax.tree.map(lambda w: jnp.sum(inner * x, 0), nnx.state(m)), inner * m.w[...]

    scaled.defvjp(fwd, bwd)
    return call(lambda w, x: scaled(Scale(w), x), normal(50), normal(40, 50))


@case("flax", "linen.custom_vjp")
def _():
    nn = module("flax.linen")

    class Clipped(nn.Module):
        @nn.compact
        def __call__(self, x):
            def f(dense, x):
                return dense(x)

            def fwd(dense, x):
                return nn.vjp(f, dense, x)

            def bwd(vjp, dy):
                return vjp(dy)

            return nn.custom_vjp(f, forward_fn=fwd, backward_fn=bwd)(nn.Dense(20, name="dense"), x)

    model, x = Clipped(), normal(30, 40)
    parameters = model.init(jax.random.key(0), x)
    return call(model.apply, parameters, x)


@case("flax", "fp8_ops.dot_general_with_precision", kind="custom_jvp")
def _():
    product = module("flax.linen.fp8_ops").dot_general_with_precision
    return call(lambda x, w: product(x, w, (((1,), (0,)), ((), ()))), normal(32, 64), normal(64, 48))
