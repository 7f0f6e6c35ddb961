"""A table of text, with pictures where it is HTML."""

import html
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of text, as HTML in a notebook and as Markdown elsewhere.

    Attributes:
        columns: what stands above the rows.
        rows: the text of the cells.
        notes: paragraphs below.
        pictures: HTML for each row, in a last column; there is none in Markdown.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        cells = [[cell.replace("|", r"\|") for cell in line] for line in lines]
        return "\n".join([*(f"| {' | '.join(line)} |" for line in cells), *(f"\n{note}" for note in self.notes)])

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        has_pictures = any(self.pictures)
        pictures = self.pictures if has_pictures else [""] * len(self.rows)
        head = _row([*map(html.escape, self.columns), *(["the errors"] if has_pictures else [])], "th")
        body = "".join(
            _row([*map(html.escape, cells), *([picture] if has_pictures else [])], "td")
            for cells, picture in zip(self.rows, pictures, strict=True)
        )
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>{notes}"


def _row(cells: list[str], tag: str) -> str:
    """A row of HTML; notebooks align text to the right where nothing is said."""
    inside = "".join(f'<{tag} style="text-align: left; vertical-align: top">{cell}</{tag}>' for cell in cells)
    return f"<tr>{inside}</tr>"
