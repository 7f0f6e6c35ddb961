"""How one array slides over another, and each of the two correlations as one `lax.conv_general_dilated`."""

import operator
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.contract.geometry import surely
from jaxcnn.contract.sharding import mesh_axes


@dataclass(frozen=True)
class Sliding:
    """How an array slides over another along its spatial axes; one entry per axis everywhere.

    `upsampling` puts zeros between the entries of the array below. `dilation` puts zeros between the entries of the
    array that slides.
    """

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    upsampling: tuple[int, ...]

    @property
    def upsamples(self) -> bool:
        return max(self.upsampling, default=1) > 1

    def restricted(self, axes: slice) -> "Sliding":
        """The sliding along some of the axes."""
        return Sliding(self.stride[axes], self.padding[axes], self.dilation[axes], self.upsampling[axes])

    def last_axis_first(self) -> "Sliding":
        """The sliding over arrays whose last spatial axis was moved before the others."""
        return Sliding(*((last, *others) for *others, last in astuple(self)))

    def places(self, image: Sequence[int], size: Sequence[int]) -> tuple[int, ...]:
        """How many places an array of this size takes on each axis of an image."""
        padded = (u * (n - 1) + 1 + sum(pads) for n, u, pads in zip(image, self.upsampling, self.padding, strict=True))
        spans = (d * (k - 1) + 1 for k, d in zip(size, self.dilation, strict=True))
        return tuple((n - e) // s + 1 for n, e, s in zip(padded, spans, self.stride, strict=True))

    def doubled(self) -> "Sliding":
        """The sliding with every distance along the first spatial axis doubled.

        Zeros come between the entries of the image, and no entry of a filter meets them: the result is the same.
        """
        (low, high), *pads = self.padding
        stride, dilation, upsampling = ((2 * n, *rest) for n, *rest in (self.stride, self.dilation, self.upsampling))
        return Sliding(stride, ((2 * low, 2 * high), *pads), dilation, upsampling)

    def pad(self, x: jax.Array) -> jax.Array:
        """The images x [N, *S, C] with their zeros, those between the entries and those of the padding."""
        pads = [(low, high, u - 1) for (low, high), u in zip(self.padding, self.upsampling, strict=True)]
        return lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])


@dataclass(frozen=True)
class Arithmetic:
    """lax's `precision` of the products, and the dtype of the sums and of the result. None leaves either to lax."""

    precision: Any = None
    dtype: Any = None


LAX = Arithmetic()


# Under `vmap`, as in gradients per example, JAX turns the images into groups of channels. XLA (jaxlib 0.10.2 and
# 0.12.0) computes the groups of all devices but the first wrong if all of this holds:
#
# 1. The groups are split over devices.
# 2. Each group sums over one channel. A filter gradient of one image does. So does the gradient that JAX derives of a
#    convolution of one image, or of a filter gradient of one filter.
# 3. The filters, or the filter gradient that is the result, have their spatial axes in front: [*K, a, b].
#
# The layouts below give that array the spatial axes in between, [a, *K, b], as all other arrays have them. That costs
# nothing. A mesh that only `jax.jit(in_shardings=...)` knows is not seen here. So the filter gradient of one image has
# this layout without a mesh as well.


def by_lax(x, w, sliding, groups, arithmetic):
    """`correlate` as one `lax.conv_general_dilated`."""
    spatial, channels = tuple(range(1, x.ndim - 1)), x.ndim - 1
    layout = lax.ConvDimensionNumbers(
        lhs_spec=(0, channels, *spatial),
        rhs_spec=(channels, channels - 1, *range(x.ndim - 2)),
        out_spec=(0, channels, *spatial),
    )
    if x.shape[0] == 1 and mesh_axes(x, w):
        w = jnp.moveaxis(w, channels - 1, 0)
        layout = layout._replace(rhs_spec=(channels, *range(channels)))
    if sliding.upsamples and groups > 1 and x.dtype == jnp.float64:
        # On a CPU the XLA of jaxlib 0.10.2 ends the process over some of these, unless the zeros are written out. One
        # is the input gradient of depthwise filters [2, 3, 1, 2], stride 2, padding 1, on images [1, 4, 3, 2].
        x, sliding = sliding.pad(x), _unpadded(sliding)
    return _lax_convolution(x, w, sliding, layout, arithmetic, feature_group_count=groups)


def by_lax_over_batch(x, dz, sliding, arithmetic, groups=1):
    """`correlate_over_batch` as one `lax.conv_general_dilated`: it takes the channels of x as images and the batch as
    channels, so that it sums over the batch."""
    spatial, channels = tuple(range(1, x.ndim - 1)), x.ndim - 1
    if x.shape[0] == 1 or mesh_axes(x, dz):
        out_spec = (0, channels, *spatial)
    else:
        out_spec = (channels - 1, channels, *range(x.ndim - 2))
    layout = lax.ConvDimensionNumbers((channels, 0, *spatial), (channels, 0, *spatial), out_spec)
    way = partial(_lax_convolution, sliding=sliding, layout=layout, arithmetic=arithmetic, batch_group_count=groups)
    if any(_rows_behind(sliding)):
        dw = lax.platform_dependent(x, dz, cpu=way, default=partial(way, crop=_cropped_but_rows_behind))
    else:
        dw = way(x, dz)
    return jnp.moveaxis(dw, out_spec[0], -2)


# A crop is a copy of the images. At the end of an axis there may be rows that no place of the filter reached. They are
# fewer than the layer's stride, which is the dilation here. A GPU's kernel for filter gradients takes these rows as a
# negative padding, without a copy. XLA does not take that kernel for more rows, or for rows in front.
def _rows_behind(sliding):
    """The number of such rows on each axis, as a negative padding at the end."""
    if not all(isinstance(width, int) for pads in sliding.padding for width in pads):
        return [0] * len(sliding.padding)
    axes = zip(sliding.padding, sliding.dilation, strict=True)
    return [high if -d < high < 0 else 0 for (_, high), d in axes]


def _cropped_but_rows_behind(x, sliding):
    """The same as `cropped`, but the rows of `_rows_behind` stay in x and in the negative padding."""
    rows = _rows_behind(sliding)
    padding = tuple((low, high - row) for (low, high), row in zip(sliding.padding, rows, strict=True))
    x, sliding = cropped(x, replace(sliding, padding=padding))
    padding = tuple((low, high + row) for (low, high), row in zip(sliding.padding, rows, strict=True))
    return x, replace(sliding, padding=padding)


def _lax_convolution(x, w, sliding, layout, arithmetic, feature_group_count=1, batch_group_count=1, crop=None):
    x, sliding = (crop or cropped)(x, sliding)
    return lax.conv_general_dilated(
        x,
        w,
        sliding.stride,
        sliding.padding,
        sliding.upsampling,
        sliding.dilation,
        dimension_numbers=layout,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=arithmetic.precision,
        preferred_element_type=arithmetic.dtype,
    )


def cropped(x, sliding):
    """x without the borders that negative padding crops, and the sliding over the rest.

    Where a width is symbolic, all padding is written out.

    Without this, the XLA of jaxlib 0.10.2 reads beyond some images on a CPU. One is 10 channels of 39 x 15 under 16
    filters of 1 x 3, with 3 rows cropped and 2 added.
    """
    if not all(isinstance(width, int) for pads in sliding.padding for width in pads):
        return sliding.pad(x), _unpadded(sliding)
    crops = [(max(-low, 0), max(-high, 0)) for low, high in sliding.padding]
    image = x.shape[1:-1]
    if sliding.upsamples or not any(map(any, crops)):
        return x, sliding
    if not all(surely(operator.le, sum(crop), n) for crop, n in zip(crops, image, strict=True)):
        # The crop is longer than the image, or may be: it takes some of the padding on the other side as well.
        return sliding.pad(x), _unpadded(sliding)
    x = x[:, *(slice(low, n - high) for (low, high), n in zip(crops, image, strict=True))]
    return x, replace(sliding, padding=tuple((max(low, 0), max(high, 0)) for low, high in sliding.padding))


def _unpadded(sliding):
    """The sliding over an image in which all zeros are written out."""
    rank = len(sliding.stride)
    return Sliding(sliding.stride, ((0, 0),) * rank, sliding.dilation, (1,) * rank)


# A program that is exported for arrays of any size has sizes that are no numbers.
def has_static_places(x):
    """Whether all sizes of x but its batch are numbers."""
    return all(isinstance(n, int) for n in x.shape[1:])
