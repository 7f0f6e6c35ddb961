"""What JAX and XLA make of our ops, read from the text of programs or counted in their equations.

A new version of JAX may write the same otherwise: then it is a pattern here that is to be mended, and no op.
"""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest

import jaxcnn as jc
from jaxcnn.transforms.jaxprs import every_equation


def test_sums_of_few_products_are_computed_once():
    """XLA would compute them anew in everything that uses them."""
    x, w = jnp.ones((2, 12, 12, 3)), jnp.ones((3, 3, 3, 4))

    def twice(x, w):
        z = jc.conv(x, w)
        return jnp.sum(z), jc.relu(z)

    with jax.default_device(jax.devices("cpu")[0]):
        program = jax.jit(twice).lower(x, w).compile().as_text()
    (called,) = re.findall(r"call\(.*to_apply=%(\S+?),", program)
    assert called.startswith("by_entry")


def test_winners_of_overlapping_windows_are_searched_once():
    """XLA would search for the winner of a window anew at every place that it covers."""
    f = partial(jc.max_pool, window=3, stride=2)
    with jax.default_device(jax.devices("cpu")[0]):
        program = jax.jit(jax.grad(lambda x: jnp.sum(f(x)))).lower(jnp.ones((2, 9, 9, 3))).compile().as_text()
    assert len(re.findall(r"call\(", program)) == 1


def test_programs_of_overlapping_windows_hold_no_images():
    def program(side):
        gradient = jax.grad(lambda x: jnp.sum(jc.max_pool(x, 3, stride=2)))
        return jax.jit(gradient).lower(jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)).as_text()

    assert len(program(400)) < 2 * len(program(40))


def test_outside_jit_a_convolution_of_few_products_is_compiled_once(caplog):
    x, w = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4))
    jc.conv(x, w)
    with jax.log_compiles():
        jc.conv(x, w)
    assert "ompil" not in caplog.text


@pytest.mark.parametrize("size", [(1, 32), (32, 1), (1, 4, 32), (32, 4, 1)], ids=str)
def test_filter_gradients_of_long_filters_copy_the_gradient_a_few_times_at_most(size):
    """A copy for each entry along the longest axis would be 32 of them."""
    x = jax.ShapeDtypeStruct((1, *(128 if k == 32 else 16 for k in size), 16), jnp.float32)
    program = jax.make_jaxpr(partial(jc.conv_filter_grad, w_shape=(*size, 16, 16)))(x, x)
    largest = max(var.aval.size for eqn in every_equation(program.jaxpr) for var in eqn.outvars)
    assert largest <= 5 * math.prod(x.shape)


@pytest.mark.parametrize("padding", ["VALID", 1])
def test_filter_gradients_slide_nothing_larger_than_what_it_slides_over(padding):
    """XLA computes such a convolution up to 20 times slower."""
    x, w_shape = jax.ShapeDtypeStruct((8, 20, 18, 32), jnp.float32), (5, 5, 32, 8)
    dz = jax.eval_shape(lambda x: jc.conv(x, jnp.zeros(w_shape, x.dtype), padding=padding), x)
    gradient = partial(jc.conv_filter_grad, w_shape=w_shape, padding=padding)
    equations = every_equation(jax.make_jaxpr(gradient)(x, dz).jaxpr)
    convolutions = [eqn for eqn in equations if eqn.primitive.name == "conv_general_dilated"]
    assert convolutions
    for eqn in convolutions:
        layout = eqn.params["dimension_numbers"]
        image, size = (
            [var.aval.shape[axis] for axis in spec[2:]]
            for var, spec in zip(eqn.invars, (layout.lhs_spec, layout.rhs_spec), strict=True)
        )
        assert all(n >= k for n, k in zip(image, size, strict=True))


@pytest.mark.parametrize("stride", [1, None])
def test_the_program_does_not_grow_with_a_large_window(stride):
    """An unrolled loop over 256 entries took 14 s to compile."""
    x, key = jnp.ones((1, 48, 48, 1)), jax.random.key(0)

    def length(window):
        pools = (
            lambda x: jc.softmax_pool(x, jnp.ones(1), window, stride=stride),
            lambda x: jc.stochastic_pool(key, x, window, stride=stride),
        )
        return [len(jax.jit(jax.grad(lambda x, f=f: f(x).sum())).lower(x).as_text().splitlines()) for f in pools]

    assert length(40) == length(33)


@pytest.mark.optimized
@pytest.mark.parametrize(
    "f",
    [
        jc.global_max_pool,
        partial(jc.adaptive_max_pool, shape=(5, 70)),
        partial(jc.adaptive_max_pool, shape=(50, 70)),
        partial(jc.max_pool, window=9, stride=2, padding="SAME", return_indices=True),
        partial(jc.mean_pool, window=3, stride=2, padding=1, count_include_pad=False),
    ],
    ids=lambda f: getattr(f, "func", f).__name__,
)
def test_compiled_programs_hold_no_image(f):
    """What depends on no argument is not computed while compiling either."""

    def value_and_gradient(x):
        y, back, *_ = jax.vjp(lambda x: f(x)[0], x)
        return f(x), back(jnp.ones_like(y))

    text = jax.jit(value_and_gradient).lower(jnp.zeros((1, 120, 130, 1))).compile().as_text()
    sizes = [math.prod(map(int, dims.split(","))) for dims in re.findall(r"\[([\d,]+)\]\S* constant\(", text)]
    assert max(sizes, default=0) <= 260
