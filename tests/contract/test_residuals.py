"""What is kept between the forward and the backward pass, in bytes, op by op and of networks.

It is read off the jaxpr of `jax.vjp`, whose results are the value and the function back, a tree with the kept arrays as
its leaves. Each array counts once. Arguments (of the function or, as labels are, constants in it) and results are held
by the caller anyway, so of an op it is stated whether it keeps them, and counted what it keeps besides. An array in
another shape or repeated, of which XLA makes no copy, is the array that it was made of.

In a network the arguments are parameters, state and batch, and the result is the loss. What is left are activations;
one that two layers keep counts once. Where XLA sees both passes, in one `jit`, it may keep less of either.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Literal
from table import CASES

import jaxcnn as jc
from jaxcnn import derived, nn


class Kept(NamedTuple):
    own: int  # bytes that would otherwise be free
    arguments: bool  # whether some of its arguments, constants apart
    value: bool  # whether its value, the first of several


def kept(f, *args):
    """What `f` keeps for its backward pass by all its arguments."""
    with jax.disable_jit():  # else the jaxpr does not tell what a function with a `jit` inside returns
        closed, (value, _) = jax.make_jaxpr(lambda *args: jax.vjp(f, *args), return_shape=True)(*args)
    jaxpr, values = closed.jaxpr, len(jax.tree.leaves(value))
    same = [eqn for eqn in jaxpr.eqns if eqn.primitive.name in ("reshape", "broadcast_in_dim", "stop_gradient")]
    made_of = {eqn.outvars[0]: eqn.invars[0] for eqn in same}

    def origin(atom):
        return origin(made_of[atom]) if not isinstance(atom, Literal) and atom in made_of else atom

    leaves = [origin(atom) for atom in jaxpr.outvars]
    first, arguments = leaves[0], set(jaxpr.invars)
    given = arguments.union(jaxpr.constvars, (leaf for leaf in leaves[:values] if not isinstance(leaf, Literal)))
    arrays = {leaf for leaf in leaves[values:] if not isinstance(leaf, Literal)}
    own = sum(array.aval.size * array.aval.dtype.itemsize for array in arrays - given)
    return Kept(own, bool(arrays & arguments), first in arrays - arguments)


class Budget(NamedTuple):
    arrays: str  # "x" for its arguments, "y" for its value, "xy" for both, "" for neither
    own: Callable[..., int] = lambda y, *args: 0  # bytes, of the value and the arguments


def _mask(y, x, *_):
    """One byte for each entry of x."""
    return x.size


def _winner(y, x):
    """One byte for each entry of y, two where a window of more than 64 entries is within more than 255 places."""
    return y.size


def _winner_and_difference(y, x, share):
    """And max - mean in the dtype of x."""
    return y.size * (1 + y.dtype.itemsize)


def _of_windows(y, x, *_):
    """The sum of the exponentials and y - max of each window, in float32, and max in the dtype of x."""
    return y.size * (2 * 4 + y.dtype.itemsize)


def _place(y, x):
    """Four bytes for each entry of y."""
    return 4 * y.size


def _key(y, x):
    return 8


def _difference(y, a, b):
    """One array of float32, in place of a and b."""
    return 4 * a.size


def _statistics(y, x, gamma, *_):
    """Mean and 1/deviation in float32, for each set of entries that are normalised together; without a mean half."""
    return 8 * x.size // gamma.size


BUDGETS = {
    # linear in x and in w
    **dict.fromkeys(
        ["conv", "depthwise_conv", "conv_transpose", "conv_input_grad", "conv_filter_grad", "conv_general_dilated"],
        Budget("x"),
    ),
    **dict.fromkeys(["dense", "weighted_pool", "prelu"], Budget("x")),
    # the depthwise result [3, 3, 3, 6], which the pointwise convolution is of
    "separable_conv": Budget("x", lambda y, *args: 3 * 3 * 3 * 6 * y.dtype.itemsize),
    # linear in x alone
    **dict.fromkeys(["downsample", "upsample", "pixel_shuffle", "pixel_unshuffle", "resize", "flatten"], Budget("")),
    **dict.fromkeys(["mean_pool", "global_mean_pool", "adaptive_mean_pool", "max_unpool"], Budget("")),
    # where the maximum is
    "max_pool": Budget("x", _winner),
    "global_max_pool": Budget("", _winner),
    "adaptive_max_pool": Budget("", _place),
    "pad": Budget(""),
    "mixed_pool": Budget("x", _winner_and_difference),  # of its arguments the share alone
    "stochastic_pool": Budget("", _winner),
    "softmax_pool": Budget("x", _of_windows),
    "lp_pool": Budget("xy"),
    "stochastic_pool_inference": Budget("xy", lambda y, x: 4 * y.size),  # the mean of what is positive, in float32
    # the derivative has two values, is a function of y, is neither
    **dict.fromkeys(["relu", "leaky_relu", "hard_sigmoid", "hard_tanh"], Budget("", _mask)),
    **dict.fromkeys(["softplus", "sigmoid", "tanh"], Budget("y")),
    **dict.fromkeys(["softmax", "log_softmax"], Budget("xy")),
    **dict.fromkeys(["elu", "selu", "celu", "gelu", "silu", "mish", "softsign", "hard_silu"], Budget("x")),
    # x̂ is computed again from the statistics
    "batch_norm": Budget("x", lambda y, x, gamma, *_: 4 * gamma.size),  # the mean is a result, the variance may be inf
    "batch_norm_inference": Budget("x"),  # the statistics are arguments
    "layer_norm": Budget("x", _statistics),
    "group_norm": Budget("x", lambda y, x, *_: 8 * 2 * len(x)),
    "instance_norm": Budget("x", lambda y, x, *_: 8 * len(x) * x.shape[-1]),
    "rms_norm": Budget("x", lambda y, x, gamma: _statistics(y, x, gamma) // 2),
    "local_response_norm": Budget("x"),
    "weight_norm": Budget("x", lambda y, v, g: 8 * g.size),  # the mean square, and g by the root of the number
    "spectral_norm": Budget("x", lambda y, w: 4 * (w.size // w.shape[-1] + w.shape[-1])),  # v and u
    # the mask is drawn again
    **dict.fromkeys(["dropout", "spatial_dropout", "drop_path", "drop_block"], Budget("", _key)),
    # logits, not probabilities; labels, weights and masks are arguments
    **dict.fromkeys(["softmax_cross_entropy", "kl_divergence", "focal"], Budget("x")),
    "sigmoid_cross_entropy": Budget("x", lambda y, z: y.dtype.itemsize),  # pos_weight, where it is computed
    "nll": Budget(""),
    "hinge": Budget("", _mask),
    "dice": Budget("", lambda y, p: 2 * 4 * len(p) * p.shape[-1]),  # a score and its denominator
    **dict.fromkeys(["mean_squared_error", "mean_absolute_error", "huber"], Budget("", _difference)),
    **dict.fromkeys(["l2_penalty", "l1_penalty"], Budget("x")),
}


def test_every_op_has_a_budget():
    assert set(BUDGETS) == {case.name for case in CASES}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", BUDGETS)
def test_an_op_keeps_what_its_budget_states(name, dtype):
    """In no case more, and in one of them no less."""
    arrays, own = BUDGETS[name]
    met = []
    for case in (case for case in CASES if case.name == name):
        args = case.args(dtype)
        budget = own(jax.tree.leaves(jax.eval_shape(case.f, *args))[0], *args)
        got = kept(case.f, *args)
        assert got.own <= budget, str(case)
        assert not got.arguments or "x" in arrays, str(case)
        assert not got.value or "y" in arrays, str(case)
        met.append(got == (budget, "x" in arrays, "y" in arrays))
    assert any(met)


def _stack(channels, **options):
    return [nn.conv(channels, 3, bias=False, **options), nn.batch_norm(), jc.relu]


def _block(channels, stride=1):
    body = nn.sequential(*_stack(channels, stride=stride), *_stack(channels)[:-1])
    shortcut = nn.sequential(nn.conv(channels, 1, stride=stride, bias=False), nn.batch_norm()) if stride > 1 else None
    return [nn.residual(body, shortcut), jc.relu]


LENET = [nn.conv(6, 5), jc.tanh, nn.mean_pool(2), nn.conv(8, 5), jc.tanh, nn.mean_pool(2), nn.flatten(), nn.dense(20)]
VGG = [*_stack(6), *_stack(6), nn.max_pool(2), *_stack(8), *_stack(8), nn.max_pool(2), nn.flatten(), nn.dropout(0.5)]
RESNET = [*_stack(6), nn.max_pool(3, stride=2, padding=1), *_block(6), *_block(8, stride=2), jc.global_mean_pool]


def _kept_in_training(*layers):
    """Bytes that are kept by our rules and by what JAX derives, for two images."""
    model, x = nn.sequential(*layers, nn.flatten(), nn.dense(10)), np.ones((2, 16, 16, 3), np.float32)
    params, state = jax.eval_shape(lambda: model.init(jax.random.key(0), x.shape))
    state = jax.tree.map(lambda s: np.ones(s.shape, s.dtype), state)

    def loss(params):
        logits, _ = model.apply(params, state, x, train=True, key=jax.random.key(0))
        return jc.softmax_cross_entropy(logits, np.arange(2))

    return kept(loss, params).own, kept(derived(loss), params).own


@pytest.mark.parametrize(("layers", "share"), [(LENET, 1), (VGG, 0.75), (RESNET, 0.75)], ids=["LeNet", "VGG", "ResNet"])
def test_a_network_keeps_less_than_what_jax_derives(layers, share):
    ours, derived_by_jax = _kept_in_training(*layers)
    assert ours <= share * derived_by_jax


def test_nine_bytes_for_each_entry_of_a_convolution_with_batch_norm_and_relu():
    """In float32: the input of the norm, the mask, the input of the next layer; and the statistics of each channel."""
    entries, channels = 2 * 16 * 16 * 6, 6
    for depth in (1, 2):
        less, more = (_kept_in_training(*depths * _stack(channels))[0] for depths in (depth, depth + 1))
        assert more - less == 9 * entries + 8 * channels


@pytest.mark.optimized
def test_a_compiled_step_stores_two_arrays_for_each_convolution_with_batch_norm_and_relu():
    """What the convolution gives and what the next one takes. x - mean is not stored, nor the normalised map."""

    def loss(parameters, x):
        for w, gamma, beta in parameters:
            x = jc.relu(jc.batch_norm(jc.conv(x, w), gamma, beta)[0])
        return jnp.sum(x**2)

    x, layer = jnp.ones((8, 16, 16, 32)), (jnp.ones((3, 3, 32, 32)), jnp.ones(32), jnp.ones(32))

    def stored(depth):
        compiled = jax.jit(jax.grad(loss)).lower([layer] * depth, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert stored(4) - stored(3) <= 2.1 * x.nbytes
