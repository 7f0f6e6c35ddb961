"""Mixed images and their labels."""

import jax
import numpy as np
import pytest

from jaxcnn.data import augment
from jaxcnn.data.augment import mixing

KEY = jax.random.key(0)


def test_mixup_mixes_labels_as_it_mixes_images():
    """Image i has a 1 at place i: mixed images read as their distributions do."""
    count = 50
    x = np.eye(count, dtype=np.float32).reshape(count, 10, 5, 1)
    mixed = augment.mixup(0.2, count)
    images, y = jax.device_get(mixed(KEY, x, np.arange(count)))
    assert images.dtype == y.dtype == np.float32
    np.testing.assert_allclose(y, images.reshape(count, count), atol=1e-7)
    np.testing.assert_allclose(y.sum(1), 1, rtol=1e-6)
    shares = y[np.arange(count), np.arange(count)]
    assert len(np.unique(shares)) > count / 2
    assert 0.1 < np.mean((shares > 0.1) & (shares < 0.9)) < 0.5
    _, again = augment.mixup(0.2)(KEY, x, np.eye(count, dtype=np.float32))
    np.testing.assert_allclose(again, y, atol=1e-7)
    _, y = mixed(KEY, x, np.where(np.arange(count) == 7, count, 0))
    assert np.isnan(np.asarray(y)).all(1).sum() == 2
    with pytest.raises(ValueError, match=r"^augment.mixup: y must be labels \[N\] or .* cutmix takes these, got int32"):
        mixed(KEY, x, np.zeros((count, 10, 5), np.int32))


def test_cutmix_counts_the_places_of_each_image():
    """Image i is i everywhere: the distribution of a mixed image is the histogram of its entries.

    A box of the sides s = (1-λ)^(1/2) whose centre is any place covers (s - s²/4)² on average: 0.32 if λ is uniform.
    """
    count, sizes = 400, (19, 20)
    x = np.broadcast_to(np.arange(count, dtype=np.uint16)[:, None, None, None], (count, *sizes, 1))
    images, y = jax.device_get(augment.cutmix(1.0, count)(KEY, x, np.arange(count)))
    assert (images.dtype, y.dtype) == (np.uint16, np.float32)
    np.testing.assert_allclose(
        y, [np.bincount(np.ravel(image), minlength=count) / np.prod(sizes) for image in images], atol=1e-6
    )
    np.testing.assert_allclose(1 - np.trace(y) / count, 0.32, atol=0.03)
    images, y = jax.device_get(augment.cutmix(1.0)(KEY, x, x[..., 0].astype(np.int32)))
    np.testing.assert_array_equal(y, images[..., 0])


@pytest.mark.parametrize("alpha", [0.05, 0.4, 30.0])
def test_shares_are_distributed_as_beta(alpha):
    u = np.random.default_rng(1).random(40_000, np.float32)
    drawn = np.asarray(jax.jit(mixing._beta, static_argnums=1)(u, alpha))
    expected = np.random.default_rng(0).beta(alpha, alpha, 40_000)
    limits = np.array([1e-6, 0.01, 0.1, 0.3, 0.45, 0.5, 0.6, 0.95])
    np.testing.assert_allclose(*((sample[:, None] < limits).mean(0) for sample in (drawn, expected)), atol=0.012)
    np.testing.assert_allclose(np.var(drawn), 1 / (8 * alpha + 4), rtol=0.03)
    assert np.isfinite(drawn).all()
