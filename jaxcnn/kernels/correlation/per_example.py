"""Filter gradients per example on a CPU: what `vmap` over x and dz makes of `correlate_over_batch`.

JAX turns the examples into groups of channels. XLA computes a grouped convolution slowly. Here one example comes after
the other, as a few products of matrices that stay in the cache.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap

from jaxcnn.kernels.correlation.by_lax import has_static_places
from jaxcnn.kernels.correlation.by_products import product_over_places, strided

_FEW_IMAGES = 4  # of an example; with more, the grouped convolution may be as fast


def comes_one_by_one(x, dz, sliding, groups):
    """Whether a CPU computes the examples of a `vmap` one after the other, given the types of x and dz of one.

    It does not where products of matrices compute all examples at once already, and not on a mesh, where the examples
    may be split.
    """
    image, places = x.shape[1:-1], dz.shape[1:-1]
    if groups > 1 or not (has_static_places(x) and has_static_places(dz)) or not image:
        return False
    size = sliding.places(image, places)
    side_by_side = max(sliding.stride) == 1 and tuple(size) == sliding.dilation
    as_product = math.prod(size) == 1 or math.prod(places) == 1 or side_by_side
    few = isinstance(x.shape[0], int) and 0 < x.shape[0] <= _FEW_IMAGES
    return few and not as_product and not sliding.upsamples and jax.typeof(x).sharding.mesh.empty


def by_example_over_batch(way: Callable[..., jax.Array], one: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """way(x, dz), a way of `correlate_over_batch`, of which `vmap` over both arrays makes a loop over one(x, dz).

    `vmap` over one of the two arrays is JAX's own. `vmap` of the result is the loop again.
    """
    f = custom_vmap(way)

    @f.def_vmap
    def of_many(size, batched, x, dz):
        if all(batched):

            def loop(x, dz):
                return lax.map(lambda example: one(*example), (x, dz))

            return by_example_over_batch(loop, loop)(x, dz), True
        axes = [0 if is_batched else None for is_batched in batched]
        return by_example_over_batch(jax.vmap(way, axes), jax.vmap(one, axes))(x, dz), True

    return f


# `custom_vmap` has no derivatives. dw = F dz, with F the map of this x, is the solution of the linear system
#
#     a = dz,    dw - F a = 0,        and of the transposed one,    a - Fᵀ b = a̅,    b = b̅,    is a = a̅ + Fᵀ b̅.
#
# `custom_linear_solve` derives from the system, and is told the solutions.
def derived_from(
    way: Callable[..., jax.Array], faster: Callable[..., jax.Array], x: jax.Array, dz: jax.Array
) -> jax.Array:
    """faster(x, dz), with the derivatives of way(x, dz), which is linear in dz."""
    zeros = jnp.zeros(dz.shape, dz.dtype)

    def gradient(dz):
        """F dz, by operations that are linear in dz one by one: a way may read dz for other reasons."""
        return jax.jvp(partial(way, x), (zeros,), (dz,))[1]

    def system(unknowns):
        a, dw = unknowns
        return a, dw - gradient(a)

    def solution(_, right):
        dz, rest = right
        return dz, faster(x, dz) + rest

    def transposed_solution(_, right):
        (more,) = jax.linear_transpose(gradient, dz)(right[1])
        return right[0] + more, right[1]

    dw = jax.eval_shape(way, x, dz)
    zero = jnp.sum(dz[:0]).astype(dw.dtype)  # a linear function of dz, as the solver wants its right-hand side
    right = dz, jnp.broadcast_to(zero, dw.shape)
    return lax.custom_linear_solve(system, right, solution, transposed_solution)[1]


def by_columns_over_batch(x, dz, sliding, arithmetic):
    """`correlate_over_batch` without groups: one product of matrices for each row of the filters, [k·C, N·M] [N·M, O].

    What the k entries of a row see lies side by side.
    """
    *others, k = sliding.places(x.shape[1:-1], dz.shape[1:-1])
    (*strides, stride), (*dilations, dilation), width = sliding.stride, sliding.dilation, dz.shape[-2]
    padded = sliding.pad(x)
    whole = padded.shape[1:-2]
    zeros, ones = (0,) * len(whole), (1,) * len(whole)
    columns = [strided(padded, (*zeros, i * stride), (*ones, dilation), (*whole, width)) for i in range(k)]
    # The barrier makes XLA compile the columns once, and not for each row of the filters.
    columns, rows = lax.optimization_barrier(jnp.concatenate(columns, axis=-1)), []
    few = dz.shape[-1] < columns.shape[-1]  # the smaller number becomes the rows of the matrix, as in other products
    for entry in np.ndindex(*others):
        first = [i * s for i, s in zip(entry, strides, strict=True)]
        seen = strided(columns, (*first, 0), (*dilations, 1), dz.shape[1:-1])
        rows.append(product_over_places(*((dz, seen) if few else (seen, dz)), arithmetic))
    dw = jnp.stack(rows)
    return (jnp.swapaxes(dw, 1, 2) if few else dw).reshape(*others, k, x.shape[-1], dz.shape[-1])
