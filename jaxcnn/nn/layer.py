"""What a layer is: a pair of pure functions, `init` and `apply`.

Parameters and state are plain nested dicts of arrays. A layer owns nothing, so a model is a value that can be passed
around, and whatever works on a tree (`jax.grad`, optax, a checkpoint) works on its parameters.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from jaxcnn.contract import arguments
from jaxcnn.nn.calls import Method, layer_maker, shown_as, written
from jaxcnn.nn.fitting import Axes, check_fit, check_trees, refusal

Shape = tuple[int, ...]
Params = dict[str, Any]
State = dict[str, Any]


class _NoParts:
    """The parts of a layer that is made of no others. `help` shows it without an address, unlike a function."""

    def __call__(self, input_shape: Shape) -> list[tuple[str, Layer, Shape]]:
        del input_shape
        return []

    def __repr__(self) -> str:
        return "no_parts"

    def __reduce__(self) -> str:
        return "_NO_PARTS"


_NO_PARTS = _NoParts()


@dataclass(frozen=True, repr=False)
class Layer:
    """One layer, or a whole model.

    Two that were made by the same call are equal, so what is compiled for one is compiled for the other; they can be
    pickled, and print as that call.

    Where a layer is expected a plain function of an array does as well: `jaxcnn.relu`, or a partial of `jaxcnn.resize`.

    Attributes:
        init: init(key, input_shape) -> (params, state). input_shape is the shape of a batch, (N, *S, C); N does not
            matter. Parameters are float32; what the optimizer trains is in params, what changes otherwise in state.
        apply: apply(params, state, x, *, train=False, key=None) -> (y, state). A layer that is random in training takes
            its randomness from key. train is static: jax.jit(model.apply, static_argnames="train"). The layers of this
            package raise ValueError unless params and state are what init makes for an x of this shape, by names and
            shapes, whatever their dtypes; a layer of one's own is asked nothing.
        name: what `sequential` calls it; numbered, unless it was given by `named`.
        parts: parts(input_shape) -> the layers it is made of, each as (name, layer, its input shape).
        numbered: whether `sequential` puts a number behind the name.

    >>> import jax.numpy as jnp
    >>> def init(key, input_shape):
    ...     return {"scale": jnp.ones(input_shape[-1])}, {}
    >>> def apply(params, state, x, *, train=False, key=None):
    ...     return x * params["scale"], state
    >>> scale = Layer(init, apply, "scale")
    >>> scale
    Layer(init, apply, 'scale')
    """

    init: Callable[[jax.Array, Shape], tuple[Params, State]]
    apply: Callable[..., tuple[jax.Array, State]]
    name: str
    parts: Callable[[Shape], list[tuple[str, Layer, Shape]]] = _NO_PARTS
    numbered: bool = True

    def __repr__(self) -> str:
        if isinstance(self.apply, Method):
            made = repr(self.apply.call)
        else:
            made = written("Layer", [shown_as(self.init), shown_as(self.apply), repr(self.name)])
        return made if self.numbered else written("named", [repr(self.name), made])


LayerLike = Layer | Callable[[jax.Array], jax.Array]


def no_parameters(key: jax.Array, input_shape: Shape) -> tuple[Params, State]:
    """The init of a layer without parameters and state."""
    del key, input_shape
    return {}, {}


def leaf(
    name: str,
    init: Callable[..., tuple[Params, State]],
    apply: Callable[..., tuple[jax.Array, State]],
    input_of: Callable[[Params, int], Axes] | None = None,
    *,
    knows_axes: bool = True,
) -> Layer:
    """A layer of parameters of its own, which compares those that it is applied with to what `init` would make.

    Args:
        name: its kind.
        init: given ABSTRACT in place of a key, it gives the types of the arrays that it would draw.
        apply: as that of a Layer.
        input_of: input_of(params, how many axes x has) -> the axes that an x for them has, to know whether x is wrong
            or they.
        knows_axes: whether that tells how many there are, so that what passes this layer is no wrong x any more.
    """
    function = f"nn.{name}"

    def checked(params, state, x, *, train=False, key=None):
        check_trees(function, params, state)
        if arguments.is_array(x):
            check_fit(function, init, params, state, tuple(x.shape), input_of)
        try:
            return apply(params, state, x, train=train, key=key)
        except ValueError:
            refused = refusal(init, tuple(x.shape)) if arguments.is_array(x) else None
            if refused is not None:
                raise refused from None
            raise

    checked.input_of = input_of  # pyright: ignore[reportFunctionMemberAccess]
    checked.knows_its_input = knows_axes and input_of is not None  # pyright: ignore[reportFunctionMemberAccess]
    return Layer(init, checked, name)


def knows_its_input(layer: Layer) -> bool:
    """Whether it refuses an x with other axes than it was made for; a layer of one's own may do so or not."""
    return getattr(inspect.unwrap(layer.apply), "knows_its_input", False)


def knowing(apply: Callable[..., tuple[jax.Array, State]], *members: Layer) -> Callable[..., tuple[jax.Array, State]]:
    """The `apply` of a layer around others, which knows its input if one of them does."""
    apply.knows_its_input = any(map(knows_its_input, members))  # pyright: ignore[reportFunctionMemberAccess]
    return apply


def parameterless(name: str, function: Callable[[jax.Array], jax.Array]) -> Layer:
    """The layer that applies a function of an array."""

    def apply(params, state, x, *, train=False, key=None):
        del params, train, key
        return function(x), state

    return leaf(name, no_parameters, apply)


def checked_layer(function: str, argument: str, value: Any) -> Layer:
    """A layer as it is, a function of an array as a layer of the function's name; anything else is a TypeError."""
    if isinstance(value, Layer):
        return value
    made_by = getattr(value, "__module__", None) or ""
    makes = getattr(value, "__annotations__", {}).get("return")
    forgotten = made_by.startswith("jaxcnn.nn.") and makes == "Layer"
    called = f"the layer nn.{getattr(value, '__name__', '')}(...) that it makes"
    arguments.require(not forgotten, function, argument, called, "the function", TypeError)
    arguments.called(function, argument, value, "a Layer or a function of an array")
    return function_layer(value)


@layer_maker
def function_layer(function: Callable[[jax.Array], jax.Array]) -> Layer:
    """The layer that applies a function of an array, by its name."""
    named = function
    while isinstance(named, functools.partial):
        named = named.func
    name = getattr(named, "__name__", "")
    return parameterless(name if name.isidentifier() else "function", function)
