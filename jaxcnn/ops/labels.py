"""Labels and masks of the losses: which are accepted, and which examples count.

Outside `jit` an integer label that no class has is an error. Inside, labels have no values to look at: there, the
example counts for nothing, as if it were masked out: no loss, no gradient, no part in the mean.
"""

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxcnn.ops import shapes


def mask(function, where, shape):
    """`where` as an array; TypeError unless it is None or one of bools, ValueError unless it has the given shape."""
    if where is None:
        return None
    is_bools = shapes.is_array(where) and where.dtype == bool
    shapes.require(is_bools, function, "where", "an array of bools", shapes.describe(where), TypeError)
    fits = where.shape == tuple(shape)
    shapes.require(fits, function, "where", f"bools {list(shape)}", shapes.describe(where))
    return jnp.asarray(where)


def class_labels(function, labels, where, scores, *, argument="logits", distributions=False):
    """Checks labels [...], or distributions [..., K] if these are allowed, and where [...] for the scores [..., K]."""
    shapes.require(scores.ndim > 0, function, argument, "[..., K] with at least 1 axis", shapes.describe(scores))
    *shape, classes = scores.shape
    shapes.require(classes > 0, function, argument, "[..., K] with at least 1 class", shapes.describe(scores))
    checked_where = mask(function, where, shape)
    expected = f"an array of integers or of {scores.dtype}" if distributions else "an array of integers"
    shapes.require(shapes.is_array(labels), function, "labels", expected, shapes.describe(labels), TypeError)
    if distributions and labels.dtype == scores.dtype:
        fits = labels.shape == scores.shape
        shapes.require(fits, function, "labels", f"distributions {list(scores.shape)}", shapes.describe(labels))
        return jnp.asarray(labels), checked_where
    is_integer = jnp.issubdtype(labels.dtype, jnp.integer)
    shapes.require(is_integer, function, "labels", expected, shapes.describe(labels), TypeError)
    shapes.require(labels.shape == tuple(shape), function, "labels", f"classes {shape}", shapes.describe(labels))
    _check_range(function, labels, where, classes)
    return jnp.asarray(labels), checked_where


def binary_labels(function, labels, where, logits, *, probabilities=False):
    """Checks labels 0 or 1, or probabilities if these are allowed, and where, all of the shape of the logits."""
    checked_where = mask(function, where, logits.shape)
    expected = f"an array of bools, integers or {logits.dtype}" if probabilities else "an array of bools or integers"
    shapes.require(shapes.is_array(labels), function, "labels", expected, shapes.describe(labels), TypeError)
    is_integer = jnp.issubdtype(labels.dtype, jnp.integer)
    known = is_integer or labels.dtype == bool or (probabilities and labels.dtype == logits.dtype)
    shapes.require(known, function, "labels", expected, shapes.describe(labels), TypeError)
    fits = labels.shape == logits.shape
    shapes.require(fits, function, "labels", f"of the shape {list(logits.shape)} of logits", shapes.describe(labels))
    if is_integer:
        _check_range(function, labels, where, 2)
    return jnp.asarray(labels), checked_where


def counted(labels, classes, where):
    """Which examples count: those that `where` keeps and whose label some class has; None for all of them."""
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        return where
    inside = (labels >= 0) & (_countable(labels) < classes)
    return inside if where is None else inside & where


def distribution(labels, classes, dtype):
    """Labels as distributions over the classes [..., K]; all zero where a label is none of them."""
    if jnp.issubdtype(labels.dtype, jnp.integer):
        return jax.nn.one_hot(_countable(labels), classes, dtype=dtype)
    return jax.lax.stop_gradient(labels.astype(dtype))


def _countable(labels):
    """Integers that the number of classes fits into."""
    return labels if labels.dtype.itemsize >= 4 else labels.astype(jnp.int32)


def _check_range(function, labels, where, classes):
    """ValueError if a label that counts is outside 0 to classes - 1, where labels and mask have values to look at."""
    if any(isinstance(a, jax.core.Tracer) or not getattr(a, "is_fully_addressable", True) for a in (labels, where)):
        return
    values = np.asarray(labels) if where is None else np.asarray(labels)[np.asarray(where)]
    outside = values[(values < 0) | (values >= classes)]
    shapes.require(not outside.size, function, "labels", f"from 0 to {classes - 1}", outside[0] if outside.size else 0)
