"""What a GPU computes, computed by a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import quick
from jax import lax

import jaxcnn

LAYOUTS = {1: ("NHC", "HIO", "NHC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def drawn_problem(number):
    """Images, filters and options of `conv_general_dilated`: all that an axis may have, or filters side by side."""
    rng = np.random.default_rng(number)
    rank = int(rng.integers(1, 4))

    def one_per_axis(*choices):
        return [int(n) for n in rng.choice(choices, rank)]

    size, ones, groups = one_per_axis(1, 2, 3, 4, 10 - 2 * rank), [1] * rank, int(rng.choice([1, 1, 2, 3]))
    channels, filters = (int(n) for n in rng.integers(1, 6, 2))
    image = [
        int(n) if number % 4 else int(n) + k for n, k in zip(rng.choice([1, 2, 4, 7, 11], rank), size, strict=True)
    ]
    options = {
        "window_strides": one_per_axis(1, 1, 2, 3) if number % 4 else size,
        "padding": [(int(low), int(high)) for low, high in rng.integers(-(min(image) // 3), 6, (rank, 2))],
        "lhs_dilation": ones if number % 3 else one_per_axis(1, 2, 3),
        "rhs_dilation": one_per_axis(1, 1, 2, 3) if number % 4 else ones,
        "dimension_numbers": LAYOUTS[rank],
        "feature_group_count": groups,
    }
    shapes = (int(rng.integers(1, 4)), *image, channels * groups), (*size, channels, filters * groups)
    return [jnp.asarray(rng.standard_normal(shape)) for shape in shapes], options


def has_a_result(number):
    (x, w), options = drawn_problem(number)
    return 0 < jax.eval_shape(lambda: lax.conv_general_dilated(x, w, **options)).size < 4096


def problem(x, w, **options):
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.standard_normal(shape)) for shape in (x, w)]
    return arrays, {"dimension_numbers": LAYOUTS[len(x) - 2], **options}


# Ways that settings drawn at random seldom take.
PROBLEMS = {
    "large patches": problem(
        (2, 25, 16, 3), (8, 8, 3, 4), window_strides=(8, 8), padding="VALID", dimension_numbers=LAYOUTS[2]
    ),
    "a crop": problem(
        (2, 7, 5, 3), (2, 2, 3, 2), window_strides=(1, 1), padding=[(-1, 4), (3, 3)], dimension_numbers=LAYOUTS[2]
    ),
    **{str(number): drawn_problem(number) for number in range(60) if has_a_result(number)},
}


@pytest.mark.parametrize(("arrays", "options"), PROBLEMS.values(), ids=PROBLEMS)
def test_convolutions_are_those_of_lax(arrays, options, patch):
    def on_a_gpu(*arrays, default, cpu=None, cuda=None, rocm=None):
        del cpu, rocm
        return (cuda or default)(*arrays)

    patch(lax, "platform_dependent", on_a_gpu)

    def all_three(f, x, w):
        z, pull = jax.vjp(lambda x, w: f(x, w, **options), x, w)
        return z, pull(jnp.sin(1 + jnp.arange(z.size, dtype=z.dtype)).reshape(z.shape))

    functions = jaxcnn.conv_general_dilated, lax.conv_general_dilated
    results = quick(lambda *arrays: [all_three(f, *arrays) for f in functions])(*arrays)
    for ours, expected in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("channels", "filters"), [(0, 4), (3, 0)])
def test_a_dilated_layer_without_channels_or_filters(channels, filters):
    """On a CPU too: the way of a GPU is traced for every program."""
    x, w = jnp.ones((2, 6, 6, channels)), jnp.ones((3, 3, channels, filters))
    dw = jax.grad(lambda w: jnp.sum(jaxcnn.conv(x, w, dilation=2)))(w)
    assert dw.shape == w.shape
