"""What all augmentations have in common, and their names."""

import pickle

import jax
import numpy as np
import pytest

from jaxcnn.data import augment

KEY = jax.random.key(3)
MADE = {
    "flip": lambda: augment.flip([0, -1]),
    "shift": lambda: augment.shift(np.int64(2)),
    "crop": lambda: augment.crop((2, 1), size=np.array([4, 5])),
    "rotate": lambda: augment.rotate(20),
    "scale": lambda: augment.scale(0.3),
    "cutout": lambda: augment.cutout((2, 3)),
    "noise": lambda: augment.noise(0.1),
    "mixup": lambda: augment.mixup(0.3, 4),
    "cutmix": lambda: augment.cutmix(1, 4),
    "time_shift": lambda: augment.time_shift(2),
    "gain": lambda: augment.gain(6),
}


@pytest.mark.parametrize("name", augment.NAMES)
def test_every_augmentation(name):
    """Equal calls make equal ones, which pickle and print as calls; another key draws otherwise."""
    one, other = MADE[name](), MADE[name]()
    assert one == other == pickle.loads(pickle.dumps(one))
    assert hash(one) == hash(other)
    assert eval(repr(one), {"augment": augment}) == one
    shape = (4, 9, 2) if name == "time_shift" else (4, 7, 6, 2)
    x, labels = np.random.default_rng(0).normal(size=shape).astype(np.float32), np.arange(4, dtype=np.int32)
    images, y = one(KEY, x, labels)
    assert images.dtype == np.float32
    assert y.shape == ((4, 4) if name in ("mixup", "cutmix") else (4,))
    assert not np.array_equal(images, x)
    assert any(not np.array_equal(one(jax.random.key(k), x, labels)[0], images) for k in range(3))


def test_names_make_what_calls_make():
    assert augment.by_names(" crop:4:0 ,cutmix,noise:0.5", classes=7) == augment.compose(
        augment.crop((4, 0)), augment.cutmix(1.0, 7), augment.noise(0.5)
    )
    assert augment.by_names("flip") == augment.flip()
    assert {augment.by_names(name, classes=2).name for name in augment.NAMES} == set(augment.NAMES)


def test_parts_come_in_order_and_draw_by_themselves():
    """noise(noise(x)) with the two draws alike would be x + 2 n."""
    twice = augment.compose(lambda key, x, y: (x * 0, y + 1), augment.noise(1.0), augment.noise(1.0))
    x, y = twice(KEY, np.ones((1, 2000, 1)), np.array([1]))
    assert y == 2
    np.testing.assert_allclose(np.var(x), 2, rtol=0.1)


IMAGES, LABELS = np.ones((2, 5, 4, 1), np.float32), np.array([0, 1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: augment.flip(1.5), TypeError, "flip: axes must be an int, got float 1.5"),
        (lambda: augment.flip(2)(KEY, IMAGES, LABELS), ValueError, "flip: axes must be .* array that has 2, got 2"),
        (lambda: augment.flip()(KEY, IMAGES[:, :, 0, 0], LABELS), ValueError, r"flip: x must be \[N, \*S, C\]"),
        (lambda: augment.flip()(0, IMAGES, LABELS), TypeError, r"flip: key must be .* jax.random.key\(0\)"),
        (lambda: augment.flip()(KEY, "x", LABELS), TypeError, "flip: x must be an array of real numbers"),
        (lambda: augment.flip()(KEY, IMAGES, LABELS[:1]), ValueError, r"flip: y must be labels \[2, \.\.\.\] or"),
        (lambda: augment.flip()(KEY, IMAGES, np.ones((2, 4, 5))), ValueError, r"flip: y must be .* maps \[2, 5, 4\]"),
        (lambda: augment.shift(-1), ValueError, "shift: pixels must be an int of at least 0, got -1"),
        (lambda: augment.shift((1, 1, 1))(KEY, IMAGES, LABELS), ValueError, "pixels must be .* each of the 2 spatial"),
        (
            lambda: augment.shift(1)(KEY, IMAGES, np.ones((2, 5, 4), np.uint8)),
            TypeError,
            "shift: y must be of signed integers, since -1",
        ),
        (
            lambda: augment.shift(4)(KEY, IMAGES, LABELS),
            ValueError,
            r"shift: pixels must be less than \[5, 4\], so",
        ),
        (lambda: augment.crop(2, 2)(KEY, IMAGES, LABELS), ValueError, r"crop: padding must be less than \[2, 2\], so"),
        (lambda: augment.cutout(5)(KEY, IMAGES, LABELS), ValueError, r"cutout: size must be at most \[5, 4\], the ima"),
        (lambda: augment.crop(1, 7)(KEY, IMAGES, LABELS), ValueError, r"crop: size must be at most \[7, 6\], .* got 7"),
        (lambda: augment.time_shift(1)(KEY, IMAGES, LABELS), ValueError, r"time_shift: x must be recordings \[N, T"),
        (lambda: augment.rotate(1)(KEY, IMAGES[:, :, 0], LABELS), ValueError, "rotate: x must be .* 2 spatial axes"),
        (lambda: augment.rotate(1)(KEY, IMAGES.astype(int), LABELS), TypeError, "x must be .* data.standardize makes"),
        (lambda: augment.cutout(0), ValueError, "cutout: size must be an int of at least 1"),
        (lambda: augment.noise(1)(KEY, IMAGES.astype(np.uint8), LABELS), TypeError, "x must be .* data.standardize"),
        (lambda: augment.gain(float("nan")), ValueError, "gain: decibels must be a number from 0 to 100, got nan"),
        (lambda: augment.mixup(0.0, 2), ValueError, "mixup: alpha must be a number from 0.01 to 100, got 0.0"),
        (lambda: augment.mixup(1.0)(KEY, IMAGES, LABELS), ValueError, "mixup: classes must be the number of classes"),
        (lambda: augment.mixup(1.0, 2)(KEY, IMAGES, {"a": LABELS}), TypeError, "mixup: y must be one array"),
        (lambda: augment.compose(), ValueError, "compose: parts must be at least one"),
        (lambda: augment.compose("flip"), TypeError, r"compose: parts\[0\] must be a function"),
        (lambda: augment.by_names("flip,blur"), ValueError, "by_names: names must be one of 'flip', .*, got 'blur'"),
        (lambda: augment.by_names(""), ValueError, "by_names: names must be one of"),
        (lambda: augment.by_names("shift:x"), ValueError, "by_names: names must be names with numbers .* 'shift:x'"),
        (lambda: augment.by_names(["flip"]), TypeError, "by_names: names must be a string"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=rf"^augment\.(\w+: )?{message}"):
        call()
