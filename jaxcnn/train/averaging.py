"""The moving average of the parameters, which often does better on a test set than the last ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcnn.contract import arguments
from jaxcnn.contract.precision import sum_dtype
from jaxcnn.train.step import TrainState, require_state


class EmaState(NamedTuple):
    """The state of `ema`.

    Attributes:
        updates: how many were averaged, int32.
        average: a tree as the parameters, float32 where these have half precision.
    """

    updates: jax.Array
    average: Any


def ema(decay: float) -> optax.GradientTransformationExtraArgs:
    """Keeps an exponential moving average of the parameters; the updates pass through as they are.

        a ← d a + (1 - d) w,        d = min(decay, (1 + n) / (10 + n))

    where w are the parameters after update n = 0, 1, ... The smaller d of the first updates forgets the random start;
    it replaces a division by 1 - decay^n.

    Args:
        decay: from 0 to 1, such as 0.999; the average is over about the last 1 / (1 - decay) updates.

    Returns:
        An optax transformation for the end of a chain, since it takes the updates for the final ones. Inside
        `optax.MultiSteps` the average moves once for each update, not for each step.

    Raises:
        TypeError: decay is no number.
        ValueError: decay is not within [0, 1]; from update if it is not given the parameters.

    Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992; d: as
        tf.train.ExponentialMovingAverage with num_updates.

    >>> optimizer, w = optax.chain(optax.sgd(1.0), ema(0.5)), jnp.zeros(1)
    >>> _, state = optimizer.update(jnp.ones(1), optimizer.init(w), w)  # w = -1, d = 1/10
    >>> state[1].average
    Array([-0.9], dtype=float32)
    """
    decay = arguments.number("train.ema", "decay", decay, 0, 1)

    def init(params):
        return EmaState(jnp.zeros((), jnp.int32), jax.tree.map(_wide, params))

    def update(updates, state, params=None, **extra_args):
        del extra_args
        if params is None:
            raise ValueError("train.ema: params must be given to update, got None")
        n = state.updates.astype(jnp.float32)
        d = jnp.minimum(decay, (1 + n) / (10 + n))

        def moved(average, w):
            return average + ((1 - d).astype(average.dtype) * (_wide(w) - average))

        average = jax.tree.map(moved, state.average, optax.apply_updates(params, updates))
        return updates, EmaState(state.updates + 1, average)

    return optax.GradientTransformationExtraArgs(init, update)


def averaged(state: TrainState) -> TrainState:
    """The state with the average of its parameters in their place, to evaluate and to save.

    Args:
        state: of an optimizer with `ema` anywhere in it, or of any other.

    Returns:
        A state whose params are copies of the average, in the dtypes of the parameters; the state itself where there is
        no average. The statistics stay as they are: running means and variances are averages already.

    Raises:
        TypeError: state is no TrainState.
        ValueError: a step has used it up, or its parameters are others than those that were averaged.

    >>> from jaxcnn import nn, train
    >>> model, optimizer = nn.dense(2), optax.chain(optax.sgd(1.0), train.ema(0.999))
    >>> state = train.init(model, optimizer, jax.random.key(0), (5, 3))
    >>> bool(jnp.all(train.averaged(state).params["w"] == state.params["w"]))  # before the first step
    True
    """
    require_state("train.averaged", state)
    params = state.params
    for part in jax.tree.leaves(state.opt_state, is_leaf=_is_ema):
        if _is_ema(part):
            try:
                params = jax.tree.map(_replaced, part.average, params, is_leaf=_is_masked)
            except (AttributeError, ValueError) as error:
                got = "the average of parameters of other names or shapes"
                raise ValueError(f"train.averaged: state must be one that a step has made, got {got}") from error
    return state if params is state.params else state._replace(params=params)


def _wide(w: Any) -> Any:
    return w.astype(sum_dtype(w.dtype)) if jnp.issubdtype(w.dtype, jnp.floating) else w


def _is_ema(node: Any) -> bool:
    return isinstance(node, EmaState)


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _replaced(average: Any, w: Any) -> Any:
    """A copy: a step donates the average. What `optax.masked` leaves out has none."""
    if _is_masked(average):
        return w
    if average.shape != w.shape:
        raise ValueError
    return jnp.array(average, w.dtype)
