"""Rules of the kinds that packages have, each in its shortest form: what can be tried where no package is installed."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas
from jax.sharding import Mesh, PartitionSpec

from foreign_rules.case import WRONG, call, case, normal, straight_through, uniform

pattern = functools.partial(case, "patterns")


def rule(f: Any, bwd: Any, statics: tuple[int, ...] = ()) -> Any:
    """f with bwd(*args, dy) as its rule."""
    rule = jax.custom_vjp(f, nondiff_argnums=statics)
    if statics:
        rule.defvjp(lambda *args: (f(*args), args), lambda *args: bwd(*args[-2], args[-1]))
    else:
        rule.defvjp(lambda *args: (f(*args), args), lambda args, dy: bwd(*args, dy))
    return rule


@pattern("Pallas in interpret mode, float32")
def _():
    def kernel(x, y):
        y[...] = jnp.tanh(x[...]) * jnp.float32(2)

    def f(x):
        shape = jax.ShapeDtypeStruct(x.shape, jnp.float32)
        return pallas.pallas_call(kernel, out_shape=shape, interpret=True)(x)

    return call(
        rule(f, lambda x, dy: (dy * (2 - jnp.square(f(x)) / 2),)), normal(40, 50), reference=lambda x: 2 * jnp.tanh(x)
    )


@pattern("the same without a reference")
def _():
    def kernel(x, y):
        y[...] = jnp.tanh(x[...]) * jnp.float32(2)

    def f(x):
        shape = jax.ShapeDtypeStruct(x.shape, jnp.float32)
        return pallas.pallas_call(kernel, out_shape=shape, interpret=True)(x)

    return call(rule(f, lambda x, dy: (dy * (2 - jnp.square(f(x)) / 2),)), normal(40, 50))


@pattern("shard_map, a ring over 4 devices with float32 buffers")
def _():
    mesh = Mesh(np.array(jax.devices()[:4]), ("ring",))
    steps = [(i, (i + 1) % 4) for i in range(4)]

    def total(x):
        """The sum over the devices, passed on from one to the next."""

        def step(_, carry):
            held, added = carry
            held = lax.ppermute(held, "ring", steps)
            return held, added + held

        return lax.fori_loop(0, 3, step, (x, jnp.zeros(x.shape, jnp.float32) + x))[1]

    def local(x):
        return jnp.square(total(x))

    def bwd(x, dy):
        return (total(2 * total(x) * dy),)

    spec = PartitionSpec("ring")
    ring = jax.shard_map(rule(local, bwd), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)

    def plain(x):
        added = jnp.sum(x.reshape(4, -1, *x.shape[1:]), 0)
        return jnp.square(jnp.tile(added, (4, 1)))

    return call(jax.jit(ring), normal(32, 50), reference=plain)


@pattern("pure_callback in both directions")
def _():
    def outside(f, *arrays):
        shape = jax.ShapeDtypeStruct(arrays[0].shape, arrays[0].dtype)
        return jax.pure_callback(lambda *a: f(*map(np.asarray, a)).astype(a[0].dtype), shape, *arrays)

    custom = rule(lambda x: outside(np.sin, x), lambda x, dy: (outside(lambda x, dy: np.cos(x) * dy, x, dy),))
    return call(custom, normal(40, 50))


def _int8(x):
    scale = jnp.max(jnp.abs(x)) / 127
    return (jnp.round(x / scale).astype(jnp.int8)).astype(x.dtype) * scale


@pattern("int8, straight through", truth=WRONG, why="straight through")
def _():
    custom = rule(_int8, lambda x, dy: (dy,))
    return call(custom, normal(40, 50)).under(claims=lambda x: straight_through(_int8(x), x))


@pattern("complex argument and output, and its conjugate")
def _():
    custom = rule(lambda z, w: z * z * jnp.conj(w), lambda z, w, dy: (2 * z * jnp.conj(w) * dy, jnp.conj(z * z * dy)))
    z, w = normal(500) + 1j * normal(500, seed=1), normal(500, seed=2) + 1j * normal(500, seed=3)
    return call(custom, z, w)


@pattern("complex, the conjugate forgotten", truth=WRONG, why="a conjugate too many")
def _():
    custom = rule(lambda z: z * z, lambda z, dy: (2 * jnp.conj(z) * dy,))
    return call(custom, normal(500) + 1j * normal(500, seed=1))


@pattern("keyword arguments, strings, static floats")
def _():
    @functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
    def power(x, exponent, mode):
        return x**exponent if mode == "plain" else -(x**exponent)

    def bwd(exponent, mode, x, dy):
        slope = exponent * x ** (exponent - 1)
        return (dy * (slope if mode == "plain" else -slope),)

    power.defvjp(lambda x, exponent, mode: (power(x, exponent, mode), x), bwd)

    def f(x, *, exponent, mode="plain"):
        return power(x, exponent, mode)

    return call(f, uniform(0.5, 2, 1000), kwargs={"exponent": 1.5, "mode": "negative"})


@pattern("a Python float that is static under jit")
def _():
    @functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
    def leaky(x, slope):
        return jnp.where(x > 0, x, slope * x)

    leaky.defvjp(lambda x, slope: (leaky(x, slope), x), lambda slope, x, dy: (jnp.where(x > 0, dy, slope * dy),))
    return call(jax.jit(leaky, static_argnums=1), normal(40, 50), 0.1)


for _seed in range(3):

    @pattern(f"attention with a bias, Σ o dy for Σ p dp in the rule, seed {_seed}")
    def _(seed=_seed):
        def attention(q, k, v, bias):
            return jax.nn.softmax(q @ jnp.swapaxes(k, -1, -2) + bias) @ v

        def bwd(q, k, v, bias, dy):
            scores = q @ jnp.swapaxes(k, -1, -2) + bias
            p = jnp.exp(scores - jax.nn.logsumexp(scores, -1, keepdims=True))
            dscores = p * (dy @ jnp.swapaxes(v, -1, -2) - jnp.sum(attention(q, k, v, bias) * dy, -1, keepdims=True))
            return dscores @ k, jnp.swapaxes(dscores, -1, -2) @ q, jnp.swapaxes(p, -1, -2) @ dy, dscores

        q, k, v = (normal(4, 64, 32, seed=3 * seed + i) for i in range(3))
        return call(rule(attention, bwd), q, k, v, normal(4, 64, 64, seed=seed))


@pattern("constants that float32 rounds, others in the rule")
def _():
    tenth, three_tenths = jnp.float32(0.1), jnp.float32(0.3)
    custom = rule(lambda x: tenth * x**3, lambda x, dy: (three_tenths * jnp.square(x) * dy,))
    return call(custom, normal(40, 50))


@pattern("two outputs, the cotangent of one dropped", truth=WRONG, why="ignores the cotangent of output 1")
def _():
    def f(x):
        return jnp.sin(x), jnp.cos(x)

    return call(rule(f, lambda x, dy: (dy[0] * jnp.cos(x),)), normal(40, 50)).under(ignores=(1,))


@pattern("an argument without a gradient on purpose", truth=WRONG, why="no gradient of the temperature")
def _():
    def f(x, temperature):
        return jax.nn.softmax(x / temperature)

    def bwd(x, temperature, dy):
        return jax.vjp(lambda x: f(x, temperature), x)[1](dy)[0], jnp.zeros_like(temperature)

    return call(rule(f, bwd), normal(40, 50), jnp.float32(0.7)).under(zero=(1,))


@pattern("clipped gradient", truth=WRONG, why="clips dy on purpose")
def _():
    custom = rule(lambda x: x, lambda x, dy: (jnp.clip(dy, -1, 1),))
    return call(custom, normal(40, 50)).under(dy=lambda dy: jnp.clip(dy, -0.9, 0.9))


@pattern("a sum in bfloat16 beside float32, right")
def _():
    def f(x):
        return jnp.sin(x), x.astype(jnp.bfloat16)

    return call(rule(f, lambda x, dy: (dy[0] * jnp.cos(x) + dy[1].astype(x.dtype),)), normal(64, 64))


@pattern("a loop that JAX does not derive")
def _():
    def looped(x):
        return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x))[1]

    def bwd(x, dy):
        return (dy * jnp.cos(jnp.sin(jnp.sin(x))) * jnp.cos(jnp.sin(x)) * jnp.cos(x),)

    return call(rule(looped, bwd), normal(40, 50))


@pattern("float16, a gelu")
def _():
    def bwd(x, dy):
        return jax.vjp(lambda x: jax.nn.gelu(x.astype(jnp.float32)), x)[1](dy.astype(jnp.float32))

    custom = rule(lambda x: jax.nn.gelu(x.astype(jnp.float32)).astype(x.dtype), bwd)
    return call(custom, normal(64, 64, dtype=jnp.float16))


@pattern("custom_jvp: softplus", kind="custom_jvp")
def _():
    softplus = jax.custom_jvp(lambda x: jnp.logaddexp(x, 0))
    softplus.defjvps(lambda dx, y, x: dx * jax.nn.sigmoid(x))
    return call(softplus, normal(40, 50))


@pattern("custom_jvp with a key made inside", kind="custom_jvp")
def _():
    @functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
    def drawn(mean, key):
        return mean * jnp.exp(jax.random.normal(key, mean.shape))

    @drawn.defjvp
    def jvp(key, primals, tangents):
        return drawn(primals[0], key), tangents[0] * jnp.exp(jax.random.normal(key, primals[0].shape))

    return call(lambda mean: drawn(mean, jax.random.PRNGKey(0)), normal(40, 50))
