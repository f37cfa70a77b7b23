"""Finds where quotes stand on the pages of a PDF, by pdfium, which knows each character's place.

In: the bytes of a PDF and queries. Out: boxes, one for each line of a quote, or None where that is
not sure: the words are not on the page, or more than once, or a box would hold other words, too.
`load_pdfium` is for the read server, `find_boxes` for its children, which are locked in.
"""

from collections.abc import Iterator, Sequence
from ctypes import byref, c_double
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

from pipeline.quote_places import HYPHENS, Box, Boxes, Query, compact, find_once

_LINE_ENDS = "\r\n"
_SPLIT_WORD = "\x02"  # pdfium's name for a hyphen at a line end
_DASHES = HYPHENS + _SPLIT_WORD
_DIGITS = 2  # a hundredth of a point is less than any printer can show

_Sides = tuple[float, float, float, float]  # left, bottom, right, top


def load_pdfium() -> None:
    """Loads the library: 0.1 s and a few MB.

    Raises:
        ImportError: It is not installed, or does not load.
    """
    import pypdfium2  # noqa: F401  # pyright: ignore[reportUnusedImport]


def find_boxes(data: bytes, queries: Sequence[Query]) -> list[Boxes]:
    """Where quotes stand.

    Args:
        data: A PDF that needs no password.
        queries: For each quote, its words and its page.

    Raises:
        MemoryError: It needs more than this process may have.
        Exception: It can't be opened; pdfium has errors of its own.
    """
    import pypdfium2

    found: dict[int, Boxes] = {}
    document: Any = pypdfium2.PdfDocument(data)
    try:
        numbered = sorted(enumerate(queries), key=lambda item: item[1].page)
        for number, group in groupby(numbered, key=lambda item: item[1].page):
            page = _read_page(document, number)
            for place, query in group:
                found[place] = page and page.find(query)
    finally:
        document.close()
    return [found[place] for place in range(len(queries))]


@dataclass(frozen=True, slots=True)
class _Page:
    """The characters of a page in pdfium's order.

    Attributes:
        number: From 1.
        characters: All of them, made up ones (spaces, line ends) included.
        sides: Where each stands; None for those that have no place.
        text: What of them counts, see `compact`.
        places: For each character of `text`, which of `characters` it belongs to.
    """

    number: int
    characters: list[str]
    sides: list[_Sides | None]
    text: str
    places: list[int]

    def find(self, query: Query) -> Boxes:
        """The boxes of the one place where the words stand."""
        words = compact(query.words)
        for before, after in query.contexts:
            start = find_once(self.text, before + words + after)
            if start is not None:
                begin = start + len(before)
                first, last = self.places[begin], self.places[begin + len(words) - 1]
                if query.words[0] in HYPHENS and self._has_dash(first - 1):
                    first -= 1
                if query.words[-1] in HYPHENS and self._has_dash(last + 1):
                    last += 1
                return self._measure(first, last)
        return None

    def _has_dash(self, place: int) -> bool:
        return 0 <= place < len(self.characters) and self.characters[place] in _DASHES

    def _measure(self, first: int, last: int) -> Boxes:
        """One box for each line, if they hold these characters and no others."""
        lines = [_join(line) for line in self._lines(first, last)]
        others = [
            self.sides[place] for place in dict.fromkeys(self.places) if not first <= place <= last
        ]
        if None in lines or any(
            _holds(line, side) for line in lines for side in others if line and side
        ):
            return None
        return (
            tuple(
                Box(self.number, *(round(side, _DIGITS) for side in line)) for line in lines if line
            )
            or None
        )

    def _lines(self, first: int, last: int) -> Iterator[list[_Sides]]:
        line: list[_Sides] = []
        for place in range(first, last + 1):
            character, sides = self.characters[place], self.sides[place]
            if sides is not None and not character.isspace():
                line.append(sides)
            if line and (character in _LINE_ENDS or character == _SPLIT_WORD):
                yield line
                line = []
        if line:
            yield line


def _read_page(document: Any, number: int) -> _Page | None:
    """A page; None if there is none of that number, or pdfium can't load it."""
    import pypdfium2

    try:
        page = document[number - 1]
        letters = page.get_textpage()
    except (IndexError, pypdfium2.PdfiumError):
        return None
    count = letters.count_chars()
    characters = [_character(letters.raw, place) for place in range(count)]
    texts = [_compact_one(character) for character in characters]
    sides = [
        _find_sides(letters.raw, place) if texts[place] or characters[place] in _DASHES else None
        for place in range(count)
    ]
    places = [place for place, text in enumerate(texts) for _ in text]
    letters.close()
    page.close()
    return _Page(number, characters, sides, "".join(texts), places)


def _character(letters: Any, place: int) -> str:
    import pypdfium2.raw as pdfium

    code: int = pdfium.FPDFText_GetUnicode(letters, place)
    return chr(code)


@lru_cache(maxsize=4096)
def _compact_one(character: str) -> str:
    return compact(character)


def _find_sides(letters: Any, place: int) -> _Sides | None:
    """Where a character's ink is; where there is none, what its font says of its room."""
    import pypdfium2.raw as pdfium

    left, right, bottom, top = c_double(), c_double(), c_double(), c_double()
    refs = byref(left), byref(right), byref(bottom), byref(top)
    if not pdfium.FPDFText_GetCharBox(letters, place, *refs):
        return None
    return left.value, bottom.value, right.value, top.value


def _join(boxes: list[_Sides]) -> _Sides | None:
    """The smallest box around others; None if it has no width or height."""
    lefts, bottoms, rights, tops = zip(*boxes, strict=True)
    joined = min(lefts), min(bottoms), max(rights), max(tops)
    return joined if joined[0] < joined[2] and joined[1] < joined[3] else None


def _holds(box: _Sides, sides: _Sides) -> bool:
    """Whether a character stands in a box: its middle does."""
    x, y = (sides[0] + sides[2]) / 2, (sides[1] + sides[3]) / 2
    return box[0] < x < box[2] and box[1] < y < box[3]
