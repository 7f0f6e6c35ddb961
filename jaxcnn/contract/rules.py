"""What every backward rule owes JAX besides its formula. It stands here once, so that a rule file holds formulas only.

For each argument of a function the gradient

    is left out where nobody asked for it: a frozen parameter costs nothing, under jit and outside;
    has the dtype of the argument, which JAX does not check;
    is the sum over the devices that share the argument, inside `shard_map`;
    lies on the devices as the argument does, on a mesh with Explicit axes.
"""

import contextlib
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

from jaxcnn.contract.precision import computed_wide, rounded, rounded_forward
from jaxcnn.contract.sharding import compiled_for_any_mesh, compiled_whole, placed_like

_config: Any = jax.config  # type checkers do not know its attributes


@jax.tree_util.register_static
@dataclass(frozen=True)
class _Types:
    """The type of every array among the arguments: its shape, its dtype, and where it lies on a mesh."""

    types: tuple[Any, ...]


@jax.tree_util.register_static
@dataclass(frozen=True)
class _Argument:
    """Stands among the residuals for an argument that is kept as it came: no program has to return it."""

    number: int


def _empty_tuple(*options: Any) -> tuple[tuple[Hashable, int], ...]:
    """The named axes of a rule that sums over none."""
    return ()


def custom_rule(
    plain: Callable[..., Any],
    fwd: Callable[..., Any],
    bwd: Callable[..., Any],
    named_axes: Callable[..., tuple[tuple[Hashable, int], ...]] = _empty_tuple,
    *,
    wide: bool = False,
    apart: bool = False,
) -> Any:
    """`plain` with a backward pass that is written out: a `jax.custom_vjp`, of which each pass is one program.

    Args:
        plain: the function. Its static arguments come last. There are as many as bwd has in front of the residuals.
        fwd: takes the arguments of plain; returns its result and the residuals.
        bwd: takes the static arguments, the residuals and the cotangent of the result; returns a gradient, or None, for
            each argument that is not static. The gradient may have any dtype, and is a sum over the data of this device
            only.
        named_axes: takes the static arguments; returns the name and size of each axis, of a mesh or of `vmap`, that fwd
            and bwd sum over.
        wide: whether half precision comes to plain, fwd and bwd as float32. Then the one result is rounded to the dtype
            of the first floating-point argument. Arguments and results that fwd keeps are kept as they are outside.
        apart: whether a GPU computes in bwd anew what fwd computes as well. Else XLA may store it, which may take
            more memory than the residuals.
    """
    if wide:
        plain, fwd, bwd = rounded(plain), rounded_forward(fwd), computed_wide(bwd)
    bwd = _apart_on_gpus(bwd) if apart else bwd
    arguments, static = (len(inspect.signature(f).parameters) for f in (plain, bwd))
    static -= 2
    rule = _Rule(_precise_program(plain), nondiff_argnums=tuple(range(arguments - static, arguments + 1)))
    defvjp(rule, fwd, bwd, named_axes)
    return rule


# JAX traces the forward pass of what is inside `jit`, `scan` or `checkpoint` when a gradient is asked for. Then the
# precision that was set around the call is set no more.
class _Rule(jax.custom_vjp):
    """A rule whose last static argument is the `jax.default_matmul_precision` that is set where it is called."""

    def __call__(self, *args):
        return super().__call__(*args, _config.jax_default_matmul_precision)


def _precise_program(plain):
    """plain as a program with one more argument, the precision of its products."""
    program = compiled_for_any_mesh(plain)

    @functools.wraps(plain)
    def precise_program(*args):
        *args, precision = args
        with _default_precision(precision):
            return program(*args)

    parameters = inspect.signature(plain).parameters.values()
    last = inspect.Parameter("precision", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    precise_program.__signature__ = inspect.Signature([*parameters, last])  # pyright: ignore[reportAttributeAccessIssue]
    return precise_program


def _apart_on_gpus(bwd):
    """bwd with its floating-point residuals behind a barrier on a GPU, so that XLA sees nothing in common with fwd."""

    def behind_barrier(residual):
        if not jnp.issubdtype(residual.dtype, jnp.floating):
            return residual
        barrier = lax.optimization_barrier
        return lax.platform_dependent(residual, cuda=barrier, rocm=barrier, default=lambda residual: residual)

    @functools.wraps(bwd)
    def apart(*args):
        *options, residuals, cotangents = args
        return bwd(*options, jax.tree.map(behind_barrier, residuals), cotangents)

    return apart


def plain_op(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` as one program, for arrays on any mesh. Its gradient is derived by JAX, or there is none."""
    return compiled_for_any_mesh(f)


def defvjp(
    f: Any,
    fwd: Callable[..., Any],
    bwd: Callable[..., Any],
    named_axes: Callable[..., tuple[tuple[Hashable, int], ...]] = _empty_tuple,
) -> None:
    """`f.defvjp(fwd, bwd)` of what `custom_rule` made, with what a rule owes JAX besides its formula; the arguments are
    those of `custom_rule`."""
    static = len(inspect.signature(bwd).parameters) - 2

    @compiled_for_any_mesh
    @functools.wraps(fwd)
    def forward(*args):
        result, residuals = fwd(*args)
        return result, _numbered_residuals(residuals, jax.tree.leaves(args))

    @functools.wraps(fwd)
    def forward_rule(*args):
        *args, precision = args
        arguments, options = tuple(args[: len(args) - static]), args[len(args) - static :]
        values = custom_vjp_primal_tree_values(arguments)
        program = _program_with_axes(_unbound_axes(named_axes(*options)), forward)
        with _default_precision(precision):
            result, residuals = program(*values, *options)
        residuals = _whole_residuals(residuals, jax.tree.leaves((values, options)))
        types = _Types(tuple(jax.typeof(leaf) for leaf in jax.tree.leaves(values)))
        # JAX keeps one structure of residuals for all uses of a traced call, and each use may ask for other gradients.
        # So the structure must not depend on what is asked for. For each argument there is an empty residual. Its rank
        # is 2 if the gradient of the argument is asked for, and 1 if it is not.
        asked = jax.tree.map(lambda primal: np.zeros((0, 0) if primal.perturbed else (0,)), arguments)
        return result, (types, asked, residuals)

    @functools.wraps(bwd)
    def backward_rule(*args):
        *options, precision, (types, asked, residuals), cotangents = args
        asked, structure = jax.tree.flatten(jax.tree.map(lambda flag: flag.ndim == 2, asked))
        cotangents = jax.tree.map(_cotangent_array, cotangents, is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
        program = _program_with_axes(_unbound_axes(named_axes(*options)), backward)
        with _default_precision(precision):
            flat = program(types.types, tuple(asked), structure, *options, residuals, cotangents)
        return jax.tree.unflatten(structure, flat)

    @compiled_whole
    def backward(types, asked, structure, *args):
        *options, residuals, cotangents = args

        def gradients(residuals, cotangents):
            gradients = _gradient_per_array(bwd(*options, residuals, cotangents), structure)
            typed = zip(gradients, types, strict=True)
            return [None if gradient is None else gradient.astype(type.dtype) for gradient, type in typed]

        return placed_like(functools.partial(_asked_results, asked, gradients), types)(residuals, cotangents)

    f.defvjp(forward_rule, backward_rule, symbolic_zeros=True)


def _default_precision(precision):
    """`jax.default_matmul_precision` as it was around the call, which JAX's own derivatives keep.

    Where it was not set there, what is set around the backward pass counts, as for JAX's own.
    """
    return contextlib.nullcontext() if precision is None else jax.default_matmul_precision(precision)


def _numbered_residuals(residuals, arguments):
    """The residuals with the number of an argument in the place of each one that is an argument."""
    numbers = {id(argument): number for number, argument in enumerate(arguments)}
    return jax.tree.map(lambda leaf: _Argument(numbers[id(leaf)]) if id(leaf) in numbers else leaf, residuals)


def _whole_residuals(residuals, arguments):
    """The residuals with the arguments in the place of their numbers: undoes `_numbered_residuals`."""

    def is_number(leaf):
        return isinstance(leaf, _Argument)

    return jax.tree.map(lambda leaf: arguments[leaf.number] if is_number(leaf) else leaf, residuals, is_leaf=is_number)


# A rule under `vmap` may sum over the axis of the `vmap` by its name. JAX calls the backward pass outside of the
# `vmap`, where the name means nothing; under `jit` or `remat` it does so with the forward pass as well. So the program
# is traced with the name given. The operations that come out know the axis, and need no name.
def _program_with_axes(axes, program):
    """The program with these axes given, which it sums over and which are not bound where it is called."""
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


def _unbound_axes(axes):
    """Those of the axes, each a name and a size, whose name is not bound by a `vmap` or `shard_map` around."""

    def is_bound(name):
        try:
            lax.axis_size(name)
        except NameError:
            return False
        return True

    return [(name, size) for name, size in axes if not is_bound(name)]


def _cotangent_array(cotangent: Any):
    """A cotangent as an array. It is zeros for a result that was not used."""
    if not isinstance(cotangent, SymbolicZero):
        return cotangent
    aval: Any = cotangent.aval
    shape, dtype = aval.shape, aval.dtype
    return np.zeros(shape, dtype) if dtype == jax.dtypes.float0 else jnp.zeros(shape, dtype)


def _gradient_per_array(gradients, structure):
    """One gradient, or None, for each array among the arguments."""
    result = []
    for gradient, argument in zip(gradients, structure.children(), strict=True):
        none = gradient is None
        result += [None] * argument.num_leaves if none else argument.flatten_up_to(gradient)
    return result


def _asked_results(asked, f, *args):
    """The results of f that are asked for, and None for the others. What only the others need is not computed."""
    if all(asked):
        return f(*args)
    closed, results = jax.make_jaxpr(f, return_shape=True)(*args)
    variables = iter(closed.jaxpr.outvars)
    outvars = [None if result is None else next(variables) for result in results]
    outvars = [var if is_asked else None for var, is_asked in zip(outvars, asked, strict=True)]
    wanted = [var for var in outvars if var is not None]
    jaxpr = closed.jaxpr.replace(outvars=wanted, eqns=_contributing(closed.jaxpr.eqns, wanted))
    values = iter(jax.core.eval_jaxpr(jaxpr, closed.consts, *jax.tree.leaves(args)))
    return [None if var is None else next(values) for var in outvars]


def _contributing(equations, wanted):
    """The equations that the wanted variables depend on."""
    needed, kept = {var for var in wanted if not isinstance(var, Literal)}, []
    for equation in reversed(equations):
        if needed.intersection(equation.outvars):
            needed.update(var for var in equation.invars if not isinstance(var, Literal))
            kept.append(equation)
    return kept[::-1]
