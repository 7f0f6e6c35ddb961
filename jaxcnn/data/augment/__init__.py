"""Augmentations: each is made by a call and applied inside a jitted step as `f(key, x, y) -> (x, y)`."""

from jaxcnn.data.augment.augmentation import Augmentation, compose
from jaxcnn.data.augment.covering import cutout, gain, noise
from jaxcnn.data.augment.mixing import cutmix, mixup
from jaxcnn.data.augment.moving import crop, flip, shift, time_shift
from jaxcnn.data.augment.names import NAMES, by_names
from jaxcnn.data.augment.turning import rotate, scale

__all__ = [
    "NAMES",
    "Augmentation",
    "by_names",
    "compose",
    "crop",
    "cutmix",
    "cutout",
    "flip",
    "gain",
    "mixup",
    "noise",
    "rotate",
    "scale",
    "shift",
    "time_shift",
]
