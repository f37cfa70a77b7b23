"""What is compared when a quote is looked for on a page that another parser reads.

In: words of a document's normalised text. Out: a `Query`, which the process that opens the PDF
answers (`pipeline.pdf_boxes`). pypdf, whose text the quotes are of, and pdfium, which knows where
each character stands, differ in spaces, hyphens at line ends, ligatures and how accents are
written, so these count for nothing. What stands around the words tells them from the same words
elsewhere on the page.
"""

import json
import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import regex

HYPHENS = "-\u2010\u2011"

_IGNORED = regex.compile(rf"[\s\p{{Mn}}\p{{C}}{HYPHENS}]+")
_WIDTHS = (20, 80)  # characters that are looked at on either side


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle around words of one line.

    Attributes:
        page: Number of the page, from 1.
        x0, y0: Lower left corner in points, in the page's own coordinates: x to the right and y
            up, as the page is before it is turned (`/Rotate`).
        x1, y1: Upper right corner.
    """

    page: int
    x0: float
    y0: float
    x1: float
    y1: float


Boxes = tuple[Box, ...] | None
"""Of a quote, one for each line; None where it was not found for sure."""


class Query(NamedTuple):
    """Words to be found on a page.

    Attributes:
        page: Number of the page, from 1.
        words: The quote.
        contexts: What may stand (before, after) it. With each, the words are in the page's text
            once, so that where they are found once with it, they are the right ones.
    """

    page: int
    words: str
    contexts: tuple[tuple[str, str], ...]


def compact(text: str) -> str:
    """The characters that count: no white space, hyphens, controls or accents; nothing joined."""
    return _IGNORED.sub("", unicodedata.normalize("NFKD", text))


def make_query(page: int, text: str, start: int, end: int) -> Query:
    """What to look for.

    Args:
        page: The page's number.
        text: Its normalised text.
        start: Where the quote begins in it.
        end: One past the quote's last character.
    """
    before, words, after = compact(text[:start]), compact(text[start:end]), compact(text[end:])
    whole = before + words + after
    contexts = tuple(
        pair
        for pair in _contexts(before, after)
        if words and find_once(whole, pair[0] + words + pair[1]) is not None
    )
    return Query(page, text[start:end], contexts)


def _contexts(before: str, after: str) -> Iterator[tuple[str, str]]:
    yield "", ""
    for width in _WIDTHS:
        left, right = before[-width:], after[:width]
        yield from dict.fromkeys(((left, right), (left, ""), ("", right)))


def find_once(text: str, wanted: str) -> int | None:
    """Where a text holds another; None if it does not, or more than once."""
    first = text.find(wanted)
    return first if first >= 0 and text.find(wanted, first + 1) < 0 else None


def encode_boxes(found: Sequence[Boxes]) -> bytes:
    """Boxes as JSON."""
    rows = [
        boxes and [[box.page, box.x0, box.y0, box.x1, box.y1] for box in boxes] for boxes in found
    ]
    return json.dumps(rows).encode()


def decode_boxes(contents: bytes, queries: Sequence[Query]) -> list[Boxes]:
    """The boxes that `encode_boxes` encoded, one or None for each query.

    The process that measured them may have been taken over by what it read: whatever is not made
    of finite numbers of the page in question is None.
    """
    try:
        rows: Any = json.loads(contents)
        if len(rows) == len(queries):
            return [_decode(row, query.page) for row, query in zip(rows, queries, strict=True)]
    except (ValueError, TypeError, RecursionError):
        pass
    return [None] * len(queries)


def _decode(row: Any, page: int) -> Boxes:
    boxes: list[Box] = []
    for number, *sides in row or ():
        x0, y0, x1, y1 = map(float, cast("list[float]", sides))
        if number != page or not all(map(math.isfinite, (x0, y0, x1, y1))):
            return None
        boxes.append(Box(page, x0, y0, x1, y1))
    return tuple(boxes) or None
