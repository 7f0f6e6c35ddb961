"""derived(f): the same function, without its custom VJPs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcnn
from jaxcnn import derived


@jax.custom_vjp
def cube(x):
    return x**3


cube.defvjp(lambda x: (cube(x), x), lambda x, dy: (7 * dy,))  # not the derivative, so that it shows which one is used

x = jnp.array([0.5, -1.5, 2.0])
slope = 3 * x**2


def through_scan(x):
    return lax.scan(lambda carry, x: (carry, cube(x)), 0.0, x)[1]


def through_while(x):
    return lax.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + 1, cube(c[1])), (0, x))[1]


def through_remat(x):
    return jax.checkpoint(lambda x: cube(x) + jnp.arange(3.0))(x)


def through_custom_jvp(x):
    return jax.nn.relu(cube(x)) - jax.nn.relu(-cube(x))


def through_everything(x):
    def body(carry, x):
        y = lax.cond(x > 0, jax.jit(cube), jax.checkpoint(cube), x)
        return carry, y

    return jax.jit(lambda x: lax.scan(body, 0, x)[1])(x)


PLACES = {
    "bare": cube,
    "jit": jax.jit(cube),
    "vmap": jax.vmap(cube),
    "scan": through_scan,
    "while": through_while,
    "cond": lambda x: lax.cond(x[0] > 0, cube, lambda x: x, x),
    "switch": lambda x: lax.switch(1, [jnp.sin, cube, jnp.cos], x),
    "remat": through_remat,
    "custom_jvp around": through_custom_jvp,
    "fori_loop": lambda x: lax.fori_loop(0, 1, lambda i, x: cube(x), x),
    "map": lambda x: lax.map(cube, x),
    "everything": through_everything,
}


@pytest.mark.parametrize("f", PLACES.values(), ids=PLACES)
def test_no_rule_is_left(f):
    """The value is the same, forward mode works, and its derivative is the function's own."""
    assert "custom_vjp" in str(jax.make_jaxpr(f)(x))
    assert "custom_vjp" not in str(jax.make_jaxpr(derived(f))(x))
    np.testing.assert_allclose(derived(f)(x), f(x), rtol=1e-15)
    np.testing.assert_allclose(jax.jvp(derived(f), (x,), (jnp.ones(3),))[1], slope, rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in PLACES if name != "while"])
def test_reverse_mode(name):
    f = PLACES[name]
    np.testing.assert_allclose(jax.grad(lambda x: f(x).sum())(x), 7 * jnp.ones(3))
    np.testing.assert_allclose(jax.grad(lambda x: derived(f)(x).sum())(x), slope, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(jax.grad(lambda x: derived(f)(x).sum()))(x), slope, rtol=1e-12)


def test_trees_keywords_and_static_arguments():
    def f(pair, *, scale, power):
        a, b = pair["a"], pair["b"]
        return {"y": cube(a) * scale, "z": [b**power, None]}

    g = derived(functools.partial(f, power=2))
    out = g({"a": x, "b": 2.0}, scale=jnp.array(10.0))
    np.testing.assert_allclose(out["y"], 10 * x**3, rtol=1e-15)
    assert out["z"] == [4.0, None]


def test_closed_over_arrays_of_an_outer_trace():
    def outer(w):
        return jax.grad(lambda x: derived(lambda x: cube(x * w))(x).sum())(x).sum()

    np.testing.assert_allclose(jax.jit(outer)(2.0), np.sum(3 * x**2 * 8), rtol=1e-12)


def test_hessian_of_a_network():
    w = jnp.asarray(np.random.default_rng(0).normal(size=(2, 2, 1, 3)))
    image = jnp.asarray(np.random.default_rng(1).normal(size=(1, 4, 3, 1)))

    def loss(w):
        return jnp.sum(jaxcnn.max_pool(jaxcnn.silu(jaxcnn.conv(image, w)), 2))

    hessian = jax.hessian(derived(loss))(w)
    assert hessian.shape == w.shape * 2
    flat = hessian.reshape(w.size, w.size)
    np.testing.assert_allclose(flat, flat.T, atol=1e-12)
    assert np.abs(flat).max() > 0


def test_what_has_no_rule_stays_as_it_is():
    f = jax.jit(lambda x: lax.scan(lambda c, x: (c + x, jnp.sin(x)), 0.0, x))
    assert str(jax.make_jaxpr(derived(f))(x)) == str(jax.make_jaxpr(f)(x))


def test_primitives_with_functions_of_their_own():
    """A linear solve holds four jaxprs in a named tuple."""
    a = jnp.array([[3.0, 1.0], [1.0, 2.0]])

    def solve(b):
        return jax.scipy.sparse.linalg.cg(lambda v: a @ v, cube(b))[0]

    b = jnp.array([1.0, 2.0])
    np.testing.assert_allclose(derived(solve)(b), np.linalg.solve(a, b**3), rtol=1e-6)
    jacobian = jax.jacrev(derived(solve))(b)
    np.testing.assert_allclose(jacobian, np.linalg.solve(a, np.diag(3 * b**2)), rtol=1e-6)


def test_in_shard_map():
    mesh = jax.make_mesh((3,), ("parts",), axis_types=(jax.sharding.AxisType.Auto,))

    def f(x):
        return lax.psum(cube(x).sum(), "parts")

    on_devices = jax.shard_map(f, mesh=mesh, in_specs=jax.P("parts"), out_specs=jax.P())
    assert "custom_vjp" not in str(jax.make_jaxpr(derived(on_devices))(x))
    np.testing.assert_allclose(derived(on_devices)(x), np.sum(x**3), rtol=1e-12)
    np.testing.assert_allclose(jax.jit(jax.grad(derived(on_devices)))(x), slope, rtol=1e-12)
    np.testing.assert_allclose(jax.jvp(derived(on_devices), (x,), (jnp.ones(3),))[1], np.sum(slope), rtol=1e-12)


def test_rules_in_rules():
    @jax.custom_vjp
    def twice(x):
        return cube(2 * cube(x))

    twice.defvjp(lambda x: (twice(x), None), lambda _, dy: (dy,))
    assert "custom_vjp" not in str(jax.make_jaxpr(derived(twice))(x))
    np.testing.assert_allclose(jax.grad(lambda x: derived(twice)(x).sum())(x), 72 * x**8, rtol=1e-12)


def test_one_traced_function_several_times():
    """JAX has one jaxpr for all calls, whose variables must not get mixed up."""
    f = jax.jit(lambda x, y: cube(x) * cube(y) + cube(x))
    np.testing.assert_allclose(derived(lambda x: f(x, f(x, 2 * x)))(x), f(x, f(x, 2 * x)), rtol=1e-12)


def test_results_that_are_arguments_or_no_arrays():
    @jax.custom_vjp
    def pair(x, y):
        return y, x, 1.0

    pair.defvjp(lambda x, y: (pair(x, y), None), lambda _, dy: dy[:2])

    def f(x, name):
        y, z, one = pair(x, 2 * x)
        return {name: cube(y) * z, "one": one, "f": cube}

    out = derived(f)(x, "y")
    np.testing.assert_allclose(out["y"], 8 * x**4, rtol=1e-12)
    assert out["one"] == 1
    assert out["f"] is cube


def test_bad_call():
    with pytest.raises(TypeError) as raised:
        derived(3)
    assert str(raised.value) == "derived: f must be callable, got int 3"


def _in_a_custom_jvp(f):
    """f, with a rule that calls f on the tangent, as it may where f is linear."""
    g = jax.custom_jvp(f)
    g.defjvp(lambda primals, tangents: (f(*primals), f(*tangents)))
    return g


@pytest.mark.parametrize(
    ("transform", "error"),
    [
        (lambda f, x: jax.jvp(f, (x,), (x,))[1], TypeError),
        (lambda f, x: jax.linearize(f, x)[1](x), TypeError),
        (lambda f, x: jax.jacfwd(f)(x), TypeError),
        (lambda f, x: jax.linear_transpose(f, x)(f(x)), NotImplementedError),
        (lambda f, x: jax.vjp(_in_a_custom_jvp(f), x)[1](f(x)), NotImplementedError),
    ],
    ids=["jvp", "linearize", "jacfwd", "linear_transpose", "custom_jvp"],
)
def test_what_a_custom_vjp_cannot_do_works_without_it(transform, error):
    """As the README of transforms and the docstring of `explicit` say; when JAX learns it, they have to."""
    x, w = jnp.arange(6.0).reshape(1, 3, 2), jnp.ones((2, 2, 1))

    def plain(x):
        return lax.conv_general_dilated(x, w, (1,), "VALID", dimension_numbers=("NHC", "HIO", "NHC"))

    expected = transform(plain, x)
    for f in (lambda x: jaxcnn.conv(x, w, padding="VALID"), jaxcnn.explicit(plain)):
        with pytest.raises(error, match="custom_vjp"):
            transform(f, x)
        jax.tree.map(np.testing.assert_allclose, transform(derived(f), x), expected)
