"""Augmentations that mix each image with another of the batch. Labels become distributions over the classes."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.contract import arguments
from jaxcnn.data.augment.augmentation import Augmentation, augmentation, below, each, is_map, require_floats
from jaxcnn.data.augment.covering import boxes

POINTS = 4096


def mixup(alpha: float, classes: int | None = None) -> Augmentation:
    """A weighted mean of each image with another one of the batch, and of their labels.

        x_i ← λ x_i + (1 - λ) x_j,        y_i ← λ y_i + (1 - λ) y_j,        λ from Beta(alpha, alpha)

    Args:
        alpha: the larger, the nearer is λ to 1/2.
        classes: how many classes there are. Labels [N] of integers become distributions [N, classes], NaN for a label
            that is no class; None for labels that are numbers or distributions. Label maps are refused, since places
            of -1, which the loss leaves out, have no distribution; `cutmix` takes them.

    Returns:
        The augmentation; x keeps its dtype, distributions have that, too.

    Raises:
        TypeError: alpha is no number, classes no int nor None.
        ValueError: alpha is not from 0.01 to 100, classes is less than 1.
        TypeError, ValueError: from its call, if x is no batch of floating-point images, y no single array or label
            maps [N, *S], or y are integers and classes is None.

    Source: Zhang, Cisse, Dauphin, Lopez-Paz, mixup: beyond empirical risk minimization, 2018.
    """
    return augmentation("mixup", _mixup, **_checked("mixup", alpha, classes))


def _mixup(key, x, y, alpha, classes):
    require_floats("mixup", x)
    if arguments.is_array(y) and is_map(y, x) and not jnp.issubdtype(y.dtype, jnp.floating):
        expected = "labels [N] or distributions; label maps have places that are no class, and cutmix takes these"
        arguments.require(False, "augment.mixup", "y", expected, arguments.describe(y))
    u = jax.random.uniform(key, (1 + len(x),), jnp.float32)
    partner, share = _partners(u[:1], len(x)), _beta(u[1:], alpha)
    return _mean(x, partner, share), _mean(_distributions("mixup", y, classes, x), partner, share)


def cutmix(alpha: float, classes: int | None = None) -> Augmentation:
    """A box of each image is replaced by that of another one of the batch; labels are mixed by their shares of places.

        y_i ← λ y_i + (1 - λ) y_j,        1 - λ = the share of the box, from Beta(alpha, alpha) before it is clipped

    Args:
        alpha: 1 makes all shares as likely.
        classes: how many classes there are. Labels [N] of integers become distributions [N, classes], NaN for a label
            that is no class; None for labels that are numbers, distributions or maps. Maps are cut as the images are.

    Returns:
        The augmentation; x keeps its dtype. Distributions have it, too, float32 for images of integers.

    Raises:
        TypeError: alpha is no number, classes no int nor None.
        ValueError: alpha is not from 0.01 to 100, classes is less than 1.
        TypeError, ValueError: from its call, if x is no batch of images, y no single array, or y are integers [N] and
            classes is None.

    Source: Yun et al., CutMix: regularization strategy to train strong classifiers with localizable features, 2019.
    """
    return augmentation("cutmix", _cutmix, **_checked("cutmix", alpha, classes))


def _cutmix(key, x, y, alpha, classes):
    sizes = jnp.array([x.shape[1:-1]], jnp.float32)
    u = jax.random.uniform(key, (1 + len(x), 1 + sizes.size), jnp.float32)
    partner = _partners(u[0, :1], len(x))
    side = (1 - _beta(u[1:, :1], alpha)) ** (1 / sizes.size)
    inside = boxes(u[1:, 1:], x, (side * sizes).astype(jnp.int32))

    def cut(a):
        chosen = inside.reshape(*inside.shape, *(1,) * (a.ndim - inside.ndim))
        return jnp.where(chosen, a[partner], a)

    if arguments.is_array(y) and is_map(y, x):
        return cut(x), cut(y)
    share = 1 - jnp.mean(inside, tuple(range(1, inside.ndim)), jnp.float32)
    return cut(x), _mean(_distributions("cutmix", y, classes, x), partner, share)


def _checked(name, alpha, classes):
    alpha = arguments.number(f"augment.{name}", "alpha", alpha, 0.01, 100)
    if classes is not None:
        classes = arguments.integer(f"augment.{name}", "classes", classes, 1)
    return {"alpha": alpha, "classes": classes}


def _partners(u, count):
    """Another image for each: the one that is so many places behind it, in a batch that has no order."""
    distance = 1 + below([max(1, count - 1)], u)
    return (jnp.arange(count, dtype=jnp.int32) + distance) % count


def _mean(a, partner, share):
    share = each(share.astype(a.dtype), a)
    return share * a + (1 - share) * a[partner]


def _distributions(name, y, classes, x):
    """Labels as distributions over the classes in the dtype of x; numbers as they are."""
    where = f"augment.{name}"
    arguments.require(arguments.is_array(y), where, "y", "one array", arguments.describe(y), TypeError)
    if jnp.issubdtype(y.dtype, jnp.floating):
        return y
    expected = "the number of classes, as y are integers"
    arguments.require(classes is not None, where, "classes", expected, classes)
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.float32
    y = y.astype(jnp.int32)
    known = (y >= 0) & (y < classes)
    return jnp.where(known[..., None], jax.nn.one_hot(y, classes, dtype=dtype), jnp.array(jnp.nan, dtype))


def _beta(u, alpha):
    """Draws from Beta(alpha, alpha) by its quantiles at u in [0, 1): `jax.random.beta` takes seconds to compile."""
    probabilities, quantiles, power = _quantiles(alpha)
    lower = jnp.interp(jnp.minimum(u, 1 - u), jnp.array(probabilities), jnp.array(quantiles)) ** power
    return jnp.where(u < 0.5, lower, 1 - lower)


@functools.cache
def _quantiles(alpha):
    """Probabilities P(λ <= s^power) up to 1/2 and s, for λ from Beta(alpha, alpha).

    The density of λ is c λ^(alpha-1) (1-λ)^(alpha-1), without bound at 0 where alpha < 1; that of s = λ^alpha is
    c/alpha (1-λ)^(alpha-1).
    """
    root = min(alpha, 1.0)
    s = np.linspace(0, 0.5**root, POINTS)
    x = s ** (1 / root)
    density = np.exp((alpha - 1) * np.log(1 - x) + (alpha - root) * np.log(np.maximum(x, 1e-300)))
    total = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return (total / (2 * total[-1])).astype(np.float32), s.astype(np.float32), 1 / root
