"""Programs that differ between platforms, where this machine may have a CPU only."""

import re
from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import quick
from jax import export, lax

import jaxcnn as jc

# A call, the shapes of its arguments, which of them the gradient is of, and what the program for a GPU alone has.
CALLS = {
    "conv dx of one channel": (partial(jc.conv, stride=2), [(2, 9, 8, 1), (3, 2, 1, 4)], 0, "transpose.*\n.*reverse"),
    "conv dx of one filter": (jc.conv, [(2, 9, 3), (3, 3, 1)], 0, "transpose.*\n.*reverse"),
    "conv dx, strided and dilated": (
        partial(jc.conv, stride=2, dilation=3, padding="VALID"),
        [(2, 12, 13, 3), (3, 2, 3, 4)],
        0,
        "optimization_barrier",
    ),
    "conv_transpose": (partial(jc.conv_transpose, stride=2), [(2, 5, 3), (3, 1, 3)], None, "transpose.*\n.*reverse"),
    "conv dw, rows behind": (partial(jc.conv, stride=2), [(2, 6, 8, 3), (1, 1, 3, 4)], 1, r"\[\[0, -1\], \[0, -1\]\]"),
    "conv dw, a crop in front": (
        partial(jc.conv, stride=3, padding=((-2, 0), (1, 0)), groups=2),
        [(2, 10, 12, 4), (2, 2, 2, 4)],
        1,
        r"\[\[0, 0\], \[1, -2\]\]",
    ),
    "mean_pool": (partial(jc.mean_pool, window=3, stride=2, padding=1), [(2, 7, 8, 3)], 0, "1, 3, 3, 1"),
    "max_pool of large windows": (partial(jc.max_pool, window=70, stride=3), [(2, 100, 2)], 0, r"(?s)\A(?!.*scatter)"),
    "lp_pool": (partial(jc.lp_pool, window=2, p=3), [(2, 5, 4, 2)], 0, r"(?s)\A(?!.*applies stablehlo.or)"),
    "softmax_pool": (partial(jc.softmax_pool, window=2), [(2, 5, 4, 2), ()], 0, "optimization_barrier"),
    "adaptive_max_pool": (partial(jc.adaptive_max_pool, shape=(3, 7)), [(2, 7, 5, 3)], 0, r"(?s)\A(?!.*scatter)"),
    "softmax": (partial(jc.softmax, axis=1), [(2, 7, 3)], 0, "(?s)exponential.*exponential"),
    "log_softmax": (jc.log_softmax, [(4, 5)], 0, "divide"),
    "local_response_norm": (partial(jc.local_response_norm, size=3), [(4, 7)], 0, "optimization_barrier"),
    "focal": (lambda z: jc.focal(z + 0.5, np.arange(15).reshape(3, 5) % 2), [(3, 5)], 0, "optimization_barrier"),
}
calls = pytest.mark.parametrize(("f", "shapes", "argument", "pattern"), CALLS.values(), ids=CALLS)


def drawn(f, shapes):
    """Arguments with ties, and dy."""
    rng = np.random.default_rng(0)
    args = [jnp.asarray(rng.integers(-1, 2, shape) * 1.0) for shape in shapes]
    return args, jnp.asarray(rng.standard_normal(jax.eval_shape(f, *args).shape))


def program(f, argument):
    """f, or its gradient with respect to one argument."""
    return (lambda args, dy: f(*args)) if argument is None else lambda args, dy: jax.vjp(f, *args)[1](dy)[argument]


@calls
def test_a_gpu_has_a_program_of_its_own(f, shapes, argument, pattern):
    traced = jax.jit(program(f, argument)).trace(*drawn(f, shapes))
    texts = [traced.lower(lowering_platforms=(platform,)).as_text() for platform in ("cuda", "cpu")]
    assert [bool(re.search(pattern, text)) for text in texts] == [True, False]


@calls
def test_its_gradients_are_right(f, shapes, argument, pattern, patch):
    """The value, gradients as JAX derives them of the plain function, and their own derivatives."""
    args, dy = drawn(f, shapes)
    along = [jnp.sin(jnp.arange(1.0, 1.0 + a.size)).reshape(a.shape) for a in args]

    def first_and_second(f):
        def gradients(args, dy):
            return jax.vjp(f, *args)[1](dy)

        return quick(lambda args, dy: (f(*args), jax.jvp(gradients, (args, dy), (along, dy))))(args, dy)

    expected = first_and_second(jc.derived(f))
    seen = []

    def elsewhere(*arrays, default, cuda=None, **others):
        seen.append(cuda or default)
        return seen[-1](*arrays)

    patch(lax, "platform_dependent", elsewhere)
    for got, right in zip(jax.tree.leaves(first_and_second(f)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-10, atol=1e-12)
    assert seen


def operations(text):
    """How many operations of each kind there are, but for constants and what chooses a branch."""
    names = re.findall(r"stablehlo\.(\w+)", text)
    return Counter(name for name in names if name not in ("constant", "return", "case"))


@pytest.mark.parametrize("name", ["conv dx of one channel", "mean_pool", "adaptive_max_pool", "softmax"])
def test_a_program_for_several_platforms_has_the_branch_of_each(name):
    """And a program for one platform has that branch only. On a CPU both compute the same."""
    f, shapes, argument, _ = CALLS[name]
    args, platforms = drawn(f, shapes), ("cpu", "cuda", "tpu")
    value_and_gradient = jax.jit(lambda args, dy: (f(*args), program(f, argument)(args, dy)))
    traced = value_and_gradient.trace(*args)
    alone = [operations(traced.lower(lowering_platforms=(platform,)).as_text()) for platform in platforms]
    exported = export.export(value_and_gradient, platforms=platforms)(*args)
    several = operations(exported.mlir_module())
    assert alone[0] != alone[1]
    for one in alone:
        assert one < several
    got, expected = exported.call(*args), quick(value_and_gradient)(*args)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
