"""Our backward pass for functions that know nothing of it: their convolutions and pools become our ops."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core
from jax.extend.core import primitives

from jaxcnn.ops import shapes
from jaxcnn.transforms.jaxprs import Rewriter, trace
from jaxcnn.transforms.replacements import ours
from jaxcnn.transforms.report import ExplicitReport, Operation

_TRANSPOSED = ("custom_linear_solve", "linear_call", "custom_transpose_call")  # JAX transposes what is inside


def explicit(f: Callable[..., Any]) -> Callable[..., Any]:
    """The function f with its convolutions and pools computed by our ops, so that its gradient is by our rules.

    For a model in Flax, Haiku, Equinox or plain JAX that stays as it is: `jax.grad(explicit(loss))`. Replaced is every
    `conv_general_dilated`, whatever the order of its axes, and every maximum and sum of `reduce_window`, over whichever
    axes, which is what mean-pools are made of; inside `jit`, `scan`, `while_loop`, `cond`, `remat`, `vmap` and
    `shard_map`, in any nesting. What cannot be replaced stays as it was: `explicit_report` says why.

    Inside the function of a `custom_jvp` or `custom_vjp` they are replaced too, but its rule stays, and with it the
    gradient. Our own ops stay as they are.

    Args:
        f: any function. What it is called with may be anything: all of it reaches f as it came.

    Returns:
        A function of the same signature, with the same results up to rounding, of the same types. f is traced once per
        call, at no cost inside `jit`.

    Raises:
        TypeError: f is not callable.

    Gradient: that of our ops, of what is replaced; there is no forward mode then (`derived` has it). A gradient that f
        itself takes, by calling `jax.grad` inside, was derived before this can see it, and stays.

    >>> import jax
    >>> def loss(w, x):
    ...     return jax.numpy.sum(jax.lax.conv(x, w, (1, 1), "VALID"))
    >>> w, x = jax.numpy.ones((1, 1, 2, 2)), jax.numpy.arange(9.0).reshape(1, 1, 3, 3)
    >>> jax.grad(explicit(loss))(w, x)[0, 0]
    Array([[ 8., 12.],
           [20., 24.]], dtype=float32)
    """
    shapes.require(callable(f), "explicit", "f", "callable", shapes.describe(f), TypeError)

    @functools.wraps(f, updated=())
    def explicit_f(*args: Any, **kwargs: Any) -> Any:
        return _with_ours.call(f, args, kwargs)

    return explicit_f


def explicit_report(f: Callable[..., Any], *args: Any, **kwargs: Any) -> ExplicitReport:
    """What `explicit(f)` replaces when it is called with these arguments, and what it does not, with the reason.

    Args:
        f: any function.
        args, kwargs: what it is called with; `jax.ShapeDtypeStruct` may stand for arrays.

    Returns:
        A report with `replaced` and `kept`: the name, types and place of each convolution and pool, and a note with the
        reason where it is kept. `print` shows it line by line. Nothing is computed.

    Raises:
        TypeError: f is not callable.

    Gradient: none.

    >>> import jax
    >>> def smallest_and_largest(x):
    ...     window = {"window_dimensions": (1, 2, 1), "window_strides": (1, 2, 1), "padding": "VALID"}
    ...     smallest = jax.lax.reduce_window(x, jax.numpy.inf, jax.lax.min, **window)
    ...     return smallest, jax.lax.reduce_window(x, -jax.numpy.inf, jax.lax.max, **window)
    >>> print(explicit_report(smallest_and_largest, jax.numpy.ones((1, 6, 2))))
    replaced: 1
      reduce_window_max float32[1,6,2]
    kept: 1
      reduce_window_min float32[1,6,2]: it is a minimum
    """
    shapes.require(callable(f), "explicit_report", "f", "callable", shapes.describe(f), TypeError)
    leaves, structure = jax.tree.flatten((args, kwargs))
    is_abstract = [isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves]
    operations: list[tuple[bool, Operation]] = []

    def look(*arrays):
        given = iter(arrays)
        filled = [next(given) if abstract else leaf for leaf, abstract in zip(leaves, is_abstract, strict=True)]
        closed, _ = trace(f, *jax.tree.unflatten(structure, filled))
        operations[:] = _operations(closed.jaxpr)

    jax.eval_shape(look, *(leaf for leaf, abstract in zip(leaves, is_abstract, strict=True) if abstract))
    replaced, kept = ([found for is_ours, found in operations if is_ours is wanted] for wanted in (True, False))
    return ExplicitReport(tuple(replaced), tuple(kept))


def _our_op(eqn):
    found = ours(eqn)
    return found if isinstance(found, core.ClosedJaxpr) else None


def _may_change(eqn):
    return eqn.primitive.name not in _TRANSPOSED and not _has_our_rule(eqn)


_with_ours = Rewriter(instead=_our_op, enters=_may_change)


def _has_our_rule(eqn):
    """Whether it is one of our ops: their rules are functions of ours."""
    if eqn.primitive is not primitives.custom_vjp_call_p:
        return False
    rule = getattr(eqn.params["bwd"], "f", None)
    return getattr(rule, "__module__", "").partition(".")[0] == __name__.partition(".")[0]


def _operations(jaxpr: core.Jaxpr, calls: tuple[str, ...] = (), note: str = "") -> Iterator[tuple[bool, Operation]]:
    """Each convolution and pool of a jaxpr, and whether it is replaced; a note is on the calls that it is in."""
    for eqn in jaxpr.eqns:
        found = ours(eqn)
        if found is not None:
            types = " ".join(atom.aval.str_short() for atom in eqn.invars)
            where = " / ".join((*calls, *filter(None, [str(eqn.source_info.name_stack)])))
            is_ours = isinstance(found, core.ClosedJaxpr) and not note.startswith("it is")
            yield is_ours, Operation(eqn.primitive.name, types, where, found if isinstance(found, str) else note)
        elif not _has_our_rule(eqn):
            name = eqn.params.get("name")
            call = f"{eqn.primitive.name}({name})" if isinstance(name, str) else eqn.primitive.name
            for inner in core.jaxprs_in_params(eqn.params):
                yield from _operations(inner, (*calls, call), _note(eqn) or note)


def _note(eqn):
    if eqn.primitive.name in _TRANSPOSED:
        return f"it is inside a {eqn.primitive.name}, which JAX transposes"
    if eqn.primitive in (primitives.custom_jvp_call_p, primitives.custom_vjp_call_p):
        return f"the gradient is that of the {eqn.primitive.name.removesuffix('_call')} around it"
    return ""
