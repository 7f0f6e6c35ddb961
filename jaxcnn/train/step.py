"""The state of a training run, and the one jitted step that takes it further."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcnn.contract import arguments
from jaxcnn.contract.kept import convolutions_saveable
from jaxcnn.data import taken
from jaxcnn.nn import Layer
from jaxcnn.nn.layer import checked_layer
from jaxcnn.ops.losses.cross_entropy import softmax_cross_entropy
from jaxcnn.transforms import jit

Loss = Callable[..., jax.Array]
STORED = ("everything", "convolutions")


class TrainState(NamedTuple):
    """All that a training step changes, a tree of arrays.

    Attributes:
        params: what the optimizer trains.
        statistics: the state of the layers, running means and variances of `nn.batch_norm`.
        opt_state: the state of the optimizer.
        step: how many steps were taken, int32.
        key: from which the randomness of every step is derived; it stays the same.
    """

    params: Any
    statistics: Any
    opt_state: Any
    step: jax.Array
    key: jax.Array


def init(
    model: Layer, optimizer: optax.GradientTransformation, key: jax.Array, input_shape: tuple[int, ...]
) -> TrainState:
    """The state before the first step.

    Args:
        model: what is trained.
        optimizer: an optax optimizer.
        key: a JAX random key; half of it draws the parameters, half is for the steps.
        input_shape: the shape of a batch, (N, *S, C); N does not matter.

    Returns:
        A `TrainState` that shares no buffer with anything, itself included, so that a step may reuse all of them. What
        draws it is compiled once for equal models and shapes.

    Raises:
        TypeError: model is no layer, optimizer no optax optimizer, key no random key, input_shape no sequence of ints.
        ValueError: those of the layers if the shape does not fit.
    """
    model = checked_layer("train.init", "model", model)
    _require_optimizer("train.init", optimizer)
    arguments.random_key("train.init", key)
    input_shape = arguments.shape("train.init", "input_shape", input_shape)
    params, statistics, steps_key = _drawn(model, input_shape, key)
    opt_state = _started(optimizer.init, params)
    return TrainState(params, statistics, opt_state, jnp.zeros((), jnp.int32), steps_key)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _drawn(model, input_shape, key):
    params_key, steps_key = jax.random.split(key)
    return *model.init(params_key, input_shape), steps_key


@functools.partial(jax.jit, static_argnums=0)
def _started(init, params):
    """The state of an optimizer, by its `init`. Some keep the parameters in it: these are copies."""
    with jax.numpy_dtype_promotion("standard"):
        return init(jax.tree.map(jnp.copy, params))


def make_step(
    model: Layer,
    optimizer: optax.GradientTransformation,
    loss: Loss = softmax_cross_entropy,
    penalty: Callable[[Any], jax.Array] | None = None,
    *,
    augment: Callable[[jax.Array, Any, Any], tuple[Any, Any]] | None = None,
    stored: str = "everything",
) -> Callable[..., tuple[TrainState, jax.Array]]:
    """Forward pass, backward pass and update as one compiled function.

        R = loss(model(x), y) + penalty(params),        params ← optimizer(params, ∇R)

    Args:
        model: what is trained.
        optimizer: an optax optimizer.
        loss: loss(output of the model, y) -> scalar, the mean over the batch.
        penalty: penalty(params) -> scalar, for instance a multiple of `jaxcnn.l1_penalty`.
        augment: augment(key, x, y) -> (x, y), what is made of a batch before the model sees it; see `data.augment`.
        stored: what the forward pass keeps for the backward pass: "everything" that the rules ask for; or
            "convolutions", their outputs only, and the rest is computed anew from them. On a GPU a network with batch
            norm then needs up to half the memory, on a CPU up to twice: `jaxcnn.convolutions_saveable`.

    Returns:
        step(state, x, y, where=None) -> (state, R): x [N, *S, C], and y as the loss takes it, arrays, `data.Rows` or
        trees of these; where, the examples that count [N], goes to the loss, spread over labels [N, *S]. The buffers of
        the state that goes in are reused for the one that comes out: keep the new state only. It is compiled once for
        each shape of x and y. Compiled, it cannot look at labels: one that is no class makes R and the new parameters
        NaN. To leave examples out, give them one label and the loss an ignore_index:
        `partial(jaxcnn.softmax_cross_entropy, ignore_index=-1)`.

    Raises:
        TypeError: model is no layer, optimizer no optax optimizer, loss or penalty no function.
        ValueError: stored is another.
        TypeError, ValueError: from the first step, if state is no `TrainState` or that of another optimizer, and those
            of the layers and the loss.

    Source: lecture, "Big Picture: What to Train".

    >>> from jaxcnn import nn
    >>> model, optimizer = nn.dense(10), optax.adam(1e-3)
    >>> step = make_step(model, optimizer)
    >>> state = init(model, optimizer, jax.random.key(0), (5, 64))
    >>> state, loss = step(state, jnp.zeros((5, 64), "float32"), jnp.arange(5))
    >>> int(state.step), round(float(loss), 4)
    (1, 2.3026)
    """
    model = checked_layer("train.make_step", "model", model)
    _require_optimizer("train.make_step", optimizer)
    arguments.called("train.make_step", "loss", loss)
    if penalty is not None:
        arguments.called("train.make_step", "penalty", penalty, "a function or None")

    if augment is not None:
        arguments.called("train.make_step", "augment", augment, "a function or None")
    arguments.choice("train.make_step", "stored", stored, STORED)

    def risk(params, statistics, batch, key):
        x, y, where = batch
        output, statistics = model.apply(params, statistics, x, train=True, key=key)
        value = loss(output, y) if where is None else loss(output, y, where=_spread(where, y))
        if penalty is not None:
            value = value + penalty(params).astype(value.dtype)
        return value, statistics

    if stored == "convolutions":
        risk = jax.checkpoint(risk, policy=convolutions_saveable)
    update = optax.with_extra_args_support(optimizer).update  # some take the loss, too, or a function for it

    @jit(donate_argnums=0)
    def step(state, x, y, where=None):
        require_state("step", state)
        key = jax.random.fold_in(state.key, state.step)
        x, y, where = taken((x, y, where))
        if augment is not None:
            key, augment_key = jax.random.split(key)
            x, y = augment(augment_key, x, y)
        batch = x, y, where
        gradient = jax.value_and_grad(risk, has_aux=True)
        (value, statistics), dparams = gradient(state.params, state.statistics, batch, key)
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it
            _require_own_state(optimizer, state)
            updates, opt_state = update(
                dparams,
                state.opt_state,
                state.params,
                value=value,
                grad=dparams,
                value_fn=lambda params: risk(params, state.statistics, batch, key)[0],
            )
            params = optax.apply_updates(state.params, updates)
        return TrainState(params, statistics, opt_state, state.step + 1, state.key), value

    return step


def _spread(where: jax.Array, y: Any) -> jax.Array:
    """Bools [N] over labels [N, *S]; as they are for anything else."""
    is_labels = arguments.is_array(y) and jnp.issubdtype(y.dtype, jnp.integer)
    if not (is_labels and where.ndim == 1):
        return where
    return jnp.broadcast_to(where.reshape(where.shape + (1,) * (y.ndim - 1)), y.shape)


def require_state(function: str, state: Any, fields: Sequence[str] = TrainState._fields) -> None:
    """TypeError unless it has these fields of a `TrainState`; ValueError if a step has used them up."""
    if not all(hasattr(state, field) for field in fields):
        arguments.require(False, function, "state", "a TrainState", arguments.describe(state), TypeError)
    arguments.not_used_up(function, "state", [getattr(state, field) for field in fields])


def _require_optimizer(function: str, optimizer: Any) -> None:
    has_both = all(callable(getattr(optimizer, name, None)) for name in ("init", "update"))
    arguments.require(has_both, function, "optimizer", "an optax optimizer", arguments.describe(optimizer), TypeError)


def _require_own_state(optimizer: optax.GradientTransformation, state: TrainState) -> None:
    """ValueError unless the optimizer would begin with a state of this structure."""
    expected = jax.tree.structure(jax.eval_shape(optimizer.init, state.params))
    is_expected, got = expected == jax.tree.structure(state.opt_state), "an opt_state of another structure"
    arguments.require(is_expected, "step", "state", "what train.init makes for this optimizer", got)
