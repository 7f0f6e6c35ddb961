"""Pools beside what JAX derives: no scatter and no more memory on a GPU, no more time on a TPU by XLA's estimate."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from accelerators.targets import compile_for
from jax import lax
from table import CASES

import jaxcnn as jc
from jaxcnn.ops import max_pooling

GPU, TPU = "nvidia_h100", "tpu_v5e"


def both_passes(f, *args):
    y, back = jax.vjp(f, *args)
    return y, back(jnp.ones_like(y))


def compiled(target, f, *shapes, dtype="float32", **options):
    return compile_for(target, partial(both_passes, f), *(jax.ShapeDtypeStruct(s, dtype) for s in shapes), **options)


def lax_max(x, size, stride, padding="VALID"):
    return lax.reduce_window(x, np.array(-np.inf, x.dtype), lax.max, (1, *size, 1), (1, *stride, 1), padding)


def lax_mean(x, size, stride, padding="VALID"):
    total = lax.reduce_window(x, np.array(0, x.dtype), lax.add, (1, *size, 1), (1, *stride, 1), padding)
    return total / np.array(np.prod(size), x.dtype)


POOLS = [case for case in CASES if "pool" in case.name]


@pytest.mark.parametrize("case", POOLS, ids=str)
def test_no_gradient_of_a_gpu_scatters(case):
    """They compile where XLA may use nothing that is not deterministic."""
    program = compiled(GPU, case.f, *case.shapes(3), xla_gpu_deterministic_ops=True)
    assert " scatter(" not in program.text or case.name == "max_unpool"


@pytest.mark.parametrize("shape", [(6, 6), (3, 5), (30, 30)], ids=str)
def test_regions_of_a_gpu_are_read(shape):
    """Of which a place may be in one, in four, in 25."""
    assert " scatter(" not in compiled(GPU, partial(jc.adaptive_max_pool, shape=shape), (2, 7, 7, 8)).text


def test_the_gradient_of_max_unpool_reads():
    places = np.arange(4, dtype=np.int32).reshape(1, 2, 2, 1) * 4

    def gradient(dx):
        return jax.vjp(lambda y: jc.max_unpool(y, places, 2), jnp.ones((1, 2, 2, 1)))[1](dx)

    assert " scatter(" not in compile_for(GPU, gradient, jnp.ones((1, 4, 4, 1))).text


# Ours, what it is compared with, and the image.
MAXIMA = {
    "2/2": (partial(jc.max_pool, window=2), partial(lax_max, size=(2, 2), stride=(2, 2)), (32, 32, 32, 64)),
    "3/2": (
        partial(jc.max_pool, window=3, stride=2, padding="SAME"),
        partial(lax_max, size=(3, 3), stride=(2, 2), padding="SAME"),
        (32, 56, 56, 64),
    ),
    "9/2": (
        partial(jc.max_pool, window=9, stride=2, padding="SAME"),
        partial(lax_max, size=(9, 9), stride=(2, 2), padding="SAME"),
        (8, 56, 56, 64),
    ),
    "13/1": (
        partial(jc.max_pool, window=13, stride=1, padding="SAME"),
        partial(lax_max, size=(13, 13), stride=(1, 1), padding="SAME"),
        (8, 20, 20, 256),
    ),
}
MEANS = {
    "mean 3/2": (
        partial(jc.mean_pool, window=3, stride=2, padding="SAME"),
        partial(lax_mean, size=(3, 3), stride=(2, 2), padding="SAME"),
        (32, 56, 56, 64),
    ),
    "mean 2/2/2": (
        partial(jc.mean_pool, window=2),
        partial(lax_mean, size=(2, 2, 2), stride=(2, 2, 2)),
        (4, 32, 32, 32, 32),
    ),
}
IMAGE = (32, 56, 56, 64)
OTHERS = {
    "lp": partial(jc.lp_pool, p=2, window=2),
    "softmax": lambda x: jc.softmax_pool(x, jnp.ones((), x.dtype), 2),
    "expected": partial(jc.stochastic_pool_inference, window=2),
    "expected 3/2": partial(jc.stochastic_pool_inference, window=3, stride=2),
    "stochastic": lambda x: jc.stochastic_pool(jax.random.key(0, impl="rbg"), x, 9, stride=2, padding="SAME"),
    "mixed": lambda x: jc.mixed_pool(x, jnp.ones((), x.dtype), 9, stride=2, padding="SAME"),
}
LEARNT = partial(jc.softmax_pool, window=3, stride=2)  # with a temperature for each channel
UNEVEN = partial(jc.adaptive_max_pool, shape=(30, 30))
PAIRS = {
    **MAXIMA,
    **MEANS,
    **{name: (f, jc.derived(f), IMAGE) for name, f in OTHERS.items()},
    "softmax 3/2": (LEARNT, jc.derived(LEARNT), IMAGE, (64,)),
    "adaptive": (UNEVEN, jc.derived(UNEVEN), (32, 7, 7, 64)),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", PAIRS)
def test_a_gpu_needs_no_more_memory(name, dtype):
    ours, theirs, *shapes = PAIRS[name]
    ours, theirs = (compiled(GPU, f, *shapes, dtype=dtype) for f in (ours, theirs))
    assert ours.temporary <= 1.005 * theirs.temporary  # parts of a sum that was split


VALID_3_2 = {"size": (3, 3), "stride": (2, 2)}
SMALL = {
    "max 2/2/2": (partial(jc.max_pool, window=2), partial(lax_max, size=(2,) * 3, stride=(2,) * 3), (2, 6, 6, 6, 12)),
    "max 3/2": (partial(jc.max_pool, window=3, stride=2), partial(lax_max, **VALID_3_2), (8, 17, 17, 32)),
    "mean 3/2": (partial(jc.mean_pool, window=3, stride=2), partial(lax_mean, **VALID_3_2), (8, 17, 17, 32)),
    "softmax 3/2": (LEARNT, jc.derived(LEARNT), (8, 17, 17, 128), (128,)),
    "expected": (OTHERS["expected"], jc.derived(OTHERS["expected"]), (8, 16, 16, 128)),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_tpu_takes_as_long(name):
    ours, theirs, *shapes = SMALL[name]
    ours, theirs = (compiled(TPU, f, *shapes) for f in (ours, theirs))
    assert ours.estimate <= 1.02 * theirs.estimate
    assert ours.temporary <= 1.02 * theirs.temporary


def layer(x, w, stride=2):
    return jc.max_pool(jc.relu(jc.conv(x, w)), 3, stride=stride, padding=1)


def chain(x, ws, wrap):
    for w in ws:
        x = wrap(layer)(x, w)
    return x


def scanned(x, ws, wrap):
    return lax.scan(lambda x, w: (wrap(partial(layer, stride=1))(x, w), None), x, ws)[0]


def training(target, network, wrap, layers=3):
    gradient = jax.grad(lambda ws, x: jnp.sum(network(x, ws, wrap) ** 2))
    return compile_for(target, gradient, jnp.ones((layers, 3, 3, 8, 8)), jnp.ones((2, 32, 32, 8)))


def as_it_is(f):
    return f


@pytest.mark.parametrize("wrap", [as_it_is, jax.checkpoint])
@pytest.mark.parametrize("network", [chain, scanned])
def test_a_gpu_does_not_keep_the_images(network, wrap, monkeypatch):
    with_images = training(GPU, network, wrap)
    monkeypatch.setattr(max_pooling, "image_of_maxima", lambda x, window: None)
    jax.clear_caches()
    assert with_images.temporary <= training(GPU, network, wrap).temporary
    jax.clear_caches()


def test_a_tpu_does_not_keep_the_winners():
    """They are the only small integers."""
    program = training(TPU, chain, as_it_is, layers=1)
    assert program.kernels["select-and-scatter"] == 1
    assert "s8[" not in program.text
