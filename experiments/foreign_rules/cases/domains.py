"""Rules that hold inside a domain, or at points where JAX derives no number: in their shortest form."""

import jax
import jax.numpy as jnp
from jax import lax

from foreign_rules.case import WRONG, call, normal, uniform
from foreign_rules.cases.patterns import pattern, rule


@pattern("norm at 0")
def _():
    def norm(x):
        return jnp.sqrt(jnp.sum(jnp.square(x), -1))

    def bwd(x, dy):
        y = norm(x)
        return (jnp.where(y == 0, 0, dy / jnp.where(y == 0, 1, y))[:, None] * x,)

    return call(rule(norm, bwd), normal(40, 50).at[3].set(0).at[7].set(0))


@pattern("norm at 0 only: the gradient there is a choice", planted=None, truth="not checked")
def _():
    custom = rule(lambda x: jnp.sqrt(jnp.sum(jnp.square(x))), lambda x, dy: (jnp.zeros_like(x) * dy,))
    return call(custom, jnp.zeros(50))


@pattern("x log y, some of it at (0, 0)")
def _():
    def xlogy(x, y):
        return jnp.where(x == 0, 0, x * jnp.log(jnp.where(x == 0, 1, y)))

    def bwd(x, y, dy):
        return dy * jnp.log(jnp.where(y == 0, 1, y)), dy * jnp.where(x == 0, 0, x / jnp.where(y == 0, 1, y))

    y = uniform(0.5, 2, 1000).at[:5].set(0)
    return call(rule(xlogy, bwd), uniform(0.1, 1, 1000).at[:5].set(0), y, reference=lambda x, y: x * jnp.log(y))


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

    return call(rule(_rotated, bwd), *_unit(normal(40, 4), normal(40, 3)), domain=_unit)


@pattern("one-hot rows: the rule takes p - t")
def _():
    def loss(logits, targets):
        return -jnp.sum(targets * jax.nn.log_softmax(logits), -1)

    def bwd(logits, targets, dy):
        return dy[:, None] * (jax.nn.softmax(logits) - targets), -dy[:, None] * jax.nn.log_softmax(logits)

    targets = jax.nn.one_hot(jnp.arange(60) % 20, 20)

    def domain(logits, targets):
        return logits, jax.nn.one_hot(jnp.argmax(targets, -1), 20, dtype=targets.dtype)

    return call(rule(loss, bwd), normal(60, 20), targets, domain=domain)


@pattern("symmetric matrices: the rule does not transpose")
def _():
    def bwd(a, x, dy):
        return dy @ x.T, a @ dy

    a = normal(30, 30)
    return call(rule(jnp.matmul, bwd), a + a.T, normal(30, 20), domain=lambda a, x: ((a + a.T) / 2, x))


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

    return call(rule(interpolated, bwd), x, knots, normal(20, seed=1), domain=domain)


@pattern("gauge: potentials up to a constant", truth=WRONG, why="right for dy that sums to 0")
def _():
    def potential(x):
        """Minus its first entry."""
        y = jnp.tanh(x)
        return y - y[0]

    custom = rule(potential, lambda x, dy: (dy * (1 - jnp.square(jnp.tanh(x))),))
    return call(custom, normal(1000)).under(dy=lambda dy: dy - jnp.mean(dy))


@pattern("a solver with a tolerance of 1e-4", truth=WRONG, why="as good as the solver's tolerance")
def _():
    def root(a):
        """√a by bisection."""

        def halved(_, ends):
            low, high = ends
            middle = (low + high) / 2
            return jnp.where(middle * middle < a, middle, low), jnp.where(middle * middle < a, high, middle)

        return sum(lax.fori_loop(0, 16, halved, (jnp.zeros_like(a), jnp.full_like(a, 2)))) / 2

    custom = rule(root, lambda a, dy: (dy / (2 * root(a)),))
    return call(custom, uniform(0.5, 3, 1000), reference=jnp.sqrt).under(rtol=2e-4)
