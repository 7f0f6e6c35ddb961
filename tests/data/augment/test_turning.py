"""Turned and scaled images."""

from functools import partial

import jax
import numpy as np
import pytest

from jaxcnn.data import augment
from jaxcnn.data.augment import turning


def test_quarter_turns_and_doubling_are_exact():
    """A quarter turn is NumPy's, of labels too; half the distance to the centre is every second place."""
    image = np.arange(25.0).reshape(5, 5)
    resampled = jax.jit(partial(turning._resampled, "rotate"))
    x, y = image[None, ..., None], image[None].astype(np.int32)
    for angle, turns in ((np.pi / 2, 1), (-np.pi / 2, -1), (np.pi, 2)):
        matrix = np.array([[[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]], np.float32)
        images, labels = resampled(x, y, matrix)
        np.testing.assert_allclose(np.asarray(images)[0, ..., 0], np.rot90(image, -turns), atol=1e-4)
        np.testing.assert_array_equal(np.asarray(labels)[0], np.rot90(y[0], -turns))
    images, labels = resampled(x, y, 2 * np.eye(2, dtype=np.float32)[None])
    np.testing.assert_allclose(np.asarray(images)[0, 1:4, 1:4, 0], image[::2, ::2])
    assert not np.asarray(images)[0, 0].any()
    np.testing.assert_array_equal(np.asarray(labels)[0, 0], -1)


@pytest.mark.parametrize("made", [augment.rotate(30), augment.scale(0.5)], ids=repr)
def test_a_linear_image_stays_linear_about_its_centre(made):
    """The centre keeps its value, and far from the border a plane stays a plane. Volumes keep the length of its slope
    when they turn; each image is drawn by itself."""
    grid = np.stack(np.meshgrid(*[np.arange(9) - 4.0] * 3, indexing="ij"), -1)
    x = np.broadcast_to((grid @ [3.0, 1, -2])[None, ..., None], (3, 9, 9, 9, 1))
    images, labels = made(jax.random.key(0), x, (grid[..., 0] > 0)[None].repeat(3, 0).astype(np.int32))
    inner = np.asarray(images)[:, 3:6, 3:6, 3:6, 0].reshape(3, -1)
    slopes = np.linalg.lstsq(grid[3:6, 3:6, 3:6].reshape(-1, 3), inner.T)[0].T
    np.testing.assert_allclose(inner, slopes @ grid[3:6, 3:6, 3:6].reshape(-1, 3).T, atol=1e-4)
    lengths = np.linalg.norm(slopes, axis=1) / np.sqrt(14)
    if made.name == "rotate":
        np.testing.assert_allclose(lengths, 1, rtol=1e-5)
    else:
        np.testing.assert_allclose(slopes / lengths[:, None], [[3, 1, -2]] * 3, rtol=1e-4)
        assert ((lengths > 1 / 1.5) & (lengths < 1.5)).all()
    assert len({slope.tobytes() for slope in slopes}) == 3
    assert set(np.unique(labels)) == {-1, 0, 1}
