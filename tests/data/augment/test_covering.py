"""Boxes of zeros, noise, and loudness."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.data import augment

KEY = jax.random.key(0)


def test_cutout_sets_one_box_to_zero():
    x = np.ones((200, 6, 5, 2), np.uint8)
    images, labels = augment.cutout((3, 2))(KEY, x, np.ones((200, 6, 5), np.int32))
    assert images.dtype == np.uint8
    assert np.all(labels)
    sizes = set()
    for image in np.asarray(images):
        covered = image[..., 0] == 0
        np.testing.assert_array_equal(image[..., 1] == 0, covered)
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        assert covered[np.ix_(rows, columns)].all()
        assert (np.ptp(rows), np.ptp(columns)) == (len(rows) - 1, len(columns) - 1)
        sizes.add((len(rows), len(columns)))
    assert sizes == {(2, 1), (3, 1), (2, 2), (3, 2)}


def test_noise_has_its_deviation_and_gain_its_decibels():
    x = np.ones((500, 4, 1), jnp.bfloat16)
    noisy, _ = augment.noise(0.25)(KEY, x, None)
    assert noisy.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.std(np.asarray(noisy, np.float32)), 0.25, rtol=0.05)
    loud, _ = augment.gain(20.0)(KEY, x.astype(np.float32), None)
    decibels = 20 * np.log10(np.asarray(loud)[:, :, 0])
    np.testing.assert_allclose(decibels, decibels[:, :1].repeat(4, 1))
    np.testing.assert_allclose(np.quantile(decibels[:, 0], [0, 0.5, 1]), [-20, 0, 20], atol=2)
