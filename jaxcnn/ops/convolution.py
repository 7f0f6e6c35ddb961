"""Convolution and its backward pass.

Lecture: "Backpropagation through Convolution", 2D and multi-channel, and "Backpropagation: Resampling" for strides.
Convolution means cross-correlation here, as in the lecture and in every framework. With the lecture's names

    Z = Conv(X | W_1, ..., W_K),        ∇_X R = Conv(∇_Z R | W†_1, ..., W†_C),        ∇_W R = Conv(X | ∇_Z R).

The lecture's C is the C of `x [N, *S, C]` and its number of filters K is the O of `w [*K, C/groups, O]`.

A convolution with stride s is one with stride 1 and a downsampling unit. The backward pass of that unit is upsampling,
so both gradients take dz with s - 1 zeros between its entries. A dilated filter is a filter with zeros between its
entries. XLA takes these zeros as a dilation of an operand, so none of them is written into memory here.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxcnn.contract import arguments, window_arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.contract.geometry import Window
from jaxcnn.contract.kept import CONVOLUTION
from jaxcnn.contract.rules import custom_rule
from jaxcnn.contract.window_arguments import Padding
from jaxcnn.kernels.correlation.correlate import LAX, Sliding, correlate, correlate_over_batch


def conv(
    x: jax.Array,
    w: jax.Array,
    b: jax.Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
    groups: int = 1,
) -> jax.Array:
    """Convolution over any number of spatial axes.

        z[n, i, o] = b[o] + Σ_k Σ_c x[n, s·i + d·k - low, c] w[k, c, o]

    Args:
        x: images [N, *S, C].
        w: filters [*K, C/groups, O].
        b: biases [O], or None.
        stride: s, an int or one per spatial axis.
        padding: zeros around x: "VALID" (none), "SAME" (ceil(n/s) outputs, the odd zero behind, as XLA), "SAME_LOWER"
            (the odd zero in front), "CAUSAL" (all in front), an int for all sides, or per axis an int for both or (low,
            high); a negative number crops.
        dilation: d, the distance between neighbouring filter entries in x, an int or one per spatial axis.
        groups: filter o sees only the C/groups channels of its own group; both C and O are split in order.

    Returns:
        z [N, *M, O] with M = floor((S + low + high - d(K - 1) - 1) / s) + 1, in the dtype of x.

    Raises:
        TypeError: an argument is not a floating-point array, or the dtypes differ, or a static argument is no int.
        ValueError: shapes, groups or the padding do not fit, or the filter is larger than the padded image.

    Gradient: dx by `conv_input_grad`, dw by `conv_filter_grad`, and db = Σ dz over images and places.

    Precision: products of float32 as everywhere in JAX: TF32 on a GPU, bfloat16 on a TPU, and in forward and backward
        pass as `jax.default_matmul_precision` around the call says, "highest" for float32.

    Source: lecture, "Backpropagation through Multi-Channel Convolution".

    >>> x, w = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1), jnp.ones((2, 2, 1, 1))
    >>> conv(x, w, padding="VALID")[0, :, :, 0]
    Array([[12., 16.],
           [24., 28.]], dtype=float32)
    """
    return _checked_conv("conv", x, w, b, stride, padding, dilation, groups)


def depthwise_conv(
    x: jax.Array,
    w: jax.Array,
    b: jax.Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
) -> jax.Array:
    """Convolution of every channel with m filters of its own: `conv` with groups = C.

        z[n, i, c·m + j] = b[c·m + j] + Σ_k x[n, s·i + d·k - low, c] w[k, 0, c·m + j]

    Args:
        x: images [N, *S, C].
        w: filters [*K, 1, C·m], the m filters of a channel side by side.
        b: biases [C·m], or None.
        stride, padding, dilation: as for `conv`.

    Returns:
        z [N, *M, C·m], in the dtype of x.

    Raises:
        TypeError, ValueError: as for `conv`.

    Gradient: that of `conv`: for one channel and one filter the lecture's 2D case, with no sum over channels.

    Source: lecture, "Other Forms of Convolution".

    >>> depthwise_conv(jnp.ones((1, 4, 2)), jnp.array([[[1.0, 10.0]]]))[0, 0]
    Array([ 1., 10.], dtype=float32)
    """
    x, w = arguments.floating("depthwise_conv", x=x, w=w)
    arguments.images("depthwise_conv", x)
    arguments.channels("depthwise_conv", x)
    window_arguments.depthwise_filters("depthwise_conv", x.shape, "w", w.shape)
    return _checked_conv("depthwise_conv", x, w, b, stride, padding, dilation, groups=x.shape[-1])


def separable_conv(
    x: jax.Array,
    w_depth: jax.Array,
    w_point: jax.Array,
    b: jax.Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
) -> jax.Array:
    """Depthwise separable convolution: every channel by itself, then a 1x1 convolution that mixes them.

        z = Conv(DepthwiseConv(x | w_depth) | w_point) + b

    Args:
        x: images [N, *S, C].
        w_depth: depthwise filters [*K, 1, C·m].
        w_point: 1x1 filters [*1, C·m, O].
        b: biases [O], or None.
        stride, padding, dilation: of the depthwise convolution, as for `conv`.

    Returns:
        z [N, *M, O], in the dtype of x.

    Raises:
        TypeError, ValueError: as for `conv`; w_point is not [*1, C·m, O].

    Gradient: that of `conv` after that of `depthwise_conv`.

    Source: Chollet, Xception: deep learning with depthwise separable convolutions, 2017.

    >>> x, w_depth, w_point = jnp.ones((1, 4, 2)), jnp.array([[[1.0, 10.0]]]), jnp.ones((1, 2, 3))
    >>> separable_conv(x, w_depth, w_point)[0, 0]
    Array([11., 11., 11.], dtype=float32)
    """
    function = "separable_conv"
    x, w_depth, w_point = arguments.floating(function, x=x, w_depth=w_depth, w_point=w_point)
    arguments.images(function, x)
    arguments.channels(function, x)
    window_arguments.depthwise_filters(function, x.shape, "w_depth", w_depth.shape)
    ones, channels = (1,) * (x.ndim - 2), w_depth.shape[-1:]
    fits = w_point.shape[:-1] == (*ones, *channels)
    expected = f"[*1, C·m, O] with C·m = {list(channels)} as w_depth has"
    arguments.require(fits, function, "w_point", expected, arguments.describe(w_point))
    h = _checked_conv(function, x, w_depth, None, stride, padding, dilation, x.shape[-1], argument="w_depth")
    return _checked_conv(function, h, w_point, b, 1, "VALID", 1, 1)


def _checked_conv(function, x, w, b, stride, padding, dilation, groups, argument="w"):
    """The convolution of arguments that are checked here; errors call the filters `argument`."""
    x, w, b = arguments.floating_and_bias(function, {"x": x, argument: w}, b)
    groups = arguments.integer(function, "groups", groups, 1)
    window = window_arguments.filter_window(
        function, x.shape, w.shape, stride, padding, dilation, groups, argument=argument
    )
    if b is not None:
        arguments.vector(function, "b", b, w.shape[-1])
    return _conv(x, w, b, window, groups)


def _conv_plain(x: jax.Array, w: jax.Array, b: jax.Array | None, window: Window, groups: int) -> jax.Array:
    z = convolve(x, w, window, groups)
    return z if b is None else z + lax.broadcast(b, z.shape[:-1])


def convolve(x, w, window, groups, arithmetic=LAX):
    """Z = Conv(X | W_1, ..., W_K), the formula for every rule that convolves; `conv` is the same for users."""
    sliding = Sliding(
        stride=window.stride,
        padding=window.padding,
        dilation=window.dilation,
        upsampling=window.upsampling,
    )
    return correlate(x, w, sliding, groups, arithmetic)


def _conv_fwd(x, w, b, window, groups):
    return checkpoint_name(_conv_plain(x, w, b, window, groups), CONVOLUTION), (x, w, b)


def _conv_bwd(window, groups, residuals, dz):
    x, w, b = residuals
    dx = input_grad(dz, w, window, groups)
    dw = filter_grad(x, dz, window, groups)
    db = None if b is None else bias_grad(dz)
    return dx, dw, db


_conv = custom_rule(_conv_plain, _conv_fwd, _conv_bwd)


# One spatial axis: n inputs, m outputs, k weights that span e = d(k - 1) + 1 inputs, and u = uSample(dz | s), so that
# u[s·i] = dz[i]. The input x[i] has a part in z through each weight j:
#
#     z[i] = Σ_j w[j] x[s·i + d·j - low]    hence    dx[i] = Σ_j w[j] u[i + low - d·j]
#                                                          = Σ_j w̌[j] u[i + d·j - (e - 1 - low)]    (j for k - 1 - j)
#
# This is the correlation of u with the reversed filter. It begins e - 1 - low in front of u. It takes n places: since u
# has s(m - 1) + 1 entries, the last place ends n - 1 + low - s(m - 1) behind u.
#
# Channels: z [O] = w [C, O]ᵀ x [C], hence dx [C] = w [C, O] dz [O]. Channels and filters trade places, which makes W†.
#
# An upsampled image has zeros between its entries. The gradients at these zeros belong to no entry and are left out:
# the upsampling of the image is the stride of this correlation, which is dSample.
def input_grad(dz, w, window, groups, arithmetic=LAX):
    """∇_X R = Conv(uSample(∇_Z R | s) | W†_1, ..., W†_C)."""
    sliding = Sliding(
        stride=window.upsampling,
        padding=window.input_grad_padding,
        dilation=window.dilation,
        upsampling=window.stride,
    )
    return correlate(dz, _dagger(w, groups), sliding, groups, arithmetic)


def _dagger(w, groups):
    """W†_c = [W̌_1[c], ..., W̌_K[c]], channel c of all reversed filters: [*K, C/g, O] -> [*K, O/g, C]."""
    *k, c, o = w.shape
    if groups == 1 and 1 in (c, o):
        return lax.platform_dependent(w, cpu=_reversed_and_swapped, default=_swapped_and_reversed)
    if groups == 1:  # the reshapes below would change nothing, but XLA would keep them; so too for the next return
        return _reversed_and_swapped(w)
    reversed_filters = _reversed(w)
    if c == 1 and o == groups:
        return reversed_filters
    grouped = reversed_filters.reshape(*k, c, groups, o // groups)
    return jnp.swapaxes(grouped, -3, -1).reshape(*k, o // groups, groups * c)


def _reversed(w):
    """W̌: the filters reversed along every spatial axis."""
    return lax.rev(w, tuple(range(w.ndim - 2)))


def _reversed_and_swapped(w):
    return jnp.swapaxes(_reversed(w), -2, -1)


# A GPU has a kernel for input gradients. XLA takes it where only the reversal stands in front of the convolution.
# XLA makes a swap of two axes a part of the convolution, unless one of them has length 1: then the swap is a reshape,
# which would stay between the reversal and the convolution.
def _swapped_and_reversed(w):
    return _reversed(jnp.swapaxes(w, -2, -1))


# One spatial axis: dw[j] = Σ_i dz[i] x[s·i + d·j - low], for each of the k weights a sum over the m outputs. This is
# the correlation of x with u = uSample(dz | s). It begins `low` in front of x, in steps of d. It takes k places if
# x with its padding has s(m - 1) + e entries, so the entries at the end that no filter reached are cut off.
#
# Channels: z [N, O] = x [N, C] w [C, O], hence dw [C, O] = x [N, C]ᵀ dz [N, O]. The sum runs over the images as well.
def filter_grad(x, dz, window, groups, arithmetic=LAX):
    """∇_W R = Conv(X | uSample(∇_Z R | s)), channel c of X with channel k of ∇_Z R, summed over the images."""
    sliding = Sliding(
        stride=window.dilation,
        padding=window.filter_grad_padding,
        dilation=window.stride,
        upsampling=window.upsampling,
    )
    return correlate_over_batch(x, dz, sliding, groups, arithmetic)


def bias_grad(dz):
    """Every place of a feature map has the same bias: ∇_b R = Σ ∇_Z R over images and places."""
    return jnp.sum(dz, axis=tuple(range(dz.ndim - 1)))
