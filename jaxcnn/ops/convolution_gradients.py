"""The two gradients of a convolution as functions of their own.

Lecture: "Backpropagation through Multi-Channel Convolution", "Gradient w.r.t. Filters". Their own derivatives are each
other and the convolution: ⟨Conv(X | W), dZ⟩ is linear in X, in W and in dZ, and the three are its derivatives.
"""

import jax

from jaxcnn.contract import arguments, window_arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.contract.rules import custom_rule
from jaxcnn.contract.window_arguments import Padding
from jaxcnn.ops.convolution import convolve, filter_grad, input_grad
from jaxcnn.ops.transposed_convolution import transposed_convolution


def conv_input_grad(
    dy: jax.Array,
    w: jax.Array,
    x_shape: tuple[int, ...],
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
    groups: int = 1,
) -> jax.Array:
    """The gradient of a loss with respect to the input of `conv`, from its gradient with respect to the output.

        ∇_X R = Conv(∇_Z R | W†_1, ..., W†_C),        W†_c = [W̌_1[c], ..., W̌_K[c]]

    where W̌ is W reversed along every spatial axis.

    Args:
        dy: gradient with respect to the output of `conv` [N, *M, O].
        w: the filters of the forward pass [*K, C/groups, O].
        x_shape: shape of the input of the forward pass, (N, *S, C).
        stride, padding, dilation, groups: those of the forward pass.

    Returns:
        dx [N, *S, C], in the dtype of dy.

    Raises:
        TypeError, ValueError: as for `conv`; dy does not have the shape that the forward pass gives.

    Gradient: that of `conv_transpose`, which it is: Conv(g | W) by dy, `conv_filter_grad(g, dy)` by w.

    Source: lecture, "Backpropagation through Multi-Channel Convolution".

    >>> import jax.numpy as jnp
    >>> dz = jnp.array([[1.0, 10.0], [100.0, 1000.0]]).reshape(1, 2, 2, 1)
    >>> w = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    >>> conv_input_grad(dz, w, (1, 3, 3, 1), padding="VALID")[0, :, :, 0]
    Array([[1.000e+00, 1.200e+01, 2.000e+01],
           [1.030e+02, 1.234e+03, 2.040e+03],
           [3.000e+02, 3.400e+03, 4.000e+03]], dtype=float32)
    """
    function = "conv_input_grad"
    dy, w = arguments.floating(function, dy=dy, w=w)
    x_shape = arguments.shape(function, "x_shape", x_shape)
    groups = arguments.integer(function, "groups", groups, 1)
    window = window_arguments.filter_window(
        function, x_shape, w.shape, stride, padding, dilation, groups, images="x_shape"
    )
    arguments.cotangent(function, dy, (x_shape[0], *window.output, w.shape[-1]))
    return transposed_convolution(dy, w, None, window, groups)


def conv_filter_grad(
    x: jax.Array,
    dy: jax.Array,
    w_shape: tuple[int, ...],
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
    groups: int = 1,
) -> jax.Array:
    """The gradient of a loss with respect to the filters of `conv`, from its gradient with respect to the output.

        ∇_W R = Conv(X | ∇_Z R),        channel c of filter k from channel c of X and channel k of ∇_Z R

    Args:
        x: the input of the forward pass [N, *S, C].
        dy: gradient with respect to the output of `conv` [N, *M, O].
        w_shape: shape of the filters of the forward pass, (*K, C/groups, O).
        stride, padding, dilation, groups: those of the forward pass.

    Returns:
        dw [*K, C/groups, O], in the dtype of x.

    Raises:
        TypeError, ValueError: as for `conv`; dy does not have the shape that the forward pass gives.

    Gradient: `conv_input_grad(dy, g)` by x, and Conv(X | g) by dy.

    Source: lecture, "Gradient w.r.t. Filters".

    >>> import jax.numpy as jnp
    >>> x = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    >>> dz = jnp.array([[1.0, 0.0], [0.0, 1.0]]).reshape(1, 2, 2, 1)
    >>> conv_filter_grad(x, dz, (2, 2, 1, 1), padding="VALID")[:, :, 0, 0]
    Array([[ 6.,  8.],
           [12., 14.]], dtype=float32)
    """
    function = "conv_filter_grad"
    x, dy = arguments.floating(function, x=x, dy=dy)
    w_shape = arguments.shape(function, "w_shape", w_shape)
    groups = arguments.integer(function, "groups", groups, 1)
    window = window_arguments.filter_window(
        function, x.shape, w_shape, stride, padding, dilation, groups, argument="w_shape"
    )
    arguments.cotangent(function, dy, (x.shape[0], *window.output, w_shape[-1]))
    return _conv_filter_grad(x, dy, window, groups)


def _conv_filter_grad_plain(x, dy, window, groups):
    return filter_grad(x, dy, window, groups)


def _conv_filter_grad_fwd(x, dy, window, groups):
    return _conv_filter_grad_plain(x, dy, window, groups), (x, dy)


# ⟨dw, g⟩ = ⟨Conv(x | g), dy⟩: by dy that is Conv(x | g), by x the input gradient of a convolution with the filters g.
def _conv_filter_grad_bwd(window, groups, residuals, g):
    x, dy = residuals
    return input_grad(dy, g, window, groups), convolve(x, g, window, groups)


_conv_filter_grad = custom_rule(_conv_filter_grad_plain, _conv_filter_grad_fwd, _conv_filter_grad_bwd)
