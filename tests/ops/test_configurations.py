"""Every linear and pooling op at random shapes, strides, paddings, dilations, groups and ranks, value and gradients,
against two oracles: JAX's derivative of the plain lax function, written here, and the NumPy loops of `oracles`.

A setting is drawn from its number, so it is the same in every run, and is legal by construction.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from compilation import QUICK_TO_COMPILE
from jax import lax

import jaxcnn
from jaxcnn.kernels.correlation import on_cpu
from jaxcnn.kernels.correlation.by_lax import LAX, Sliding, by_lax

COUNTS = {
    "conv": 100,
    "depthwise_conv": 50,
    "max_pool": 60,
    "mean_pool": 50,
    "weighted_pool": 36,
    "downsample": 30,
    "upsample": 30,
}
MOST_TERMS = 50_000
SMALL = 8_000
LARGE_WINDOWS = [((75,), (70,)), ((10, 11), (9, 8)), ((4, 5, 7), (5, 3, 6))]  # images, windows of more than 64 entries


@dataclass(frozen=True)
class Setting:
    op: str
    number: int
    x: tuple[int, ...]
    size: tuple[int, ...]
    stride: int | tuple[int, ...]
    padding: str | int | tuple[tuple[int, int], ...]
    dilation: int | tuple[int, ...] = 1
    groups: int = 1
    filters: int = 1

    def __str__(self):
        names = f"{self.op}{self.number}-x{self.x}-k{self.size}-s{self.stride}-p{self.padding}"
        return f"{names}-d{self.dilation}-g{self.groups}-o{self.filters}".replace(" ", "")

    @property
    def image(self):
        return self.x[1:-1]

    @property
    def w(self):
        return (*self.size, self.x[-1] // self.groups, self.filters)

    @property
    def strides(self):
        return per_axis(self.stride, self.image)

    @property
    def dilations(self):
        return per_axis(self.dilation, self.image)

    @property
    def pads(self):
        return oracles.resolve_padding(self.padding, self.image, self.size, self.strides, self.dilations)

    @property
    def axes(self):
        """(n, k, s, (low, high), d) of each spatial axis."""
        return list(zip(self.image, self.size, self.strides, self.pads, self.dilations, strict=True))

    @property
    def output(self):
        return oracles.outputs(self.image, self.size, self.strides, self.pads, self.dilations)

    @property
    def terms(self):
        """How many products the value is the sum of, those with the padding included."""
        return self.x[0] * math.prod(self.output) * math.prod(self.w)

    @property
    def sliding(self):
        """The keywords of our pools."""
        return {"stride": self.stride, "padding": self.padding}

    @property
    def resolved(self):
        """The keywords of the loops."""
        return {"stride": self.strides, "pads": self.pads}

    @property
    def legal(self):
        if 0 in self.output or self.terms > MOST_TERMS:
            return False
        if self.op != "max_pool":
            return True
        return all(p < n and p + k > 0 for n, k, s, pad, d in self.axes for p in oracles.starts(n, k, s, pad, d))

    @property
    def features(self):
        """What is unusual about it."""
        named = {
            f"rank {len(self.image)}": True,
            f"padding {self.padding}": isinstance(self.padding, str),
            "padding as an int": isinstance(self.padding, int),
            "crops": any(min(pad) < 0 for *_, pad, _ in self.axes),
            "uneven padding": any(low != high for *_, (low, high), _ in self.axes),
            "remainder": any((n + sum(pad) - d * (k - 1) - 1) % s for n, k, s, pad, d in self.axes),
            "stride beyond the filter": any(s > k for _, k, s, _, _ in self.axes),
            "filter beyond the image": any(d * (k - 1) >= n for n, k, _, _, d in self.axes),
            "more than 64 entries": math.prod(self.size) > 64,
            "a size of 1": 1 in self.image,
            "empty batch": self.x[0] == 0,
            "strided": max(self.strides) > 1,
            "dilated": max(self.dilations) > 1,
            "grouped": self.groups > 1,
            "several filters per channel": self.filters > self.groups == self.x[-1],
        }
        return [name for name, present in named.items() if present]


def per_axis(value, image):
    return (value,) * len(image) if isinstance(value, int) else value


def differing(rng, count, largest):
    """Sizes that all differ; now and then some are 1."""
    sizes = rng.permutation(largest)[:count] + 1
    if rng.random() < 0.15:
        sizes[rng.random(count) < 0.5] = 1
    return tuple(sizes.tolist())


def steps(rng, rank, largest):
    """A stride, a dilation or a factor: an int or one per axis."""
    each = tuple(rng.integers(1, largest + 1, rank).tolist())
    return each[0] if rng.random() < 0.3 else each


def any_padding(rng, rank):
    """A named padding, an int or pairs."""
    kind = rng.integers(3)
    if kind == 0:
        return str(rng.choice(["SAME", "SAME_LOWER", "VALID", "CAUSAL"]))
    if kind == 1:
        return int(rng.integers(-1, 4))
    return tuple((int(low), int(high)) for low, high in rng.integers(-2, 5, (rank, 2)))


def draw(op, number):
    """Setting `number` of `op`: the first legal one of its random sequence."""
    rng = np.random.default_rng([list(COUNTS).index(op), number])
    rank = int(rng.choice([1, 2, 3, 4], p=[0.35, 0.35, 0.2, 0.1]))
    while True:
        batch, channels, filters = differing(rng, 3, 5)
        x = (batch, *differing(rng, rank, (14, 9, 6, 5)[rank - 1]), channels)
        setting = Setting(op, number, x, differing(rng, rank, 5), steps(rng, rank, 4), any_padding(rng, rank))
        if op == "conv":
            groups = int(rng.choice([1, 1, 2, 3]))
            setting = replace(
                setting,
                x=(*x[:-1], channels * groups),
                dilation=steps(rng, rank, 3),
                groups=groups,
                filters=filters * groups,
            )
        elif op == "depthwise_conv":
            setting = replace(setting, dilation=steps(rng, rank, 3), groups=channels, filters=channels * int(filters))
        else:
            setting = replace(setting, groups=channels, filters=channels)
        if op in ("downsample", "upsample"):
            setting = replace(setting, size=(1,) * rank, padding="VALID")
        elif op.endswith("pool") and number % 8 == 0:
            image, size = LARGE_WINDOWS[number // 8 % len(LARGE_WINDOWS)]
            padding = any_padding(rng, len(size))
            setting = replace(setting, x=(batch, *image, channels), size=size, stride=2, padding=padding)
        if rng.random() < 0.06:
            setting = replace(setting, x=(0, *setting.x[1:]))
        if setting.legal:
            return setting


SETTINGS = {op: [draw(op, number) for number in range(count)] for op, count in COUNTS.items()}
SETTINGS["conv"] += [
    # Where no entry of the image is left, or some windows see only padding.
    Setting("conv", 250, (2, 0, 3), (2,), 1, ((2, 1),), filters=4),
    Setting("conv", 251, (2, 5, 3), (2,), 1, ((-6, 4),), filters=4),
    Setting("conv", 252, (2, 5, 3), (2,), 2, ((4, -6),), filters=4),
    Setting("conv", 253, (2, 3, 1), (2,), 2, ((-3, 6),), dilation=2, filters=4),
    Setting("conv", 254, (2, 5, 4, 3), (3, 1), 3, ((9, 0), (0, 7)), filters=4),
    Setting("conv", 255, (2, 4, 0), (2,), 1, "VALID", filters=3),
    Setting("conv", 256, (2, 4, 3), (2,), 1, "VALID", filters=0),
    # the stride divides the filter, and there are many channels or entries
    Setting("conv", 257, (2, 9, 7, 8), (4, 2), 2, ((1, 0), (2, 1)), filters=3),
    Setting("conv", 258, (2, 11, 9), (6,), 3, ((-1, 2),), filters=2),
    Setting("conv", 259, (1, 17, 15, 2), (8, 8), 8, "SAME", filters=2),
    # many channels, or few of large images: on a CPU these take other ways
    Setting("conv", 260, (29, 5, 4, 9), (3, 2), 1, "SAME", filters=33),
    Setting("conv", 261, (29, 7, 6, 9), (3, 2), 2, ((2, 0), (-1, 3)), dilation=(2, 1), filters=33),
    Setting("conv", 262, (2, 7, 6, 17), (3, 3), 2, "SAME", filters=5),
    Setting("conv", 263, (23, 11, 9, 3), (3, 5), 1, ((1, 1), (2, -1)), dilation=(2, 1), filters=5),
    Setting("conv", 264, (35, 17, 15, 3), (4, 3), 2, "SAME", filters=18),
    Setting("conv", 265, (23, 11, 10, 5), (2, 3), 1, "VALID", filters=18),
]


SETTINGS["conv"] += [
    # filters side by side, of few channels; several channels of a group to one filter
    Setting("conv", 266, (3, 9, 7, 3), (2, 3), (2, 3), ((1, 0), (-1, 2)), filters=5),
    Setting("conv", 267, (3, 17, 8), (4,), 4, ((2, 1),), filters=5),
    Setting("conv", 268, (2, 7, 5, 6), (2, 3), (1, 2), "SAME", dilation=(1, 2), groups=2, filters=2),
    # more groups than are taken apart in one pass
    Setting("conv", 272, (2, 6, 5, 45), (5, 3), (1, 2), "SAME", groups=9, filters=18),
    # groups that lax computes as fast
    Setting("conv", 273, (1, 4, 3, 72), (3, 2), 1, "SAME", groups=8, filters=64),
    Setting("conv", 274, (2, 4, 3, 76), (1, 1), (1, 2), "SAME", groups=2, filters=62),
    Setting("conv", 276, (1, 4, 3, 81), (2, 3), 1, "SAME", groups=9, filters=18),
    # groups whose entries are sums of few products, with a stride, and with more weights than are taken at once
    Setting("conv", 281, (2, 7, 6, 32), (3, 3), 1, "SAME", dilation=(2, 1), groups=4, filters=16),
    Setting("conv", 282, (2, 7, 6, 16), (3, 2), (3, 2), ((1, 0), (-1, 2)), groups=4, filters=12),
    Setting("conv", 283, (1, 4, 3, 128), (3, 3), 1, "SAME", groups=16, filters=128),
    # filters side by side of many channels, and a stride that does not divide the filters
    Setting("conv", 277, (2, 13, 32), (4,), 4, "VALID", filters=5),
    Setting("conv", 278, (2, 7, 6, 12), (3, 5), 2, "SAME", filters=7),
    # volumes with a stride along the first axis: one more slab than whole strides, and a stride beyond the filter
    Setting("conv", 279, (2, 5, 4, 3, 3), (3, 2, 2), (2, 1, 1), "SAME", filters=4),
    Setting("conv", 280, (2, 8, 4, 3, 3), (2, 1, 2), (3, 2, 1), ((1, 0), (0, 0), (0, 1)), filters=3),
    # neither channels nor filters
    Setting("conv", 269, (2, 6, 6, 3), (3, 3), 3, "VALID", filters=0),
    Setting("conv", 270, (2, 6, 5, 4, 0), (3, 2, 2), 2, "VALID", filters=4),
    Setting("conv", 271, (2, 6, 5, 4, 8), (3, 2, 2), 2, "VALID", filters=0),
]
SETTINGS["depthwise_conv"] += [
    # many channels of large images, of which a few rows are summed at a time
    Setting("depthwise_conv", 60, (3, 19, 18, 32), (2, 3), 1, "SAME", groups=32, filters=32),
    Setting("depthwise_conv", 61, (5, 14, 15, 16), (3, 4), 1, "SAME", (2, 1), groups=16, filters=32),
    Setting("depthwise_conv", 62, (9, 231, 32), (10,), 2, ((4, 5),), groups=32, filters=32),
]
SETTINGS["max_pool"] += [
    # windows side by side, with and without a remainder
    Setting("max_pool", 81, (3, 7, 9, 2), (2, 3), (2, 3), "VALID", groups=2, filters=2),
    Setting("max_pool", 82, (2, 6, 4, 3), (3, 2), (3, 2), "VALID", groups=3, filters=3),
    Setting("max_pool", 83, (2, 4, 5, 6, 1), (2, 2, 3), (2, 2, 3), "VALID", groups=1, filters=1),
]


# XLA of jaxlib 0.10.2 ends the process (a failed check in its algebraic simplifier) when it compiles the input gradient
# that JAX derives of this one in float64 on a CPU: here the loop alone is the oracle.
ABORTS_XLA = "depthwise_conv40-x(1,4,3,2)-k(2,3)-s2-p1-d(1,1)-g2-o8"


def settings(op):
    """Every tenth one compiles as users do."""
    marked = [pytest.param(s, marks=pytest.mark.optimized) if s.number % 10 == 0 else s for s in SETTINGS[op]]
    return pytest.mark.parametrize("setting", marked, ids=str)


def assert_same(got, expected):
    """Equal to rounding in float64, entry by entry and in shape."""
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        finite = np.abs(b)[np.isfinite(b)]
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12 * finite.max(initial=0.0), strict=True)


def with_gradients(f):
    def value_and_gradients(dz, *arrays):
        value, backward = jax.vjp(f, *arrays)
        return value, *backward(dz)

    return value_and_gradients


def assert_agree(setting, rng, ours, plain, loop, *arrays, shape=None):
    """`ours(dz, *arrays)` is the value and gradients of `plain` as JAX derives them, and of `loop` where small."""
    dz = rng.standard_normal((setting.x[0], *(shape or setting.output), setting.filters))
    options = None if setting.number % 10 == 0 else QUICK_TO_COMPILE
    derived = ours if str(setting) == ABORTS_XLA else with_gradients(plain)
    both = jax.jit(lambda *args: (ours(*args), derived(*args)), compiler_options=options)
    got, expected = both(dz, *arrays)
    assert_same(got, expected)
    if setting.terms <= SMALL:
        value, backward = loop(*arrays)
        assert_same(got, (value, *backward(dz)))


def plain_conv(setting):
    """The lax function, with one bias per filter where a third array comes."""
    axes = "0123"[: len(setting.image)]
    layout = (f"N{axes}C", f"{axes}IO", f"N{axes}C")

    def plain(x, w, b=None):
        z = lax.conv_general_dilated(
            x,
            w,
            setting.strides,
            setting.pads,
            rhs_dilation=setting.dilations,
            dimension_numbers=layout,
            feature_group_count=setting.groups,
        )
        return z if b is None else z + jnp.broadcast_to(b, z.shape)

    return plain


def assert_conv_agrees(setting, ours, bias):
    rng = np.random.default_rng(setting.number)
    arrays = [rng.standard_normal(shape) for shape in (setting.x, setting.w, *[(setting.filters,)] * bias)]
    loop = partial(oracles.conv, **setting.resolved, dilation=setting.dilations, groups=setting.groups)
    assert_agree(setting, rng, ours, plain_conv(setting), loop, *arrays)


def plain_pool(setting, start, reduce):
    """`reduce` of every window of the image in its padding, which is all `start`; a negative padding crops."""
    around = [(max(low, 0), max(high, 0)) for low, high in setting.pads]
    inner = [slice(max(-low, 0), min(high, 0) or None) for low, high in setting.pads]
    size, strides = (1, *setting.size, 1), (1, *setting.strides, 1)

    def plain(x):
        padded = jnp.pad(x, [(0, 0), *around, (0, 0)], constant_values=start)[:, *inner]
        return lax.reduce_window(padded, start, reduce, size, strides, "VALID")

    return plain


@settings("conv")
def test_conv(setting):
    """At odd numbers with a bias."""
    ours = partial(jaxcnn.conv, **setting.sliding, dilation=setting.dilation, groups=setting.groups)
    assert_conv_agrees(setting, with_gradients(ours), bias=setting.number % 2)


@settings("depthwise_conv")
def test_depthwise_conv(setting):
    ours = partial(jaxcnn.depthwise_conv, **setting.sliding, dilation=setting.dilation)
    assert_conv_agrees(setting, with_gradients(ours), bias=setting.number % 2)


@pytest.mark.parametrize("setting", SETTINGS["conv"][::9], ids=str)
def test_public_gradients_of_conv(setting):
    options = {**setting.sliding, "dilation": setting.dilation, "groups": setting.groups}

    def ours(dz, x, w):
        dx = jaxcnn.conv_input_grad(dz, w, x.shape, **options)
        dw = jaxcnn.conv_filter_grad(x, dz, w.shape, **options)
        return jaxcnn.conv(x, w, **options), dx, dw

    assert_conv_agrees(setting, ours, bias=0)


TRANSPOSED = [setting for setting in SETTINGS["conv"] if 0 not in setting.image][::9]


@pytest.mark.parametrize("setting", TRANSPOSED, ids=str)
def test_conv_transpose(setting):
    """The adjoint of the setting's convolution: its input is an output of that, its result as large as the input."""
    rng = np.random.default_rng(setting.number)
    x, dy, w = map(rng.standard_normal, ((setting.x[0], *setting.output, setting.filters), setting.x, setting.w))
    remainder = [(n + sum(pad) - d * (k - 1) - 1) % s for n, k, s, pad, d in setting.axes]
    ours = partial(
        jaxcnn.conv_transpose,
        stride=setting.stride,
        padding=setting.pads,
        output_padding=remainder,
        dilation=setting.dilation,
        groups=setting.groups,
    )

    def plain(x, w):
        return jax.vjp(lambda image: plain_conv(setting)(image, w), jnp.zeros(setting.x))[1](x)[0]

    options = None if setting.number % 10 == 0 else QUICK_TO_COMPILE
    both = jax.jit(lambda *args: (with_gradients(ours)(*args), with_gradients(plain)(*args)), compiler_options=options)
    got, expected = both(dy, x, w)
    assert_same(got, expected)
    if setting.terms <= SMALL:
        conv = partial(oracles.conv, **setting.resolved, dilation=setting.dilations, groups=setting.groups)
        value, _ = conv(np.zeros(setting.x), w)[1](x)
        dx, backward = conv(dy, w)
        assert_same(got, (value, dx, backward(x)[1]))


@settings("max_pool")
def test_max_pool(setting):
    """In half of the settings the images are small integers, so that most windows have several maxima."""
    rng, ties = np.random.default_rng(setting.number), (setting.number + setting.number // 8) % 2
    x = rng.integers(-2, 2, setting.x).astype(float) if ties else rng.standard_normal(setting.x)
    ours = with_gradients(partial(jaxcnn.max_pool, window=setting.size, **setting.sliding))
    loop = partial(oracles.max_pool, size=setting.size, **setting.resolved)
    assert_agree(setting, rng, ours, plain_pool(setting, -np.inf, lax.max), loop, x)


@pytest.mark.parametrize("setting", [s for s in SETTINGS["max_pool"] if s.terms <= SMALL][::2], ids=str)
def test_max_pool_of_infinities_and_nan(setting):
    rng = np.random.default_rng(setting.number)
    x = rng.choice([-np.inf, 0.0, np.inf, np.nan], setting.x, p=[0.6, 0.2, 0.1, 0.1])
    dy = rng.standard_normal((setting.x[0], *setting.output, setting.filters))
    ours = with_gradients(partial(jaxcnn.max_pool, window=setting.size, **setting.sliding))
    y, backward = oracles.max_pool(x, setting.size, **setting.resolved)
    assert_same(jax.jit(ours, compiler_options=QUICK_TO_COMPILE)(dy, x), (y, *backward(dy)))


@settings("mean_pool")
def test_mean_pool(setting):
    rng = np.random.default_rng(setting.number)
    ours = with_gradients(partial(jaxcnn.mean_pool, window=setting.size, **setting.sliding))
    total = plain_pool(setting, 0.0, lax.add)
    loop = partial(oracles.mean_pool, size=setting.size, **setting.resolved)
    x = rng.standard_normal(setting.x)
    assert_agree(setting, rng, ours, lambda x: total(x) / math.prod(setting.size), loop, x)


@settings("weighted_pool")
def test_weighted_pool(setting):
    """At odd numbers the channels share one set of weights."""
    rng, conv = np.random.default_rng(setting.number), plain_conv(setting)
    ours = with_gradients(partial(jaxcnn.weighted_pool, **setting.sliding))
    loop = partial(oracles.weighted_pool, **setting.resolved)
    x = rng.standard_normal(setting.x)
    w = rng.standard_normal(setting.size if setting.number % 2 else (*setting.size, setting.filters))

    def plain(x, w):
        return conv(x, jnp.broadcast_to(w.reshape(*setting.size, 1, -1), setting.w))

    assert_agree(setting, rng, ours, plain, loop, x, w)


@settings("downsample")
def test_downsample(setting):
    rng, places = np.random.default_rng(setting.number), tuple(slice(None, None, f) for f in setting.strides)
    ours = with_gradients(partial(jaxcnn.downsample, factor=setting.stride))
    loop = partial(oracles.downsample, factor=setting.strides)
    assert_agree(setting, rng, ours, lambda x: x[:, *places], loop, rng.standard_normal(setting.x))


@settings("upsample")
def test_upsample(setting):
    """At odd numbers more zeros may follow the last entry than by default."""
    rng, places = np.random.default_rng(setting.number), tuple(slice(None, None, f) for f in setting.strides)
    more = [int(rng.integers(f)) if setting.number % 2 else 0 for f in setting.strides]
    shape = tuple((n - 1) * f + 1 + zeros for n, f, zeros in zip(setting.image, setting.strides, more, strict=True))
    ours = with_gradients(partial(jaxcnn.upsample, factor=setting.stride, shape=shape if setting.number % 2 else None))
    loop = partial(oracles.upsample, factor=setting.strides, shape=shape)

    def plain(x):
        return jnp.zeros((x.shape[0], *shape, x.shape[-1])).at[:, *places].set(x)

    assert_agree(setting, rng, ours, plain, loop, rng.standard_normal(setting.x), shape=shape)


CONVOLUTIONS = [s for s in SETTINGS["conv"] if s.groups == 1 and 0 not in (*s.x, *s.output) and s.terms < MOST_TERMS]


@pytest.mark.parametrize("setting", CONVOLUTIONS[::3], ids=str)
def test_same_sliding_written_otherwise(setting):
    """Doubled distances, slabs of the filter as filters, and shifts of what its entries make."""
    rng = np.random.default_rng(setting.number)
    x, w = map(rng.standard_normal, (setting.x, setting.w))
    sliding = Sliding(setting.strides, tuple(setting.pads), setting.dilations, (1,) * len(setting.image))

    def convolutions(x, w):
        f = partial(by_lax, groups=1, arithmetic=LAX)
        others = [on_cpu.by_slab(f, x, w, sliding, x.dtype)] if x.ndim > 3 else []
        if max(setting.strides) == 1:
            others.append(on_cpu.by_shifts(x, w, sliding, LAX))
        return f(x, w, sliding), [f(x, w, sliding.doubled()), *others]

    expected, others = jax.jit(convolutions, compiler_options=QUICK_TO_COMPILE)(x, w)
    assert_same(others, [np.asarray(expected)] * len(others))


WAYS = [
    "by_dealt_group",
    "by_entry",
    "by_entry_and_rows_over_batch",
    "by_entry_over_batch",
    "by_group",
    "by_patch",
    "by_patch_over_batch",
    "by_product",
    "by_product_over_batch",
    "by_residue",
    "by_shifts",
    "by_slab",
    "by_slab_over_batch",
    "by_subpixel",
    "by_swap_over_batch",
    "by_upsampled_slab",
    "by_one_entry",
    "by_one_place_over_batch",
    "by_lax",
    "by_lax_over_batch",
]


def test_every_way_to_compute_a_correlation_is_among_the_settings(patch):
    """The tests above find whether what a way computes is right, of each way that one of their settings takes."""
    ways = {name: Mock(wraps=getattr(on_cpu, name)) for name in WAYS}
    for name, way in ways.items():
        patch(on_cpu, name, way)
    for setting in (*SETTINGS["conv"][::3], *SETTINGS["conv"][-20:], *SETTINGS["depthwise_conv"][-9:]):
        f = partial(jaxcnn.conv, **setting.sliding, dilation=setting.dilation, groups=setting.groups)
        x, w = (jax.ShapeDtypeStruct(shape, jnp.float64) for shape in (setting.x, setting.w))
        jax.eval_shape(lambda x, w, f=f: jax.vjp(f, x, w)[1](f(x, w)), x, w)
    assert [name for name, way in ways.items() if not way.called] == []
