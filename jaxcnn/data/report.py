"""What was found in a data set, as text and as data."""

from __future__ import annotations

import dataclasses
from typing import Any

SHOWN = 5  # examples that the text names of each finding
_SENTENCES = {
    "duplicate": "repeat an image",
    "contrary labels": "have an image in common with another label",
    "not finite": "have an entry that is NaN or infinite",
    "constant": "are constant: all entries of a channel are equal",
    "label out of range": "have a label that is no class",
    "resized": "had other sizes and were resized",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One kind of fault in one set.

    Attributes:
        kind: "duplicate", "contrary labels" (equal images of different labels), "not finite", "constant", "label out of
            range", "resized", "missing class", "empty set", "other size" or "other dtype".
        set: "train", "validation" or "test".
        indices: the examples in order; the classes of "missing class"; nothing for what concerns the whole set.
        of: the set that others are in.
        others: for each example one that it repeats.
        names, other_names: the files of these examples and of the others, where the data set has them.
        sizes: of "resized", the (height, width) that each image had.
    """

    kind: str
    set: str
    indices: tuple[int, ...]
    of: str = ""
    others: tuple[int, ...] = ()
    names: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    other_names: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    sizes: tuple[tuple[int, int], ...] = dataclasses.field(default=(), repr=False)

    def __str__(self) -> str:
        if self.kind == "missing class":
            return f"{self.set}: no example of class {', '.join(map(str, self.indices))}"
        if self.kind == "empty set":
            return f"{self.set}: no examples"
        if self.kind not in _SENTENCES:
            return f"{self.set}: images of an{self.kind.removeprefix('an')} than those of {self.of}"
        where = f" of {self.of}" if self.of not in ("", self.set) else ""
        named = [_printed(each) for each in (self.names or self.indices)[:SHOWN]]
        if self.others:
            others = map(_printed, self.other_names or self.others)
            named = [f"{name} as {other}" for name, other in zip(named, others, strict=False)]
        if self.sizes:
            named = [f"{name} of {h}x{w}" for name, (h, w) in zip(named, self.sizes, strict=False)]
        more = ", ..." if len(self.indices) > SHOWN else ""
        return f"{self.set}: {len(self.indices)} {_SENTENCES[self.kind]}{where} ({', '.join(named)}{more})"


def _printed(example: int | str) -> str:
    """A number, or the name of a file, in which any character may be."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(example))


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a set holds.

    Attributes:
        name: "train", "validation" or "test".
        count: how many examples.
        shape: the shape of each, (*S, C).
        dtype: of the images.
        extent: the smallest and the largest finite entry, or None.
        per_class: how many labels each class has.
    """

    name: str
    count: int
    shape: tuple[int, ...]
    dtype: str
    extent: tuple[float, float] | None
    per_class: tuple[int, ...]

    @property
    def imbalance(self) -> float | None:
        """How many times as many labels the largest class has as the smallest; None where a class has none."""
        return max(self.per_class) / min(self.per_class) if min(self.per_class) else None

    def __str__(self) -> str:
        sizes = "x".join(map(str, self.shape))
        extent = "" if self.extent is None else f" from {self.extent[0]:g} to {self.extent[1]:g}"
        counts = ", ".join(map(str, self.per_class[:20])) + (", ..." if len(self.per_class) > 20 else "")
        imbalance = "" if self.imbalance is None else f"; the largest is {self.imbalance:.3g} times the smallest"
        return f"{self.name}: {self.count} of {sizes} {self.dtype}{extent}\n  labels per class: {counts}{imbalance}"


@dataclasses.dataclass(frozen=True)
class Report:
    """What `inspect` saw of a data set; true if it found nothing.

    Attributes:
        name, task, classes: those of the data set.
        sets: a `Summary` of each set.
        findings: each kind of fault of each set.
    """

    name: str
    task: str
    classes: int
    sets: tuple[Summary, ...]
    findings: tuple[Finding, ...]

    @property
    def dropped(self) -> dict[str, list[int]]:
        """The examples that `clean` drops, by set; sets that it leaves alone are not there."""
        dropped: dict[str, set[int]] = {}
        for finding in self.findings:
            unusable = finding.kind in ("not finite", "label out of range")
            unfit = finding.kind in ("duplicate", "contrary labels", "constant") and finding.set != "test"
            if unusable or unfit:
                dropped.setdefault(finding.set, set()).update(finding.indices)
        return {each.name: sorted(dropped[each.name]) for each in self.sets if each.name in dropped}

    def as_dict(self) -> dict[str, Any]:
        """The report as dicts, lists, strings and numbers, for JSON."""
        return dataclasses.asdict(self) | {"dropped": self.dropped}

    def __bool__(self) -> bool:
        return not self.findings

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.task}, {self.classes} classes", *map(str, self.sets)]
        lines += ["found:" if self.findings else "found nothing wrong", *(f"  {finding}" for finding in self.findings)]
        drops = [f"{len(indices)} of {name}" for name, indices in self.dropped.items()]
        return "\n".join([*lines, *([f"data.clean drops {', '.join(drops)}"] if drops else [])])
