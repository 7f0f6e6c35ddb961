"""Custom VJP rules against the derivative that JAX derives."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.check.report import Comparison, Report, compare
from jaxcnn.transforms import derived, holds_rule


def gradients(f: Callable[..., Any], *args: Any, rtol: float = 1e-10, key: jax.Array | None = None) -> Report:
    """Compares the gradients of f, by its custom VJP rules, with those that JAX derives.

        ∇⟨dy, f(args)⟩    against    ∇⟨dy, derived(f)(args)⟩,        dy random

    Both are computed in float64 on the CPU, whatever the dtype of the arguments, so that what rounding hides in float32
    shows. An entry is right within rtol of itself plus rtol / 100 of the largest entry of its array. The outputs are
    compared as well, since the forward pass of a rule may differ from its function, and so are the dtypes of the
    cotangents, which JAX does not look at, for the arguments as given.

    Args:
        f: any function of pytrees of arrays, with custom VJPs in it or around it.
        args: where to check. Gradients are compared for every floating-point array in them; the rest stays as it is.
        rtol: relative tolerance.
        key: the random key of dy.

    Returns:
        A `Report`: `bool(report)` is the verdict, `print(report)` names the worst entry of every argument, and
        `report.raise_if_wrong()` makes it a test.

    Raises:
        TypeError: f is not callable, or no argument or no output is a floating-point array.
        ValueError: a rule is where it cannot be replaced, inside `shard_map`.
        Errors of f itself are passed on. An array that f closes over keeps its dtype, which an op may refuse beside
        float64: pass it as an argument.

    At a kink, such as relu at 0 or a NaN, f and derived(f) may differ without either being wrong: check beside it. What
    this cannot see: a rule that is wrong in lower precision only, or in its second derivative only, and a gradient that
    f itself takes by `jax.grad`, which has the rules written into it already.

    >>> import jaxcnn
    >>> bool(gradients(jaxcnn.conv, jnp.ones((2, 5, 4, 3)), jnp.ones((3, 2, 3, 4))))
    True
    """
    if not callable(f):
        raise TypeError(f"gradients: f must be callable, got {type(f).__name__} {f!r}")
    floats, rebuild, names = _floating_arguments(f, args)
    if not floats:
        raise TypeError("gradients: args must hold a floating-point array, got none")
    on_floats = _on_floats(f, rebuild)
    report = _wrong_dtypes(on_floats, floats, names)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        double = [jnp.asarray(np.asarray(leaf, np.float64)) for leaf in floats]
        try:
            jaxpr, outputs = jax.make_jaxpr(derived(on_floats), return_shape=True)(*double)
        except TypeError as error:
            error.add_note("check.gradients computes in float64: an array that f closes over has to be an argument")
            raise
        if not outputs:
            raise TypeError("gradients: f must return a floating-point array, got none")
        if holds_rule(jaxpr.jaxpr):
            raise ValueError("gradients: f must have its custom VJPs outside shard_map, got one inside")
        random = np.random.default_rng(0 if key is None else np.asarray(jax.random.key_data(key)))
        dy = [jnp.asarray(random.normal(size=y.shape), y.dtype) for y in outputs]
        (outputs, got), (expected_outputs, expected) = (
            jax.jit(_value_and_pullback(g))(double, dy) for g in (on_floats, derived(on_floats))
        )
    # What cancels leaves the rounding errors of its terms, which may be as large as the largest gradient. Where f
    # itself computes in a lower precision, its rounding is that of the lowest.
    eps = max(float(jnp.finfo(y.dtype).eps) for y in outputs)
    rounding = 45 * eps * max(_largest(dy), _largest(expected))
    rtol = max(rtol, 1e3 * eps)
    rows = list(zip(_output_names(outputs), outputs, expected_outputs, strict=True))
    rows += [(f"gradient of {name}", a, b) for name, a, b in zip(names, got, expected, strict=True)]
    for name, a, b in rows:
        report.append(compare(name, a, b, rtol=rtol, atol=1e-2 * rtol * _largest([b]) + rounding))
    return Report(tuple(report))


def _floating_arguments(f: Callable[..., Any], args: tuple[Any, ...]):
    """The floating-point leaves of args, a function that puts others in their place, and their names."""
    paths, tree = jax.tree.flatten_with_path(args)
    leaves = [leaf for _, leaf in paths]
    chosen = [i for i, leaf in enumerate(leaves) if _is_floating(leaf)]

    def rebuild(floats: Sequence[Any]) -> tuple[Any, ...]:
        replaced = dict(zip(chosen, floats, strict=True))
        return jax.tree.unflatten(tree, [replaced.get(i, leaf) for i, leaf in enumerate(leaves)])

    argument = _argument_names(f, len(args))
    names = [argument[paths[i][0][0].idx] + jax.tree_util.keystr(paths[i][0][1:]) for i in chosen]
    return [leaves[i] for i in chosen], rebuild, names


def _argument_names(f: Callable[..., Any], count: int) -> list[str]:
    """What f calls its positional arguments, as far as that can be known."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):  # some callables have none
        parameters = ()
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return (named + [f"args[{i}]" for i in range(len(named), count)])[:count]


def _on_floats(f: Callable[..., Any], rebuild: Callable[..., Any]) -> Callable[..., list[Any]]:
    """f from its floating-point arguments to its floating-point outputs."""
    return lambda *floats: [y for y in jax.tree.leaves(f(*rebuild(floats))) if _is_floating(y)]


def _value_and_pullback(f: Callable[..., Any]) -> Callable[..., Any]:
    def value_and_pullback(args: Sequence[Any], dy: Any) -> tuple[Any, Any]:
        y, vjp = jax.vjp(f, *args)
        return y, vjp(dy)

    return value_and_pullback


def _wrong_dtypes(f: Callable[..., Any], floats: Sequence[Any], names: Sequence[str]) -> list[Comparison]:
    """A comparison for each argument whose cotangent has another dtype than itself."""
    outputs = jax.eval_shape(f, *floats)
    _, cotangents = jax.eval_shape(_value_and_pullback(f), floats, outputs)
    expected = [jnp.result_type(leaf) for leaf in floats]
    got = [cotangent.dtype for cotangent in cotangents]
    return [
        Comparison(f"gradient of {name}", f"dtype {g}, expected {e}", "for the arguments as given")
        for name, g, e in zip(names, got, expected, strict=True)
        if g != e
    ]


def _output_names(outputs: Sequence[Any]) -> list[str]:
    return ["output"] if len(outputs) == 1 else [f"output {i}" for i in range(len(outputs))]


def _is_floating(leaf: Any) -> bool:
    return (hasattr(leaf, "dtype") or isinstance(leaf, float)) and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _largest(arrays: Sequence[Any]) -> float:
    """The largest finite magnitude in the arrays."""
    finite = [np.abs(np.asarray(a)[np.isfinite(a)]) for a in arrays]
    return max((float(np.max(a, initial=0.0)) for a in finite), default=0.0)
