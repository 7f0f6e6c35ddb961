"""Where arrays lie on a mesh of devices, as far as their types say it.

With Auto axes of the mesh types say nothing, and XLA decides. With Explicit axes the type of an array says along which
of its axes it is split, and many operations have to be told how their result is split. Inside `shard_map` the type says
over which axes of the mesh the values differ.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, auto_axes
from jax.sharding import PartitionSpec as P


def compiled_for_any_mesh(f: Callable[..., Any]) -> Callable[..., Any]:
    """f, compiled as a whole, for arrays on any mesh. Inside f the Explicit axes of a mesh are Auto, and XLA decides.

    A result is split along the batch as the first argument that is split. It is split along the places as this argument
    if the two have as many axes. It is split along the channels as the last argument that has as many channels.
    """

    @functools.wraps(f)
    def f_with_auto_axes(*args):
        types = [jax.typeof(leaf) for leaf in jax.tree.leaves(args) if _is_array(leaf)]
        meshes = [type.sharding.mesh for type in types if _has_explicit_axes(type)]
        if not meshes:
            return f(*args)
        split = [type for type in types if any(type.sharding.spec)]

        def specs(results):
            return jax.tree.map(lambda result: _result_spec(result.shape, split), results)

        return _call_with_auto_axes(f, args, meshes[0], specs)

    return compiled_whole(f_with_auto_axes)


def compiled_whole(f: Callable[..., Any]) -> Callable[..., Any]:
    """f as one program: outside `jit` it is compiled once for all calls with arguments of the same types.

    Arguments that are no arrays are static.
    """

    def program(structure, leaves, *arrays):
        values = iter(arrays)
        return f(*jax.tree.unflatten(structure, [next(values) if leaf is _ARRAY else leaf for leaf in leaves]))

    program.__name__ = f.__name__
    compiled = jax.jit(program, static_argnums=(0, 1))

    @functools.wraps(f)
    def call(*args):
        leaves, structure = jax.tree.flatten(args)
        arrays = [leaf for leaf in leaves if _is_array(leaf)]
        return compiled(structure, tuple(_ARRAY if _is_array(leaf) else leaf for leaf in leaves), *arrays)

    return call


_ARRAY = object()  # stands for each array among the static arguments


def placed_like(f: Callable[..., Any], types: tuple[Any, ...]) -> Callable[..., Any]:
    """f with each of its gradients lying as the argument does: f returns a gradient or None for each of the types.

    A gradient may vary between devices where its argument does not. Then each device has the part that its own data
    gives, and the gradient is the sum.
    """
    meshes = [type.sharding.mesh for type in types if _has_explicit_axes(type)]

    def summed(*args):
        return [None if g is None else _summed_over_devices(g, type) for g, type in zip(f(*args), types, strict=True)]

    def specs(gradients):
        return [None if g is None else type.sharding.spec for g, type in zip(gradients, types, strict=True)]

    def placed(*args):
        return _call_with_auto_axes(summed, args, meshes[0], specs) if meshes else summed(*args)

    return placed


def mesh_axes(*arrays: jax.Array | jax.ShapeDtypeStruct) -> int:
    """Along how many axes of a mesh the arrays may be split, of those with more than one device."""
    meshes = [jax.typeof(array).sharding.mesh for array in arrays]
    sizes = [zip(mesh.axis_sizes, mesh.axis_types, strict=True) for mesh in meshes if not mesh.empty]
    return max((sum(n > 1 and kind != AxisType.Manual for n, kind in axes) for axes in sizes), default=0)


def _call_with_auto_axes(f, args, mesh, specs_of):
    """f(*args) with the Explicit axes of the mesh as Auto ones. specs_of(results) says how the results are split."""
    leaves, structure = jax.tree.flatten(args)
    explicit = tuple(n for n, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Explicit)

    def program(*arrays):
        values = iter(arrays)
        return f(*jax.tree.unflatten(structure, [next(values) if _is_array(leaf) else leaf for leaf in leaves]))

    def call(out_sharding):
        arrays = [leaf for leaf in leaves if _is_array(leaf)]
        return auto_axes(program, axes=explicit, out_sharding=out_sharding)(*arrays)

    results = jax.eval_shape(lambda: call(NamedSharding(mesh, P())))
    return call(jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs_of(results), is_leaf=_is_spec))


def _result_spec(shape, types):
    """Along which axes of a mesh a result of this shape is split: see `compiled_for_any_mesh`."""
    if not types:
        return P()
    first = types[0]
    sizes = dict(zip(first.sharding.mesh.axis_names, first.sharding.mesh.axis_sizes, strict=True))
    names, used = [None] * len(shape), set()

    def split(axis, name):
        mesh_axes = name if isinstance(name, tuple) else (name,)
        divides = name is not None and shape[axis] % math.prod(sizes[n] for n in mesh_axes) == 0
        if divides and names[axis] is None and not used.intersection(mesh_axes):
            names[axis] = name
            used.update(mesh_axes)

    batch_and_places = len(shape) - 1 if len(shape) == len(first.shape) else min(1, len(shape))
    for axis in range(batch_and_places):
        split(axis, first.sharding.spec[axis])
    for type in reversed(types):
        if len(shape) > 1 and type.shape[-1:] == shape[-1:]:
            split(-1, type.sharding.spec[-1])
    return P(*names)


def _summed_over_devices(gradient, type):
    """A gradient that varies over the axes of the mesh that its argument of this type varies over."""
    parts, whole = (t.manual_axis_type.varying for t in (jax.typeof(gradient), type))
    if parts - whole:
        gradient = lax.psum(gradient, tuple(parts - whole))
    return lax.pcast(gradient, tuple(whole - parts), to="varying") if whole - parts else gradient


def _is_spec(leaf):
    return isinstance(leaf, P)


def _is_array(leaf):
    return isinstance(leaf, jax.Array | np.ndarray)


def _has_explicit_axes(type):
    """Whether an array of this type is on a mesh with Explicit axes. It may be split along an axis hidden by `vmap`."""
    return AxisType.Explicit in type.sharding.mesh.axis_types
