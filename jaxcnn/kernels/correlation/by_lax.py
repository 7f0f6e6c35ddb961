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

    `upsampling` puts zeros between the entries of what it slides over, `dilation` between its own.
    """

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    upsampling: tuple[int, ...]

    @property
    def upsamples(self) -> bool:
        return max(self.upsampling, default=1) > 1

    def along(self, axes: slice) -> "Sliding":
        """The same along some of the axes."""
        return Sliding(self.stride[axes], self.padding[axes], self.dilation[axes], self.upsampling[axes])

    def last_axis_first(self) -> "Sliding":
        """The same over what has its last spatial axis moved before the others."""
        return Sliding(*((last, *others) for *others, last in astuple(self)))

    def places(self, image: Sequence[int], size: Sequence[int]) -> tuple[int, ...]:
        """How many places an array of this size takes on each axis of an image."""
        padded = (u * (n - 1) + 1 + sum(pads) for n, u, pads in zip(image, self.upsampling, self.padding, strict=True))
        spans = (d * (k - 1) + 1 for k, d in zip(size, self.dilation, strict=True))
        return tuple((n - e) // s + 1 for n, e, s in zip(padded, spans, self.stride, strict=True))

    def doubled(self) -> "Sliding":
        """The same sliding with every distance along the first spatial axis doubled: zeros come between the entries,
        and nothing meets them."""
        (low, high), *pads = self.padding
        stride, dilation, upsampling = ((2 * n, *rest) for n, *rest in (self.stride, self.dilation, self.upsampling))
        return Sliding(stride, ((2 * low, 2 * high), *pads), dilation, upsampling)

    def pad(self, x: jax.Array) -> jax.Array:
        """The images x [N, *S, C] with all their zeros, between the entries and around."""
        pads = [(low, high, u - 1) for (low, high), u in zip(self.padding, self.upsampling, strict=True)]
        return lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])


@dataclass(frozen=True)
class Arithmetic:
    """lax's `precision` of the products, and the dtype of the sums and the result; None leaves it to lax."""

    precision: Any = None
    dtype: Any = None


LAX = Arithmetic()


# Under `vmap`, as in gradients per example, images become groups of channels. Where these are split over devices and
# each group has one channel to sum over, XLA (jaxlib 0.10.2 and 0.12.0) computes all groups wrong but those of the
# first device, unless the spatial axes of an array lie between the other two. One channel to sum over has the filter
# gradient of one image; so has what JAX derives from a convolution of one image, and from a filter gradient of one
# filter. There the spatial axes lie in between, which costs nothing. A mesh that `jax.jit(in_shardings=...)` alone
# knows is not seen here, so the filter gradient of one image is computed like this without a mesh as well.


def by_lax(x, w, sliding, groups, arithmetic):
    """`correlate` as one convolution."""
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
        # On a CPU the XLA of jaxlib 0.10.2 ends the process over some of these, unless the zeros are written out: for
        # one, the input gradient of depthwise filters [2, 3, 1, 2], stride 2, padding 1, on images [1, 4, 3, 2].
        x, sliding = sliding.pad(x), _unpadded(sliding)
    return _lax_convolution(x, w, sliding, layout, arithmetic, feature_group_count=groups)


def by_lax_over_batch(x, dz, sliding, arithmetic, groups=1):
    """`correlate_over_batch` as one convolution: the channels of x are the images, the batch is what is summed."""
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


# A crop is a copy of the images. A GPU's kernel for filter gradients needs none for the rows behind the last place that
# no filter reached; there are fewer of them than the layer's stride, which is the dilation here. For more, or in front,
# XLA does not take that kernel.
def _rows_behind(sliding):
    """How many such rows there are on each axis, as a negative padding behind."""
    if not all(isinstance(width, int) for pads in sliding.padding for width in pads):
        return [0] * len(sliding.padding)
    axes = zip(sliding.padding, sliding.dilation, strict=True)
    return [high if -d < high < 0 else 0 for (_, high), d in axes]


def _cropped_but_rows_behind(x, sliding):
    rows = _rows_behind(sliding)
    padding = tuple((low, high - row) for (low, high), row in zip(sliding.padding, rows, strict=True))
    x, sliding = _cropped(x, replace(sliding, padding=padding))
    padding = tuple((low, high + row) for (low, high), row in zip(sliding.padding, rows, strict=True))
    return x, replace(sliding, padding=padding)


def _lax_convolution(x, w, sliding, layout, arithmetic, feature_group_count=1, batch_group_count=1, crop=None):
    x, sliding = (crop or _cropped)(x, sliding)
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


def _cropped(x, sliding):
    """x without the borders that negative padding leaves out, and the sliding over what is left.

    Where its width is symbolic, so is all padding.

    On a CPU the XLA of jaxlib 0.10.2 reads beyond the image for some: 10 channels of 39 x 15 under 16 filters of 1 x 3,
    with 3 rows cropped and 2 added.
    """
    if not all(isinstance(width, int) for pads in sliding.padding for width in pads):
        return sliding.pad(x), _unpadded(sliding)
    crops = [(max(-low, 0), max(-high, 0)) for low, high in sliding.padding]
    image = x.shape[1:-1]
    if sliding.upsamples or not any(map(any, crops)):
        return x, sliding
    if not all(surely(operator.le, sum(crop), n) for crop, n in zip(crops, image, strict=True)):
        # Padding is cropped as well.
        return sliding.pad(x), _unpadded(sliding)
    x = x[:, *(slice(low, n - high) for (low, high), n in zip(crops, image, strict=True))]
    return x, replace(sliding, padding=tuple((max(low, 0), max(high, 0)) for low, high in sliding.padding))


def _unpadded(sliding):
    rank = len(sliding.stride)
    return Sliding(sliding.stride, ((0, 0),) * rank, sliding.dilation, (1,) * rank)
