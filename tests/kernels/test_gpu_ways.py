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

    size, ones, groups = one_per_axis(1, 2, 3, 4, 9), [1] * rank, int(rng.choice([1, 1, 2, 3]))
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


@pytest.mark.parametrize("number", [number for number in range(40) if has_a_result(number)])
def test_convolutions_are_those_of_lax(number, patch):
    def on_a_gpu(*arrays, default, cpu=None, cuda=None, rocm=None):
        del cpu, rocm
        return (cuda or default)(*arrays)

    patch(lax, "platform_dependent", on_a_gpu)
    (x, w), options = drawn_problem(number)

    def all_three(f):
        z, pull = jax.vjp(lambda x, w: f(x, w, **options), x, w)
        return z, pull(jnp.sin(1 + jnp.arange(z.size, dtype=z.dtype)).reshape(z.shape))

    results = quick(lambda: (all_three(jaxcnn.conv_general_dilated), all_three(lax.conv_general_dilated)))()
    for ours, expected in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-11)
