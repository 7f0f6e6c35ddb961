"""Augmentations by their names, as the command line has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxcnn.contract import arguments
from jaxcnn.data.augment.augmentation import Augmentation, Composition, compose
from jaxcnn.data.augment.covering import cutout, gain, noise
from jaxcnn.data.augment.mixing import cutmix, mixup
from jaxcnn.data.augment.moving import crop, flip, shift, time_shift
from jaxcnn.data.augment.turning import rotate, scale

_MAKERS: dict[str, tuple[Callable[..., Augmentation], int | float]] = {
    "flip": (flip, -1),
    "shift": (shift, 2),
    "crop": (crop, 4),
    "rotate": (rotate, 10),
    "scale": (scale, 0.1),
    "cutout": (cutout, 8),
    "noise": (noise, 0.1),
    "mixup": (mixup, 0.2),
    "cutmix": (cutmix, 1.0),
    "time_shift": (time_shift, 800),
    "gain": (gain, 6.0),
}
NAMES = tuple(_MAKERS)


def by_names(names: str, classes: int | None = None) -> Augmentation | Composition:
    """The augmentations of these names, one after the other.

    Args:
        names: names of functions of `data.augment`, separated by commas; behind a name its first argument, after a
            colon, or several for several axes, "flip,shift:2,cutout:8:4"; of a crop the size, too, "crop:4:32x32".
            Without it flip takes the last axis, shift 2 pixels, crop 4, rotate 10 degrees, scale 0.1, cutout 8, noise
            0.1, mixup 0.2, cutmix 1, time_shift 800 samples, gain 6 decibels.
        classes: how many classes there are, for mixup and cutmix.

    Returns:
        One augmentation.

    Raises:
        TypeError: names is no string.
        ValueError: there is no augmentation of a name, or what stands behind one is no number.
        TypeError, ValueError: those of the augmentation that a number does not fit.

    >>> by_names("crop:0:32x24")
    augment.crop(padding=0, size=(32, 24))
    >>> by_names("flip,shift:2", classes=10)
    augment.compose(augment.flip(axes=-1), augment.shift(pixels=2))
    """
    function, expected = "augment.by_names", 'a string as "flip,shift:2"'
    arguments.require(isinstance(names, str), function, "names", expected, arguments.describe(names), TypeError)
    parts = [_part(entry.strip(), classes) for entry in names.split(",")]
    return parts[0] if len(parts) == 1 else compose(*parts)


def _part(entry: str, classes: int | None) -> Augmentation:
    name, *values = entry.split(":")
    arguments.choice("augment.by_names", "names", name, NAMES)
    maker, usual = _MAKERS[name]
    sizes = [tuple(_number(entry, side) for side in value.split("x")) for value in values if "x" in value]
    numbers = [_number(entry, value) for value in values if "x" not in value] or [usual]
    options: dict[str, Any] = {"classes": classes} if name in ("mixup", "cutmix") else {}
    return maker(numbers[0] if len(numbers) == 1 else tuple(numbers), *sizes[:1], **options)


def _number(entry: str, text: str) -> int | float:
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    arguments.require(False, "augment.by_names", "names", "names with numbers behind colons", repr(entry))
    raise AssertionError
