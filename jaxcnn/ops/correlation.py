"""The two correlations that a convolutional layer and its backward pass are made of.

Both are one `lax.conv_general_dilated` with the channels last. What the rules call a convolution is, as in the lecture
and in every framework, a cross-correlation: the filter slides and is not reversed.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Pads = Sequence[tuple[int, int]]


def correlate(
    x: jax.Array,
    w: jax.Array,
    *,
    stride: Sequence[int],
    padding: Pads,
    dilation: Sequence[int],
    upsampling: Sequence[int] | None = None,
    groups: int = 1,
) -> jax.Array:
    """Slides the filters w [*K, C/groups, O] over the images x [N, *S, C] and sums over C: [N, *M, O].

    `upsampling` puts zeros between the entries of x first; `dilation` does so for w.
    """
    spatial = tuple(range(1, x.ndim - 1))
    channels = x.ndim - 1
    layout = lax.ConvDimensionNumbers(
        lhs_spec=(0, channels, *spatial),
        rhs_spec=(channels, channels - 1, *range(x.ndim - 2)),
        out_spec=(0, channels, *spatial),
    )
    if upsampling is not None and groups > 1 and x.dtype == jnp.float64:
        # On a CPU the XLA of jaxlib 0.10.2 ends the process over some of these, unless the zeros are written out: for
        # one, the input gradient of depthwise filters [2, 3, 1, 2], stride 2, padding 1, on images [1, 4, 3, 2].
        between = [(0, 0, factor - 1) for factor in upsampling]
        x, upsampling = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *between, (0, 0, 0)]), None
    return lax.conv_general_dilated(
        x, w, stride, padding, upsampling, dilation, dimension_numbers=layout, feature_group_count=groups
    )


def correlate_over_batch(
    x: jax.Array,
    dz: jax.Array,
    *,
    stride: Sequence[int],
    padding: Pads,
    dilation: Sequence[int],
    groups: int = 1,
) -> jax.Array:
    """Slides dz [N, *M, O] over x [N, *S, C], each pair of channels by itself, and sums over N: [*K, C/groups, O].

    The same convolution with the axes in other roles: the C channels of x are the images, the batch is what is summed.
    """
    spatial = tuple(range(1, x.ndim - 1))
    channels = x.ndim - 1
    layout = lax.ConvDimensionNumbers(
        lhs_spec=(channels, 0, *spatial),
        rhs_spec=(channels, 0, *spatial),
        out_spec=(channels - 1, channels, *range(x.ndim - 2)),
    )
    return lax.conv_general_dilated(
        x, dz, stride, padding, None, dilation, dimension_numbers=layout, batch_group_count=groups
    )
