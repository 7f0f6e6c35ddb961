"""The arithmetic of windows and paddings, by counting and by trying."""

import math

import oracles
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax

from jaxcnn.contract import window_arguments

SIZES, STEPS = st.integers(1, 30), st.integers(1, 6)
PAIRS = st.tuples(st.integers(-4, 9), st.integers(-4, 9))
AXES = st.lists(st.tuples(SIZES, st.integers(1, 9), STEPS, PAIRS, STEPS), min_size=1, max_size=4)
NAMES = ("SAME", "SAME_LOWER", "VALID", "CAUSAL")

many = settings(derandomize=True, deadline=None, max_examples=150)


def by_kind(axes):
    """[(n, k, s, (low, high), d), ...] as image, size, stride, padding and dilation."""
    return tuple(zip(*axes, strict=True))


@many
@given(AXES)
def test_output_is_the_number_of_places(axes):
    geometry = by_kind(axes)
    count = oracles.outputs(*geometry)
    if 0 in count:
        with pytest.raises(ValueError, match="conv: window must be no larger than the padded input"):
            window_arguments.checked_window("conv", *geometry)
    else:
        assert window_arguments.checked_window("conv", *geometry).output == count


@many
@given(AXES)
def test_extent_and_padded_are_counted_in_entries(axes):
    image, size, stride, pads, dilation = by_kind(axes)
    assume(0 not in oracles.outputs(image, size, stride, pads, dilation))
    window = window_arguments.checked_window("conv", image, size, stride, pads, dilation)
    assert window.padded == tuple(len(range(-low, n + high)) for n, (low, high) in zip(image, pads, strict=True))
    places = [range(0, k * d, d) for k, d in zip(size, dilation, strict=True)]
    assert window.extent == tuple(place[-1] - place[0] + 1 for place in places)
    assert window.volume == math.prod(map(len, places))


@many
@given(AXES, st.sampled_from(NAMES))
def test_named_padding_is_what_trying_finds(axes, name):
    image, size, stride, _, dilation = by_kind(axes)
    pads = oracles.resolve_padding(name, image, size, stride, dilation)
    assume(0 not in oracles.outputs(image, size, stride, pads, dilation))
    assert list(window_arguments.checked_window("conv", image, size, stride, name, dilation).padding) == pads


@many
@given(AXES, st.sampled_from(["SAME", "SAME_LOWER"]))
def test_same_is_that_of_xla(axes, name):
    image, size, stride, _, dilation = by_kind(axes)
    window = window_arguments.checked_window("conv", image, size, stride, name, dilation)
    assert list(window.padding) == lax.padtype_to_pads(image, window.extent, stride, name)


@many
@given(AXES, st.sampled_from(["SAME", "SAME_LOWER", "CAUSAL"]))
def test_named_padding_gives_n_over_s_places_rounded_up(axes, name):
    image, size, stride, _, dilation = by_kind(axes)
    window = window_arguments.checked_window("conv", image, size, stride, name, dilation)
    assert window.output == tuple(math.ceil(n / s) for n, s in zip(image, stride, strict=True))


@many
@given(AXES)
def test_the_odd_zero_is_behind_in_same_and_in_front_in_same_lower(axes):
    image, size, stride, _, dilation = by_kind(axes)
    behind, in_front = (
        window_arguments.checked_window("conv", image, size, stride, name, dilation).padding for name in NAMES[:2]
    )
    assert all(high - low in (0, 1) for low, high in behind)
    assert in_front == tuple((high, low) for low, high in behind)


@many
@given(AXES)
def test_causal_windows_end_at_their_own_place(axes):
    image, size, stride, _, dilation = by_kind(axes)
    pads = window_arguments.checked_window("conv", image, size, stride, "CAUSAL", dilation).padding
    for n, k, s, pad, d in zip(image, size, stride, pads, dilation, strict=True):
        assert [start + d * (k - 1) for start in oracles.starts(n, k, s, pad, d)] == list(range(0, n, s))


def test_one_int_stands_for_every_axis():
    expected = window_arguments.checked_window("conv", (9, 8), (3, 3), (2, 2), ((1, 1), (1, 1)), (2, 2))
    assert window_arguments.checked_window("conv", [9, 8], 3, 2, 1, 2) == expected
    assert window_arguments.checked_window("conv", (9, 8), [3, 3], [2, 2], [[1, 1], [1, 1]], [2, 2]) == expected


def test_filters_are_a_window():
    expected = window_arguments.checked_window("conv", (9, 8), (3, 2), 2, "SAME", 2)
    assert window_arguments.filter_window("conv", (5, 9, 8, 6), (3, 2, 2, 3), 2, "SAME", 2, groups=3) == expected
