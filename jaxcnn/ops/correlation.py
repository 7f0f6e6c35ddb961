"""The two correlations that a convolutional layer and its backward pass are made of, and how they are computed.

What the rules call a convolution is, as in the lecture and in every framework, a cross-correlation: the filter slides
and is not reversed. Both correlations are one `lax.conv_general_dilated` with the channels last, except that

- groups of several channels are convolutions of their own: XLA gathers the batch of a grouped one that is spread over
  devices, and on a CPU its filter gradient takes hundreds of times longer;
- the filter gradient of a depthwise convolution is a sum of products: the convolution gathers the batch as well.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Pads = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Arithmetic:
    """lax's `precision` of the products, and the dtype of the sums and the result; None leaves it to lax."""

    precision: Any = None
    dtype: Any = None


LAX = Arithmetic()


def correlate(
    x: jax.Array,
    w: jax.Array,
    *,
    stride: Sequence[int],
    padding: Pads,
    dilation: Sequence[int],
    upsampling: Sequence[int] | None = None,
    groups: int = 1,
    arithmetic: Arithmetic = LAX,
) -> jax.Array:
    """Slides the filters w [*K, C/groups, O] over the images x [N, *S, C] and sums over C: [N, *M, O].

    `upsampling` puts zeros between the entries of x first; `dilation` does so for w.
    """
    x, w = _of_one_dtype(x, w)
    if upsampling is not None and groups > 1 and x.dtype == jnp.float64:
        # On a CPU the XLA of jaxlib 0.10.2 ends the process over some of these, unless the zeros are written out: for
        # one, the input gradient of depthwise filters [2, 3, 1, 2], stride 2, padding 1, on images [1, 4, 3, 2].
        between = [(0, 0, factor - 1) for factor in upsampling]
        x, upsampling = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *between, (0, 0, 0)]), None
    if groups > 1 and w.shape[-2] > 1:
        options = {"stride": stride, "padding": padding, "dilation": dilation, "upsampling": upsampling}
        return _group_by_group(lambda x, w: correlate(x, w, **options, arithmetic=arithmetic), x, w, groups)
    spatial = tuple(range(1, x.ndim - 1))
    channels = x.ndim - 1
    layout = lax.ConvDimensionNumbers(
        lhs_spec=(0, channels, *spatial),
        rhs_spec=(channels, channels - 1, *range(x.ndim - 2)),
        out_spec=(0, channels, *spatial),
    )
    return lax.conv_general_dilated(
        x,
        w,
        stride,
        padding,
        upsampling,
        dilation,
        dimension_numbers=layout,
        feature_group_count=groups,
        precision=arithmetic.precision,
        preferred_element_type=arithmetic.dtype,
    )


def correlate_over_batch(
    x: jax.Array,
    dz: jax.Array,
    *,
    stride: Sequence[int],
    padding: Pads,
    dilation: Sequence[int],
    upsampling: Sequence[int] | None = None,
    groups: int = 1,
    arithmetic: Arithmetic = LAX,
) -> jax.Array:
    """Slides dz [N, *M, O] over x [N, *S, C], each pair of channels by itself, and sums over N: [*K, C/groups, O].

    The same convolution with the axes in other roles: the C channels of x are the images, the batch is what is summed.
    `upsampling` puts zeros between the entries of x first; `dilation` does so for dz.
    """
    x, dz = _of_one_dtype(x, dz)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "upsampling": upsampling}
    if groups > 1 and groups == x.shape[-1]:
        return _correlate_channels_over_batch(x, dz, **options)
    if groups > 1:
        return _group_by_group(
            lambda x, dz: correlate_over_batch(x, dz, **options, arithmetic=arithmetic), x, dz, groups
        )
    spatial = tuple(range(1, x.ndim - 1))
    channels = x.ndim - 1
    layout = lax.ConvDimensionNumbers(
        lhs_spec=(channels, 0, *spatial),
        rhs_spec=(channels, 0, *spatial),
        out_spec=(channels - 1, channels, *range(x.ndim - 2)),
    )
    return lax.conv_general_dilated(
        x,
        dz,
        stride,
        padding,
        upsampling,
        dilation,
        dimension_numbers=layout,
        precision=arithmetic.precision,
        preferred_element_type=arithmetic.dtype,
    )


def _of_one_dtype(x: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both in the wider of their dtypes: gradients of sums in float32 of products in bfloat16 are float32."""
    dtype = max(x.dtype, w.dtype, key=lambda dtype: dtype.itemsize)
    return x.astype(dtype), w.astype(dtype)


def _group_by_group(f: Callable[..., jax.Array], x: jax.Array, w: jax.Array, groups: int) -> jax.Array:
    """f of the channels of each group, side by side."""
    pairs = zip(jnp.split(x, groups, axis=-1), jnp.split(w, groups, axis=-1), strict=True)
    return jnp.concatenate([f(*pair) for pair in pairs], axis=-1)


def _correlate_channels_over_batch(x, dz, *, stride, padding, dilation, upsampling):
    """`correlate_over_batch` of each channel of x with its own channels of dz: [*K, 1, O].

    dw[k] = Σ_n Σ_i dz[n, d·i] x[n, i·d + k·s - low], one product of dz and a strided slice of x for every k. As many
    sums as the filter has entries in one pass over both; the batch comes last, so that devices exchange sums only.
    """
    batch, *places, filters = dz.shape
    channels = x.shape[-1]
    between = [factor - 1 for factor in upsampling or (1,) * len(places)]
    pads = [(*pads, zeros) for pads, zeros in zip(padding, between, strict=True)]
    x = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    reach = [d * (m - 1) + 1 for m, d in zip(places, dilation, strict=True)]
    size = [(n - e) // s + 1 for n, e, s in zip(x.shape[1:-1], reach, stride, strict=True)]
    dz = dz.reshape(batch, *places, channels, filters // channels)
    products = []
    for entry in itertools.product(*map(range, size)):
        first = [k * s for k, s in zip(entry, stride, strict=True)]
        last = [k + e for k, e in zip(first, reach, strict=True)]
        seen = lax.slice(x, (0, *first, 0), (batch, *last, channels), (1, *dilation, 1))
        products.append(dz * seen[..., None])
    sums = jnp.stack(_sums_over_places(tuple(products)))
    return jnp.sum(sums, axis=1).reshape(*size, 1, filters)


@jax.custom_jvp
def _sums_over_places(maps: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """The sum of each map [N, *M, C, m] over its places, [N, C, m], all in one pass."""
    zeros = tuple(np.zeros((), a.dtype) for a in maps)
    places = range(1, maps[0].ndim - 2)
    return tuple(lax.reduce(maps, zeros, lambda a, b: tuple(u + v for u, v in zip(a, b, strict=True)), places))


@_sums_over_places.defjvp
def _sums_over_places_jvp(primals, tangents):
    """Linear; XLA's reduction of many operands has no derivative worth its cost."""
    (maps,), (dmaps,) = primals, tangents
    places = tuple(range(1, maps[0].ndim - 2))
    return _sums_over_places(maps), tuple(jnp.sum(a, axis=places) for a in dmaps)
