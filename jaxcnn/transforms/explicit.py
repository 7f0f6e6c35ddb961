"""Our backward pass for functions that are written without it: their convolutions and pools become our ops."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.core
from jax.extend import core
from jax.extend.core import primitives

from jaxcnn.contract import arguments
from jaxcnn.transforms.jaxprs import Rewriter, trace
from jaxcnn.transforms.replacements import Kept, Replacement, replacement
from jaxcnn.transforms.report import ExplicitReport, Operation, operation

_TRANSPOSED = ("custom_linear_solve", "linear_call", "custom_transpose_call")  # JAX transposes what is inside


def explicit(f: Callable[..., Any]) -> Callable[..., Any]:
    """The function f with its convolutions and pools computed by our ops, so that its gradient is by our rules.

    A model in Flax, Haiku, Equinox or plain JAX stays as it is: `jax.grad(explicit(loss))`. Every
    `conv_general_dilated` is replaced, whatever the order of its axes, and every maximum and sum of `reduce_window`,
    over whichever axes: mean-pools are made of these sums. They are found inside `jit`, `scan`, `while_loop`, `cond`,
    `remat`, `vmap` and `shard_map`, in any nesting. Some cannot be replaced and stay: `explicit_report` says why.

    `jax.export` takes explicit(f) wherever it takes f: a maximum over an image of symbolic size stays as it was.

    Convolutions and pools inside the function of a `custom_jvp` or `custom_vjp` are replaced too. Its rule stays, and
    with it the gradient. Our own ops stay as they are.

    A module of `flax.nnx` that changes itself when it is called, as batch norm and dropout do in training, cannot be
    closed over or passed: Flax raises an error about trace levels. Pass its state, by `nnx.split`, put it together by
    `nnx.merge(..., copy=True)` inside f, and return the new state; jaxcnn/transforms/README.md has an example.

    Args:
        f: any function. It may be called with anything, which reaches f as it came.

    Returns:
        A function of the same signature, with the same results up to rounding, of the same types. f is traced once per
        call, at no cost inside `jit`.

    Raises:
        TypeError: f is not callable. Errors of f are its own; one of Flax about trace levels has a note on what to do.

    Gradient: that of our ops, for what is replaced. (Where -inf ties with the padding of a maximum, an entry of the
        image wins and not the padding.) Where f itself takes a gradient, by calling `jax.grad` inside, this gradient is
        part of what f computes, and stays. Our ops have a custom VJP, which can do no more than a gradient: `jax.jvp`,
        `jax.jacfwd` and `jax.linearize` raise a TypeError, `jax.linear_transpose` a NotImplementedError, and so does
        the gradient through a `custom_jvp` rule that calls explicit(f) on a tangent. `derived(explicit(f))`, or f
        itself, does all of it; a `custom_jvp` is put inside explicit, not the other way round. `jax.hessian` and
        `jax.jvp` of a gradient work.

    >>> import jax
    >>> def loss(w, x):
    ...     return jax.numpy.sum(jax.lax.conv(x, w, (1, 1), "VALID"))
    >>> w, x = jax.numpy.ones((1, 1, 2, 2)), jax.numpy.arange(9.0).reshape(1, 1, 3, 3)
    >>> jax.grad(explicit(loss))(w, x)[0, 0]
    Array([[ 8., 12.],
           [20., 24.]], dtype=float32)
    """
    arguments.require(callable(f), "explicit", "f", "callable", arguments.describe(f), TypeError)

    @functools.wraps(f, updated=())
    def explicit_f(*args: Any, **kwargs: Any) -> Any:
        return _op_replacer.call(f, args, kwargs)

    return explicit_f


def explicit_report(f: Callable[..., Any], *args: Any, **kwargs: Any) -> ExplicitReport:
    """What `explicit(f)` replaces when it is called with these arguments, and what it keeps, with the reason.

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
    arguments.require(callable(f), "explicit_report", "f", "callable", arguments.describe(f), TypeError)
    leaves, structure = jax.tree.flatten((args, kwargs))
    is_abstract = [isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves]
    recorder = _Recorder()

    def call(*arrays):
        given = iter(arrays)
        filled = [next(given) if abstract else leaf for leaf, abstract in zip(leaves, is_abstract, strict=True)]
        closed, _ = trace(f, *jax.tree.unflatten(structure, filled))
        recorder.jaxpr(closed.jaxpr)

    jax.eval_shape(call, *(leaf for leaf, abstract in zip(leaves, is_abstract, strict=True) if abstract))
    return ExplicitReport(tuple(recorder.replaced), tuple(recorder.kept))


class _OpReplacer(Rewriter):
    """Puts our ops into a jaxpr."""

    def replaced_by(self, eqn):
        if eqn.primitive.name == "shard_map":
            return self.retraced_shard_map(eqn)
        found = self.replacement(eqn)
        return found.jaxpr if isinstance(found, Replacement) else None

    def enters(self, eqn):
        return not _has_our_rule(eqn) and eqn.primitive.name not in _TRANSPOSED

    def replacement(self, eqn):
        return replacement(eqn)

    def retraced_shard_map(self, eqn):
        """The shard_map with our ops in it, or None if nothing in it is replaced.

        Our ops trace to other equations inside of a shard_map, so it is traced anew. It stands in a `jit`: outside of
        one a shard_map takes no custom VJP like ours.
        """
        params = dict(eqn.params)
        jaxpr, axis_names = params.pop("jaxpr"), params.pop("newly_manual_axes")
        changed = False

        def body(*args):
            nonlocal changed
            rewritten = self.jaxpr(jaxpr)
            changed = rewritten is not jaxpr
            return tuple(jax.core.eval_jaxpr(rewritten, (), *args))

        with eqn.ctx.manager:
            spread = jax.jit(jax.shard_map(body, axis_names=axis_names, **params))
            retraced = jax.make_jaxpr(spread)(*(atom.aval for atom in eqn.invars))
        return retraced if changed else None


_op_replacer = _OpReplacer()


class _Recorder(_OpReplacer):
    """Notes each convolution or pool, whether it is replaced or kept, as often as it is there."""

    def __init__(self):
        super().__init__()
        self.replaced: list[Operation] = []
        self.kept: list[Operation] = []
        self._around: list[core.JaxprEqn] = []

    def replacement(self, eqn):
        found = super().replacement(eqn)
        if found is not None:
            transposed = [outer.primitive.name for outer in self._around if outer.primitive.name in _TRANSPOSED]
            reason = found.reason if isinstance(found, Kept) else ""
            if transposed:
                reason = f"it is in a {transposed[-1]}, whose functions JAX transposes"
            (self.kept if reason else self.replaced).append(operation(eqn, self._around, reason))
        return found

    def enters(self, eqn):
        if eqn.primitive.name in _TRANSPOSED:
            self.entered(eqn)
        return super().enters(eqn)

    def entered(self, eqn):
        self._around.append(eqn)
        rewritten = super().entered(eqn)
        self._around.pop()
        return rewritten

    def retraced_shard_map(self, eqn):
        self._around.append(eqn)
        retraced = super().retraced_shard_map(eqn)
        self._around.pop()
        return retraced

    def closed_jaxpr(self, closed):
        return closed.replace(jaxpr=self.jaxpr(closed.jaxpr))


def _has_our_rule(eqn):
    """Whether an equation is one of our ops: its backward rule is a function of this package."""
    if eqn.primitive is not primitives.custom_vjp_call_p:
        return False
    rule = getattr(eqn.params["bwd"], "f", None)
    return getattr(rule, "__module__", "").partition(".")[0] == __name__.partition(".")[0]
