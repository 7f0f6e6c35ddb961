"""jaxcnn.jit: `jax.jit` in all that it does, with options of the compiler where these help."""

import copy

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcnn
from jaxcnn.transforms import compilation

OPTION = "xla_multiheap_size_constraint_per_heap"
MIB = 2**20


def double(x):
    return x * 2


@pytest.fixture
def options(monkeypatch):
    """The compiler options with which f is compiled for an array of so many bytes."""
    jit, seen = jax.jit, []

    def recorded(f, **kwargs):
        if f is double:
            seen.append(kwargs.get("compiler_options"))
        return jit(f, **kwargs)

    monkeypatch.setattr(jax, "jit", recorded)

    def compiled(size, **kwargs):
        jaxcnn.jit(double, **kwargs).lower(jax.ShapeDtypeStruct((size,), jnp.int8)).compile()
        return seen[-1]

    return compiled


def test_memory_in_pieces(options):
    assert options(1000) == {OPTION: 16 * MIB}
    assert options(20 * MIB) == {OPTION: 25 * MIB}


def test_no_piece_smaller_than_an_array(options):
    assert options(26 * MIB) is None


def test_no_option_that_is_unknown(options, monkeypatch):
    monkeypatch.setattr(compilation, "_OPTION", "xla_no_such_option")
    assert options(1000) is None


def test_no_option_where_the_arrays_are_elsewhere(options, monkeypatch):
    monkeypatch.setattr(compilation, "_platform", lambda leaves: "gpu")
    assert options(1000) is None


def test_the_platform_is_part_of_the_signature(monkeypatch):
    f = jaxcnn.jit(double)
    assert f._chosen((1.0,), {}) is not f._plain
    monkeypatch.setattr(compilation, "_platform", lambda leaves: "gpu")
    assert f._chosen((1.0,), {}) is f._plain


def test_options_of_the_caller_go_before_ours(options):
    theirs = {"xla_cpu_enable_fast_min_max": False}
    assert options(1000, compiler_options=theirs) == {OPTION: 16 * MIB, **theirs}
    assert options(1000, compiler_options={OPTION: 5}) == {OPTION: 5}
    assert options(40 * MIB, compiler_options=theirs) == theirs


def test_the_largest_array_may_be_anywhere():
    def inside(x):
        return jax.lax.fori_loop(0, 2, lambda _, y: y + jnp.ones((30 * MIB, 1), jnp.int8).sum(dtype=jnp.int8), x)

    jitted = jaxcnn.jit(inside)
    assert jitted._chosen((jnp.int8(0),), {}) is jitted._plain
    assert int(jitted(jnp.int8(0))) == 0


def test_each_signature_decides():
    f = jaxcnn.jit(double)
    small, large = jnp.ones(10), jax.ShapeDtypeStruct((40 * MIB,), jnp.int8)
    with_option = f._chosen((small,), {})
    assert with_option is f._chosen((2 * small,), {})
    assert with_option is not f._plain
    assert f._chosen((large,), {}) is f._plain
    assert f._chosen((jax.ShapeDtypeStruct((10 * MIB,), jnp.bfloat16),), {}) is f._plain  # float32 in XLA


def test_what_jit_does():
    state = jnp.arange(3.0)
    step = jaxcnn.jit(lambda x, n, *, by: x * n + by, static_argnums=1, donate_argnums=0)
    np.testing.assert_array_equal(step(state, 2, by=1.0), [1, 3, 5])
    assert state.is_deleted()
    assert step.eval_shape(jnp.ones(3), 2, by=1.0).shape == (3,)
    assert step.trace(jnp.ones(3), 2, by=1.0).lower().compile()(jnp.ones(3), by=1.0).tolist() == [3, 3, 3]
    step.clear_cache()
    np.testing.assert_array_equal(step(jnp.ones(4), 3, by=0.0), [3, 3, 3, 3])


def test_decorators_and_methods():
    class Model:
        @jaxcnn.jit
        def shifted(self, x):
            """Shifted."""
            return x + 1

        @staticmethod
        @jaxcnn.jit(static_argnames="power")
        def powers(x, power):
            return x**power

    jax.tree_util.register_static(Model)
    assert float(Model().shifted(1.0)) == 2
    assert float(Model.powers(3.0, power=2)) == 9
    model = Model()
    assert model.shifted == model.shifted
    assert float(model.shifted.lower(model, 1.0).compile()(model, 1.0)) == 2
    assert Model.shifted.__name__ == "shifted"
    assert Model.shifted.__doc__ == "Shifted."


@pytest.mark.parametrize("called_before", [False, True])
def test_inside_other_transforms(called_before):
    f = jaxcnn.jit(lambda x: jnp.sum(x**3))
    x = jnp.arange(1.0, 4.0)
    if called_before:
        assert float(f(x)) == 36
    np.testing.assert_array_equal(jax.grad(f)(x), 3 * x**2)
    np.testing.assert_array_equal(jax.jit(lambda y: f(x) * y)(2.0), 72)
    np.testing.assert_array_equal(jax.vmap(f)(jnp.stack([x, 2 * x])), [36, 288])
    np.testing.assert_array_equal(jax.lax.map(f, jnp.stack([x, 2 * x])), [36, 288])
    assert jax.eval_shape(f, x).shape == ()


def test_without_jit():
    with jax.disable_jit():
        assert float(jaxcnn.jit(lambda x: x if x > 0 else -x)(jnp.float32(-1.0))) == 1


def test_what_else_jit_takes():
    (n,) = jax.export.symbolic_shape("n")
    symbolic = jax.export.export(jax.jit(double))(jax.ShapeDtypeStruct((n,), jnp.float32))
    exported = jax.export.export(jaxcnn.jit(double))(jax.ShapeDtypeStruct((n,), jnp.float32))
    assert exported.in_avals == symbolic.in_avals
    sharding = jax.sharding.NamedSharding(jax.sharding.AbstractMesh((2,), ("x",)), jax.P("x"))
    traced = jaxcnn.jit(double).trace(jax.ShapeDtypeStruct((4,), jnp.float32, sharding=sharding))
    assert traced.out_info.shape == (4,)
    static = type("Static", (), {"sharding": "none"})()
    assert float(jaxcnn.jit(lambda x, s: x, static_argnums=1)(1.0, static)) == 1


def test_jitted_twice_and_copied():
    x = jnp.ones(3)
    jaxcnn.jit(jaxcnn.jit(double), donate_argnums=0)(x)
    assert x.is_deleted()
    assert float(copy.deepcopy(jaxcnn.jit(double))(2.0)) == 4


def test_a_bad_argument():
    with pytest.raises(TypeError, match="callable"):
        jaxcnn.jit(3)
    with pytest.raises(TypeError, match="no_option"):
        jaxcnn.jit(double, no_option=1)
