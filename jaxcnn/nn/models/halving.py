"""Models that halve the resolution some times and double it as often."""

from __future__ import annotations

import operator
from dataclasses import replace

import jax

from jaxcnn.contract import arguments
from jaxcnn.contract.geometry import surely
from jaxcnn.nn.fitting import ShapeOfX, WrongTree, checked_shape
from jaxcnn.nn.layer import Layer, knowing


def halved_images(function: str, model: Layer, depth: int, channels: int | None = None) -> Layer:
    """The model, which says of which number the sides must be multiples, and how many channels it takes if that is set.

    Symbolic sizes are multiples where it can be proved: 4*h is one of 4, h is none.
    """
    multiple = 2**depth
    axes, more = f"N, *S, {'C' if channels is None else channels}", f" with S a multiple of 2^depth = {multiple}"

    def fits(shape):
        halved = all(surely(operator.eq, n % multiple, 0) for n in shape[1:-1])
        return len(shape) >= 3 and channels in (None, shape[-1]) and halved

    def init(key, input_shape):
        return model.init(key, checked_shape(function, input_shape, fits, (axes,), more))

    def apply(params, state, x, **options):
        (x,) = arguments.floating(function, x=x)
        try:
            checked_shape(function, ShapeOfX(x.shape), fits, (axes,), more)
        except ValueError as error:
            raise _known_by_the_filters(model, params, state, x) or error from None
        return model.apply(params, state, x, **options)

    return replace(model, init=init, apply=knowing(apply, model))


def _known_by_the_filters(model, params, state, x):
    """What the first filters say of x, if it is not for them: they know its number of axes and channels."""
    try:
        jax.eval_shape(model.apply, params, state, x)
    except WrongTree as error:
        return error if error.input_message else None
    except ValueError:
        return None
