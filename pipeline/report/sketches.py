"""Draws where a quote stands on the pages of a PDF: the page's outline and a box for each line.

In: a document's pages with their frames, and the boxes of a quote. Out: a `Sketch` for each page,
in points from its upper left corner, as the page is read: turned, and without what is cut off.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.page_frames import PageFrame, make_frame
from pipeline.report.rows import PageRow
from pipeline.report.view import Sketch

_THIRDS = ("upper third", "middle third", "lower third")
_Box = tuple[float, float, float, float]


class Sketcher:
    """Draws on the pages of one document."""

    def __init__(self, pages: Sequence[PageRow]) -> None:
        self._pages = {
            page.page_number: (place, frame)
            for place, page in enumerate(pages)
            if page.frame and (frame := make_frame(_sides(page.frame), page.frame["rotation"]))
        }

    def draw(self, boxes: Iterable[dict[str, Any]]) -> tuple[Sketch, ...]:
        """The sketches of a quote, none for pages without a frame.

        Args:
            boxes: As in the table `evidence`.
        """
        by_page: dict[int, list[_Box]] = {}
        for box in boxes:
            if box["page"] not in self._pages:
                continue
            shown = _place_box(self._pages[box["page"]][1], *_sides(box))
            if shown:
                by_page.setdefault(box["page"], []).append(shown)
        return tuple(self._sketch(page, by_page[page]) for page in sorted(by_page))

    def _sketch(self, page: int, boxes: list[_Box]) -> Sketch:
        place, frame = self._pages[page]
        width, height = frame.size
        return Sketch(place, round(width, 1), round(height, 1), tuple(boxes), _where(height, boxes))


def _sides(box: dict[str, Any]) -> _Box:
    return box["x0"], box["y0"], box["x1"], box["y1"]


def _place_box(frame: PageFrame, x0: float, y0: float, x1: float, y1: float) -> _Box | None:
    """A box as the page is read; None if nothing of it is shown."""
    corners = [frame.turn(x0, y0), frame.turn(x1, y1)]
    (left, right), (top, bottom) = (sorted(sides) for sides in zip(*corners, strict=True))
    width, height = frame.size
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if left >= right or top >= bottom:
        return None
    return round(left, 1), round(top, 1), round(right - left, 1), round(bottom - top, 1)


def _where(height: float, boxes: Sequence[_Box]) -> str:
    """The thirds of the page that the lines are in, by the middle of the first and the last."""
    middles = [top + size / 2 for _, top, _, size in boxes]
    first, last = (min(int(3 * at / height), 2) for at in (min(middles), max(middles)))
    if first == last:
        return _THIRDS[first]
    return f"{_THIRDS[first]} to {_THIRDS[last]}"
