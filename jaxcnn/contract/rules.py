"""What every backward rule owes JAX besides its formula, in one place, so that the rule files hold formulas only.

For each argument of a function the gradient

    is left out where nobody asked for it: a frozen parameter costs nothing, under jit and outside;
    has the dtype of the argument, which JAX does not check;
    is the sum over the devices that share the argument, inside `shard_map`;
    lies on the devices as the argument does, on a mesh with Explicit axes.
"""

import functools
import inspect
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero, custom_vjp_primal_tree_values
from jax.extend.core import Literal

from jaxcnn.contract.sharding import as_arguments, as_one_program, on_any_mesh


@jax.tree_util.register_static
@dataclass(frozen=True)
class _Types:
    """The type of every array among the arguments: shape, dtype, and where it lies on a mesh."""

    types: tuple[Any, ...]


@jax.tree_util.register_static
@dataclass(frozen=True)
class _Argument:
    """Stands among the residuals for an argument that is kept as it came: no program returns it."""

    number: int


def _no_axes(*options: Any) -> tuple[tuple[Hashable, int], ...]:
    return ()


def custom_rule(
    plain: Callable[..., Any],
    fwd: Callable[..., Any],
    bwd: Callable[..., Any],
    named_axes: Callable[..., tuple[tuple[Hashable, int], ...]] = _no_axes,
) -> Any:
    """`plain` with a backward pass that is written out: a `jax.custom_vjp`, each pass of it one program.

    Args:
        plain: the function. Its static arguments, as many as bwd has before the residuals, come last.
        fwd: of the arguments of plain; returns its result and the residuals.
        bwd: of the static arguments, the residuals and the cotangent of the result; returns for each argument that is
            not static a gradient, in any dtype and summed over this device's data only, or None.
        named_axes: of the static arguments; returns the name and size of each axis, of a mesh or of `vmap`, that fwd
            and bwd sum over.
    """
    arguments, static = (len(inspect.signature(f).parameters) for f in (plain, bwd))
    static -= 2
    rule = jax.custom_vjp(on_any_mesh(plain), nondiff_argnums=tuple(range(arguments - static, arguments)))
    defvjp(rule, fwd, bwd, named_axes)
    return rule


def without_rule(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` as one program, for arrays on any mesh, where JAX derives the gradient or there is none."""
    return on_any_mesh(f)


def defvjp(
    f: Any,
    fwd: Callable[..., Any],
    bwd: Callable[..., Any],
    named_axes: Callable[..., tuple[tuple[Hashable, int], ...]] = _no_axes,
) -> None:
    """`f.defvjp(fwd, bwd)` with what a rule owes JAX besides its formula; the arguments are those of `custom_rule`."""
    static = len(inspect.signature(bwd).parameters) - 2

    @on_any_mesh
    @functools.wraps(fwd)
    def forward(*args):
        result, residuals = fwd(*args)
        return result, _named(residuals, jax.tree.leaves(args))

    @functools.wraps(fwd)
    def fwd_and_arguments(*args):
        arguments, options = args[: len(args) - static], args[len(args) - static :]
        values = custom_vjp_primal_tree_values(arguments)
        rule = _knowing_axes(_unknown(named_axes(*options)), forward)
        result, residuals = rule(*values, *options)
        residuals = _restored(residuals, jax.tree.leaves((values, options)))
        types = _Types(tuple(jax.typeof(leaf) for leaf in jax.tree.leaves(values)))
        # JAX keeps one structure of residuals for all uses of a traced call. Which gradients this use asks for differs
        # between uses: an empty array for each argument says it, with two axes where the gradient is asked for.
        asked = jax.tree.map(lambda primal: np.zeros((0, 0) if primal.perturbed else (0,)), arguments)
        return result, (types, asked, residuals)

    @functools.wraps(bwd)
    def bwd_of_asked(*args):
        *options, (types, asked, residuals), cotangents = args
        asked, structure = jax.tree.flatten(jax.tree.map(lambda flag: flag.ndim == 2, asked))
        cotangents = jax.tree.map(_array, cotangents, is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
        rule = _knowing_axes(_unknown(named_axes(*options)), backward)
        flat = rule(types, tuple(asked), structure, *options, residuals, cotangents)
        return jax.tree.unflatten(structure, flat)

    @as_one_program
    def backward(types, asked, structure, *args):
        *options, residuals, cotangents = args

        def gradients(residuals, cotangents):
            gradients = _flat(bwd(*options, residuals, cotangents), structure)
            typed = zip(gradients, types.types, strict=True)
            return [None if gradient is None else gradient.astype(type.dtype) for gradient, type in typed]

        return as_arguments(functools.partial(_only, asked, gradients), types.types)(residuals, cotangents)

    f.defvjp(fwd_and_arguments, bwd_of_asked, symbolic_zeros=True)


def _named(residuals, arguments):
    """The residuals, with the name of an argument in the place of what is one."""
    numbers = {id(argument): number for number, argument in enumerate(arguments)}
    return jax.tree.map(lambda leaf: _Argument(numbers[id(leaf)]) if id(leaf) in numbers else leaf, residuals)


def _restored(residuals, arguments):
    def is_name(leaf):
        return isinstance(leaf, _Argument)

    return jax.tree.map(lambda leaf: arguments[leaf.number] if is_name(leaf) else leaf, residuals, is_leaf=is_name)


# JAX calls the rules of what was under `vmap` where the name of its axis is not known any more: the backward pass, and
# under `jit` or `remat` the forward pass. They are traced as if it were known: what is traced needs no name.
def _knowing_axes(axes, program):
    """A program where the axes are not known that it sums over; as its operations, of which JAX knows the axes."""
    if not axes:
        return program

    def traced(*args):
        leaves, structure = jax.tree.flatten(args)
        is_array = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]

        def program_of_arrays(*arrays):
            given = iter(arrays)
            filled = [next(given) if array else leaf for leaf, array in zip(leaves, is_array, strict=True)]
            return program.__wrapped__(*jax.tree.unflatten(structure, filled))

        arrays = [leaf for leaf, array in zip(leaves, is_array, strict=True) if array]
        closed, results = jax.make_jaxpr(program_of_arrays, axis_env=axes, return_shape=True)(*arrays)
        values = jax.core.eval_jaxpr(closed.jaxpr, closed.consts, *arrays)
        return jax.tree.unflatten(jax.tree.structure(results), values)

    return traced


def _unknown(axes):
    """Those of the axes, as names and sizes, of whose name nothing is around."""

    def is_known(name):
        try:
            lax.axis_size(name)
        except NameError:
            return False
        return True

    return [(name, size) for name, size in axes if not is_known(name)]


def _array(cotangent: Any):
    """A cotangent as an array: zeros where the result was not used."""
    if not isinstance(cotangent, SymbolicZero):
        return cotangent
    aval: Any = cotangent.aval
    shape, dtype = aval.shape, aval.dtype
    return np.zeros(shape, dtype) if dtype == jax.dtypes.float0 else jnp.zeros(shape, dtype)


def _flat(gradients, structure):
    """One gradient, or None, for each array among the arguments."""
    flat = []
    for gradient, argument in zip(gradients, structure.children(), strict=True):
        none = gradient is None
        flat += [None] * argument.num_leaves if none else argument.flatten_up_to(gradient)
    return flat


def _only(asked, f, *args):
    """The results of f that are asked for, computed without what the others alone need; None for the others."""
    if all(asked):
        return f(*args)
    closed, results = jax.make_jaxpr(f, return_shape=True)(*args)
    variables = iter(closed.jaxpr.outvars)
    outvars = [None if result is None else next(variables) for result in results]
    outvars = [var if is_asked else None for var, is_asked in zip(outvars, asked, strict=True)]
    wanted = [var for var in outvars if var is not None]
    jaxpr = closed.jaxpr.replace(outvars=wanted, eqns=_needed(closed.jaxpr.eqns, wanted))
    values = iter(jax.core.eval_jaxpr(jaxpr, closed.consts, *jax.tree.leaves(args)))
    return [None if var is None else next(values) for var in outvars]


def _needed(equations, wanted):
    """Those of the equations that the wanted variables depend on."""
    needed, kept = {var for var in wanted if not isinstance(var, Literal)}, []
    for equation in reversed(equations):
        if needed.intersection(equation.outvars):
            needed.update(var for var in equation.invars if not isinstance(var, Literal))
            kept.append(equation)
    return kept[::-1]
