"""Which kernels XLA chooses for our convolutions on a GPU, and that they need no more memory than those of lax."""

import jax
import numpy as np
import pytest
from accelerators.cases import operation_cases
from accelerators.targets import compile_for
from jax import lax

import jaxcnn

GPU = "nvidia_h100"
LAYOUTS = {1: ("NHC", "HIO", "NHC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def gradient_program(f, part, x, w, **options):
    """The program of the gradient of the images (0) or the filters (1), given their shapes."""
    options = {**defaults(x), **options}
    x, w = (jax.ShapeDtypeStruct(shape, "float32") for shape in (x, w))
    z = jax.eval_shape(lambda x, w: lax.conv_general_dilated(x, w, **options), x, w)
    return compile_for(GPU, lambda x, w, dz: jax.vjp(lambda x, w: f(x, w, **options), x, w)[1](dz)[part], x, w, z)


def defaults(x):
    rank = len(x) - 2
    return {"window_strides": (1,) * rank, "padding": "SAME", "dimension_numbers": LAYOUTS[rank]}


# Settings whose filter gradient is a Forward convolution as lax has it.
FILTERS = {
    "dilated": ((8, 32, 32, 64), (3, 3, 64, 64), {"rhs_dilation": (2, 2)}),
    "dilated by 12": ((2, 64, 64, 16), (3, 3, 16, 16), {"rhs_dilation": (12, 12)}),
    "dilated and strided": ((2, 33, 33, 16), (3, 3, 16, 8), {"rhs_dilation": (3, 3), "window_strides": (2, 2)}),
    "dilated, causal": ((8, 500, 32), (2, 32, 32), {"rhs_dilation": (8,), "padding": [(8, 0)]}),
    "dilated volumes": ((4, 12, 12, 12, 16), (3, 3, 3, 16, 16), {"rhs_dilation": (2, 2, 2)}),
    "dilated, depthwise": ((8, 32, 32, 64), (5, 5, 1, 64), {"rhs_dilation": (2, 2), "feature_group_count": 64}),
    "upsampled": ((8, 16, 16, 32), (4, 4, 32, 16), {"lhs_dilation": (2, 2), "padding": [(2, 2)] * 2}),
    "upsampled, strided": ((2, 14, 8), (3, 8, 8), {"lhs_dilation": (2,), "window_strides": (3,), "padding": [(1, 1)]}),
    "patches": ((8, 224, 224, 3), (16, 16, 3, 96), {"window_strides": (16, 16)}),
    "as large as the image": ((32, 16, 16, 16), (16, 16, 16, 64), {"padding": "VALID"}),
    "a small image": ((32, 7, 7, 16), (7, 7, 16, 16), {}),
    "padded more than SAME": ((8, 14, 14, 8), (3, 3, 8, 8), {"padding": [(2, 2), (3, 3)]}),
}


@pytest.mark.parametrize(("x", "w", "options"), FILTERS.values(), ids=FILTERS)
def test_no_filter_gradient_is_a_forward_convolution(x, w, options):
    assert "Forward" in gradient_program(lax.conv_general_dilated, 1, x, w, **options).kernels
    ours = gradient_program(jaxcnn.conv_general_dilated, 1, x, w, **options).kernels
    assert "Forward" not in ours
    assert {"BackwardFilter", "product"} & set(ours)


def drawn_setting(number):
    """Shapes and options at random, as nobody chose them."""
    rng = np.random.default_rng(number)
    rank, groups = int(rng.choice([1, 2, 2, 3])), int(rng.choice([1, 1, 1, 2]))

    def one_per_axis(*choices):
        return [int(n) for n in rng.choice(choices, rank)]

    size, (channels, filters) = one_per_axis(1, 2, 3, 5, 7), (groups * int(n) for n in rng.choice([1, 4, 8, 16], 2))
    options = {
        "window_strides": size if rng.random() < 0.2 else one_per_axis(1, 1, 2, 3),
        "padding": [(int(low), int(high)) for low, high in rng.integers(-1, 4, (rank, 2))],
        "lhs_dilation": one_per_axis(1, 1, 1, 2),
        "rhs_dilation": one_per_axis(1, 1, 2, 3),
        "feature_group_count": groups,
    }
    return (2, *one_per_axis(14, 15, 28, 32), channels), (*size, channels // groups, filters), options


@pytest.mark.parametrize("number", range(24))
def test_no_filter_gradient_of_a_setting_drawn_at_random_is_one(number):
    x, w, options = drawn_setting(number)
    assert "Forward" not in gradient_program(jaxcnn.conv_general_dilated, 1, x, w, **options).kernels


STRIDED_AND_DILATED = {
    "images": ((8, 33, 33, 16), (3, 3, 16, 8), {}),
    "volumes": ((4, 11, 7, 6, 8), (5, 5, 5, 8, 16), {}),
    "groups": ((8, 33, 33, 16), (5, 5, 8, 8), {"feature_group_count": 2}),
}


@pytest.mark.parametrize(("x", "w", "options"), STRIDED_AND_DILATED.values(), ids=STRIDED_AND_DILATED)
def test_the_input_gradient_of_a_strided_dilated_layer_slides_over_no_zeros(x, w, options):
    """cuDNN would multiply by the zeros between the entries: it has no kernel for gradients of dilated layers."""
    rank = len(x) - 2
    options = options | {"window_strides": (2,) * rank, "rhs_dilation": (3,) * rank}
    assert gradient_program(lax.conv_general_dilated, 0, x, w, **options).kernels["Forward"] == 1
    ours = gradient_program(jaxcnn.conv_general_dilated, 0, x, w, **options).kernels
    assert ours["Forward"] == 2**rank  # one for each residue


# XLA splits the sum of this product, as that of any product of these matrices, and stores its parts.
SPLIT_SUM = "conv 128x5x5x16 to 96, kernel 5 | dw | float32"


@pytest.mark.parametrize("case", [case for case in operation_cases("float32") if "forward" not in case.name], ids=str)
def test_no_gradient_of_the_benchmark_needs_more_memory_than_that_of_lax(case):
    ours, of_lax = (compile_for(GPU, f, *case.types) for f in (case.ours, case.theirs))
    assert ours.temporary <= 1.01 * of_lax.temporary + 1024 or case.name == SPLIT_SUM
    if not case.name.startswith("conv_transpose"):  # its input gradient is a convolution
        assert ours.kernels["BackwardInput"] >= of_lax.kernels["BackwardInput"] or "product" in ours.kernels


@pytest.mark.parametrize("rate", [6, 12, 24, 36])
def test_the_filter_gradients_of_deeplab_need_little_more_memory_than_that_of_lax(rate):
    """Zeros make residues as long as each other. Where these would double them, there is a product for each entry."""
    functions = jaxcnn.conv_general_dilated, lax.conv_general_dilated
    setting = (8, 65, 65, 64), (3, 3, 64, 32)
    ours, of_lax = (gradient_program(f, 1, *setting, rhs_dilation=(rate, rate)).temporary for f in functions)
    assert ours <= 1.3 * of_lax
