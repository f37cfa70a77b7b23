"""Fills in the pages of a document that are pictures, some pages to a process that can be killed.

In: a `Document` with pages that have no text, and a way to have pages read. Out: the document with
what OCR found on them, marked as such. A page that fails, or takes too long, takes no other along.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pipeline.contents import UNREADABLE, RawPage, replace_pages
from pipeline.orders import ENDED_FULL, ENDED_LATE
from pipeline.records import Document, Page

PAGES_AT_ONCE = 4
_PART_OF_MEMORY = 4  # OCR takes most of what a reader may have; the model needs the rest

MOST_FAILURES = 8
"""Pages of a document: each takes the whole time of one, and a PDF can have thousands of them."""
REASONS = {ENDED_LATE: "OCR took longer than it may", ENDED_FULL: "OCR took too much memory"}
OTHER_REASON = "OCR failed on it"
GIVEN_UP = f"OCR was not tried on it: it had failed on {MOST_FAILURES} pages of this document"

ReadPictures = Callable[[Sequence[int]], list[str] | str]
"""From page numbers to their texts, or to the reason why they can't be read."""


def find_scans(document: Document) -> list[int]:
    """Numbers of the pages of a PDF that OCR may give a text."""
    return [page.number for page in document.pages if _is_scan(page)]


def read_scans(document: Document, read: ReadPictures) -> Document:
    """The document with the text of its pictures.

    Args:
        document: Read, or failed for want of text.
        read: Has some pages read.
    """
    numbers = find_scans(document)
    if not numbers:
        return document
    pages: dict[int, RawPage] = {}

    def read_or_give_up(some: Sequence[int]) -> list[str] | str:
        return GIVEN_UP if count_failures(pages.values()) >= MOST_FAILURES else read(some)

    for begin in range(0, len(numbers), PAGES_AT_ONCE):
        pages |= _read_some(document, numbers[begin : begin + PAGES_AT_ONCE], read_or_give_up)
    return replace_pages(document, pages)


def count_failures(pages: Iterable[RawPage | Page]) -> int:
    """How many of the pages OCR was tried on in vain, by their notes."""
    return sum(page.note.endswith((*REASONS.values(), OTHER_REASON)) for page in pages)


def scans_at_once(memory_bytes: int) -> int:
    """How many processes may do OCR at the same time on this machine, each within a limit.

    Args:
        memory_bytes: The limit of one.
    """
    import psutil

    return max(1, psutil.virtual_memory().total // _PART_OF_MEMORY // memory_bytes)


def decode_texts(contents: bytes, count: int, end: bytes) -> list[str] | str:
    """The texts that a reader's child answered with, or why there are none.

    Args:
        contents: Its answer; empty if it gave none.
        count: How many pages it was asked for.
        end: How it ended, see `pipeline.orders`.
    """
    try:
        texts: Any = json.loads(contents)
        if len(texts) == count and all(isinstance(text, str) for text in texts):
            return list(texts)
    except (ValueError, TypeError, RecursionError):
        pass
    return REASONS.get(end, OTHER_REASON)


def _read_some(document: Document, numbers: list[int], read: ReadPictures) -> dict[int, RawPage]:
    texts = read(numbers)
    if not isinstance(texts, str):
        return {
            number: RawPage(text, "ocr")
            for number, text in zip(numbers, texts, strict=True)
            if text or not document.pages[number - 1].text  # else what there is stays
        }
    if len(numbers) > 1:  # one of them is to blame
        return {k: v for number in numbers for k, v in _read_some(document, [number], read).items()}
    page = document.pages[numbers[0] - 1]
    if page.text:
        return {page.number: RawPage(page.raw, page.source, f"{page.note}; {texts}")}
    return {page.number: RawPage("", "ocr", f"no text on this page: {texts}")}


def _is_scan(page: Page) -> bool:
    return page.source == "pypdf" and (not page.text or page.note == UNREADABLE)
