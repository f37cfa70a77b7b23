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

from pipeline.company_names import BRACKETED, DOTTED, FORM, OVER
from pipeline.derive import find_words, read_values
from pipeline.derive_numbers import CODES, CURRENCIES
from pipeline.evidence import PAGE_BREAK
from pipeline.labels import (
    LIST_CHARS,
    SENTENCE_CHARS,
    Placed,
    Spot,
    leave_unlike,
    line_end,
    near_labels,
)
from pipeline.places import find_placed, has_places
from pipeline.records import Field
from pipeline.sentences import split_items, split_sentences

MOST_CHOICES = 120
LEAD_CHARS = 48
"""The most characters that lead to a value."""

_CODE_CHARS = 3
_SHORT = r"[A-ZÀ-ÖØ-Þ][a-zß-ÿ]{0,2}\."
# Bounded, and never taken back: a text without a space would be gone through from each letter on.
_CAPITAL = rf"(?:{DOTTED}|{_SHORT}|[A-ZÀ-ÖØ-Þ](?:[\w&'’/-]|\.(?=\w)){{0,80}}+)"  # noqa: RUF001
_FORM = rf"(?:{FORM}|{BRACKETED})"
_NAME = re.compile(
    rf"\b{_CAPITAL}"
    rf"(?:{OVER}(?:{_FORM}"
    r"|[ ](?:(?:of|the|and|de|da|la|le|du|van|von|der|den|zu|für|und|et|&)[ ]){0,2}"
    rf"{_CAPITAL}))+"
)
_ONE_NAME = re.compile(
    rf"\b{_CAPITAL}(?:{OVER}"
    rf"(?:{_FORM}|[ ](?:(?:of|de|da|la|du|van|von|der|&)[ ]){{0,2}}{_CAPITAL}))+"
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
_TITLE_AT_END = re.compile(
    r"[ ](?i:(?:tax )?invoice|rechnung|facture|statement|receipt)[ ]*$", re.MULTILINE
)
_TWICE = re.compile(r"[ ]*([^ \n][^\n]{3,80})[ ]\1[ ]*")
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


def find_choices(
    field: Field, text: str, context: str = "", *, in_list: bool = False
) -> list[Choice]:
    """The choices for a field, each quote and each value once.

    They come in the order of the text; of a single value whose field says where it stands, the
    surest come first.

    Args:
        field: Of type date, decimal, integer or string.
        text: What the model is shown.
        context: The document around it, for days without a year.
        in_list: There may be many values, farther from the label.
    """
    placed = find_placed(field, text, in_list=in_list)
    spots = [
        spot
        for spot in _find_spots(field, text, context, placed, in_list=in_list)
        if PAGE_BREAK not in text[spot.start : spot.end]
    ]
    is_sentences = in_list and field.type == "string" and field.max_chars >= SENTENCE_CHARS
    is_listed = in_list and field.type == "string" and bool(placed)
    if is_listed and is_sentences:
        is_listed = any(label.startswith("@") for label in field.labels)
    if is_listed:
        spots = [spot for spot in spots if (spot.start, spot.end) in placed]
    elif has_places(field):
        spots = near_labels(field, text, spots, placed, in_list=in_list)
    if field.unlike and in_list and not is_listed:
        spots = leave_unlike(field, text, spots)
    choices: dict[str, Choice] = {}
    values: set[str] = set()
    for spot in spots:
        # A sentence needs no words to lead to it.
        start = spot.start if is_sentences else _lead(text, spot.start)
        quote = text[start : spot.end]
        if quote not in choices and str(spot.value) not in values:
            values.add(str(spot.value))
            choices[quote] = Choice(start, spot.end, quote, spot.value, spot.note)
    if has_places(field) and not in_list:
        return list(choices.values())[:MOST_CHOICES]
    return sorted(choices.values(), key=lambda choice: choice.end)[:MOST_CHOICES]


def _find_spots(
    field: Field, text: str, context: str, placed: Placed, *, in_list: bool
) -> Iterator[Spot]:
    if field.type != "string":
        plain = [reading for reading in read_values(field, text, context) if reading.is_plain]
        amounts = [reading for reading in plain if reading.is_amount]
        for reading in amounts or plain if field.type == "decimal" else plain:
            yield Spot(reading.start, reading.end, reading.values[0], reading.note)
        return
    if field.max_chars <= _CODE_CHARS:
        yield from _find_codes(text)
        return
    known: set[tuple[int, int]] = set()
    if in_list and field.max_chars >= SENTENCE_CHARS:
        found = [*split_items(text), *placed]
    else:
        found = [
            *_find_texts(field.max_chars, text, in_list=in_list),
            *_find_after_labels(field.labels, text, in_list=in_list),
            *placed,
        ]
    fits = re.compile(field.looks_like or ".*", re.DOTALL).fullmatch
    for start, end in sorted(found):
        value = " ".join(text[start:end].split())
        if (start, end) not in known and 1 < len(value) <= field.max_chars and fits(value):
            known.add((start, end))
            yield Spot(start, end, value)


def _find_codes(text: str) -> Iterator[Spot]:
    for name, code in CURRENCIES.items():
        pattern = rf"\b{re.escape(name)}\b" if name.isalpha() else re.escape(name)
        for match in re.finditer(pattern, text, re.IGNORECASE):
            yield Spot(match.start(), match.end(), code)
    for code in sorted({*CURRENCIES.values(), *CODES}):
        for start, end in find_words(code, text):
            if text[start:end] == code:
                yield Spot(start, end, code)


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
            if pattern is _LINE:
                yield from _find_in_line(text, start, end)
    for reading in read_values(_AMOUNT, text):
        if reading.is_amount:
            yield reading.start, reading.end
    for pattern in _AFTER_COLON:
        for match in pattern.finditer(text):
            yield _trim(text, match.end(), line_end(text, match.end()))
    if most >= SENTENCE_CHARS:
        yield from split_sentences(text)


def _find_in_line(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A line without the sheet's title at its end, and half of one that says all twice."""
    title = _TITLE_AT_END.search(text, start, end)
    if title and " " in text[start : title.start()].strip():
        yield _trim(text, start, title.start())
    if twice := _TWICE.fullmatch(text, start, end):
        yield twice.span(1)


def _find_after_labels(
    labels: tuple[str, ...], text: str, *, in_list: bool
) -> Iterator[tuple[int, int]]:
    """What follows a label in its line; of a list, the names."""
    for label in labels:
        for _, end in find_words(label, text):
            start = end + len(text[end:]) - len(text[end:].lstrip(" \t:.#"))
            yield _trim(text, start, line_end(text, start))
            for match in _ONE_NAME.finditer(text, start, end + LIST_CHARS) if in_list else ():
                yield _trim(text, *match.span())


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
