"""Mean-pooling and its backward pass.

Lecture: "Backpropagate through Pooling": each derivative of the pooled map gets multiplied with its filter and added to
the corresponding entries of the input map. The filter of max-pooling is one at the maximum and zero elsewhere, that of
mean-pooling is 1/|window| everywhere, that of weighted pooling (weighted_pooling.py) is learnt.
"""

import jax

from jaxcnn.contract import arguments, window_arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.contract.geometry import trimmed
from jaxcnn.contract.rules import custom_rule
from jaxcnn.contract.window_arguments import Padding, pooling_window, require_seen
from jaxcnn.kernels.means import add_shares, image_only, window_mean


def mean_pool(
    x: jax.Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "VALID",
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: float | None = None,
) -> jax.Array:
    """The mean of each window, channel by channel.

        y[n, i, c] = 1/|window| Σ_k x[n, s·i + k - low, c]

    Args:
        x: images [N, *S, C].
        window: size of the window, an int or one per spatial axis.
        stride: s, an int or one per spatial axis; the size of the window by default.
        padding: as for `conv`.
        ceil_mode: whether a last window may stick out at the end, as long as it begins in the image or before it.
        count_include_pad: whether the zeros of the padding count as entries of a window. What sticks out in ceil_mode
            never counts.
        divisor: what to divide by instead of the number of entries.

    Returns:
        y [N, *M, C] with M = floor((S + low + high - window) / s) + 1, the ceiling in ceil_mode, in the dtype of x.
        Half precision is summed in float32.

    Raises:
        TypeError: x is no floating-point array, a static argument is no int, bool or number.
        ValueError: the window is larger than the padded image, in ceil_mode by the stride or more, divisor is 0, or
            without count_include_pad the window lies in the padding altogether at some place.

    Gradient: the convolution of dy/|window|, upsampled by s, with the filter that is one everywhere.

    Source: lecture, "Backward Pass: Mean-Pooling".

    >>> import jax.numpy as jnp
    >>> mean_pool(jnp.array([1.0, 3.0, 2.0, 0.0]).reshape(1, 4, 1), 2)[0, :, 0]
    Array([2., 1.], dtype=float32)
    """
    function = "mean_pool"
    (x,) = arguments.floating(function, x=x)
    checked = pooling_window(function, x, window, stride, padding, ceil_mode=ceil_mode)
    return _mean_pool(x, *_window_and_counted(checked, padding, count_include_pad, divisor))


def _window_and_counted(window, padding, count_include_pad, divisor):
    """The window, and what `kernels.means` takes as `counted`."""
    function = "mean_pool"
    if divisor is not None:
        number = arguments.number(function, "divisor", divisor)
        arguments.require(number != 0, function, "divisor", "a number other than 0", divisor)
        return window, number
    if arguments.flag(function, "count_include_pad", count_include_pad):
        return window, window_arguments.padding_around(function, padding, window)
    window = trimmed(require_seen(function, window))
    return window, image_only(window)


def _mean_pool_plain(x, window, counted):
    return window_mean(x, window, counted)


def _mean_pool_fwd(x, window, counted):
    return _mean_pool_plain(x, window, counted), None


def _mean_pool_bwd(window, counted, _, dy):
    """∇_X R = Conv(uSample(∇_Y R / |window| | s) | 1), the filter of ones being its own reverse."""
    return (add_shares(dy, window, counted),)


_mean_pool = custom_rule(_mean_pool_plain, _mean_pool_fwd, _mean_pool_bwd)
