"""Images at another resolution: along every axis sums of one or two entries, and backwards those of the transpose."""

import jax
import numpy as np

from jaxcnn.contract import arguments, window_arguments
from jaxcnn.contract.arguments import PerAxis
from jaxcnn.contract.rules import custom_rule
from jaxcnn.kernels.axis_sums import Terms, sum_terms, transposed


def resize(x: jax.Array, shape: PerAxis, method: str = "nearest") -> jax.Array:
    """Images of another spatial shape, each entry the value at its place in x.

        Y[i] = Σ_j A[i, j] X[j]        along every spatial axis, of n entries before and m after

    "nearest": A[i, j] = 1 for j = floor(i n/m), else 0. "linear": with p = (i + 1/2) n/m - 1/2, held within [0, n - 1],
    A[i, j] = max(0, 1 - |p - j|). Both are PyTorch's interpolate (linear with align_corners=False); linear is also
    jax.image.resize without antialias. An entry with A[i, j] = 0 is left out: a NaN there does not reach Y[i].

    Args:
        x: images [N, *S, C].
        shape: the spatial shape of the result, an int or one per spatial axis.
        method: "nearest" or "linear".

    Returns:
        y [N, *shape, C], in the dtype of x; half precision is computed in float32.

    Raises:
        TypeError: x is no floating-point array, shape is no int.
        ValueError: x has no spatial axis or an empty one, an entry of shape is less than 1, method is another.

    Gradient: dX[j] = Σ_i A[i, j] dY[i] along every spatial axis.

    Source: "nearest" and "linear" of PyTorch's `interpolate` with align_corners=False; lecture, "Backpropagation:
        Resampling", for a backward pass that is the transpose of the forward pass.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([1.0, 3.0]).reshape(1, 2, 1)
    >>> resize(x, 4)[0, :, 0], resize(x, 4, "linear")[0, :, 0]
    (Array([1., 1., 3., 3.], dtype=float32), Array([1. , 1.5, 2.5, 3. ], dtype=float32))
    """
    (x,) = arguments.floating("resize", x=x)
    arguments.images("resize", x)
    arguments.require(
        0 not in x.shape[1:-1], "resize", "x", "of at least 1 entry per spatial axis", arguments.describe(x)
    )
    arguments.known_image("resize", x)
    shape = window_arguments.one_per_axis("resize", "shape", shape, x.ndim - 2)
    arguments.require(max(shape) < 2**31, "resize", "shape", "of fewer than 2^31 places on an axis", list(shape))
    arguments.choice("resize", "method", method, tuple(_TERMS))
    return _resize(x, x.shape[1:-1], shape, method)


def _resize_plain(x, old_size, new_size, method):
    return _sum_axes(x, [_TERMS[method](n, m) for n, m in zip(old_size, new_size, strict=True)])


def _resize_fwd(x, old_size, new_size, method):
    return _resize_plain(x, old_size, new_size, method), None


def _resize_bwd(old_size, new_size, method, _, dy):
    """dX = Aᵀ dY along each axis."""
    axes = zip(old_size, new_size, strict=True)
    return (_sum_axes(dy, [transposed(_TERMS[method](n, m), n) for n, m in axes]),)


_resize = custom_rule(_resize_plain, _resize_fwd, _resize_bwd, wide=True)


def _nearest(n, m):
    return Terms((np.arange(m) * n // m)[:, None], np.ones((m, 1)))


def _linear(n, m):
    """p = (i + 1/2) n/m - 1/2 in units of 1/(2m) is whole, and so is a place that p falls on."""
    p = np.clip((2 * np.arange(m) + 1) * n - m, 0, 2 * m * (n - 1))
    below, above = p // (2 * m), p % (2 * m) / (2 * m)
    return Terms(np.stack([below, np.minimum(below + 1, n - 1)], 1), np.stack([1 - above, above], 1))


_TERMS = {"nearest": _nearest, "linear": _linear}


def _sum_axes(x, terms):
    """x with each spatial axis replaced by its sums; those of an axis that keeps its length are its entries."""
    for axis, axis_terms in enumerate(terms, 1):
        if len(axis_terms.places) != x.shape[axis]:
            x = sum_terms(x, axis_terms, axis)
    return x
