"""Where the errors of an array lie, and what they look like."""

import itertools
import math

import numpy as np

# Errors are told by their size, and are no numbers in wrong places, where they are below this share of the largest
# entry.
_SMALL = 1e-3


def locate(got: np.ndarray, expected: np.ndarray, wrong: np.ndarray, close: float, batch: int | None = None) -> str:
    """Where `wrong` is true, and what happened there, in a few words.

    Args:
        got: what the rule gives.
        expected: what is right.
        wrong: which entries are wrong; at least one is.
        close: the relative difference at which two numbers are the same.
        batch: how many images there are, if that is known: an axis 0 of that length is the images.
    """
    if wrong.ndim == 0 or wrong.size == 1:
        return _likeness(got[wrong], expected[wrong], close) or "its only entry"
    small = np.isfinite(got).all() and _same(got, expected, max(close, _SMALL))
    moved = "" if small else _moved(got, expected, wrong, close)
    return moved or ", ".join(filter(None, (_region(wrong, batch), _likeness(got[wrong], expected[wrong], close))))


def _likeness(got: np.ndarray, expected: np.ndarray, close: float) -> str:
    """What the wrong entries have in common."""
    for name, test in (("NaN", np.isnan), ("infinite", np.isinf)):
        if test(got).all():
            return name
        if test(got).any():
            return f"{name} in {np.count_nonzero(test(got))} of them"
    if not got.any():
        return "zero instead"
    if not np.isfinite(expected).all():
        return ""
    if not expected.any():
        return "zero expected"
    if _same(got, -expected, close):
        return "the opposite sign"
    if got.size == 1:
        return ""
    factor = np.vdot(expected, got) / np.vdot(expected, expected)
    if _same(got, factor * expected, close):
        return f"by the factor {factor_in_words(float(factor))}"
    offset = np.mean(got - expected)
    if np.max(np.abs(got - expected - offset)) <= close * np.max(np.abs(expected)):
        return f"by {offset:.3g} each"
    off = float(np.max(np.abs(got - expected)) / np.max(np.abs(expected)))
    return f"off by up to {off:.0e} of the largest entry, in no pattern" if off < _SMALL else ""


def factor_in_words(factor: float, doubt: float = 0.0) -> str:
    """A factor in words: 0.00833333 is 1/120. It is rounded to the digits that are not in doubt."""
    if doubt > 0:
        factor = round(factor, max(0, math.ceil(-math.log10(doubt))))
    inverse = round(1 / factor) if factor else 0
    if abs(inverse) > 1 and math.isclose(factor * inverse, 1, rel_tol=1e-6):
        return f"{'-' if inverse < 0 else ''}1/{abs(inverse)}"
    return f"{factor:.6g}" if abs(factor - 1) > 1e-5 else f"1 {'-' if factor < 1 else '+'} {abs(factor - 1):.0e}"


def _moved(got: np.ndarray, expected: np.ndarray, wrong: np.ndarray, close: float) -> str:
    """How the right numbers were moved to wrong places; empty if they were not."""
    if not (np.isfinite(got).all() and np.isfinite(expected).all() and np.count_nonzero(wrong) > 1 and got.any()):
        return ""
    axes = [axis for axis, size in enumerate(got.shape) if size > 1]
    for axis, step in itertools.product(axes, (1, -1)):
        if got.shape[axis] > 2:
            overlap = [slice(None)] * got.ndim, [slice(None)] * got.ndim
            overlap[0][axis] = slice(max(step, 0), min(step, 0) or None)
            overlap[1][axis] = slice(max(-step, 0), -step if step > 0 else None)
            if _same(got[tuple(overlap[0])], expected[tuple(overlap[1])], close):
                return f"shifted by {step} along axis {axis}"
    for count in range(1, min(len(axes), 3) + 1):
        for some in itertools.combinations(axes, count):
            if _same(got, np.flip(expected, some), close):
                return f"flipped along {_axes(some)}"
    for a, b in itertools.combinations(axes, 2):
        if got.shape[a] == got.shape[b] and _same(got, np.swapaxes(expected, a, b), close):
            return f"axes {a} and {b} swapped"
    if _same(np.sort(got, axis=None), np.sort(expected, axis=None), close):
        return "the right numbers in wrong places"
    return ""


def _same(a: np.ndarray, b: np.ndarray, close: float) -> bool:
    """Whether a is b, up to `close` times the largest entry, and b is not zero."""
    return bool(np.max(np.abs(a - b), initial=0.0) <= close * np.max(np.abs(b), initial=0.0)) and bool(b.any())


def _region(wrong: np.ndarray, batch: int | None) -> str:
    """Which part of the array is wrong."""
    if wrong.all():
        return "everywhere"
    share = np.count_nonzero(wrong) / wrong.size
    if np.count_nonzero(wrong) == 1:
        return "one entry"
    parts = [_indices(wrong, axis, batch) for axis in range(wrong.ndim)]
    if any(parts):
        return ", ".join(filter(None, parts))
    long = [axis for axis, size in enumerate(wrong.shape) if size > 2]
    for count in range(1, len(long) + 1):
        for axes in itertools.combinations(long, count):
            inner = tuple(slice(1, -1) if axis in axes else slice(None) for axis in range(wrong.ndim))
            if not wrong[inner].any():
                return f"the border of {_axes(axes)}"
    if share > 0.9:
        return "nearly everywhere"
    return f"scattered over {share:.0%}" if share >= 0.01 else "scattered"


def _indices(wrong: np.ndarray, axis: int, batch: int | None) -> str:
    """Which indices of an axis are wrong; empty if all are."""
    size = wrong.shape[axis]
    indices = np.flatnonzero(wrong.any(axis=tuple(a for a in range(wrong.ndim) if a != axis)))
    if len(indices) == size:
        return ""
    first, last = int(indices[0]), int(indices[-1])
    place = f"along axis {axis}"
    if len(indices) == 1:
        what = "index"
        if wrong.ndim > 2 and axis == wrong.ndim - 1:
            what = "channel"
        elif wrong.ndim > 2 and axis == 0 and size == batch:
            what = "image"
        ends = {0: ", the first", size - 1: ", the last"}
        return f"one {what}: {first} of axis {axis}{ends.get(first, '')}"
    if last - first + 1 == len(indices):
        if first == 0:
            return f"first {len(indices)} of {size} {place}"
        return f"last {len(indices)} of {size} {place}" if last == size - 1 else f"{first} to {last} of {size} {place}"
    if first == 0 and last == size - 1 and len(indices) == 2:
        return f"both ends of axis {axis}"
    steps = np.unique(np.diff(indices))
    if len(steps) == 1 and len(indices) > 2:
        return f"every {steps[0]} from {first} on {place}"
    return f"{len(indices)} of {size} {place}"


def _axes(axes: tuple[int, ...]) -> str:
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {', '.join(map(str, axes))}"
