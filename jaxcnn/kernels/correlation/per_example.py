"""Filter gradients per example on a CPU: what `vmap` over x and dz makes of `correlate_over_batch`.

JAX turns the examples into groups of channels. XLA computes a grouped convolution slowly. Here one example comes after
the other, as a few products of matrices that stay in the cache.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero

from jaxcnn.kernels.correlation.by_lax import has_static_places
from jaxcnn.kernels.correlation.by_products import product_over_places, strided

_FEW_IMAGES = 4  # of an example; with more, the grouped convolution may be as fast
_FEW_ENTRIES = 128  # of a filter; each adds to what is compiled


def comes_one_by_one(x, dz, sliding, groups):
    """Whether a CPU computes the examples of a `vmap` one after the other, given the types of x and dz of one.

    It does not where products of matrices compute all examples at once already, and not on a mesh or in `shard_map`,
    where the examples may be split. A mesh that only `jax.jit(in_shardings=...)` knows is not seen here.
    """
    image, places = x.shape[1:-1], dz.shape[1:-1]
    if groups > 1 or not (has_static_places(x) and has_static_places(dz)) or not image:
        return False
    size = sliding.places(image, places)
    side_by_side = max(sliding.stride) == 1 and tuple(size) == sliding.dilation
    as_product = math.prod(size) == 1 or math.prod(places) == 1 or side_by_side
    few_images = isinstance(x.shape[0], int) and 0 < x.shape[0] <= _FEW_IMAGES
    few = few_images and math.prod(size) <= _FEW_ENTRIES
    return few and not as_product and not sliding.upsamples and jax.typeof(x).sharding.mesh.empty


def by_example_over_batch(way: Callable[..., jax.Array], one: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """way(x, dz), a way of `correlate_over_batch`, of which `vmap` over both arrays makes a loop over one(x, dz).

    `vmap` over one of the two arrays is JAX's own. `vmap` of the result is the loop again.
    """
    f = custom_vmap(way)

    @f.def_vmap
    def batching_rule(size, batched, x, dz):
        if all(batched):

            def loop(x, dz):
                return lax.map(lambda example: one(*example), (x, dz))

            return by_example_over_batch(loop, loop)(x, dz), True
        axes = [0 if is_batched else None for is_batched in batched]
        return by_example_over_batch(jax.vmap(way, axes), jax.vmap(one, axes))(x, dz), True

    return f


def derived_from(
    way: Callable[..., jax.Array], faster: Callable[..., jax.Array], x: jax.Array, dz: jax.Array
) -> jax.Array:
    """faster(x, dz), with the derivatives of way(x, dz). What `custom_vmap` makes has none."""
    f = jax.custom_jvp(faster)

    def jvp(primals, tangents):
        perturbed = [not isinstance(tangent, SymbolicZero) for tangent in tangents]

        def way_of_perturbed(*some):
            values = iter(some)
            return way(*(next(values) if p else a for a, p in zip(primals, perturbed, strict=True)))

        at, along = (tuple(a for a, p in zip(pair, perturbed, strict=True) if p) for pair in (primals, tangents))
        return f(*primals), jax.jvp(way_of_perturbed, at, along)[1]

    f.defjvp(jvp, symbolic_zeros=True)
    return f(x, dz)


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
