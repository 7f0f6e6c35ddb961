"""The mean of each window, and how a gradient gets back to its entries.

`pooling.py` says what mean-pooling and its backward pass are; this file knows how to compute them fast. `counted` says
what a window is divided by: a number, or (low, high) per axis, how far around the image its entries count.
"""

import math
import operator
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.contract.arguments import is_symbolic
from jaxcnn.contract.geometry import seeing, surely
from jaxcnn.contract.precision import sum_dtype
from jaxcnn.kernels.windows import in_pairs, joined_blocks, over_blocks

_SMALL_BOX = 4  # on a CPU, measured inside a network: at 3x3 one axis after the other is three times as fast


def window_mean(x, window, counted):
    """The sum of each window of x [N, *S, C], divided: [N, *M, C]."""
    seen = seeing(window)
    padded = _pad(x, [(low, high, 0) for low, high in seen.padding])
    wide = padded.astype(sum_dtype(x.dtype))
    return (_window_sum(wide, seen.size, seen.stride) / divisor(window, counted, wide.dtype)).astype(x.dtype)


def add_shares(dy, window, counted):
    """dx [N, *S, C]: each dy [N, *M, C], divided, added to all entries of its window: `window_mean` transposed."""
    wide = dy.astype(sum_dtype(dy.dtype))
    shares, window = wide / divisor(window, counted, wide.dtype), seeing(window)
    if window.side_by_side and window.volume > _SMALL_BOX:
        return _repeat(shares, window).astype(dy.dtype)
    pads = [(low, high, s - 1) for (low, high), s in zip(window.input_grad_padding, window.stride, strict=True)]
    at_once, by_axis = (partial(add, pads=pads, size=window.size) for add in (_add_upsampled, _add_axis_by_axis))
    is_small = window.volume <= _SMALL_BOX
    dx = at_once(shares) if is_small else lax.platform_dependent(shares, cpu=at_once, default=by_axis)
    return dx.astype(dy.dtype)


def _add_upsampled(shares, pads, size):
    return _window_sum(_pad(shares, pads), size, (1,) * len(size))


# JAX derives this, which is 1.2 times as fast on a GPU for windows of 3 x 3 with a stride of 2: along an axis there are
# zeros between the shares only when it is its turn.
def _add_axis_by_axis(shares, pads, size):
    """The same, the last axis first."""
    for axis in reversed(range(len(size))):
        shares = _pad(shares, [pad if a == axis else (0, 0, 0) for a, pad in enumerate(pads)])
        shares = _window_sum(shares, [k if a == axis else 1 for a, k in enumerate(size)], (1,) * len(size))
    return shares


def inside(window):
    """`counted` where only entries of the image count."""
    return ((0, 0),) * len(window.size)


def _repeat(shares, window):
    """Each share [N, *M, C] at every entry of its window, of windows side by side, and zeros in the remainder."""
    shape = (shares.shape[0], *in_pairs(window.output, window.size), shares.shape[-1])
    return joined_blocks(jnp.broadcast_to(over_blocks(shares, window), shape), window)


def divisor(window, counted, dtype):
    """What each window is divided by: a number, or [1, *M, 1] entries within `counted` places around the image."""
    if not isinstance(counted, tuple):
        return np.asarray(counted, dtype)
    product, rank = np.asarray(1, dtype), len(window.size)
    for axis, (k, around, (low, high)) in enumerate(zip(window.size, counted, window.padding, strict=True)):
        if surely(operator.ge, around[0], low) and surely(operator.ge, around[1], high):  # all entries count
            product = product * np.asarray(k, dtype)
            continue
        m, s, n = window.output[axis], window.stride[axis], window.image[axis]
        number = np.dtype(dtype if surely(operator.ge, n + low + high, 2**31) else np.int32)
        stride, begin, size, start, end = (_of_dtype(a, number) for a in (s, -low, k, -around[0], n + around[1]))
        first = stride * lax.iota(number, m) + begin
        count = jnp.minimum(first + size, end) - jnp.maximum(first, start)
        product = product * jnp.expand_dims(count.astype(dtype), [a for a in range(rank + 2) if a != axis + 1])
    return product


def _of_dtype(n, dtype):
    """A size as a number of a program."""
    return jnp.asarray(n, dtype) if is_symbolic(n) else np.asarray(n, dtype)


def _pad(x, spatial):
    """Zeros (low, high, between) on each spatial axis."""
    return lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *spatial, (0, 0, 0)])


def _window_sum(x, size, stride):
    """The sum over a box: at once, or where it is large one axis after the other, which costs the sum of its sides."""
    axes = range(1, len(size) + 1)
    for together in [axes] if math.prod(size) <= _SMALL_BOX else [(axis,) for axis in axes]:
        along, strides = [1] * x.ndim, [1] * x.ndim
        for axis in together:
            along[axis], strides[axis] = size[axis - 1], stride[axis - 1]
        x = lax.reduce_window(x, np.zeros((), x.dtype), lax.add, along, strides, "VALID")
    return x
