"""Keeps the cells of a table's row on one line, in the order in which a PDF draws its text.

In: the pieces of text that pypdf finds on a page, each with its place. Out: the page's text. pypdf
begins a new line for each piece that is placed anew, so that a row falls apart into its cells; its
layout mode keeps rows, but mixes columns of running text. Here a piece that is drawn next, on the
same baseline and further right, goes on the same line.
"""

from dataclasses import dataclass, field

_SAME_LINE = 0.35  # of the size of the type: cells of a row may be set in different sizes
_UPRIGHT = 1e-3


@dataclass(slots=True)
class LineJoiner:
    """Collects the pieces of one page; `add` is a `visitor_text` of pypdf's `extract_text`."""

    _pieces: list[str] = field(default_factory=list[str])
    _place: tuple[float, float] | None = None  # where the last piece began, if it is one line

    def add(
        self,
        text: str,
        page_matrix: list[float],
        text_matrix: list[float],
        _font: object,
        size: float,
    ) -> None:
        """Takes the next piece.

        Args:
            text: It, with the line ends that pypdf gives it.
            page_matrix: Leads, after the other, from its own coordinates to those of the page.
            text_matrix: The other.
            size: Of its type, in its own coordinates.
        """
        words = text.strip()
        if not words:
            self._pieces.append(text)
            return
        x, y, height = _locate(page_matrix, text_matrix, size)
        place = (x, y) if height else None
        if place and self._place and text[0] != "\n":
            before_x, before_y = self._place
            if abs(y - before_y) <= _SAME_LINE * height and x > before_x:
                self._end_with_space()
        self._pieces.append(text)
        self._place = place if "\n" not in words else None

    def text(self) -> str:
        """All that was taken."""
        return "".join(self._pieces)

    def _end_with_space(self) -> None:
        """Puts a space in place of one line end, if there is one just before."""
        blank = len(self._pieces)
        while blank and not self._pieces[blank - 1].strip():
            blank -= 1
        if not blank:
            return
        words = self._pieces[blank - 1].rstrip()
        spacing = self._pieces[blank - 1][len(words) :] + "".join(self._pieces[blank:])
        if spacing.count("\n") == 1:
            self._pieces[blank - 1 :] = [words, " "]


def _locate(page: list[float], text: list[float], size: float) -> tuple[float, float, float]:
    """Where a piece begins on the page, and the height of its type; 0 if it isn't upright."""
    # text x page, each [a b 0; c d 0; e f 1] (ISO 32000-1, 9.4.4)
    slope = text[0] * page[1] + text[1] * page[3]
    scale = text[2] * page[1] + text[3] * page[3]
    x = text[4] * page[0] + text[5] * page[2] + page[4]
    y = text[4] * page[1] + text[5] * page[3] + page[5]
    return x, y, abs(scale * size) if abs(slope) < _UPRIGHT else 0.0
