"""Where arrays lie on a mesh of devices, as far as their types say it.

With Auto axes types say nothing and XLA decides. With Explicit axes the type of an array says along which of its axes
it is split, and many operations want to be told how their result shall lie. Inside `shard_map` the type says over which
axes of the mesh the values vary.
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


def on_any_mesh(f: Callable[..., Any]) -> Callable[..., Any]:
    """f for arrays on meshes with Explicit axes too, as one program: inside f these axes are Auto, and XLA decides.

    A result is split as the first such argument is, along the batch, and along the places if it has as many axes; along
    the channels as the last argument that has as many.
    """

    @functools.wraps(f)
    def f_on_any_mesh(*args):
        types = [jax.typeof(leaf) for leaf in jax.tree.leaves(args) if _is_array(leaf)]
        meshes = [type.sharding.mesh for type in types if _has_explicit_axes(type)]
        if not meshes:
            return f(*args)
        split = [type for type in types if any(type.sharding.spec)]

        def specs(results):
            return jax.tree.map(lambda result: _spec(result.shape, split), results)

        return _on_auto_axes(f, args, meshes[0], specs)

    return as_one_program(f_on_any_mesh)


def as_one_program(f: Callable[..., Any]) -> Callable[..., Any]:
    """f, which outside `jit` is compiled as a whole, and once for all calls with arguments of the same types.

    What is no array among the arguments is static.
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


_ARRAY = object()  # stands for an array among the static arguments


def as_arguments(f: Callable[..., Any], types: tuple[Any, ...]) -> Callable[..., Any]:
    """f, which returns a gradient or None for each argument, with each gradient where its argument is.

    Where a gradient varies between devices and its argument did not, each device has the part that its own data gave:
    the gradient is the sum.
    """
    meshes = [type.sharding.mesh for type in types if _has_explicit_axes(type)]

    def summed(*args):
        return [None if g is None else _summed(g, type) for g, type in zip(f(*args), types, strict=True)]

    def specs(gradients):
        return [None if g is None else type.sharding.spec for g, type in zip(gradients, types, strict=True)]

    def placed(*args):
        return _on_auto_axes(summed, args, meshes[0], specs) if meshes else summed(*args)

    return placed


def mesh_axes(*arrays: jax.Array | jax.ShapeDtypeStruct) -> int:
    """Along how many axes of a mesh, with more than one device each, the arrays may be split."""
    meshes = [jax.typeof(array).sharding.mesh for array in arrays]
    sizes = [zip(mesh.axis_sizes, mesh.axis_types, strict=True) for mesh in meshes if not mesh.empty]
    return max((sum(n > 1 and kind != AxisType.Manual for n, kind in axes) for axes in sizes), default=0)


def _on_auto_axes(f, args, mesh, specs_of):
    """f(*args) with the Explicit axes of the mesh as Auto ones; specs_of(results) says how these are split then."""
    leaves, structure = jax.tree.flatten(args)
    explicit = tuple(n for n, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Explicit)

    def of_arrays(*arrays):
        values = iter(arrays)
        return f(*jax.tree.unflatten(structure, [next(values) if _is_array(leaf) else leaf for leaf in leaves]))

    def call(out_sharding):
        arrays = [leaf for leaf in leaves if _is_array(leaf)]
        return auto_axes(of_arrays, axes=explicit, out_sharding=out_sharding)(*arrays)

    results = jax.eval_shape(lambda: call(NamedSharding(mesh, P())))
    return call(jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs_of(results), is_leaf=_is_spec))


def _spec(shape, types):
    """Along which axes of a mesh a result of this shape is split; see `on_any_mesh`."""
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


def _summed(gradient, type):
    parts, whole = (t.manual_axis_type.varying for t in (jax.typeof(gradient), type))
    if parts - whole:
        gradient = lax.psum(gradient, tuple(parts - whole))
    return lax.pcast(gradient, tuple(whole - parts), to="varying") if whole - parts else gradient


def _is_spec(leaf):
    return isinstance(leaf, P)


def _is_array(leaf):
    return isinstance(leaf, jax.Array | np.ndarray)


def _has_explicit_axes(type):
    """Whether the array is on a mesh with Explicit axes: it may be split along an axis that `vmap` hides."""
    return AxisType.Explicit in type.sharding.mesh.axis_types
