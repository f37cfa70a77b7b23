"""Which places of a text are near a field's labels: the words that stand by its value.

In: spots where a value could stand. Out: those near the surest label. A label stands before its
value, or after it, at most a line below; it is the surer, the nearer it is and the earlier it
comes in the field's list.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

from pipeline.derive import find_words
from pipeline.records import Field

TOP = "^"
"""As a label: the beginning of the text."""

KEPT = 0.7
"""Choices whose label is less near and sure than this part of the best are left out."""

SENTENCE_CHARS = 120
"""Text that may be this long may be a sentence."""

LIST_CHARS = 900
"""How far from its label a list may reach."""

_NEAR_CHARS = 90
_LINE_COST = 25  # as many characters farther is a label for each line between, or after its value
_TOP_CHARS = 150  # at which the beginning of the text counts half
_SHORT_LABEL = 5
_PARTICLE = 3
_ADJACENT = 20
_BEFORE_DATE = re.compile(r"[\s,(]*(?:(?:the|dem|le|\w+day|\w+tag|\w+di)\b[\s,]*)*")
_INDENT = 20
_NONE = re.compile(
    r"[ ]*[:.]?[ ]*(?i:none|nil|n/a|not applicable|indefinite|open[- ]ended|keine?s?|unbefristet"
    r"|aucune?|néant)\b"
)
_SENTENCE_OVER = re.compile(r"\.\s+[A-ZÀ-Þ]")
_START = itemgetter(1)
_LINE_BREAK = re.compile(r"[\n\f]")

Placed = Mapping[tuple[int, int], float]
"""Places of a text and how sure it is that the value stands there, at most 1."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A place where a value could stand.

    Attributes:
        start, end: Where.
        value: The value.
        note: What to know of its meaning, or empty.
    """

    start: int
    end: int
    value: Any
    note: str = ""


def near_labels(
    field: Field, text: str, spots: list[Spot], placed: Placed, *, in_list: bool
) -> list[Spot]:
    """The spots whose labels are the nearest and surest, those first.

    Where no label is near any, none of them is what is asked for.

    Args:
        field: With labels or patterns.
        text: Where the spots are.
        spots: Where a value could stand.
        placed: Places that are known otherwise, with how sure each is.
        in_list: There may be many values, farther from the label.
    """
    most = LIST_CHARS if in_list else _NEAR_CHARS
    in_sentences = in_list and field.max_chars >= SENTENCE_CHARS
    masks = [span for words in field.unlike for span in find_words(words, text)]
    places = [
        (0 if in_list else rank, start, end)
        for rank, label in enumerate(field.labels)
        for start, end in find_words(label, text)
        if (field.type != "string" or in_sentences or _is_label(text, start, end))
        and not any(first <= start and end <= last for first, last in masks)
    ]
    if not in_list and any(_says_none(text, start, end) for _, start, end in places):
        return []
    if in_sentences:  # sentences with a label in them
        return [
            spot
            for spot in spots
            if (spot.start, spot.end) in placed
            or any(spot.start <= at and end <= spot.end for _, at, end in places)
        ]
    if field.type == "date":
        places = [place for place in places if not _is_stray_particle(text, spots, place)]
    places.sort(key=_START)
    scores = [_score(text, spot, places, most) for spot in spots]
    scores = [
        max(score, _placed_score(field, s, placed)) for s, score in zip(spots, scores, strict=True)
    ]
    if field.type == "decimal":
        scores = _prefer_last_column(text, spots, scores)
    if TOP in field.labels:
        rank = field.labels.index(TOP)
        tops = [1 / (1 + spot.start / _TOP_CHARS) / (1 + rank / 2) for spot in spots]
        scores = list(map(max, scores, tops))
    best = max(scores, default=0.0)
    if best <= 0:
        return []
    kept = [
        (-round(score, 1), number) for number, score in enumerate(scores) if score >= KEPT * best
    ]
    return [spots[number] for _, number in sorted(kept)]


def _is_stray_particle(text: str, spots: list[Spot], place: tuple[int, int, int]) -> bool:
    """Whether a word such as "by" has no date right behind it: it is about something else."""
    _, start, end = place
    if end - start > _PARTICLE or text[end : end + 1] == ":":
        return False
    return not any(
        0 <= spot.start - end <= _ADJACENT and _BEFORE_DATE.fullmatch(text, end, spot.start)
        for spot in spots
    )


def _says_none(text: str, start: int, end: int) -> bool:
    """Whether a label at the beginning of its line says that there is no value."""
    return _NONE.match(text, end) is not None and _begins_line(text, start)


def _placed_score(field: Field, spot: Spot, placed: Placed) -> float:
    """How sure a spot is by its place: text stands just there, other values somewhere in it."""
    if field.type == "string":
        return placed.get((spot.start, spot.end), 0.0)
    return max(
        (sure for (a, b), sure in placed.items() if a < spot.end and spot.start < b), default=0.0
    )


def _prefer_last_column(text: str, spots: list[Spot], scores: list[float]) -> list[float]:
    """Lower scores for amounts in a row of a table before the last, which is what the row is about.

    A row ends with its amount: "VAT 20% on £625.00 £125.00".
    """
    lowered = list(scores)
    last_start = -1
    for number in range(len(spots) - 1, -1, -1):
        spot = spots[number]
        end = line_end(text, spot.end)
        if not text[spot.end : end].strip(" \t.*"):
            last_start = spot.start
        elif last_start >= 0 and "\n" not in text[spot.end : last_start]:
            lowered[number] *= KEPT / 2
    return lowered


def leave_unlike(field: Field, text: str, spots: list[Spot]) -> list[Spot]:
    """The spots without an unlike word in them, or before them and nearer than a label."""

    def ends(words: tuple[str, ...]) -> list[int]:
        return sorted(end for word in words for _, end in find_words(word, text))

    def last_before(ends: list[int], end: int) -> int:
        number = bisect_right(ends, end)
        return ends[number - 1] if number else -1

    bad, good = ends(field.unlike), ends(field.labels)
    kept: list[Spot] = []
    for spot in spots:
        last_bad, last_good = last_before(bad, spot.end), last_before(good, spot.end)
        if last_bad < last_good or last_bad < 0 or (not good and last_bad <= spot.start):
            kept.append(spot)
    return kept


def _score(text: str, spot: Spot, places: list[tuple[int, int, int]], most: int) -> float:
    """How near and sure the best label is: before the value, or after it, at most a line below."""
    best = 0.0
    longest = max((end - start for _, start, end in places), default=0)
    first = bisect_left(places, spot.start - most - longest, key=_START)
    last = bisect_right(places, spot.end + most, key=_START)
    for rank, start, end in places[first:last]:  # none of the others is near enough
        if end <= spot.start:
            between = text[end : spot.start]
            # A list may be a column, and goes on to the next paragraph.
            breaks = between.count("\n\n" if most == LIST_CHARS else "\n")
            gap = len(between) + _LINE_COST * breaks
        elif start >= spot.end:
            between = text[spot.end : start]
            lines = between.count("\n")
            is_near = lines == 0 or (lines == 1 and between.isspace())
            gap = 2 * len(between) + _LINE_COST * (lines + 1) if is_near else most + 1
        else:
            continue
        if gap <= most:
            best = max(best, (1 - gap / most) / (1 + rank / 2))
    return best


def _is_label(text: str, start: int, end: int) -> bool:
    """Whether words are a label: a colon follows, or they stand alone or first in their line."""
    if _SENTENCE_OVER.match(text, end) and not _begins_line(text, start):
        return False
    if text[end : end + 1] == ":" or end - start > _SHORT_LABEL:
        return True
    return _begins_line(text, start) and (
        end - start > _PARTICLE or not text[end : end + 1].strip(" \t")
    )


def _begins_line(text: str, start: int) -> bool:
    """Whether there is no word, or the number of a paragraph alone, before a place in its line."""
    before = text[max(start - _INDENT, 0) : start].rpartition("\n")[2].rpartition("\f")[2]
    return not before.strip(" \t0123456789.§()")


def line_end(text: str, start: int) -> int:
    """Where the line ends that a place is in."""
    ends = _line_ends(text)
    return ends[bisect_left(ends, start)]


@lru_cache(maxsize=4)
def _line_ends(text: str) -> list[int]:
    """Looked for once: in a text that is one line, a thousand values have the same end."""
    return [*(match.start() for match in _LINE_BREAK.finditer(text)), len(text)]
