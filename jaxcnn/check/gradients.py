"""Custom VJP rules against the gradients that JAX derives."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.check.arguments import checked_seed, checked_tolerance, floating_arguments
from jaxcnn.check.consistency import consistency
from jaxcnn.check.differences import compare_differences
from jaxcnn.check.examination import Examination
from jaxcnn.check.programs import CannotDerive
from jaxcnn.check.report import Comparison, Report, one_line
from jaxcnn.transforms import derived


def gradients(
    f: Callable[..., Any],
    *args: Any,
    reference: Callable[..., Any] | None = None,
    argnums: int | Sequence[int] | None = None,
    rtol: float | None = None,
    key: jax.Array | None = None,
    order: int = 1,
    transforms: bool = False,
) -> Report:
    """Compares the gradients of f, by its custom VJP rules, with those that JAX derives.

        ∇⟨dy, f(args)⟩    against    ∇⟨dy, derived(f)(args)⟩,        dy random

    The rule is looked at three times:

    - In float64 on the CPU, whatever the dtype of the arguments. An entry is right within rtol of itself plus a
      hundredth of rtol of the largest entry of its array. A wrong formula shows.
    - In the dtype of the arguments, on their device. Low precision, overflow and a wrong dtype show.
    - In float64 at other arguments, with a cotangent of another size and sign. A rule that is right for the first
      arguments, or the first cotangent, only shows.

    The outputs are compared as well, since the forward pass of a rule may differ from its function.

    Args:
        f: any function of pytrees of arrays, with custom VJPs in it or around it.
        args: where to check. Gradients are compared for every floating-point array in them; the rest stays as it is.
        reference: a function of the same arguments that returns what f returns. JAX derives its gradient: custom VJPs
            in it are replaced as in f. By default it is f itself, as `derived(f)`. Where JAX derives no gradient, as of
            a while loop or of a callback, slopes along random directions are compared with difference quotients, in
            float64 only.
        argnums: the positions of the arguments to look at, by default all.
        rtol: relative tolerance in float64, by default 1e-10.
        key: the random key of dy.
        order: up to which order of derivative to look. The second is the gradient of the gradient, by the rule of the
            rule, along a random direction.
        transforms: whether to compare without `jit`, and under `jit`, `remat`, `vmap`, `scan`, and split over devices
            where JAX has several CPU devices (`jax_num_cpu_devices`).

    Returns:
        A `Report`: `bool(report)` is the verdict, `print(report)` names the worst entry of every argument and where
        the errors lie, and `report.raise_if_wrong()` makes it a test.

    Raises:
        TypeError: f or the reference is not callable, key is no random key, or no argument or no output is a
            floating-point array.
        ValueError: argnums names no argument, order is not an integer of at least 1, rtol is not positive, or the
            reference returns other shapes.
        Errors of f itself are passed on. An array that f closes over keeps its dtype, which an op may refuse beside
        float64: pass it as an argument.

    At a kink, such as relu at 0 or a tie in max-pooling, f and derived(f) may differ without either being wrong. The
    report says where that is so. They may differ as well where an argument holds a NaN: take it out.

    What this cannot see: a gradient that f itself takes by `jax.grad`, which has the rules written into it already; a
    rule that is right only for arguments of the signs that are given; and an error below rtol / 100 of the largest
    entry of its array.

    >>> import jax.numpy as jnp
    >>> import jaxcnn
    >>> bool(gradients(jaxcnn.conv, jnp.ones((2, 5, 4, 3)), jnp.ones((3, 2, 3, 4))))
    True
    """
    arguments = floating_arguments("gradients", f, args, argnums)
    if reference is not None and not callable(reference):
        raise TypeError(f"gradients: reference must be callable, got {type(reference).__name__} {reference!r}")
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise ValueError(f"gradients: order must be an integer of at least 1, got {order!r}")
    seed, rtol = checked_seed("gradients", key), checked_tolerance("gradients", rtol)
    ours, theirs = (arguments.function_of_floats(g) for g in (f, reference or f))
    try:
        examination = Examination(arguments, ours, theirs, rtol, seed)
    except CannotDerive as error:
        notes = [f"by differences along random directions, in float64 only: {error}"]
        if order > 1 or transforms:
            notes.append("not looked at: higher orders and transforms, as JAX derives no gradient to compare with")
        return Report(tuple(compare_differences(arguments, f, seed)), tuple(notes))
    rows, notes = examination.comparisons(), []
    if transforms:
        more, notes = consistency(examination)
        rows += more
    for n in range(2, order + 1):
        ours, theirs = (_gradient_of(g, examination.double_run.dy) for g in (ours, derived(theirs)))
        try:
            examination = Examination(arguments, ours, theirs, rtol, seed)
        except Exception as error:
            rows.append(Comparison(f"order {n}", f"the gradient has none: {one_line(error)}"))
            break
        higher = examination.comparisons()[examination.output_count :]
        rows += [replace(row, name=f"order {n}, {row.name}") for row in higher]
    return Report(tuple(rows), tuple(notes))


def _gradient_of(f: Callable[..., list[Any]], dy: Sequence[np.ndarray]) -> Callable[..., list[Any]]:
    """The gradient of ⟨dy, f⟩ as a function of the same arrays."""

    def gradient(*floats: Any) -> list[Any]:
        y, vjp = jax.vjp(f, *floats)
        return list(vjp([jnp.asarray(d, y.dtype) for d, y in zip(dy, y, strict=True)]))

    return gradient
