"""Which of our ops computes an equation of a jaxpr, or why none does."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core
from jax.extend.core import primitives
from jax.sharding import AxisType

from jaxcnn.contract import arguments
from jaxcnn.ops.general_convolution import conv_general_dilated
from jaxcnn.ops.max_pooling import max_pool
from jaxcnn.ops.mean_pooling import mean_pool

_FLOATS = tuple(map(jnp.dtype, (jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64)))
_GRADIENTS = (
    primitives.select_and_scatter_p,
    primitives.select_and_scatter_add_p,
    primitives.select_and_gather_add_p,
)


@dataclass(frozen=True)
class Replacement:
    """Our op in the place of an equation: a jaxpr with the same inputs and results."""

    jaxpr: core.ClosedJaxpr


@dataclass(frozen=True)
class Kept:
    """A convolution or pool that stays as it is, and why."""

    reason: str


def replacement(eqn: core.JaxprEqn) -> Replacement | Kept | None:
    """What becomes of a convolution or a pool; None for an equation that is neither."""
    if eqn.primitive is primitives.conv_general_dilated_p:
        return _traced(partial(_convolution, **eqn.params), eqn)
    if eqn.primitive is primitives.reduce_window_max_p:
        return _pool("max", eqn)
    if eqn.primitive is primitives.reduce_window_sum_p:
        return _pool("add", eqn)
    if eqn.primitive is primitives.reduce_window_p:
        return _generic_pool(eqn)
    if eqn.primitive is primitives.reduce_window_min_p:
        return Kept("it is a minimum")
    if eqn.primitive in _GRADIENTS:
        return Kept("it is part of a gradient that the function takes itself")
    return None


def _convolution(lhs, rhs, *, padding, lhs_dilation, dimension_numbers, **others):
    """`conv_general_dilated`. The image is padded first where the width is symbolic: lax takes no such padding."""
    if any(map(arguments.is_symbolic, sum(padding, ()))):
        config = [(0, 0, 0)] * lhs.ndim
        for axis, (low, high), d in zip(dimension_numbers.lhs_spec[2:], padding, lhs_dilation, strict=True):
            config[axis] = (low, high, d - 1)
        lhs = lax.pad(lhs, np.zeros((), lhs.dtype), config)
        padding, lhs_dilation = ((0, 0),) * len(padding), (1,) * len(padding)
    others |= {"padding": padding, "lhs_dilation": lhs_dilation, "dimension_numbers": dimension_numbers}
    return conv_general_dilated(lhs, rhs, **others)


def _traced(op, eqn):
    """The op as a jaxpr from the inputs of the equation to a result of the same type, or why that cannot be."""
    (out,) = (var.aval for var in eqn.outvars)
    inputs = [atom.aval for atom in eqn.invars]
    others = sorted({str(type.dtype) for type in (*inputs, out)} - set(map(str, _FLOATS)))
    if others:
        return Kept(f"it has {', '.join(others)}, not floating-point numbers")
    if out.size == 0 or any(type.size == 0 for type in inputs):
        return Kept("it has no entries")
    if any(type.dtype != jax.dtypes.canonicalize_dtype(type.dtype) for type in inputs):
        return Kept("it has float64 where jax_enable_x64 is off")
    try:
        with eqn.ctx.manager:
            return Replacement(jax.make_jaxpr(lambda *args: _typed(op(*args), out))(*inputs))
    except ValueError as error:
        return Kept(f"our op refuses it ({error})")
    except jax.errors.InconclusiveDimensionOperation as error:
        reason, *_ = str(error).splitlines()
        return Kept(f"our op needs sizes that are known ({reason})")


def _typed(y, expected):
    """y with the type that is expected: split so on a mesh with Explicit axes, and weakly typed if that is."""
    if AxisType.Explicit in expected.sharding.mesh.axis_types and jax.typeof(y).sharding != expected.sharding:
        y = jax.sharding.reshard(y, expected.sharding)
    if jax.typeof(y).weak_type != expected.weak_type:
        weak = expected.weak_type
        y = primitives.convert_element_type_p.bind(y, new_dtype=y.dtype, weak_type=weak, sharding=None)
    return y


def _generic_pool(eqn):
    """What becomes of a pool whose reduction of two entries is a function of its own."""
    if len(eqn.invars) != 2:
        return Kept("it reduces several arrays at once")
    (_, start), reduction = eqn.invars, _single_primitive(eqn.params["jaxpr"])
    identity = {"max": -np.inf, "add": 0.0}.get(reduction or "")
    if identity is None or eqn.params["consts"]:
        return Kept("it is no maximum and no sum")
    if not isinstance(start, core.Literal):
        return Kept("what it starts from is known at run time only")
    if start.val != identity:
        return Kept(f"it starts from {start.val}, not {identity}")
    return _pool(reduction, eqn)


def _single_primitive(jaxpr):
    """The primitive that a function of two scalars consists of, or None if there are several."""
    if len(jaxpr.eqns) != 1 or jaxpr.outvars != jaxpr.eqns[0].outvars or set(jaxpr.eqns[0].invars) != set(jaxpr.invars):
        return None
    inner = list(core.jaxprs_in_params(jaxpr.eqns[0].params))
    return _single_primitive(inner[0]) if inner else jaxpr.eqns[0].primitive.name


def _pool(reduction, eqn):
    """What becomes of a pool over any axes. They become the spatial axes of our op, which are in the middle."""
    window, stride, padding, base_dilation, dilation = (
        eqn.params[name]
        for name in ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
    )
    if max(base_dilation, default=1) > 1:
        return Kept("there are zeros between the entries (base_dilation)")
    if reduction == "add" and any(d > 1 and k > 1 for k, d in zip(window, dilation, strict=True)):
        return Kept("it is a sum over a window with window_dilation")
    window_axes = list(zip(window, stride, padding, dilation, strict=True))
    free = [axis for axis, (k, s, pads, _) in enumerate(window_axes) if k == s == 1 and tuple(pads) == (0, 0)]
    if len(free) == len(window_axes):
        return Kept("its window is a single entry")
    images, channels = free[:-1][:1], free[-1:]
    spatial = [axis for axis in range(len(window_axes)) if axis not in (*images, *channels)]
    order = (*images, *spatial, *channels)
    added = () if images else (0,) if channels else (0, len(order) + 1)
    window, stride, padding, dilation = zip(*(window_axes[axis] for axis in spatial), strict=True)

    image = [eqn.invars[0].aval.shape[axis] for axis in spatial]
    if reduction == "max" and any(map(arguments.is_symbolic, image)):
        return Kept("the size of its image is symbolic")

    back = tuple(order.index(axis) for axis in range(len(order)))

    def pool(x, *_):
        x = jnp.expand_dims(jnp.transpose(x, order), added)
        if reduction == "max":
            y = max_pool(x, window, stride=stride, padding=padding, dilation=dilation)
        else:
            y = mean_pool(x, window, stride=stride, padding=padding, divisor=1.0)
        return jnp.transpose(jnp.squeeze(y, added), back)

    return _traced(pool, eqn)
