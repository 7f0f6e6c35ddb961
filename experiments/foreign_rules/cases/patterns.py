"""Rules of the kinds that packages have, each in its shortest form: what can be tried where no package is installed."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas
from jax.sharding import Mesh, PartitionSpec

from foreign_rules.case import RIGHT, WRONG, call, case, normal, straight_through, uniform

pattern = functools.partial(case, "patterns")


def _rule(f: Any, bwd: Any, statics: tuple[int, ...] = ()) -> Any:
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
        _rule(f, lambda x, dy: (dy * (2 - jnp.square(f(x)) / 2),)), normal(40, 50), reference=lambda x: 2 * jnp.tanh(x)
    )


@pattern("the same without a reference")
def _():
    def kernel(x, y):
        y[...] = jnp.tanh(x[...]) * jnp.float32(2)

    def f(x):
        shape = jax.ShapeDtypeStruct(x.shape, jnp.float32)
        return pallas.pallas_call(kernel, out_shape=shape, interpret=True)(x)

    return call(_rule(f, lambda x, dy: (dy * (2 - jnp.square(f(x)) / 2),)), normal(40, 50))


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
    ring = jax.shard_map(_rule(local, bwd), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)

    def plain(x):
        added = jnp.sum(x.reshape(4, -1, *x.shape[1:]), 0)
        return jnp.square(jnp.tile(added, (4, 1)))

    return call(jax.jit(ring), normal(32, 50), reference=plain)


@pattern("pure_callback in both directions")
def _():
    def outside(f, *arrays):
        shape = jax.ShapeDtypeStruct(arrays[0].shape, arrays[0].dtype)
        return jax.pure_callback(lambda *a: f(*map(np.asarray, a)).astype(a[0].dtype), shape, *arrays)

    rule = _rule(lambda x: outside(np.sin, x), lambda x, dy: (outside(lambda x, dy: np.cos(x) * dy, x, dy),))
    return call(rule, normal(40, 50))


def _int8(x):
    scale = jnp.max(jnp.abs(x)) / 127
    return (jnp.round(x / scale).astype(jnp.int8)).astype(x.dtype) * scale


@pattern("int8, straight through", truth=WRONG, why="straight through")
def _():
    rule = _rule(_int8, lambda x, dy: (dy,))
    return call(rule, normal(40, 50)).under(claims=lambda x: straight_through(_int8(x), x))


@pattern("norm at 0")
def _():
    def norm(x):
        return jnp.sqrt(jnp.sum(jnp.square(x), -1))

    def bwd(x, dy):
        y = norm(x)
        return (jnp.where(y == 0, 0, dy / jnp.where(y == 0, 1, y))[:, None] * x,)

    return call(_rule(norm, bwd), normal(40, 50).at[3].set(0).at[7].set(0))


@pattern("norm at 0 only: the gradient there is a choice", planted=None, truth="not checked")
def _():
    rule = _rule(lambda x: jnp.sqrt(jnp.sum(jnp.square(x))), lambda x, dy: (jnp.zeros_like(x) * dy,))
    return call(rule, jnp.zeros(50))


@pattern("x log y, some of it at (0, 0)")
def _():
    def xlogy(x, y):
        return jnp.where(x == 0, 0, x * jnp.log(jnp.where(x == 0, 1, y)))

    def bwd(x, y, dy):
        return dy * jnp.log(jnp.where(y == 0, 1, y)), dy * jnp.where(x == 0, 0, x / jnp.where(y == 0, 1, y))

    y = uniform(0.5, 2, 1000).at[:5].set(0)
    return call(_rule(xlogy, bwd), uniform(0.1, 1, 1000).at[:5].set(0), y, reference=lambda x, y: x * jnp.log(y))


def _unit(q, *rest):
    return (q / jnp.linalg.norm(q, axis=-1, keepdims=True), *rest)


def _rotated(q, v):
    w, u = q[..., :1], q[..., 1:]
    return v + 2 * jnp.cross(u, jnp.cross(u, v) + w * v)


@pattern("unit quaternions, the rule for unit ones only")
def _():
    """v + 2 u × (u × v + w v) is a rotation for unit quaternions; the rule uses that its inverse is the conjugate."""

    def bwd(q, v, dy):
        dq = jax.vjp(lambda q: _rotated(q, v), q)[1](dy)[0]
        return dq, _rotated(q * jnp.asarray([1, -1, -1, -1], q.dtype), dy)

    return call(_rule(_rotated, bwd), *_unit(normal(40, 4), normal(40, 3)), domain=_unit)


@pattern("one-hot rows: the rule takes p - t")
def _():
    def loss(logits, targets):
        return -jnp.sum(targets * jax.nn.log_softmax(logits), -1)

    def bwd(logits, targets, dy):
        return dy[:, None] * (jax.nn.softmax(logits) - targets), -dy[:, None] * jax.nn.log_softmax(logits)

    targets = jax.nn.one_hot(jnp.arange(60) % 20, 20)

    def domain(logits, targets):
        return logits, jax.nn.one_hot(jnp.argmax(targets, -1), 20, dtype=targets.dtype)

    return call(_rule(loss, bwd), normal(60, 20), targets, domain=domain)


@pattern("symmetric matrices: the rule does not transpose")
def _():
    def bwd(a, x, dy):
        return dy @ x.T, a @ dy

    a = normal(30, 30)
    return call(_rule(jnp.matmul, bwd), a + a.T, normal(30, 20), domain=lambda a, x: ((a + a.T) / 2, x))


@pattern("sorted numbers: a search in them")
def _():
    def interpolated(x, knots, values):
        i = jnp.clip(jnp.searchsorted(knots, x) - 1, 0, knots.size - 2)
        share = (x - knots[i]) / (knots[i + 1] - knots[i])
        return values[i] * (1 - share) + values[i + 1] * share

    def bwd(x, knots, values, dy):
        return jax.vjp(interpolated, x, knots, values)[1](dy)

    knots = jnp.sort(normal(20))
    x = uniform(float(knots[0]), float(knots[-1]), 200)

    def domain(x, knots, values):
        knots = jnp.sort(knots)
        return jnp.clip(x, knots[0], knots[-1]), knots, values

    return call(_rule(interpolated, bwd), x, knots, normal(20, seed=1), domain=domain)


@pattern("gauge: potentials up to a constant", truth=WRONG, why="right for dy that sums to 0")
def _():
    def potential(x):
        """Minus its first entry."""
        y = jnp.tanh(x)
        return y - y[0]

    rule = _rule(potential, lambda x, dy: (dy * (1 - jnp.square(jnp.tanh(x))),))
    return call(rule, normal(1000)).under(dy=lambda dy: dy - jnp.mean(dy))


@pattern("a solver with a tolerance of 1e-4", truth=WRONG, why="as good as the solver's tolerance")
def _():
    def root(a):
        """√a by bisection."""

        def halved(_, ends):
            low, high = ends
            middle = (low + high) / 2
            return jnp.where(middle * middle < a, middle, low), jnp.where(middle * middle < a, high, middle)

        return sum(lax.fori_loop(0, 16, halved, (jnp.zeros_like(a), jnp.full_like(a, 2)))) / 2

    rule = _rule(root, lambda a, dy: (dy / (2 * root(a)),))
    return call(rule, uniform(0.5, 3, 1000), reference=jnp.sqrt).under(rtol=1e-3)


@pattern("complex argument and output, and its conjugate")
def _():
    rule = _rule(lambda z, w: z * z * jnp.conj(w), lambda z, w, dy: (2 * z * jnp.conj(w) * dy, jnp.conj(z * z * dy)))
    z, w = normal(500) + 1j * normal(500, seed=1), normal(500, seed=2) + 1j * normal(500, seed=3)
    return call(rule, z, w)


@pattern("complex, the conjugate forgotten", truth=WRONG, why="a conjugate too many")
def _():
    rule = _rule(lambda z: z * z, lambda z, dy: (2 * jnp.conj(z) * dy,))
    return call(rule, normal(500) + 1j * normal(500, seed=1))


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


@pattern("two outputs, the cotangent of one dropped", truth=WRONG, why="ignores the cotangent of output 1")
def _():
    def f(x):
        return jnp.sin(x), jnp.cos(x)

    return call(_rule(f, lambda x, dy: (dy[0] * jnp.cos(x),)), normal(40, 50)).under(ignores=(1,))


@pattern("an argument without a gradient on purpose", truth=WRONG, why="no gradient of the temperature")
def _():
    def f(x, temperature):
        return jax.nn.softmax(x / temperature)

    def bwd(x, temperature, dy):
        return jax.vjp(lambda x: f(x, temperature), x)[1](dy)[0], jnp.zeros_like(temperature)

    return call(_rule(f, bwd), normal(40, 50), jnp.float32(0.7)).under(zero=(1,))


@pattern("clipped gradient", truth=WRONG, why="clips dy on purpose")
def _():
    rule = _rule(lambda x: x, lambda x, dy: (jnp.clip(dy, -1, 1),))
    return call(rule, normal(40, 50)).under(dy=lambda dy: jnp.clip(dy, -0.9, 0.9))


@pattern("a sum in bfloat16 beside float32, right")
def _():
    def f(x):
        return jnp.sin(x), x.astype(jnp.bfloat16)

    return call(_rule(f, lambda x, dy: (dy[0] * jnp.cos(x) + dy[1].astype(x.dtype),)), normal(64, 64))


@pattern("a loop that JAX does not derive")
def _():
    def looped(x):
        return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x))[1]

    def bwd(x, dy):
        return (dy * jnp.cos(jnp.sin(jnp.sin(x))) * jnp.cos(jnp.sin(x)) * jnp.cos(x),)

    return call(_rule(looped, bwd), normal(40, 50))


@pattern("float16, a gelu")
def _():
    def bwd(x, dy):
        return jax.vjp(lambda x: jax.nn.gelu(x.astype(jnp.float32)), x)[1](dy.astype(jnp.float32))

    rule = _rule(lambda x: jax.nn.gelu(x.astype(jnp.float32)).astype(x.dtype), bwd)
    return call(rule, normal(64, 64, dtype=jnp.float16))


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
    def rule(key, primals, tangents):
        return drawn(primals[0], key), tangents[0] * jnp.exp(jax.random.normal(key, primals[0].shape))

    return call(lambda mean: drawn(mean, jax.random.PRNGKey(0)), normal(40, 50))


_ = RIGHT
