"""Transposed convolution, the adjoint of `conv` in its input.

Lecture: "Backpropagation through Multi-Channel Convolution" and "Backpropagation: Upsampling". The backward pass of a
convolution there, an upsampling and a convolution with the reversed filters, is the forward pass here. The convolution
is the backward pass.
"""

import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxcnn.contract import arguments, window_arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.contract.geometry import Window
from jaxcnn.contract.kept import CONVOLUTION
from jaxcnn.contract.rules import custom_rule
from jaxcnn.contract.window_arguments import Pads
from jaxcnn.ops.convolution import bias_grad, convolve, filter_grad, input_grad


def conv_transpose(
    x: jax.Array,
    w: jax.Array,
    b: jax.Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Pads | PerAxis = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> jax.Array:
    """Transposed convolution over any number of spatial axes; PyTorch's, with the channels last.

        y[n, s·i + d·k - low, o] = b[o] + Σ_c x[n, i, c] w[k, o, c], summed over all (i, k) that meet there

    Args:
        x: images [N, *S, C].
        w: filters [*K, O/groups, C], those of the convolution from [N, *M, O] to x's shape whose adjoint this is.
        b: biases [O], or None.
        stride: s, an int or one per spatial axis.
        padding: how much is cut off the result, an int for all sides, or per axis an int for both or (low,
            high); a negative number adds.
        output_padding: how many entries more the result has behind, an int or one per spatial axis.
        dilation: d, an int or one per spatial axis.
        groups: the C/groups channels of a group make the O/groups channels of the same group.

    Returns:
        y [N, *M, O] with M = (S - 1)s - low - high + d(K - 1) + output_padding + 1, in the dtype of x.

    Raises:
        TypeError: an argument is not a floating-point array, or the dtypes differ, or a static argument is no int.
        ValueError: shapes or groups do not fit, or the padding leaves nothing.

    Gradient: dx = Conv(dy | W), dw = Conv(dy | x) as in `conv_filter_grad` with dy for the image, db = Σ dy.

    Source: lecture, "Backpropagation through Multi-Channel Convolution"; Dumoulin and Visin, A guide to convolution
        arithmetic for deep learning, 2016.

    >>> import jax.numpy as jnp
    >>> x, w = jnp.array([1.0, 10.0]).reshape(1, 2, 1), jnp.array([1.0, 2.0, 3.0]).reshape(3, 1, 1)
    >>> conv_transpose(x, w, stride=2)[0, :, 0]
    Array([ 1.,  2., 13., 20., 30.], dtype=float32)
    """
    function = "conv_transpose"
    x, w, b = arguments.floating_and_bias(function, {"x": x, "w": w}, b)
    groups = arguments.integer(function, "groups", groups, 1)
    window = window_arguments.transposed_window(
        function, x.shape, w.shape, stride, padding, output_padding, dilation, groups
    )
    if b is not None:
        arguments.vector(function, "b", b, w.shape[-2] * groups)
    return transposed_convolution(x, w, b, window, groups)


def _conv_transpose_plain(x, w, b, window: Window, groups: int):
    y = input_grad(x, w, window, groups)
    return y if b is None else y + lax.broadcast(b, y.shape[:-1])


def _conv_transpose_fwd(x, w, b, window, groups):
    return checkpoint_name(_conv_transpose_plain(x, w, b, window, groups), CONVOLUTION), (x, w, b)


# Let T(w) be the matrix of the convolution, so that y = T(w)ᵀ x. Then dx = T(w) dy. Since ⟨dy, T(w)ᵀ x⟩ = ⟨T(w) dy, x⟩,
# dw is the filter gradient of a convolution whose input is dy and whose output gradient is x.
def _conv_transpose_bwd(window, groups, residuals, dy):
    x, w, b = residuals
    dx = convolve(dy, w, window, groups)
    dw = filter_grad(dy, x, window, groups)
    db = None if b is None else bias_grad(dy)
    return dx, dw, db


transposed_convolution = custom_rule(_conv_transpose_plain, _conv_transpose_fwd, _conv_transpose_bwd)
