"""What could be a field's value in a text: the choices that a small model is given.

In: a field and a text. Out: pieces of the text, each with the value at its end and the words that
lead to it ("Total due £1,660.00"): a small model knows a value by its label better than alone.

Dates and numbers are those of `pipeline.derive`; where there are amounts of money, other numbers
are no choices for a decimal. Text is a line, what follows a colon, a run of words with capital
letters, something with digits in it (an invoice's number), or, where it may be long, a sentence; in
three characters a currency's code. Where the field has labels, only choices with the nearest and
surest of them nearby stay.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.derive import find_words, read_values
from pipeline.derive_numbers import CURRENCIES
from pipeline.evidence import PAGE_BREAK
from pipeline.records import Field
from pipeline.sentences import split_sentences

MOST_CHOICES = 120
TOP = "^"
"""As a label: the beginning of the text."""

LEAD_CHARS = 48
"""The most characters that lead to a value."""

SENTENCE_CHARS = 120
"""Text that may be this long may be a sentence."""

KEPT = 0.7
"""Choices whose label is less near and sure than this part of the best are left out."""

_CODE_CHARS = 3
_NEAR_CHARS = 90
_LINE_COST = 25  # as many characters farther is a label for each line between, or after its value
_LIST_CHARS = 600
_TOP_CHARS = 150  # at which the beginning of the text counts half
_SHORT_LABEL = 5
_PARTICLE = 3
_INDENT = 20
_SHORT = r"[A-ZÀ-ÖØ-Þ][a-zß-ÿ]{0,2}\."
_CAPITAL = rf"(?:{_SHORT}|[A-ZÀ-ÖØ-Þ](?:[\w&'’/-]|\.(?=\w))*)"  # noqa: RUF001
_FORM = r"(?:,[ ](?:Inc|Ltd|LLC|LLP|GmbH|AG|S\.A)\b\.?|[ ]plc\b)"
_NAME = re.compile(
    rf"\b{_CAPITAL}"
    r"(?:[ ](?:(?:of|the|and|de|da|la|le|du|van|von|der|den|zu|für|und|et|&)[ ]){0,2}"
    rf"{_CAPITAL}|{_FORM})+"
)
_ONE_NAME = re.compile(
    rf"\b{_CAPITAL}(?:[ ](?:(?:of|de|da|la|du|van|von|der|&)[ ]){{0,2}}{_CAPITAL}|{_FORM})+"
)
"""As `_NAME`, but names joined by "and" are several."""
_TITLED = re.compile(r"(?:(?:Mr|Mrs|Ms|Miss|Dr|Prof|Herrn?|Frau|Mme|M)\.?[ ])+(?=\S+[ ]\S)")
"""Titles before a name of at least two words."""
_MARKED = re.compile(r"(?<![\w/.-])(?=[\w/.-]*[0-9])[A-Za-z0-9][\w/.-]{2,}(?<![.-])")
_AFTER_COLON = tuple(
    re.compile(rf"^(?:[^\n:]{{1,40}}:[ ]*){{{times}}}(?=\S)", re.MULTILINE) for times in (1, 2)
)
_AMOUNT = Field("amount", "decimal")
_LINE = re.compile(r"[^\n\f]+")
_LINE_BREAK = re.compile(r"[\n\f]")
_CLAUSE = re.compile(r"[.;:!?][ \n]|\n")


@dataclass(frozen=True, slots=True)
class Choice:
    """A piece of a text that ends with a possible value.

    Attributes:
        start, end: Where it stands.
        quote: Its words.
        value: The value, of the field's type.
        note: What to know of its meaning, or empty.
    """

    start: int
    end: int
    quote: str
    value: Any
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Spot:
    start: int
    end: int
    value: Any
    note: str = ""


def find_choices(
    field: Field, text: str, context: str = "", *, in_list: bool = False
) -> list[Choice]:
    """The choices for a field, in the order of the text, each quote and each value once.

    Args:
        field: Of type date, decimal, integer or string.
        text: What the model is shown.
        context: The document around it, for days without a year.
        in_list: There may be many values, farther from the label.
    """
    spots = [
        spot
        for spot in _find_spots(field, text, context, in_list=in_list)
        if PAGE_BREAK not in text[spot.start : spot.end]
    ]
    if field.labels:
        spots = _near_labels(field, text, spots, in_list=in_list)
    if field.unlike:
        spots = _leave_unlike(field, text, spots)
    choices: dict[str, Choice] = {}
    values: set[str] = set()
    for spot in spots:
        start = _lead(text, spot.start)
        quote = text[start : spot.end]
        if quote not in choices and str(spot.value) not in values:
            values.add(str(spot.value))
            choices[quote] = Choice(start, spot.end, quote, spot.value, spot.note)
    return sorted(choices.values(), key=lambda choice: choice.end)[:MOST_CHOICES]


def _find_spots(field: Field, text: str, context: str, *, in_list: bool) -> Iterator[_Spot]:
    if field.type != "string":
        plain = [reading for reading in read_values(field, text, context) if reading.is_plain]
        amounts = [reading for reading in plain if reading.is_amount]
        for reading in amounts or plain if field.type == "decimal" else plain:
            yield _Spot(reading.start, reading.end, reading.values[0], reading.note)
        return
    if field.max_chars <= _CODE_CHARS:
        yield from _find_codes(text)
        return
    known: set[tuple[int, int]] = set()
    if in_list and field.max_chars >= SENTENCE_CHARS:
        found = split_sentences(text)
    else:
        found = [
            *_find_texts(field.max_chars, text, in_list=in_list),
            *_find_after_labels(field.labels, text, in_list=in_list),
        ]
    fits = re.compile(field.looks_like or ".*", re.DOTALL).fullmatch
    for start, end in sorted(found):
        value = " ".join(text[start:end].split())
        if (start, end) not in known and 1 < len(value) <= field.max_chars and fits(value):
            known.add((start, end))
            yield _Spot(start, end, value)


def _find_codes(text: str) -> Iterator[_Spot]:
    for name, code in CURRENCIES.items():
        pattern = rf"\b{re.escape(name)}\b" if name.isalpha() else re.escape(name)
        for match in re.finditer(pattern, text, re.IGNORECASE):
            yield _Spot(match.start(), match.end(), code)
    for code in sorted(set(CURRENCIES.values())):
        for start, end in find_words(code, text):
            yield _Spot(start, end, code)


def _find_texts(most: int, text: str, *, in_list: bool) -> Iterator[tuple[int, int]]:
    for pattern in (
        _LINE,
        _ONE_NAME if in_list else _NAME,
        *((_MARKED,) if most < SENTENCE_CHARS else ()),
    ):
        for match in pattern.finditer(text):
            start, end = match.span()
            if pattern is not _LINE and (titled := _TITLED.match(text, start, end)):
                start = titled.end()
            yield _trim(text, start, end)
    for reading in read_values(_AMOUNT, text):
        if reading.is_amount:
            yield reading.start, reading.end
    for pattern in _AFTER_COLON:
        for match in pattern.finditer(text):
            yield _trim(text, match.end(), _line_end(text, match.end()))
    if most >= SENTENCE_CHARS:
        yield from split_sentences(text)


def _find_after_labels(
    labels: tuple[str, ...], text: str, *, in_list: bool
) -> Iterator[tuple[int, int]]:
    """What follows a label in its line; of a list, the names."""
    for label in labels:
        for _, end in find_words(label, text):
            start = end + len(text[end:]) - len(text[end:].lstrip(" \t:.#"))
            yield _trim(text, start, _line_end(text, start))
            for match in _ONE_NAME.finditer(text, start, end + _LIST_CHARS) if in_list else ():
                yield _trim(text, *match.span())


def _line_end(text: str, start: int) -> int:
    match = _LINE_BREAK.search(text, start)
    return match.start() if match else len(text)


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    """A span without white space and commas at its ends, nor a full stop that ends a sentence."""
    while start < end and text[start] in " \n\t,;":
        start += 1
    while start < end and text[end - 1] in " \n\t,;:":
        end -= 1
    return start, end


def _lead(text: str, start: int) -> int:
    """Where the words begin that lead to a value: its line or clause, or the line before."""
    line = text.rfind("\n", 0, start) + 1
    if not text[line:start].strip() and line > 0:  # the value begins its line: take the one before
        line = text.rfind("\n", 0, line - 1) + 1
    line = max(line, text.rfind(PAGE_BREAK, 0, start) + 1)
    begin = max(line, start - LEAD_CHARS)
    for match in _CLAUSE.finditer(text, begin, start):
        if text[match.end() : start].strip() and match[0] != "\n":
            begin = match.end()
    while begin < start and begin > line and text[begin - 1].isalnum():  # no half a word
        begin += 1
    while begin < start and text[begin].isspace():
        begin += 1
    return begin


def _near_labels(field: Field, text: str, spots: list[_Spot], *, in_list: bool) -> list[_Spot]:
    """The spots whose labels are the nearest and surest, those first.

    Where no label is near any, none of them is what is asked for.
    """
    most = _LIST_CHARS if in_list else _NEAR_CHARS
    places = [
        (0 if in_list else rank, start, end)
        for rank, label in enumerate(field.labels)
        for start, end in find_words(label, text)
        if field.type != "string" or _is_label(text, start, end)
    ]
    if in_list and field.max_chars >= SENTENCE_CHARS:  # sentences with a label in them
        return [s for s in spots if any(s.start <= at and end <= s.end for _, at, end in places)]
    scores = [_score(text, spot, places, most) for spot in spots]
    if TOP in field.labels:
        rank = field.labels.index(TOP)
        tops = [1 / (1 + spot.start / _TOP_CHARS) / (1 + rank / 2) for spot in spots]
        scores = list(map(max, scores, tops))
    best = max(scores, default=0.0)
    if best <= 0:
        return []
    kept = [(-score, number) for number, score in enumerate(scores) if score >= KEPT * best]
    return [spots[number] for _, number in sorted(kept)]


def _leave_unlike(field: Field, text: str, spots: list[_Spot]) -> list[_Spot]:
    """The spots without an unlike word in them, or before them and nearer than a label."""

    def ends(words: tuple[str, ...]) -> list[int]:
        return [end for word in words for _, end in find_words(word, text)]

    bad, good = ends(field.unlike), ends(field.labels)
    kept: list[_Spot] = []
    for spot in spots:
        last_bad = max((end for end in bad if end <= spot.end), default=-1)
        last_good = max((end for end in good if end <= spot.end), default=-1)
        if last_bad <= last_good or (not good and last_bad <= spot.start):
            kept.append(spot)
    return kept


def _score(text: str, spot: _Spot, places: list[tuple[int, int, int]], most: int) -> float:
    """How near and sure the best label is: before the value, or after it, at most a line below."""
    best = 0.0
    for rank, start, end in places:
        if end <= spot.start:
            between = text[end : spot.start]
            gap = len(between) + _LINE_COST * between.count("\n")
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
    if text[end : end + 1] == ":" or end - start > _SHORT_LABEL:
        return True
    begins = text[max(start - _INDENT, 0) : start].rstrip(" \t")[-1:] in ("", "\n", "\f")
    return begins and (end - start > _PARTICLE or not text[end : end + 1].strip(" \t"))
