"""Turns offsets of the published tables into places on pages, as a browser counts.

In: a document's pages and characters (code points) of its normalised text. Out: places in UTF-16
units of each page's own text.
"""

from collections.abc import Sequence

from pipeline.report.rows import PageRow
from pipeline.report.view import Place

_LAST_OF_BMP = "\uffff"


class PageOffsets:
    """The pages of one document, in the order of their text."""

    def __init__(self, pages: Sequence[PageRow]) -> None:
        self._pages = pages
        # Most pages have no character outside of the basic plane: then both counts are the same.
        self._is_wide = [max(page.text, default="") > _LAST_OF_BMP for page in pages]

    def find(self, start_char: int, end_char: int) -> tuple[Place, ...]:
        """Where these characters stand, one place for each page with some of them."""
        places: list[Place] = []
        for number, page in enumerate(self._pages):
            start = max(start_char - page.start_char, 0)
            end = min(end_char - page.start_char, len(page.text))
            if start < end:
                places.append(Place(number, self._units(number, start), self._units(number, end)))
        return tuple(places)

    def _units(self, number: int, chars: int) -> int:
        if not self._is_wide[number]:
            return chars
        return chars + sum(c > _LAST_OF_BMP for c in self._pages[number].text[:chars])
