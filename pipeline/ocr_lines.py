"""Puts words that OCR found on a page into the order in which they are read.

In: boxes with text, in any order. Out: one text: what stands side by side is one line, as the rows
of tables are in other documents; columns of prose follow each other; a gap is an empty line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

_COLUMN_SPACE = "   "  # between cells of a row, as `pipeline.pdf_lines` has it
_LEAST_COLUMN_LINES = 5
_PROSE_PART = 0.6  # of a column's width: lines of prose fill it, cells of a table do not


@dataclass(frozen=True, slots=True)
class Box:
    """Text in a rectangle; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float
    text: str

    @property
    def height(self) -> float:
        """From the top to the bottom."""
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        """Half way down."""
        return (self.top + self.bottom) / 2


def join_boxes(boxes: Sequence[Box]) -> str:
    """The text of a page.

    Args:
        boxes: What was found on it, in one unit of any size.
    """
    shown = [box for box in boxes if box.text.strip()]
    return "\n\n".join(_join_rows(part) for part in _split_columns(shown))


def _split_columns(boxes: list[Box]) -> list[list[Box]]:
    """The parts of a page in the order of reading: two columns of prose, or all in one."""
    if not boxes:
        return []
    left, right = min(box.left for box in boxes), max(box.right for box in boxes)
    for step in range(30, 71, 2):
        gutter = left + (right - left) * step / 100
        before = [box for box in boxes if box.right <= gutter]
        after = [box for box in boxes if box.left >= gutter]
        if _is_prose(before, gutter - left) and _is_prose(after, right - gutter):
            crossing = [box for box in boxes if box.left < gutter < box.right]
            return _in_bands(before, after, crossing)
    return [boxes]


def _is_prose(boxes: list[Box], width: float) -> bool:
    if len(boxes) < _LEAST_COLUMN_LINES:
        return False
    return median(box.right - box.left for box in boxes) >= _PROSE_PART * width


def _in_bands(before: list[Box], after: list[Box], crossing: list[Box]) -> list[list[Box]]:
    """Columns between headings that cross them; none if too much does."""
    if len(crossing) * 2 > len(before) + len(after):
        return [[*before, *after, *crossing]]
    parts: list[list[Box]] = []
    top = float("-inf")
    for heading in [*sorted(crossing, key=lambda box: box.middle), None]:
        bottom = heading.middle if heading else float("inf")
        parts += [
            [box for box in column if top <= box.middle < bottom] for column in (before, after)
        ]
        if heading:
            parts.append([heading])
            top = bottom
    return [part for part in parts if part]


def _join_rows(boxes: list[Box]) -> str:
    rows: list[list[Box]] = []
    for box in sorted(boxes, key=lambda box: box.middle):
        if rows and _is_beside(rows[-1], box):
            rows[-1].append(box)
        else:
            rows.append([box])
    height = median(box.height for box in boxes)
    lines: list[str] = []
    last: list[Box] | None = None
    for row in rows:
        if last and min(box.top for box in row) - max(box.bottom for box in last) > height:
            lines.append("")
        lines.append(_join_row(row))
        last = row
    return "\n".join(lines)


def _is_beside(row: list[Box], box: Box) -> bool:
    """Whether a box is of this row: at its height, and over or under none of its boxes."""
    if any(other.left < box.right and box.left < other.right for other in row):
        return False
    other = row[-1]
    return abs(other.middle - box.middle) < min(other.height, box.height) / 2


def _join_row(row: list[Box]) -> str:
    row.sort(key=lambda box: box.left)
    line = row[0].text.strip()
    for before, box in pairwise(row):
        is_cell = box.left - before.right > box.height
        line += (_COLUMN_SPACE if is_cell else " ") + box.text.strip()
    return line
