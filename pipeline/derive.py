"""Whether a value follows from a quote, by written rules: no model decides that.

In: a field, its value, and words of the document. Out: how far the words support the value. The
rules, by type:

- date, decimal, integer: see `derive_dates` and `derive_numbers`. An integer is a number without a
  fraction, or a number word.
- string: its words stand there, whatever their case and white space. A code of a currency also
  follows from its sign or name ($, euro).
- enum: as a string; a _ in it may be a space. A choice of a currency code as above.
- boolean: true follows from a word such as yes, true, ja, oui; false from no, not, none, nein,
  nicht, kein, non, pas. With both, or neither, nothing follows.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from pipeline.derive_dates import read_dates
from pipeline.derive_numbers import CURRENCIES, read_number_words, read_numbers
from pipeline.evidence import Support
from pipeline.records import Field
from pipeline.schema import DECIMAL_DIGITS, DECIMAL_PLACES, INTEGER_DIGITS

_YES = re.compile(r"\b(?:yes|true|ja|oui|vrai|wahr)\b", re.IGNORECASE)
_NUMBERING = re.compile(r"(?:^|[\n\f])[0-9]{1,3}[.)]\s")
_NO = re.compile(
    r"\b(?:no|not|none|false|never|nein|nicht|keine?[rnms]?|non|pas|faux|falsch)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Reading:
    """Words of a text and the values that follow from them.

    Attributes:
        start, end: Where they stand.
        values: Likeliest first, of the field's type.
        note: What to know of the meaning, or empty.
        is_plain: The words stand alone: no part of a date or a longer number, and not the number
            of a paragraph.
        is_amount: A number with a currency or two decimals.
    """

    start: int
    end: int
    values: tuple[Any, ...]
    note: str = ""
    is_plain: bool = True
    is_amount: bool = False


def read_values(field: Field, text: str, context: str = "") -> list[Reading]:
    """All values of a field's type in a text, in order.

    Args:
        field: Of type date, decimal, integer or enum; others have no written form of their own.
        text: Where to look.
        context: The document around it, for days without a year.
    """
    if field.type == "date":
        return [
            Reading(found.start, found.end, found.days, found.note)
            for found in read_dates(text, context)
        ]
    if field.type in ("decimal", "integer"):
        return _read_numbers(field, text)
    if field.type == "enum":
        found = [
            Reading(start, end, (choice,))
            for choice in field.values
            for start, end in _find_choice(choice, text)
        ]
        return sorted(found, key=lambda reading: (reading.start, -reading.end))
    return []


def judge(field: Field, value: Any, quote: str, context: str = "") -> tuple[Support, str]:
    """How far a quote supports a value, and why not or what else to know.

    Args:
        field: Of any type but list and object.
        value: A value of it, not None.
        quote: Words of the document.
        context: The document around them.
    """
    if field.type == "boolean":
        says_yes, says_no = bool(_YES.search(quote)), bool(_NO.search(quote))
        follows = says_yes != says_no and says_yes == value
        return ("derived", "") if follows else ("unsupported", "the quote says neither yes nor no")
    if field.type in ("string", "enum") and _stands_in(str(value), quote):
        return "verbatim", ""
    if field.type == "string" and _names_currency(str(value), quote):
        return "derived", "the currency is told by its sign or name"
    for reading in read_values(field, quote, context):
        if value in reading.values:
            is_verbatim = quote[reading.start : reading.end] == value_text(value)
            return "verbatim" if is_verbatim else "derived", reading.note
    if field.type == "string":
        return "unsupported", "these words are not in the document"
    return "unsupported", f"no {field.type} of this value follows from the quote"


def find_words(words: str, text: str) -> Iterator[tuple[int, int]]:
    """Where words stand in a text, whole and whatever their case and white space."""
    parts = [re.escape(part) for part in words.split()]
    if not parts:
        return
    pattern = r"\s+".join(parts)
    for match in re.finditer(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE):
        yield match.span()


def find_value(field: Field, value: Any, text: str, context: str = "") -> tuple[int, int] | None:
    """The first place in a text that a value of a field follows from; None if there is none."""
    if field.type == "string":
        whole = next(find_words(str(value), text), None)
        return whole or next(_find_currency(str(value), text), None)
    for reading in read_values(field, text, context):
        if value in reading.values:
            return reading.start, reading.end
    return None


def value_text(value: Any) -> str:
    """A value as text: dates as YYYY-MM-DD, numbers without separators, true or false."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def _stands_in(words: str, text: str) -> bool:
    return next(find_words(words, text), None) is not None


def _names_currency(code: str, text: str) -> bool:
    return next(_find_currency(code, text), None) is not None


def _find_currency(code: str, text: str) -> Iterator[tuple[int, int]]:
    for name, named in CURRENCIES.items():
        if named == code.upper():
            edge = r"\b" if name.isalpha() else ""
            for match in re.finditer(f"{edge}{re.escape(name)}{edge}", text, re.IGNORECASE):
                yield match.span()


def _find_choice(choice: str, text: str) -> Iterator[tuple[int, int]]:
    yield from find_words(choice.replace("_", " "), text)
    yield from _find_currency(choice, text)


def _read_numbers(field: Field, text: str) -> list[Reading]:
    in_date = bytearray(len(text))
    for day in read_dates(text, "1 January 2000"):  # days without a year, too, are no numbers
        in_date[day.start : day.end] = b"\1" * (day.end - day.start)
    readings: list[Reading] = []
    words = read_number_words(text) if field.type == "integer" else []
    for found in sorted([*read_numbers(text), *words], key=lambda found: found.start):
        values = tuple(
            value for number in found.numbers if (value := _fit(field, number)) is not None
        )
        is_plain = not any(in_date[found.start : found.end])
        is_plain = is_plain and not text[found.end : found.end + 1].isalnum()
        is_plain = is_plain and not _NUMBERING.match(text, max(found.start - 1, 0), found.end + 2)
        if values:
            readings.append(
                Reading(found.start, found.end, values, found.note, is_plain, found.is_amount)
            )
    return readings


def _fit(field: Field, number: Decimal) -> Any:
    """The number in the field's type, None if it does not fit it."""
    if field.type == "integer":
        is_whole = number == number.to_integral_value() and abs(number) < 10**INTEGER_DIGITS
        return int(number) if is_whole else None
    if abs(number) >= 10 ** (DECIMAL_DIGITS - DECIMAL_PLACES) or number != round(
        number, DECIMAL_PLACES
    ):
        return None
    places = max(0, min(-int(number.as_tuple().exponent), DECIMAL_PLACES))
    return number.quantize(Decimal(1).scaleb(-places))
