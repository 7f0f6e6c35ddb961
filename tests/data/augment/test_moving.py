"""Images and label maps that move together."""

import jax
import numpy as np
import pytest

from jaxcnn.data import augment

COUNT = 64


@pytest.mark.parametrize("sizes", [(5,), (3, 2, 4)], ids=len)
def test_labels_move_with_images_and_every_place_is_drawn(sizes):
    """Each place of an image has a number of its own, which is its label plus 1: what comes in is 0, labelled -1."""
    ids = np.arange(1, np.prod(sizes) + 1, dtype=np.uint8).reshape(sizes)
    x = np.broadcast_to(ids[..., None], (COUNT, *sizes, 1))
    y = {"map": x[..., 0].astype(np.int32) - 1, "class": np.arange(COUNT), "target": x.astype(np.float32)}
    flipped = {
        ids[np.ix_(*(range(n)[::step] for n, step in zip(sizes, steps, strict=True)))].tobytes()
        for steps in np.ndindex(*(2,) * len(sizes))
        for steps in [[1 - 2 * s for s in steps]]
    }
    padded = np.pad(ids, 1)
    windows = [
        tuple(slice(o, o + n) for o, n in zip(start, sizes, strict=True)) for start in np.ndindex(*(3,) * len(sizes))
    ]
    moved = {padded[window].tobytes() for window in windows}
    axes = tuple(range(len(sizes)))
    made = augment.flip(axes), augment.shift(1), augment.crop((1,) * len(sizes))
    results = jax.device_get(jax.jit(lambda x, y: [f(jax.random.key(0), x, y) for f in made])(x, y))
    for (images, labels), expected in zip(results, (flipped, moved, moved), strict=True):
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(labels["map"] + 1, images[..., 0])
        np.testing.assert_array_equal(labels["target"], images)
        np.testing.assert_array_equal(labels["class"], np.arange(COUNT))
        drawn = {image[..., 0].tobytes() for image in images}
        assert drawn <= expected
        assert len(drawn) > min(len(expected), COUNT) / 2
    if len(sizes) == 1:
        images, _ = jax.device_get(augment.time_shift(1)(jax.random.key(0), x, y))
        assert {image[..., 0].tobytes() for image in images} == moved


def test_a_crop_has_its_size_and_lies_inside():
    x = np.arange(1, 31).reshape(1, 6, 5, 1).repeat(COUNT, 0)
    images, labels = jax.device_get(augment.crop((0, 1), size=(2, 4))(jax.random.key(1), x, x[..., 0] - 1))
    assert images.shape == (COUNT, 2, 4, 1)
    np.testing.assert_array_equal(labels + 1, images[..., 0])
    tops = images[:, 0, 1, 0] // 5
    assert set(tops.tolist()) == {0, 1, 2, 3, 4}
    assert (images == 0).any()
