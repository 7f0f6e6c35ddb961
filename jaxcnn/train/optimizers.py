"""Optimizers and schedules by name: those of optax, with weight decay for weights only."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import optax

from jaxcnn.contract import arguments
from jaxcnn.train.averaging import ema as ema_of


def sgd(
    learning_rate: optax.ScalarOrSchedule, *, momentum: float = 0.9, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """Stochastic gradient descent with Nesterov's momentum, and weight decay for weights only.

        g = ∇_w R + λ w,        v ← μ v + g,        w ← w - η (g + μ v)

    Args:
        learning_rate: η, a number that is not negative, or an optax schedule of the step.
        momentum: μ, from 0 to 1.
        weight_decay: λ, not negative, for parameters of 2 or more axes: filters and dense weights. Biases, the gamma
            and beta of a norm, and slopes have one axis and are left alone.

    Returns:
        An optax optimizer.

    Raises:
        TypeError: learning_rate is neither a number nor a function, momentum or weight_decay is no number.
        ValueError: one of them is negative or not finite, or momentum is larger than 1. A schedule, and what is traced,
            has no value to look at.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning, 2013.

    >>> import jax.numpy as jnp
    >>> params = {"w": jnp.ones((1, 1)), "b": jnp.ones(1)}
    >>> optimizer = sgd(0.1, momentum=0.0, weight_decay=1.0)
    >>> updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    >>> round(float(updates["w"][0, 0]), 3), float(updates["b"][0])
    (-0.1, -0.0)
    """
    _require_rate("train.sgd", learning_rate)
    _require_scalar("train.sgd", "momentum", momentum, "a number", 1)
    _require_scalar("train.sgd", "weight_decay", weight_decay, "a number")
    return optax.chain(_decay(weight_decay), optax.sgd(learning_rate, momentum, nesterov=True))


# By name: momentum, weight decay, and what makes the optimizer of learning rate, momentum and weight decay. Those that
# take their weight decay apart from the gradient are optax's own; the others have λ w added to the gradient, as `sgd`.
_Make = Callable[[Any, float, float], optax.GradientTransformation]
_OPTIMIZERS: dict[str, tuple[float, float, _Make]] = {
    "sgd": (0.9, 0.0, lambda rate, mu, decay: sgd(rate, momentum=mu, weight_decay=decay)),
    "adam": (0.9, 0.0, lambda rate, mu, decay: optax.chain(_decay(decay), optax.adam(rate, mu))),
    "adamw": (0.9, 1e-2, lambda rate, mu, decay: optax.adamw(rate, mu, weight_decay=decay, mask=_weights)),
    "nadamw": (0.9, 1e-2, lambda rate, mu, decay: optax.nadamw(rate, mu, weight_decay=decay, mask=_weights)),
    "radam": (0.9, 0.0, lambda rate, mu, decay: optax.chain(_decay(decay), optax.radam(rate, mu))),
    "rmsprop": (0.0, 0.0, lambda rate, mu, decay: optax.chain(_decay(decay), optax.rmsprop(rate, momentum=mu))),
    "lion": (0.9, 1e-3, lambda rate, mu, decay: optax.lion(rate, mu, weight_decay=decay, mask=_weights)),
    "lamb": (0.9, 0.0, lambda rate, mu, decay: optax.lamb(rate, mu, weight_decay=decay, mask=_weights)),
}
OPTIMIZERS = tuple(_OPTIMIZERS)


def optimizer(
    name: str,
    learning_rate: optax.ScalarOrSchedule,
    *,
    weight_decay: float | None = None,
    momentum: float | None = None,
    clip: float | None = None,
    accumulate: int = 1,
    ema: float | None = None,
) -> optax.GradientTransformation:
    """An optimizer by name. Wherever one is expected any other of optax will do as well.

    Args:
        name: "sgd" is ours, `train.sgd`; "adam", "adamw", "nadamw", "radam", "rmsprop", "lion" and "lamb" are optax's.
        learning_rate: a number that is not negative, or a schedule of the update such as `train.schedule` makes.
        weight_decay: of parameters of 2 or more axes, as for `train.sgd`; None for 0.01 ("adamw", "nadamw"), 0.001
            ("lion") and 0 (the others). These three and "lamb" subtract it from the parameters, scaled by the learning
            rate; for the others it is part of the gradient.
        momentum: the share of the last step that is kept, b1 of Adam and its kin, from 0 to less than 1; None for 0.9,
            and 0 for "rmsprop".
        clip: the largest norm of the whole gradient, above which it is scaled down to it; None for no such limit.
        accumulate: over how many steps gradients are averaged before one update; the learning rate's schedule and the
            moving average then count updates.
        ema: the decay of `train.ema`, whose average `train.averaged` gives; None for no average.

    Returns:
        An optax optimizer.

    Raises:
        TypeError: learning_rate is neither a number nor a function, accumulate no int, another value no number.
        ValueError: there is no optimizer of this name; learning_rate or weight_decay is negative, momentum not within
            [0, 1), clip not above 0, accumulate less than 1, ema not within [0, 1], or one of them not finite.

    >>> import jax.numpy as jnp
    >>> params = {"w": jnp.ones((1, 1))}
    >>> clipped = optimizer("sgd", 1.0, momentum=0.0, clip=0.5)
    >>> updates, _ = clipped.update({"w": jnp.full((1, 1), 7.0)}, clipped.init(params), params)
    >>> updates["w"]
    Array([[-0.5]], dtype=float32)
    """
    function = "train.optimizer"
    usual_momentum, usual_decay, make = _OPTIMIZERS[arguments.choice(function, "name", name, OPTIMIZERS)]
    _require_rate(function, learning_rate)
    momentum = usual_momentum if momentum is None else arguments.number(function, "momentum", momentum, 0, 1)
    arguments.require(momentum < 1, function, "momentum", "a number from 0 to less than 1", momentum)
    weight_decay = usual_decay if weight_decay is None else weight_decay
    parts = [make(learning_rate, momentum, arguments.number(function, "weight_decay", weight_decay, 0))]
    if clip is not None:
        clip = arguments.number(function, "clip", clip, 0)
        arguments.require(clip > 0, function, "clip", "a number above 0, or None", clip)
        parts.insert(0, optax.clip_by_global_norm(clip))
    if ema is not None:
        parts.append(ema_of(arguments.number(function, "ema", ema, 0, 1)))
    accumulate = arguments.integer(function, "accumulate", accumulate, 1)
    chained = optax.chain(*parts)
    return chained if accumulate == 1 else optax.MultiSteps(chained, accumulate).gradient_transformation()


SCHEDULES = ("constant", "cosine", "linear", "step", "one_cycle")


def schedule(name: str, learning_rate: float, steps: int, *, warmup: int = 0) -> optax.Schedule:
    """A learning rate that changes with the updates t = 0, 1, ..., steps - 1 of a run.

    Args:
        name: how it goes on after the warm-up, T = steps - warmup and s = t - warmup:
            "constant": the same;
            "cosine": falls along a cosine to 0, η (1 + cos(π s / T)) / 2;
            "linear": falls to 0, η (1 - s / T);
            "step": falls to a tenth after half of T, and to a hundredth after three quarters;
            "one_cycle": rises from η/25 along a cosine and falls to η/250,000 along another.
        learning_rate: η, the largest value.
        steps: how many updates; afterwards the last value stays.
        warmup: over how many of them the rate rises in a line, η (t + 1) / (warmup + 1). For "one_cycle" the length of
            its rise, where 0 stands for three tenths of the steps.

    Returns:
        An optax schedule, a function of the count of updates.

    Raises:
        TypeError: learning_rate is no number, steps or warmup no int.
        ValueError: there is no schedule of this name, learning_rate is negative or not finite, steps less than 1 (2 for
            "one_cycle"), warmup not from 0 to steps - 1.

    Source: cosine: Loshchilov and Hutter, SGDR, 2017; one_cycle: Smith and Topin, Super-convergence, 2018.

    >>> rate = schedule("linear", 1.0, 6, warmup=2)
    >>> [round(float(rate(t)), 3) for t in range(6)]
    [0.333, 0.667, 1.0, 0.75, 0.5, 0.25]
    """
    function = "train.schedule"
    name = arguments.choice(function, "name", name, SCHEDULES)
    rate = arguments.number(function, "learning_rate", learning_rate, 0)
    steps = arguments.integer(function, "steps", steps, 2 if name == "one_cycle" else 1)
    warmup = arguments.integer(function, "warmup", warmup, 0)
    arguments.require(warmup < steps, function, "warmup", f"fewer than the {steps} steps", warmup)
    if name == "one_cycle":
        rise = warmup or max(1, round(0.3 * steps))
        return optax.cosine_onecycle_schedule(steps, rate, (rise + 0.5) / steps)  # optax rounds down
    after = _after_warmup(name, rate, steps - warmup)
    if warmup == 0:
        return after
    return optax.join_schedules([optax.linear_schedule(rate / (warmup + 1), rate, warmup), after], [warmup])


def _after_warmup(name: str, rate: float, steps: int) -> optax.Schedule:
    if name == "constant":
        return optax.constant_schedule(rate)
    if name == "cosine":
        return optax.cosine_decay_schedule(rate, steps)
    if name == "linear":
        return optax.linear_schedule(rate, 0.0, steps)
    return optax.piecewise_constant_schedule(rate, {steps - steps // 2: 0.1, steps - steps // 4: 0.1})


def _weights(params: Any) -> Any:
    """Which parameters decay: those of 2 or more axes."""
    return jax.tree.map(lambda w: w.ndim > 1, params)


def _decay(weight_decay: float) -> optax.GradientTransformation:
    return optax.add_decayed_weights(weight_decay, mask=_weights)


def _require_rate(function: str, learning_rate: Any) -> None:
    if not callable(learning_rate):
        _require_scalar(function, "learning_rate", learning_rate, "a number or a schedule")


def _require_scalar(function: str, argument: str, value: Any, expected: str, high: float = math.inf) -> None:
    """A number from 0 to `high`, or an array of one: optax.inject_hyperparams passes these, traced."""
    is_scalar = isinstance(value, numbers.Real) or (arguments.is_array(value) and value.shape == ())
    is_scalar = is_scalar and not isinstance(value, bool)
    arguments.require(is_scalar, function, argument, expected, arguments.describe(value), TypeError)
    if not isinstance(value, jax.core.Tracer | jax.ShapeDtypeStruct):
        arguments.number(function, argument, float(value), 0, high)
