"""A picture of where the errors of an array lie: a small SVG that needs nothing else."""

import html
from collections.abc import Iterator, Sequence

import numpy as np

_CELLS = 64  # along a side, at most
# A cell is so many pixels wide at least and at most; pictures of more cells than fit grow beyond _SIDE pixels.
_SMALLEST, _LARGEST, _SIDE = 3, 14, 192
# Viridis without its darkest quarter, from dark to bright: the lightness alone tells these colours apart, for the
# colour-blind. The panel is darker than all of them, on a light page and on a dark one.
_COLOURS = ("#3b528b", "#2e6e8e", "#24878e", "#1fa187", "#3aba76", "#73d056", "#b8de29", "#fde725")
_PANEL, _NOT_FINITE = "#14171c", "#ffffff"
_DECADES = 6  # errors smaller than the largest by more than so many powers of ten are drawn as dark as these


def picture(errors: np.ndarray) -> str:
    """The errors of an array, relative to a usual entry, as HTML; empty for a single number.

    An entry without an error is zero. The picture has two axes of the array, those along which the errors differ most;
    a cell is the largest error in it. The brighter, the larger; NaN and infinite errors are white discs.
    """
    if errors.size < 2:
        return ""
    with np.errstate(invalid="ignore"):
        sizes = np.where(np.isfinite(errors), np.abs(errors), np.inf)
    axes = _chosen_axes(sizes)
    others = [axis for axis, size in enumerate(sizes.shape) if size > 1 and axis not in axes]
    plane = np.atleast_2d(sizes.max(axis=tuple(axis for axis in range(sizes.ndim) if axis not in axes)))
    cells = _shrunk(_shrunk(plane, 0), 1)
    low, high = _range(cells)
    said = _axes_in_words(axes, others, plane.shape, cells.shape)
    lines = (said, _legend(low, high, bool(np.isinf(cells).any())))
    return _drawn(cells, low, high, said) + "".join(f'<div style="font-size: 85%">{line}</div>' for line in lines)


def _axes_in_words(axes: Sequence[int], others: Sequence[int], entries: Sequence[int], cells: Sequence[int]) -> str:
    """What the axes of the picture are, for so many entries and cells along them."""
    said = [f"axis {axis} {way}" for axis, way in zip(axes, ("down", "across")[-len(axes) :], strict=True)]
    said += (
        [f"the largest error over ax{'es' if len(others) > 1 else 'is'} {', '.join(map(str, others))}"]
        if others
        else []
    )
    sides = [-(-long // short) for long, short in zip(entries, cells, strict=True)][-len(axes) :]
    return ", ".join([*said, *([f"a cell is {'×'.join(map(str, sides))} entries"] if max(sides) > 1 else [])])


def _chosen_axes(sizes: np.ndarray) -> list[int]:
    """The two axes along which the sizes differ most, or the only one, in their order.

    It counts what share of the indices along an axis has no error of half of the largest.
    """
    axes = [axis for axis, size in enumerate(sizes.shape) if size > 1]
    half = sizes.max() / 2

    def variety(axis: int) -> tuple[float, int, int]:
        largest = sizes.max(axis=tuple(a for a in range(sizes.ndim) if a != axis))
        return float(np.mean(largest < half)), sizes.shape[axis], axis

    return sorted(sorted(axes, key=variety)[-2:])


def _shrunk(plane: np.ndarray, axis: int) -> np.ndarray:
    """At most _CELLS cells along an axis, each with the largest of its entries."""
    size = plane.shape[axis]
    starts = np.arange(0, size, -(-size // _CELLS))
    return np.maximum.reduceat(plane, starts, axis=axis)


def _range(cells: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest finite error that is drawn."""
    finite = cells[np.isfinite(cells) & (cells > 0)]
    if not finite.size:
        return 0.0, 0.0
    return max(float(finite.min()), float(finite.max()) * 10.0**-_DECADES), float(finite.max())


def _drawn(cells: np.ndarray, low: float, high: float, title: str) -> str:
    rows, columns = cells.shape
    width, height = (min(max(_SIDE // count, _SMALLEST), _LARGEST) * count for count in (columns, rows))
    levels = _levels(cells, low, high)
    paths = [
        f'<path fill="{colour}" d="{"".join(f"M{x} {y}h{n}v1h-{n}z" for y, x, n in _runs(levels == i))}"/>'
        for i, colour in enumerate(_COLOURS)
        if (levels == i).any()
    ]
    discs = "".join(f"M{x}.5 {y}.5h0" for y, x in np.argwhere(np.isinf(cells)))
    if discs:
        paths.append(f'<path stroke="{_NOT_FINITE}" stroke-linecap="round" shape-rendering="auto" d="{discs}"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width}" height="{height}" '
        f'viewBox="0 0 {columns} {rows}" preserveAspectRatio="none" '
        'shape-rendering="crispEdges" style="outline: 1px solid #888">'
        f"<title>{html.escape(title)}</title>"
        f'<rect width="{columns}" height="{rows}" fill="{_PANEL}"/>{"".join(paths)}</svg>'
    )


def _levels(cells: np.ndarray, low: float, high: float) -> np.ndarray:
    """The colour of each cell, on a logarithmic scale; -1 where there is none."""
    drawn = np.isfinite(cells) & (cells > 0)
    place = np.log(np.where(drawn, cells, high or 1.0) / (low or 1.0)) / (np.log(high / low) if high > low else 1.0)
    last = len(_COLOURS) - 1
    return np.where(drawn, np.clip(np.rint(place * last), 0, last) if high > low else last, -1)


def _runs(chosen: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Row, column and length of each run of chosen cells."""
    for y, row in enumerate(chosen):
        ends = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(np.int8)))
        for start, end in zip(ends[::2], ends[1::2], strict=True):
            yield y, int(start), int(end - start)


def _legend(low: float, high: float, has_discs: bool) -> str:
    """What the colours mean."""
    colours = _COLOURS if high > low else _COLOURS[-1:]
    boxes = "".join(f'<rect x="{i}" width="1" height="1" fill="{colour}"/>' for i, colour in enumerate(colours))
    bar = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{9 * len(colours)}" height="9" '
        f'viewBox="0 0 {len(colours)} 1" preserveAspectRatio="none">{boxes}</svg>'
    )
    scale = f"{f'{low:.2g} ' if high > low else ''}{bar} {high:.2g} times a usual entry" if high else ""
    return ", ".join(filter(None, (scale, "white discs: NaN or infinite" if has_discs else "")))
