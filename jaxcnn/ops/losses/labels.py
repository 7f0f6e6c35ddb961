"""Labels, masks and ignored labels of the losses: which examples count, and what the labels of these say.

Outside `jit` a label that is no class is an error. Inside, labels have no values to look at: there, the loss of an
example whose label is no class is NaN, and so is its gradient, unless the example is left out.
"""

import operator

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxcnn.contract import arguments
from jaxcnn.contract.rules import plain_op
from jaxcnn.ops.losses.reduction import masked


def mask(function, where, shape):
    """`where` as an array; TypeError unless it is None or one of bools, ValueError unless it has the given shape."""
    if where is None:
        return None
    is_bools = arguments.has_values(where) and where.dtype == bool
    arguments.require(is_bools, function, "where", "an array of bools", arguments.describe(where), TypeError)
    fits = where.shape == tuple(shape)
    arguments.require(fits, function, "where", f"bools {list(shape)}", arguments.describe(where))
    return jnp.asarray(where)


def class_labels(function, labels, where, ignore_index, scores, *, argument="logits", distributions=False):
    """Labels [...] for scores [..., K], or distributions [..., K] if these are allowed, and which examples count."""
    arguments.require(scores.ndim > 0, function, argument, "[..., K] with at least 1 axis", arguments.describe(scores))
    *shape, classes = scores.shape
    arguments.require(classes > 0, function, argument, "[..., K] with at least 1 class", arguments.describe(scores))
    mask(function, where, shape)
    expected = f"an array of integers or of {scores.dtype}" if distributions else "an array of integers"
    arguments.require(arguments.has_values(labels), function, "labels", expected, arguments.describe(labels), TypeError)
    if distributions and labels.dtype == scores.dtype:
        shape, noun = scores.shape, "distributions"
    else:
        arguments.require(_are_integers(labels), function, "labels", expected, arguments.describe(labels), TypeError)
        noun = "classes"
    fits = labels.shape == tuple(shape)
    arguments.require(fits, function, "labels", f"{noun} {list(shape)}", arguments.describe(labels))
    return _left_out(function, labels, where, ignore_index, classes)


def binary_labels(function, labels, where, ignore_index, logits, *, probabilities=False):
    """Labels 0 or 1, or probabilities if these are allowed, and which entries count, of the shape of the logits."""
    mask(function, where, logits.shape)
    expected = f"an array of bools, integers or {logits.dtype}" if probabilities else "an array of bools or integers"
    arguments.require(arguments.has_values(labels), function, "labels", expected, arguments.describe(labels), TypeError)
    known = _are_integers(labels) or labels.dtype == bool or (probabilities and labels.dtype == logits.dtype)
    arguments.require(known, function, "labels", expected, arguments.describe(labels), TypeError)
    fits = labels.shape == logits.shape
    arguments.require(
        fits, function, "labels", f"of the shape {list(logits.shape)} of logits", arguments.describe(labels)
    )
    return _left_out(function, labels, where, ignore_index, 2)


def distribution(labels, classes, dtype, where):
    """v [..., K], the labels as distributions: NaN for a label that is no class, 0 for what `where` leaves out."""
    if not _are_integers(labels):
        return jax.lax.stop_gradient(masked(labels, where)).astype(dtype)
    one_hot = masked(jax.nn.one_hot(_countable(labels), classes, dtype=dtype), where)
    return jnp.where(unknown(labels, classes, where)[..., None], jnp.nan, one_hot)


def marked(losses, labels, where):
    """The losses, with NaN, in their derivative too, for entries that count although their label is neither 0 nor 1."""
    if not _are_integers(labels):
        return losses
    outside = unknown(labels, 2, where)
    return jnp.where(outside, losses * jnp.where(outside, jnp.nan, 1.0), losses)


def unknown(labels, classes, where):
    """Which examples count although their label, an integer, is no class."""
    labels = _countable(labels)
    outside = (labels < 0) | (labels >= classes)
    return outside if where is None else outside & where


def _are_integers(labels):
    return jnp.issubdtype(labels.dtype, jnp.integer)


def _countable(labels):
    """Integers that the number of classes fits into."""
    return labels if labels.dtype.itemsize >= 4 else labels.astype(jnp.int32)


def _left_out(function, labels, where, ignore_index, classes):
    """The labels, and `where` without the examples whose label is ignore_index."""
    if ignore_index is not None:
        ignore_index = arguments.integer(function, "ignore_index", ignore_index)
        expected = "None, as labels are no integers"
        arguments.require(_are_integers(labels), function, "ignore_index", expected, ignore_index)
        where = _not_ignored(labels, where, ignore_index)
    if _are_integers(labels):
        _check_range(function, labels, where, ignore_index, classes)
    labels = labels if isinstance(labels, jax.Array) else jnp.asarray(labels)
    return labels, None if where is None else jnp.asarray(where)


def _not_ignored(labels, where, ignore_index):
    info = jnp.iinfo(labels.dtype)
    if not info.min <= ignore_index <= info.max:  # no label can be it: 255 of uint8 is not -1
        return where
    others = labels != np.asarray(ignore_index, labels.dtype)
    return others if where is None else _both(where, others)


_both = plain_op(operator.and_)


def _check_range(function, labels, where, ignore_index, classes):
    """ValueError if an example that counts has a label that is no class, where both have values to look at."""
    if any(isinstance(a, jax.core.Tracer) or not getattr(a, "is_fully_addressable", True) for a in (labels, where)):
        return
    values = np.asarray(labels) if where is None else np.asarray(labels)[np.asarray(where)]
    outside = values[(values < 0) | (values >= classes)]
    ignored = "ignore_index" if ignore_index is None else f"ignore_index={ignore_index}"
    expected = f"from 0 to {classes - 1} or left out by {ignored}"
    arguments.require(not outside.size, function, "labels", expected, outside[0] if outside.size else 0)
