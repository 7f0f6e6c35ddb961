"""A traced program, evaluated in float64: its formula without its rounding.

The program is traced in the dtypes that it takes. Nothing in it has to take float64: every equation is evaluated anew
for float64 arrays, casts to other floating-point dtypes vanish, and random numbers stay what they are.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxcnn.check.equations import CALLS, results, struct_of
from jaxcnn.transforms.jaxprs import Rewriter

# These do what their jaxpr does, too.
_CALLS = CALLS | {
    "custom_vjp_call": "call_jaxpr",
    "custom_vmap_call": "call",
    "remat_opt": "fwd_jaxpr",
}
# These take and give numbers of the dtype that they were traced for: bits, random numbers, and foreign code.
_NARROW = {
    "bitcast_convert_type",
    "nextafter",
    "random_gamma",
    "rng_uniform",
    "pallas_call",
    "pure_callback",
    "io_callback",
    "debug_callback",
    "ffi_call",
    "custom_partitioning",
}

# These move numbers, or choose among them, and round nothing.
_EXACT = {
    *("broadcast_in_dim", "reshape", "transpose", "rev", "squeeze", "concatenate", "slice", "dynamic_slice", "pad"),
    *("select_n", "max", "min", "neg", "abs", "sign", "copy", "gather", "reduce_max", "reduce_min", "sort", "split"),
    *("optimization_barrier", "stop_gradient", "name", "expand_dims", "dynamic_update_slice", "cond", "scan", "while"),
    *_CALLS,
}
# To make random numbers of numbers: the sine of the angle times the number, times _SCRAMBLING, modulo 1, has lost all
# likeness to it.
_SCRAMBLING, _ANGLE = 1e4, 43_758.5453


def _silent(value: Any, var: core.Var, primitive: str) -> Any:
    return value


def widened(closed: core.ClosedJaxpr) -> Callable[..., list[Any]]:
    """The function of a jaxpr for float64 arrays; complex arrays are complex128, and all others stay as they are.

    An equation that cannot compute in float64 computes in its own dtype. The program shows it: a jaxpr of the widened
    function has a dtype below float64 there.
    """
    closed = dilations_removed(closed)
    return lambda *args: _evaluated(closed.jaxpr, closed.consts, args)


def noisy(closed: core.ClosedJaxpr, largest: float = 1.0) -> Callable[..., list[Any]]:
    """The function of a jaxpr for float64 arrays, with each result of an equation off by up to an eps of its dtype.

    `largest` bounds this eps.

    How far a gradient moves is what the rounding of intermediate results does to it. Equal numbers move alike.

    Source: D. S. Parker, Monte Carlo Arithmetic, UCLA (1997).
    """
    closed = dilations_removed(closed)
    return lambda *args: _evaluated(closed.jaxpr, closed.consts, args, partial(_noise, largest))


def scrambled(a: Any, angle: float) -> Any:
    """Numbers from 0 to 1 that look random, from numbers. Equal entries get equal numbers."""
    numbers = jnp if isinstance(a, jax.Array) else np
    sines = numbers.abs(numbers.nan_to_num(numbers.sin(angle * a)))
    return numbers.modf(sines * _SCRAMBLING)[0]


def _noise(largest: float, value: Any, var: core.Var, primitive: str) -> Any:
    if primitive in _EXACT or not jnp.issubdtype(struct_of(var).dtype, jnp.floating):
        return value
    eps = min(float(jnp.finfo(struct_of(var).dtype).eps), largest)
    return value * (1 + eps * (2 * scrambled(value, _ANGLE) - 1))


def wide_type(dtype: Any) -> Any:
    """float64 for a floating-point dtype, complex128 for a complex one; any other dtype is its own."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return np.dtype(np.complex128)
    return np.dtype(np.float64) if jnp.issubdtype(dtype, jnp.floating) else dtype


def wide(a: Any) -> Any:
    """An array, or a number, in its wide dtype."""
    dtype = jnp.result_type(a) if not hasattr(a, "dtype") else a.dtype
    target = wide_type(dtype)
    if target == dtype:
        return a
    return a.astype(target) if isinstance(a, (jax.Array, np.ndarray)) else np.asarray(a).astype(target)


def _evaluated(
    jaxpr: core.Jaxpr, consts: Sequence[Any], args: Sequence[Any], noise: Callable[..., Any] = _silent
) -> list[Any]:
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], map(wide, [*consts, *args]), strict=True))

    def value(atom: Any) -> Any:
        return wide(np.asarray(atom.val, struct_of(atom).dtype)) if isinstance(atom, core.Literal) else values[atom]

    for eqn in jaxpr.eqns:
        outputs = map(wide, _results(eqn, list(map(value, eqn.invars)), jaxpr, noise))
        name = eqn.primitive.name
        values.update({var: noise(x, var, name) for var, x in zip(eqn.outvars, outputs, strict=True)})
    return list(map(value, jaxpr.outvars))


def _results(eqn: core.JaxprEqn, inputs: list[Any], of: core.Jaxpr, noise: Callable[..., Any]) -> Sequence[Any]:
    name = eqn.primitive.name
    if name in _CALLS:
        inner = eqn.params[_CALLS[name]]
        jaxpr, consts = (inner.jaxpr, inner.consts) if isinstance(inner, core.ClosedJaxpr) else (inner, ())
        return _evaluated(jaxpr, consts, inputs, noise)
    if name == "custom_jvp_call":
        return _custom_jvp_results(eqn, inputs, of, noise)
    if name == "reduce_precision":
        return inputs
    if name == "shard_map":
        return _shard_mapped(eqn, inputs, noise)
    if name not in _NARROW:
        try:
            return results(eqn, inputs, of, {key: _wide_parameter(param, noise) for key, param in eqn.params.items()})
        except (TypeError, ValueError, NotImplementedError):
            pass  # the equation is for its own dtypes only
    dtypes = [struct_of(atom).dtype for atom in eqn.invars]
    narrow = [x if x.dtype == dtype else x.astype(dtype) for x, dtype in zip(inputs, dtypes, strict=True)]
    return results(eqn, narrow, of)


def _undilated(eqn: core.JaxprEqn) -> dict[str, Any]:
    """The parameters of a convolution without a dilation of x and w that its stride undoes.

    Where all three are s along an axis, and s divides the padding, the products and the sums are those of a convolution
    of stride 1. In float64 XLA takes many times as long for the dilated one.
    """
    params, (x, w) = dict(eqn.params), map(struct_of, eqn.invars)
    axes = params["dimension_numbers"]
    names = ("window_strides", "lhs_dilation", "rhs_dilation", "padding")
    strides, of_x, of_w, padding = (list(params[name]) for name in names)
    for i, step in enumerate(strides):
        if step > 1 and of_x[i] == of_w[i] == step and padding[i][0] % step == 0:
            size, window = x.shape[axes.lhs_spec[2 + i]], w.shape[axes.rhs_spec[2 + i]]
            low, out = padding[i][0] // step, struct_of(eqn.outvars[0]).shape[axes.out_spec[2 + i]]
            strides[i] = of_x[i] = of_w[i] = 1
            padding[i] = (low, out + window - 1 - size - low)
    return params | dict(zip(names, map(tuple, (strides, of_x, of_w, padding)), strict=True))


def _custom_jvp_results(
    eqn: core.JaxprEqn, inputs: list[Any], of: core.Jaxpr, noise: Callable[..., Any]
) -> Sequence[Any]:
    """The results of a custom JVP that stays in a function: its derivative is by its rule, traced in its own dtypes."""
    call, own = eqn.params["call_jaxpr"], list(map(struct_of, eqn.invars))
    inexact = [i for i, a in enumerate(own) if jnp.issubdtype(a.dtype, jnp.inexact)]

    @jax.custom_jvp
    def f(*args: Any) -> tuple[Any, ...]:
        return tuple(_evaluated(call.jaxpr, call.consts, args, noise))

    def tangents_of(args: Sequence[Any], tangents: Sequence[Any]) -> Any:
        def function_of_floats(*floats: Any) -> list[Any]:
            replaced = dict(zip(inexact, floats, strict=True))
            return results(eqn, [replaced.get(i, a) for i, a in enumerate(args)], of)

        return jax.jvp(function_of_floats, [args[i] for i in inexact], list(tangents))[1]

    @f.defjvp
    def rule(args: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
        closed = jax.make_jaxpr(tangents_of)(own, [own[i] for i in inexact])
        moved = _evaluated(closed.jaxpr, closed.consts, [*args, *(tangents[i] for i in inexact)], noise)
        return f(*args), tuple(moved)

    return f(*inputs)


def _wide_parameter(param: Any, noise: Callable[..., Any]) -> Any:
    """A parameter of an equation for float64: a dtype, a jaxpr, or a tuple of these."""
    if isinstance(param, core.ClosedJaxpr):
        return _wide_jaxpr(param.jaxpr, param.consts, noise)
    if isinstance(param, core.Jaxpr):
        closed = _wide_jaxpr(param, (), noise)
        if closed.consts:
            raise ValueError("a jaxpr without constants cannot be widened")
        return closed.jaxpr
    if isinstance(param, np.dtype) or (isinstance(param, type) and issubclass(param, np.generic)):
        return wide_type(param)
    if isinstance(param, jax.lax.DotAlgorithm | jax.lax.DotAlgorithmPreset):
        return None
    if isinstance(param, tuple):
        entries = [_wide_parameter(entry, noise) for entry in param]
        return type(param)(*entries) if hasattr(param, "_fields") else tuple(entries)
    return param


def _wide_jaxpr(jaxpr: core.Jaxpr, consts: Sequence[Any], noise: Callable[..., Any]) -> core.ClosedJaxpr:
    avals: list[Any] = [var.aval for var in jaxpr.invars]
    inputs = [aval.update(dtype=wide_type(aval.dtype), weak_type=False) for aval in avals]
    return jax.make_jaxpr(lambda *args: _evaluated(jaxpr, consts, args, noise))(*inputs)


def _shard_mapped(eqn: core.JaxprEqn, inputs: list[Any], noise: Callable[..., Any]) -> Sequence[Any]:
    params = eqn.params
    mapped = jax.shard_map(
        lambda *args: tuple(_evaluated(params["jaxpr"], (), args, noise)),
        mesh=params["mesh"],
        in_specs=tuple(params["in_specs"]),
        out_specs=tuple(params["out_specs"]),
        axis_names=set(params["newly_manual_axes"]),
        check_vma=params["check_vma"],
    )
    return mapped(*inputs)


class _Undilating(Rewriter):
    """Puts undilated convolutions in the place of those whose stride undoes their dilation."""

    def replaced_by(self, eqn):
        return None

    def entered(self, eqn):
        if eqn.primitive.name == "conv_general_dilated":
            params = _undilated(eqn)
            return eqn if params["window_strides"] == eqn.params["window_strides"] else eqn.replace(params=params)
        return super().entered(eqn)


_undilating = _Undilating()


def dilations_removed(closed: core.ClosedJaxpr) -> core.ClosedJaxpr:
    """A jaxpr without dilations of convolutions that strides undo."""
    return _undilating.closed_jaxpr(closed)
