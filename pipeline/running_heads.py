"""Sets running heads and page numbers apart: what repeats at the edges of a PDF's pages.

In: normalised pages with their alignment. Out: the same, without what repeats: it stays where it
stands first, and in the raw text of every page, but parts that the model reads are not full of it
and a sentence that goes over a page is whole.

A line is taken for repeated if it is one of the three first or last of its page, stands so on at
least three pages and on two fifths of all, and is the same each time but for numbers that count the
pages. So sums that are carried forward, or rows of a table, are never taken.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from pipeline.alignment import Alignment, Run

_EDGE_LINES = 3
_LEAST_PAGES = 3
_LEAST_SHARE = 0.4
_LONGEST = 200  # characters; a paragraph is no head
_NUMBER = re.compile(r"\d+")
_MOST_DIGITS = 6
_NOT_LINE_END = re.compile(r"[^\n]")

# (start, end) of a line in a page's text, without its line end.
_Line = tuple[int, int]


def set_heads_apart(pages: Sequence[tuple[str, Alignment]]) -> list[tuple[str, Alignment]]:
    """Takes running heads and page numbers out of the pages after the first that has them.

    Args:
        pages: Text and alignment of each page of a document, in order.

    Returns:
        As many pages. A page that has nothing else is left as it is.
    """
    if len(pages) < _LEAST_PAGES:
        return list(pages)
    places: dict[str, list[tuple[int, _Line]]] = {}
    for index, (text, _) in enumerate(pages):
        for line in _edge_lines(text):
            key = _NUMBER.sub("#", text[slice(*line)].casefold())
            places.setdefault(key, []).append((index, line))
    taken: dict[int, list[_Line]] = {}
    for found in places.values():
        if _is_head(pages, found):
            first = found[0][0]
            for index, line in found:
                if index != first:
                    taken.setdefault(index, []).append(line)
    return [
        _cut(text, alignment, taken[index]) if index in taken else (text, alignment)
        for index, (text, alignment) in enumerate(pages)
    ]


def _edge_lines(text: str) -> Iterator[_Line]:
    """The first and last lines of a page that have something on them, each once."""
    first = list(islice(_from_top(text), _EDGE_LINES))
    yield from first
    least = first[-1][1] if first else 0
    end = len(text)
    for _ in range(_EDGE_LINES):
        start = text.rfind("\n", least, end) + 1
        while start and start == end and start > least:  # an empty line
            end = start - 1
            start = text.rfind("\n", least, end) + 1
        if start <= least:
            return
        yield start, end
        end = start - 1


def _from_top(text: str) -> Iterator[_Line]:
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        if end > start:
            yield start, end
        start = end + 1


def _is_head(pages: Sequence[tuple[str, Alignment]], found: Sequence[tuple[int, _Line]]) -> bool:
    numbers_of_pages = {index for index, _ in found}
    if len(numbers_of_pages) < max(_LEAST_PAGES, _LEAST_SHARE * len(pages)):
        return False
    rows: list[list[int]] = []
    for index, (start, end) in found:
        numbers = _NUMBER.findall(pages[index][0], start, end)
        if end - start > _LONGEST or any(len(number) > _MOST_DIGITS for number in numbers):
            return False
        rows.append([int(number) for number in numbers])
    return all(
        len(set(column)) == 1
        or len({number - index for number, (index, _) in zip(column, found, strict=True)}) == 1
        for column in zip(*rows, strict=True)
    )


def _cut(text: str, alignment: Alignment, lines: Iterable[_Line]) -> tuple[str, Alignment]:
    """A page without these lines and the line ends after them; as it is if nothing is left."""
    kept: list[_Line] = []
    position = 0
    for start, end in sorted(lines):
        after = _NOT_LINE_END.search(text, end)
        if position < start:
            kept.append((position, start))
        position = after.start() if after else len(text)
    if position < len(text):
        kept.append((position, len(text)))
    if kept and position >= len(text):  # what was cut stood last: so did the line ends before it
        start, end = kept.pop()
        end = start + len(text[start:end].rstrip("\n"))
        kept += [(start, end)] if start < end else []
    runs = _keep_runs(alignment, kept)
    if not kept or runs is None:
        return text, alignment
    return "".join(text[start:end] for start, end in kept), Alignment(runs)


def _keep_runs(alignment: Alignment, kept: Sequence[_Line]) -> tuple[Run, ...] | None:
    """The runs of what is kept; None if a run that maps as a whole would be cut."""
    runs: list[Run] = []
    position = 0
    index = 0
    for start, end in kept:
        while alignment.runs[index].text_end <= start:
            index += 1
        for run in alignment.runs[index:]:
            if run.text_start >= end:
                break
            first, last = max(run.text_start, start), min(run.text_end, end)
            lead, tail = first - run.text_start, run.text_end - last
            if run.text_end - run.text_start != run.raw_end - run.raw_start and (lead or tail):
                return None
            length = last - first
            runs.append(Run(position, position + length, run.raw_start + lead, run.raw_end - tail))
            position += length
    return tuple(runs)
