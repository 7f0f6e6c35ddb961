"""What is wrong with a data set, and the set without what can be dropped.

Duplicates are examples of equal bytes, found by their hashes; those that merely look alike are not found.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxcnn.contract import arguments
from jaxcnn.data.arrays import chunks, require_integers, require_numbers
from jaxcnn.data.datasets import Dataset
from jaxcnn.data.report import Finding, Report, Summary

Hashes = list[bytes]


def inspect(dataset: Dataset) -> Report:
    """Looks a data set over: duplicates, entries that are not finite, constant images, labels, classes and sizes.

    Args:
        dataset: what `load` gives, or a `Dataset` of one's own arrays.

    Returns:
        A `Report`: `print(report)` says what the sets hold, what was found and what `clean` drops; `report.findings`
        are the findings as data, `report.as_dict()` is the whole report for JSON; it is true if nothing was found.

    Raises:
        TypeError: dataset is no `Dataset`, an x is no array of real numbers, a y none of integers.
        ValueError: a set has not one label per image, or one per place in a segmentation; not one name or size per
            image, where it has them; task or classes is none.

    >>> x, y = np.array([[[1], [2]], [[3], [4]], [[1], [2]]]), np.array([0, 1, 0])
    >>> report = inspect(Dataset("three", x, y, x[:1] + 9, y[:1], classes=2))
    >>> report.findings[0]
    Finding(kind='duplicate', set='train', indices=(2,), of='train', others=(0,))
    """
    sets = _sets("data.inspect", dataset)
    hashes = {name: _hashes(x) for name, (x, _) in sets.items()}
    summaries, findings = [], []
    for name, (x, y) in sets.items():
        summary, found = _summary(name, x, y, dataset.classes)
        summaries.append(summary)
        findings += [*found, *_labels_outside(name, y, dataset), *_repeated(name, hashes[name], y)]
        findings += _resized(name, x, (dataset.sizes or {}).get(name, ()))
    findings += [*_shared(hashes, sets), *_unlike(summaries)]
    named = tuple(_named(finding, dataset.names or {}) for finding in findings)
    return Report(dataset.name, dataset.task, dataset.classes, tuple(summaries), named)


def clean(dataset: Dataset) -> Dataset:
    """Drops from a data set what `inspect` finds and a training should not see.

    From the training set go images that the test or validation set has too, all copies of an image but the first, all
    copies if their labels differ, images with an entry that is not finite, constant images, and those with a label that
    is no class. From the validation set go the same. The test set stays as it was published, so that results can be
    compared, but for what cannot be evaluated: entries that are not finite and labels that are no class.

    Args:
        dataset: what `load` gives, or a `Dataset` of one's own arrays. `inspect` says what is dropped of it.

    Returns:
        The `Dataset` without these examples, itself if there are none.

    Raises:
        TypeError, ValueError: as `inspect` does.
        ValueError: nothing would be left of a set.

    >>> x, y = np.array([[[1], [2]], [[3], [4]], [[1], [2]]]), np.array([0, 1, 0])
    >>> clean(Dataset("three", x, y, x[:1] + 9, y[:1], classes=2)).train_y.tolist()
    [0, 1]
    """
    changed: dict[str, Any] = {}
    for name, dropped in inspect(dataset).dropped.items():
        x, y = getattr(dataset, f"{name}_x"), getattr(dataset, f"{name}_y")
        left = len(x) - len(dropped)
        expected = "images of which at least one is sound; data.inspect says what is wrong with each"
        arguments.require(left > 0, "data.clean", f"dataset.{name}_x", expected, f"{len(x)} that are all dropped")
        kept = np.delete(np.arange(len(x)), dropped)
        changed |= {f"{name}_x": x[kept], f"{name}_y": y[kept]}
        for of in ("names", "sizes"):
            known = changed.get(of) or getattr(dataset, of) or {}
            if name in known:
                changed[of] = known | {name: tuple(known[name][i] for i in kept)}
    return dataclasses.replace(dataset, **changed) if changed else dataset


def _sets(function: str, dataset: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The sets by name, as NumPy arrays of which each image has its label."""
    is_dataset = isinstance(dataset, Dataset)
    arguments.require(is_dataset, function, "dataset", "a data.Dataset", arguments.describe(dataset), TypeError)
    arguments.choice(function, "dataset.task", dataset.task, ("classification", "segmentation"))
    arguments.integer(function, "dataset.classes", dataset.classes, 1)
    sets: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name in ("train", "validation", "test"):
        x, y = getattr(dataset, f"{name}_x"), getattr(dataset, f"{name}_y")
        if name == "validation" and all(array is None for array in (x, y)):
            continue
        require_numbers(function, f"dataset.{name}_x", x)
        require_integers(function, f"dataset.{name}_y", y)
        arguments.require(x.ndim >= 2, function, f"dataset.{name}_x", "[N, *S, C]", arguments.describe(x))
        shape = x.shape[:-1] if dataset.task == "segmentation" else x.shape[:1]
        expected, got = f"labels {list(shape)}", arguments.describe(y)
        arguments.require(y.shape == shape, function, f"dataset.{name}_y", expected, got)
        for of in ("names", "sizes"):
            count = len((getattr(dataset, of) or {}).get(name, x))
            arguments.require(count == len(x), function, f"dataset.{of}[{name!r}]", f"{len(x)}, one per image", count)
        sets[name] = np.asanyarray(x), np.asanyarray(y)
    return sets


def _summary(name: str, x: np.ndarray, y: np.ndarray, classes: int) -> tuple[Summary, list[Finding]]:
    """What a set holds, and its images that are not finite or constant."""
    broken, constant, extents = [], [], []
    axes = tuple(range(1, x.ndim - 1)) or (1,)
    for start, part in chunks(x):
        finite = np.isfinite(part)
        broken += (start + np.flatnonzero(~_each(finite, np.all))).tolist()
        same = part.max(axes) == part.min(axes) if part.size else np.ones(len(part), bool)
        constant += (start + np.flatnonzero(_each(same, np.all))).tolist()
        extents += [] if not finite.any() else [part[finite].min(), part[finite].max()]
    extent = (min(extents).item(), max(extents).item()) if extents else None
    counts = np.zeros(classes, np.int64)
    for _, part in chunks(y.reshape(-1)):
        counts += np.bincount(part[(part >= 0) & (part < classes)], minlength=classes)
    summary = Summary(name, len(x), x.shape[1:], str(x.dtype), extent, tuple(counts.tolist()))
    found = [
        ("not finite", broken),
        ("constant", constant),
        ("missing class", np.flatnonzero(counts == 0).tolist()),
        ("empty set", [] if len(x) else [0]),
    ]
    return summary, [Finding(kind, name, tuple(indices)) for kind, indices in found if indices]


def _each(flags: np.ndarray, reduce: Any) -> np.ndarray:
    """All or any of the flags of each example [N]."""
    return reduce(flags.reshape(len(flags), -1), axis=1)


def _labels_outside(name: str, y: np.ndarray, dataset: Dataset) -> Iterator[Finding]:
    """The examples with a label that is no class; -1 in a label map is a place that is left out."""
    lowest = -1 if dataset.task == "segmentation" else 0
    outside = []
    for start, part in chunks(y):
        is_outside = (part < lowest) | (part >= dataset.classes)
        outside += (start + np.flatnonzero(_each(is_outside, np.any))).tolist()
    if outside:
        yield Finding("label out of range", name, tuple(outside))


def _hashes(x: np.ndarray) -> Hashes:
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for _, part in chunks(x) for image in part]


def _repeated(name: str, hashes: Hashes, y: np.ndarray) -> Iterator[Finding]:
    """Images that a set has several times: all but the first of equal label, all of them where labels differ."""
    groups = defaultdict(list)
    for i, digest in enumerate(hashes):
        groups[digest].append(i)
    same, firsts, contrary, others = [], [], [], []
    for first, *more in groups.values():
        if any((y[i] != y[first]).any() for i in more):
            contrary += [first, *more]
            others += [more[0], *[first] * len(more)]
        else:
            same += more
            firsts += [first] * len(more)
    if same:
        yield _pairs("duplicate", name, same, name, firsts)
    if contrary:
        yield _pairs("contrary labels", name, contrary, name, others)


def _shared(hashes: dict[str, Hashes], sets: dict[str, Any]) -> Iterator[Finding]:
    """Images of one set that are in a later one, too."""
    names = list(hashes)
    for i, name in enumerate(names):
        for later in names[i + 1 :]:
            places = {digest: k for k, digest in reversed(list(enumerate(hashes[later])))}
            both = [(k, places[digest]) for k, digest in enumerate(hashes[name]) if digest in places]
            y, later_y = sets[name][1], sets[later][1]
            contrary = [(k, other) for k, other in both if (y[k] != later_y[other]).any()]
            for kind, pairs in (("duplicate", both), ("contrary labels", contrary)):
                if pairs:
                    indices, others = zip(*pairs, strict=True)
                    yield _pairs(kind, name, indices, later, others)


def _pairs(kind: str, name: str, indices: Any, of: str, others: Any) -> Finding:
    in_order = sorted(zip(indices, others, strict=True))
    return Finding(kind, name, tuple(i for i, _ in in_order), of, tuple(other for _, other in in_order))


def _resized(name: str, x: np.ndarray, sizes: tuple[tuple[int, int], ...]) -> Iterator[Finding]:
    """Images whose files have another size than the set."""
    indices = tuple(i for i, size in enumerate(sizes) if tuple(size) != x.shape[1:-1])
    if indices:
        yield Finding("resized", name, indices, sizes=tuple(sizes[i] for i in indices))


def _named(finding: Finding, names: dict[str, tuple[str, ...]]) -> Finding:
    """The finding with the names of its files, if there are any; the indices of missing classes are no files."""
    if finding.kind in ("missing class", "empty set"):
        return finding
    own, others = names.get(finding.set), names.get(finding.of)
    return dataclasses.replace(
        finding,
        names=tuple(own[i] for i in finding.indices) if own else (),
        other_names=tuple(others[i] for i in finding.others) if others else (),
    )


def _unlike(summaries: list[Summary]) -> Iterator[Finding]:
    """Sets whose images are of another size or dtype than those of the training set."""
    first, *others = summaries
    for summary in others:
        if summary.shape != first.shape:
            yield Finding("other size", summary.name, (), first.name)
        if summary.dtype != first.dtype:
            yield Finding("other dtype", summary.name, (), first.name)
