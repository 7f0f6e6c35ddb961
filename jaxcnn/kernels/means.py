"""The mean of each window, and how a gradient gets back to its entries.

`mean_pooling.py` says what mean-pooling and its backward pass are. This file knows how to compute them fast. `counted`
says what the sum of a window is divided by. It is a number, or (low, high) per axis: then the divisor is the number of
entries of the window that lie in the image with so many places around it.
"""

import math
import operator
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.contract.arguments import is_symbolic
from jaxcnn.contract.geometry import surely, trimmed
from jaxcnn.contract.precision import sum_dtype
from jaxcnn.kernels.windows import alternating, joined_blocks, one_per_block

# Entries of a window that is summed over all axes at once. One axis after the other was three times as fast for 3 x 3
# when this was added (commit 895fdd6), on a CPU, inside a network.
_SMALL_BOX = 4
# The same on a GPU and a TPU: all axes at once are one kernel, which stores no image in between. Not measured.
_BOX_OF_ONE_KERNEL = 32


def window_mean(x, window, counted):
    """The sum of each window of x [N, *S, C] over its divisor: [N, *M, C]."""
    seen = trimmed(window)
    padded = _pad(x, [(low, high, 0) for low, high in seen.padding])
    wide = padded.astype(sum_dtype(x.dtype))
    return (_window_sum(wide, seen.size, seen.stride) / divisor(window, counted, wide.dtype)).astype(x.dtype)


def add_shares(dy, window, counted):
    """dx[j] = Σ_i dy[i] / divisor[i] over the windows i that j is in: [N, *M, C] -> [N, *S, C]. It is the transpose of
    `window_mean`."""
    wide = dy.astype(sum_dtype(dy.dtype))
    shares, window = wide / divisor(window, counted, wide.dtype), trimmed(window)
    pads = [(low, high, s - 1) for (low, high), s in zip(window.input_grad_padding, window.stride, strict=True)]
    options = {"pads": pads, "size": window.size}
    add_upsampled, add_by_axis = (partial(add, **options) for add in (_add_upsampled, _add_axis_by_axis))
    if window.volume <= _SMALL_BOX:
        return add_upsampled(shares).astype(dy.dtype)
    in_one_kernel = window.volume <= _BOX_OF_ONE_KERNEL
    if window.side_by_side:
        repeat = partial(_repeat, window=window)
        tpu = add_upsampled if in_one_kernel else repeat
        return lax.platform_dependent(shares, tpu=tpu, default=repeat).astype(dy.dtype)
    default = add_upsampled if in_one_kernel else add_by_axis
    return lax.platform_dependent(shares, cpu=add_upsampled, default=default).astype(dy.dtype)


def _add_upsampled(shares, pads, size):
    """Σ_i shares[i] over the windows i that a place is in: the box sum of the shares with zeros between and around."""
    return _window_sum(_pad(shares, pads), size, (1,) * len(size))


# The zeros between the shares along an axis are added when that axis is summed. On an H100 it is 1.2 times as fast as
# all zeros at once and then sums axis by axis, for windows of 3 x 3 with a stride of 2 (commit d365c26).
def _add_axis_by_axis(shares, pads, size):
    """`_add_upsampled` one axis after the other, the last one first."""
    for axis in reversed(range(len(size))):
        shares = _pad(shares, [pad if a == axis else (0, 0, 0) for a, pad in enumerate(pads)])
        shares = _window_sum(shares, [k if a == axis else 1 for a, k in enumerate(size)], (1,) * len(size))
    return shares


def image_only(window):
    """The `counted` for which only entries of the image count."""
    return ((0, 0),) * len(window.size)


def _repeat(shares, window):
    """[N, *M, C] -> [N, *S, C]: each share at every entry of its window, for windows side by side. The remainder of the
    image that no window covers gets zeros."""
    shape = (shares.shape[0], *alternating(window.output, window.size), shares.shape[-1])
    return joined_blocks(jnp.broadcast_to(one_per_block(shares, window), shape), window)


def divisor(window, counted, dtype):
    """The divisor of each window: one number, or [1, *M, 1] numbers of entries that count."""
    if not isinstance(counted, tuple):
        return np.asarray(counted, dtype)
    product, rank = np.asarray(1, dtype), len(window.size)
    for axis, (k, margin, (low, high)) in enumerate(zip(window.size, counted, window.padding, strict=True)):
        if surely(operator.ge, margin[0], low) and surely(operator.ge, margin[1], high):  # all entries count
            product = product * np.asarray(k, dtype)
            continue
        m, s, n = window.output[axis], window.stride[axis], window.image[axis]
        index_dtype = np.dtype(dtype if surely(operator.ge, n + low + high, 2**31) else np.int32)
        sizes = s, -low, k, -margin[0], n + margin[1]
        stride, begin, size, start, end = (_size_constant(a, index_dtype) for a in sizes)
        firsts = stride * lax.iota(index_dtype, m) + begin
        count = jnp.minimum(firsts + size, end) - jnp.maximum(firsts, start)
        product = product * jnp.expand_dims(count.astype(dtype), [a for a in range(rank + 2) if a != axis + 1])
    return product


def _size_constant(n, dtype):
    """A size, symbolic or not, as a number of this dtype in a program."""
    return jnp.asarray(n, dtype) if is_symbolic(n) else np.asarray(n, dtype)


def _pad(x, spatial):
    """x with zeros (low, high, between) on each spatial axis."""
    return lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *spatial, (0, 0, 0)])


def _window_sum(x, size, stride):
    """The sum over each box: of a small box all axes at once. A large one is summed one axis after the other, which
    costs the sum of its sides for each place in place of their product."""
    at_once, by_axis = (partial(sums, size=size, stride=stride) for sums in (_box_sum, _sum_by_axis))
    volume = math.prod(size)
    if volume <= _SMALL_BOX:
        return at_once(x)
    return by_axis(x) if volume > _BOX_OF_ONE_KERNEL else lax.platform_dependent(x, cpu=by_axis, default=at_once)


def _sum_by_axis(x, size, stride):
    for axis in range(len(size)):
        along = [(k, s) if a == axis else (1, 1) for a, (k, s) in enumerate(zip(size, stride, strict=True))]
        x = _box_sum(x, *zip(*along, strict=True))
    return x


def _box_sum(x, size, stride):
    sides, strides = (1, *size, 1), (1, *stride, 1)
    return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, sides, strides, "VALID")
