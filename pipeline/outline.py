"""The outline of a document: what its sections are called, and where each begins in its text.

In: entries as a parser finds them (the outline of a PDF, the headings of HTML and Markdown), each
with the page that it leads to. Out: `Section`s with their place in the normalised text: where the
title stands on that page, else at the page's beginning.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MOST_ENTRIES = 2000
"""Of a longer outline the lowest levels are left out: each entry costs a search of its page."""

MOST_READ = 20_000
"""A parser gives up an outline that is longer still."""

MOST_LEVEL = 9
TITLE_CHARS = 120
_MOST_PAGE = 2**31 - 1  # what a column of the store takes

_LINE_START, _LINE_END = r"(?<![^\n\f])", r"(?![^\n\f])"
_NUMBER = r"(?:[^\n\f]{0,16}[ ])?"  # before the title: "§ 12.3 ", "Chapter 4 ", "## "


@dataclass(frozen=True, slots=True)
class OutlineEntry:
    """An entry of an outline.

    Attributes:
        level: From 1, the highest.
        title: In one line.
        page: Number of the page that it leads to, from 1.
    """

    level: int
    title: str
    page: int = 1


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a document: from its heading to the next one of its level or a higher one.

    Attributes:
        level: 1 is the highest; levels may be left out.
        title: In one line.
        start_char: Where it begins in the normalised text: at the first letter of a line.
    """

    level: int
    title: str
    start_char: int


def make_entry(level: int, title: str, page: int = 1) -> OutlineEntry:
    """An entry with its title in one line, shortened, and its numbers within bounds."""
    return OutlineEntry(
        min(max(int(level), 1), MOST_LEVEL),
        " ".join(title.split())[:TITLE_CHARS].strip(),
        min(max(int(page), 0), _MOST_PAGE),
    )


def highest_entries(outline: Sequence[OutlineEntry]) -> tuple[OutlineEntry, ...]:
    """The entries of as many levels as are not too many, from the highest down."""
    for level in range(MOST_LEVEL, 1, -1):
        kept = tuple(entry for entry in outline if entry.level <= level)
        if len(kept) <= MOST_ENTRIES:
            return kept
    return tuple(entry for entry in outline if entry.level == 1)[:MOST_ENTRIES]


def place_outline(text: str, outline: Iterable[OutlineEntry]) -> tuple[Section, ...]:
    """Where the entries of an outline begin.

    Args:
        text: The document's normalised text, its pages joined by form feeds.
        outline: In any order.

    Returns:
        Sections in the order of the text, no two at one place. An entry that leads to no page, or
        that can't be told from the one before it, is left out.
    """
    pages = [0, *(match.end() for match in re.finditer("\f", text)), len(text) + 1]
    sections: list[Section] = []
    last = -1
    for entry in sorted(outline, key=lambda each: each.page):
        if not (1 <= entry.page < len(pages) and entry.title):
            continue
        start = _find_place(text, entry.title, last, pages[entry.page - 1 : entry.page + 1])
        if last < start < len(text):
            sections.append(Section(entry.level, entry.title, start))
            last = start
    return tuple(sections)


def _find_place(text: str, title: str, last: int, page: Sequence[int]) -> int:
    """Where a title stands on a page after the last one found; else where the page begins."""
    begin, end = page[0], page[1] - 1
    words = r"\s+".join(re.escape(word) for word in title.split())
    for pattern in (f"{_LINE_START}{_NUMBER}{words}[ ]*{_LINE_END}", f"{_LINE_START}[ ]?{words}"):
        match = re.compile(pattern, re.IGNORECASE).search(text, max(begin, last + 1), end)
        if match:
            return skip_spaces(text, match.start())
    return skip_spaces(text, begin)


def skip_spaces(text: str, start: int) -> int:
    """The first place from `start` on that is no white space; the text's end if there is none."""
    while start < len(text) and text[start].isspace():
        start += 1
    return start
