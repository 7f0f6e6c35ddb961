"""Custom VJP rules against the derivative that JAX derives."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcnn.check.arguments import floating_arguments
from jaxcnn.check.examination import Examination
from jaxcnn.check.report import Report


def gradients(
    f: Callable[..., Any],
    *args: Any,
    reference: Callable[..., Any] | None = None,
    argnums: int | Sequence[int] | None = None,
    rtol: float | None = None,
    key: jax.Array | None = None,
) -> Report:
    """Compares the gradients of f, by its custom VJP rules, with those that JAX derives.

        ∇⟨dy, f(args)⟩    against    ∇⟨dy, derived(f)(args)⟩,        dy random

    The rule is looked at three times. In float64 on the CPU, whatever the dtype of the arguments, where an entry is
    right within rtol of itself plus rtol / 100 of the largest of its array: a wrong formula shows. In the dtype of the
    arguments, on their device: low precision, overflow and a wrong dtype show. And in float64 at other arguments with a
    cotangent of another size and sign: it shows if a rule is right for the first only. The outputs are compared as
    well, since the forward pass of a rule may differ from its function.

    Args:
        f: any function of pytrees of arrays, with custom VJPs in it or around it.
        args: where to check. Gradients are compared for every floating-point array in them; the rest stays as it is.
        reference: a function of the same arguments that returns what f returns, whose gradient JAX derives, where the
            function that f belongs to is not to be trusted itself. By default `derived(f)`.
        argnums: the positions of the arguments to look at, by default all.
        rtol: relative tolerance in float64, by default 1e-10.
        key: the random key of dy.

    Returns:
        A `Report`: `bool(report)` is the verdict, `print(report)` names the worst entry of every argument and where
        the errors lie, and `report.raise_if_wrong()` makes it a test.

    Raises:
        TypeError: f is not callable, or no argument or no output is a floating-point array.
        ValueError: argnums names no argument, or a rule is where it cannot be replaced, inside `shard_map`.
        Errors of f itself are passed on. An array that f closes over keeps its dtype, which an op may refuse beside
        float64: pass it as an argument.

    At a kink, such as relu at 0 or a tie in max-pooling, f and derived(f) may differ without either being wrong: that
    is recognised, and said. What this cannot see: a gradient that f itself takes by `jax.grad`, which has the rules
    written into it already.

    >>> import jax.numpy as jnp
    >>> import jaxcnn
    >>> bool(gradients(jaxcnn.conv, jnp.ones((2, 5, 4, 3)), jnp.ones((3, 2, 3, 4))))
    True
    """
    arguments = floating_arguments("gradients", f, args, argnums)
    if reference is not None and not callable(reference):
        raise TypeError(f"gradients: reference must be callable, got {type(reference).__name__} {reference!r}")
    seed = 0 if key is None else np.asarray(jax.random.key_data(key))
    examination = Examination(arguments, f, reference or f, 1e-10 if rtol is None else rtol, seed)
    return Report(tuple(examination.comparisons()))
