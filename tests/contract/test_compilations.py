"""Outside `jit` the second call of an op, of its gradient, and of a transform of it compiles nothing."""

import jax
import jax.numpy as jnp
import pytest
from table import CASES, RULE_OF_RELU

from jaxcnn import derived, explicit

TRANSFORMED = ("conv", "batch_norm")
ONE_OF_EACH = {case.name: case for case in reversed(CASES) if case.name not in RULE_OF_RELU - {"gelu"}}.values()
COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def compilations():
    """How often something has been compiled."""
    count = [0]

    def listener(event, *args, **kwargs):
        count[0] += event == COMPILED

    jax.monitoring.register_event_duration_secs_listener(listener)
    yield lambda: count[0]
    jax.monitoring.unregister_event_duration_listener(listener)


def _calls(case):
    args = case.args()

    def total(*args):
        leaves = jax.tree.leaves(case.f(*args))
        return sum(jnp.sum(y) for y in leaves if jnp.issubdtype(y.dtype, jnp.floating))

    def gradient(f):
        return jax.grad(f, tuple(range(len(args))))

    def second(*args):
        return sum(jnp.sum(g**2) for g in gradient(total)(*args))

    yield lambda: case.f(*args)
    if args:
        yield lambda: gradient(total)(*args)
    if case.name in TRANSFORMED:
        yield lambda: gradient(second)(*args)
        yield lambda: gradient(explicit(total))(*args)
        yield lambda: gradient(derived(total))(*args)
        yield lambda: jax.vmap(gradient(total))(*(jnp.stack([a, a]) for a in args))


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
def test_a_second_call_compiles_nothing(case, compilations):
    for call in _calls(case):
        call()
        before = compilations()
        call()
        assert compilations() == before


def test_compilations_are_counted(compilations):
    before = compilations()
    jax.jit(lambda x: 3 * x)(jnp.ones(7))
    assert compilations() > before
