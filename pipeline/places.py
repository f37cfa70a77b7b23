"""Where a field's value is by patterns, by layout or in a list: surer than words nearby.

In: a field and a text. Out: places with how sure each is. Parts that may be named among the labels:
those of `pipeline.layout_parts`, and for lists "@parties" (`pipeline.party_names`), "@people" and
"@places" (`pipeline.named`), "@main" (`pipeline.main_sentences`).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache

from pipeline.derive import find_words
from pipeline.derive_dates import read_dates
from pipeline.labels import SENTENCE_CHARS, TOP, Placed, line_end
from pipeline.layout_parts import find_part
from pipeline.listings import find_below, find_listed
from pipeline.main_sentences import find_main_sentences
from pipeline.named import find_people, find_places
from pipeline.party_names import find_parties
from pipeline.records import Field

_OF_BEGINNINGS = {TOP, "@letterhead", "@addressee", "@greeted", "@subject", "@parties"}
_COLUMN_CHARS = 400
_ROW_CHARS = 1000  # of the line of a table
_DATE_COLUMN = re.compile(
    r"\b(?:\w+[ ])?(?:date|datum)\b(?:[ ]due\b(?![ ]date))?|\b(?:due|issued|fällig|échéance)\b",
    re.IGNORECASE,
)
_HAS_DIGIT = re.compile("[0-9]")
# No word, and no value: from each of its characters on, a pattern with "+" would go through it.
_LONG_RUN = re.compile(r"[!-~]{200,}")
_LATER = 0.3  # what each further place of one part loses


def has_places(field: Field) -> bool:
    """Whether a field says where its values are."""
    return bool(field.labels or field.patterns)


def without_beginning(field: Field) -> Field | None:
    """The field as it is looked for in a later part of a document: not by what begins one.

    None if it stands at the beginning only.
    """
    labels = tuple(label for label in field.labels if label not in _OF_BEGINNINGS)
    if field.labels and not labels and not field.patterns:
        return None
    return replace(field, labels=labels)


def find_placed(field: Field, text: str, *, in_list: bool) -> Placed:
    """The places where a field's value is by patterns, layout or in a list.

    Args:
        field: The field, or the item of a list.
        text: What the model is shown.
        in_list: It is an item.
    """
    placed: dict[tuple[int, int], float] = {}
    seen = _LONG_RUN.sub(lambda run: "\0" * len(run[0]), text) if field.patterns else ""
    for rank, pattern in enumerate(field.patterns):
        for match in _compiled(pattern).finditer(seen):
            placed.setdefault(match.span("value"), 1 / (1 + rank / 10))
    for rank, label in enumerate(field.labels):
        under = _under(text, label) if field.type == "date" else iter(())
        for span in (*_beside(text, label), *under) if not in_list else ():
            placed.setdefault(span, 1 / (1 + rank / 2))
        if label.startswith("@"):
            for number, span in enumerate(_find_part(label, text)):
                placed.setdefault(span, (1 - _LATER * min(number, 3)) / (1 + rank / 2))
    if in_list and field.type == "string" and field.max_chars < SENTENCE_CHARS and not placed:
        placed |= dict.fromkeys(find_listed(text, field.labels, field.unlike), 1.0)
    if in_list and field.type == "string" and field.max_chars >= SENTENCE_CHARS and not placed:
        placed |= dict.fromkeys(find_below(text, field.labels), 1.0)
    return placed


def _beside(text: str, label: str) -> Iterator[tuple[int, int]]:
    """The value of a label in a column of labels that stands above a column with their values."""
    for start, end in find_words(label, text):
        line = text.rfind("\n", 0, start) + 1
        if text[line:start].strip() or text[end : line_end(text, end)].strip(" .:#"):
            continue
        above = _run(text[max(0, start - _COLUMN_CHARS) : start].split("\n")[-2::-1], digits=False)
        below = text[end : end + _COLUMN_CHARS].split("\n")[1:]
        labels = above + 1 + _run(below, digits=False)
        values = _run(below[labels - above - 1 :], digits=True)
        if labels == values > 1:
            lines = below[: labels - 1]
            first = line_end(text, end) + 1 + sum(len(line) + 1 for line in lines)
            yield first, line_end(text, first)


def _under(text: str, label: str) -> Iterator[tuple[int, int]]:
    """The date below a label in a row of labels, by its place among the labels of dates."""
    for start, end in find_words(label, text):
        first, last = text.rfind("\n", 0, start) + 1, line_end(text, end)
        if last - first > _ROW_CHARS:
            continue
        columns = [column.span() for column in _DATE_COLUMN.finditer(text, first, last)]
        below = min(line_end(text, min(last + 1, len(text))), last + _ROW_CHARS)
        dates = read_dates(text[last + 1 : below])
        place = next((n for n, (a, b) in enumerate(columns) if a < end and start < b), -1)
        is_row = len(dates) == len(columns) > 1 and not _HAS_DIGIT.search(text[first:last])
        if is_row and place >= 0:
            yield last + 1 + dates[place].start, last + 1 + dates[place].end


def _run(lines: Sequence[str], *, digits: bool) -> int:
    """How many lines there are, from the first, that all have digits in them, or all have none."""
    return next(
        (
            number
            for number, line in enumerate(lines)
            if not line.strip() or bool(_HAS_DIGIT.search(line)) != digits
        ),
        len(lines),
    )


def _find_part(label: str, text: str) -> Sequence[tuple[int, int]]:
    finder = _LISTS.get(label)
    return finder(text) if finder else find_part(label, text)


_LISTS: dict[str, Callable[[str], Sequence[tuple[int, int]]]] = {
    "@parties": find_parties,
    "@people": find_people,
    "@places": find_places,
    "@main": find_main_sentences,
}


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """A space in a pattern is any white space, as a line may end there."""
    return re.compile(pattern.replace(" ", r"\s+"))
