"""Ops that are no convolutions: what XLA makes of value and gradients, beside what JAX derives."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from accelerators.targets import GPUS, compile_for
from jax import lax
from table import CASES, RULE_OF_RELU

import jaxcnn as jc

# In the table a row has 5 entries, or an image 12: about as many as XLA keeps sums over them.
SHORT_ROWS = {"layer_norm", "group_norm", "instance_norm", "dice"}
LEFT_OUT = RULE_OF_RELU | SHORT_ROWS | {"max_unpool"}  # that scatters by its meaning
OPS = {
    case.name: case
    for case in reversed(CASES)  # the first of each op
    if "conv" not in case.name and case.name not in LEFT_OUT and case.note != "masked"
}
LOGITS, IMAGE = (8192, 1000), (32, 56, 56, 64)
# These, and those whose backward pass has a form of its own on an accelerator, at the sizes of the benchmark.
LARGE = {
    "softmax": (jc.softmax, [LOGITS]),
    "log_softmax": (jc.log_softmax, [LOGITS]),
    "focal": (lambda z: jc.focal(z, np.ones(z.shape, bool)), [IMAGE]),
    "local_response_norm": (partial(jc.local_response_norm, size=5), [IMAGE]),
    "layer_norm": (jc.layer_norm, [IMAGE, (64,), (64,)]),
    "group_norm": (partial(jc.group_norm, groups=8), [IMAGE, (64,), (64,)]),
    "dice": (lambda p: jc.dice(p, np.ones(p.shape[:-1], int)), [IMAGE]),
}


def compiled(target, f, *types):
    """The programs of value and gradients, ours and JAX's."""

    def both(f):
        def value_and_gradients(args, dy):
            y, backward = jax.vjp(f, *args)
            return y, backward(dy)

        return value_and_gradients

    dy = jax.eval_shape(f, *types)
    return [compile_for(target, both(g), types, dy) for g in (f, jc.derived(f))]


def half_sums(text):
    """The additions of two numbers in half precision: what the reductions of a program are made of."""
    return re.findall(r"= b?f16\[\]\S* add\(", text)


def repeated_and_added(x, b):
    return x + lax.broadcast(b, x.shape[:1])


@pytest.mark.parametrize("target", GPUS)
def test_a_sum_in_half_precision_is_seen(target):
    """JAX sums so for an array that was repeated."""
    types = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((512, 64), (64,))]
    assert all(half_sums(program.text) for program in compiled(target, repeated_and_added, *types))


def assert_wide_and_frugal(target, f, *types):
    ours, theirs = compiled(target, f, *types)
    assert ours.temporary <= theirs.temporary + max(4096, 0.01 * sum(a.size * a.dtype.itemsize for a in types))
    assert not ours.kernels["scatter"]
    assert not half_sums(ours.text)


@pytest.mark.parametrize("target", GPUS)
@pytest.mark.parametrize("name", OPS)
def test_half_precision_takes_no_more_memory_and_is_summed_in_float32(target, name):
    case = OPS[name]
    assert_wide_and_frugal(target, case.f, *(jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in case.shapes(8192)))


@pytest.mark.parametrize("target", GPUS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", LARGE)
def test_large_arrays_take_no_more_memory(target, name, dtype):
    f, shapes = LARGE[name]
    assert_wide_and_frugal(target, f, *(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes))


@pytest.mark.parametrize("target", GPUS)
def test_softmax_is_one_kernel_each_way(target):
    ours, _ = compiled(target, jc.softmax, jax.ShapeDtypeStruct(LOGITS, jnp.float32))
    assert ours.kernels == {"fusion": 2}


TPU_OPS = {
    "softmax": (jc.softmax, [LOGITS]),
    "batch_norm_inference": (jc.batch_norm_inference, [(8, 14, 14, 64), *[(64,)] * 4]),
    "batch_norm": (lambda *args: jc.batch_norm(*args)[0], [(8, 14, 14, 64), (64,), (64,)]),
    "pad": (partial(jc.pad, width=1, mode="replicate"), [(32, 28, 64)]),
}


@pytest.mark.parametrize("name", TPU_OPS)
def test_a_tpu_moves_no_more(name):
    f, shapes = TPU_OPS[name]
    ours, theirs = compiled("tpu_v5e", f, *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))
    assert ours.moved <= 1.02 * theirs.moved
    assert ours.estimate <= 1.02 * theirs.estimate
    assert ours.temporary <= theirs.temporary
