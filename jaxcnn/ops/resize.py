"""Images at another resolution: every axis by a small matrix, and backwards by its transpose."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.ops import shapes
from jaxcnn.ops.rules import defvjp
from jaxcnn.ops.shapes import PerAxis
from jaxcnn.ops.sharding import on_any_mesh

MOST_TERMS = 16  # of a sum that is written out


def resize(x: jax.Array, shape: PerAxis, method: str = "nearest") -> jax.Array:
    """Images of another spatial shape, each entry the value at its place in x.

        Y[i] = Σ_j A[i, j] X[j]        along every spatial axis, of n entries before and m after

    "nearest": A[i, j] = 1 for j = floor(i n/m), else 0. "linear": with p = (i + 1/2) n/m - 1/2, held within [0, n - 1],
    A[i, j] = max(0, 1 - |p - j|). Both are PyTorch's interpolate (linear with align_corners=False); linear is also
    jax.image.resize without antialias.

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

    >>> x = jnp.array([1.0, 3.0]).reshape(1, 2, 1)
    >>> resize(x, 4)[0, :, 0], resize(x, 4, "linear")[0, :, 0]
    (Array([1., 1., 3., 3.], dtype=float32), Array([1. , 1.5, 2.5, 3. ], dtype=float32))
    """
    (x,) = shapes.floating("resize", x=x)
    shapes.images("resize", x)
    shapes.require(0 not in x.shape[1:-1], "resize", "x", "of at least 1 entry per spatial axis", shapes.describe(x))
    shape = shapes.per_axis("resize", "shape", shape, x.ndim - 2)
    shapes.choice("resize", "method", method, tuple(_MATRICES))
    return _resize(x, x.shape[1:-1], shape, method)


def _resize_plain(x, before, after, method):
    matrices = [_MATRICES[method](n, m) for n, m in zip(before, after, strict=True)]
    return _along_spatial_axes(x, matrices)


_resize = jax.custom_vjp(on_any_mesh(_resize_plain), nondiff_argnums=(1, 2, 3))


def _resize_fwd(x, before, after, method):
    return _resize_plain(x, before, after, method), None


def _resize_bwd(before, after, method, _, dy):
    transposed = [_MATRICES[method](n, m).T for n, m in zip(before, after, strict=True)]
    return (_along_spatial_axes(dy, transposed),)


defvjp(_resize, _resize_fwd, _resize_bwd)


def _nearest(n, m):
    return np.equal.outer(np.arange(m) * n // m, np.arange(n)).astype(float)


def _linear(n, m):
    place = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
    return np.maximum(1 - np.abs(np.subtract.outer(place, np.arange(n))), 0)


_MATRICES = {"nearest": _nearest, "linear": _linear}


def _along_spatial_axes(x, matrices):
    """Each matrix [m, n] times its axis of x."""
    y = shapes.wide(x)
    for axis, matrix in enumerate(matrices, 1):
        if matrix.shape[0] != matrix.shape[1]:  # else it is the identity
            y = _times(y, matrix, axis)
    return y.astype(x.dtype)


def _times(x, matrix, axis):
    """Σ_j A[i, j] X[j] over the entries of each row that are not zero: in both directions they are few.

    Where they are not, as when a place grows to very many, it is a matrix product.
    """
    terms = int(np.max(np.count_nonzero(matrix, axis=1)))
    if terms > MOST_TERMS:
        a = jnp.asarray(matrix, x.dtype)
        y = lax.dot_general(x, a, (((axis,), (1,)), ((), ())), precision=lax.Precision.HIGHEST)
        return jnp.moveaxis(y, -1, axis)
    chosen = np.argsort(matrix == 0, axis=1, kind="stable")[:, :terms]  # in front those that are not zero
    weights = np.take_along_axis(matrix, chosen, axis=1)
    along = [-1 if a == axis else 1 for a in range(x.ndim)]
    return functools.reduce(
        lax.add,
        (
            jnp.take(x, j, axis=axis, mode="clip") * jnp.asarray(w.reshape(along), x.dtype)
            for j, w in zip(chosen.T, weights.T, strict=True)
        ),
    )
