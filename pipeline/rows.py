"""Rows of a table as choices for a list of objects: the goods of an invoice, say.

In: an object's field and a text. Out: lines that end with amounts, each with the members that
follow from it by rule. The object has one text and some numbers, in the order of the columns:

- A row is a line of words with an amount of money after them; the text is what stands before its
  numbers.
- The last number is the last amount. The first, if the object has several, is the number which
  makes the last amount when multiplied by another of the row; else the plain number just before the
  first amount (12 pieces at ...), else null. Those between are the amounts between.
- The number of the row, or of the article, before the text is no part of it.
- A row whose last amount is the sum of those of two rows or more above it is their total, and none.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pipeline.derive import Reading, find_words, read_values
from pipeline.records import Field

MOST_ROWS = 100

_LINE = re.compile(r"[^\n\f]+")
_LETTERS = re.compile(r"[^\W\d_]{2}")
_MOST_FACTORS = 8
_ROUNDING = Decimal("0.01")
_ARTICLE = re.compile(r"(?:\d{1,3}[.)]?|[A-Z]{1,4}-?\d{2}[\w/-]*|\d[\d-]{3,})[ ]+(?=[^\W\d_])")
_COUNT_GAP = 14  # characters between a count and its price: " pieces at "
_MARKS = " \t,;:.·|-–—"  # noqa: RUF001
_SIGNS = _MARKS + "€$£*"


@dataclass(frozen=True, slots=True)
class Member:
    """A value of a row and where it stands; None without a place where the row lacks it."""

    value: Any
    start: int = -1
    end: int = -1


@dataclass(frozen=True, slots=True)
class Row:
    """A line that could be an item.

    Attributes:
        start, end: Where it stands.
        quote: Its words.
        members: By the names of the object's fields.
    """

    start: int
    end: int
    quote: str
    members: dict[str, Member]


def has_rows(field: Field) -> bool:
    """Whether a list's items can be read off rows: one text and at least one number."""
    kinds = [member.type for member in field.fields]
    numbers = sum(kind in ("decimal", "integer") for kind in kinds)
    return kinds.count("string") == 1 and numbers >= 1 and len(kinds) == numbers + 1


def find_rows(field: Field, text: str) -> list[Row]:
    """The rows of a text that could be items, in order, each quote once.

    Args:
        field: The object, with the list's `unlike`; `has_rows` holds for it.
        text: What the model is shown.
    """
    rows: dict[str, Row] = {}
    sums: list[Decimal] = []  # of the amounts of the rows so far
    last = [member.name for member in field.fields if member.type != "string"][-1]
    for row in _read_rows(field, text):
        amount = row.members[last].value or Decimal(0)
        is_total = len(sums) > 1 and amount == sums[-1]
        if is_total or any(next(find_words(word, row.quote), None) for word in field.unlike):
            continue
        if row.quote not in rows:
            sums.append(amount + (sums[-1] if sums else 0))
            rows[row.quote] = row
    return list(rows.values())[:MOST_ROWS]


def _read_rows(field: Field, text: str) -> Iterator[Row]:
    number = Field("number", "decimal")
    for match in _LINE.finditer(text):
        start = match.start() + len(match[0]) - len(match[0].lstrip())
        line = match[0].strip()
        readings = [found for found in read_values(number, line) if found.is_plain]
        amounts = [found for found in readings if found.is_amount]
        if not amounts or line[amounts[-1].end :].strip(_SIGNS):
            continue
        count = _multiplied(readings, amounts[-1]) or _find_count(readings, amounts[0])
        first = min((found.start for found in (count, amounts[0]) if found), default=0)
        words, skipped = line[:first].rstrip(_MARKS), 0
        if not words and count:  # how many stands first
            words, skipped = line[: _tail(line, readings)].rstrip(_MARKS), count.end
        if _LETTERS.search(words, skipped):
            lead = _ARTICLE.match(words)
            if lead and not skipped and _LETTERS.search(words, lead.end()):
                skipped = lead.end()
            skipped += len(words[skipped:]) - len(words[skipped:].lstrip(_MARKS))
            amounts = [found for found in amounts if found is not count]
            members = _fill(field, (start + skipped, words[skipped:]), count, amounts, start)
            yield Row(start, start + len(line), line, members)


def _tail(line: str, readings: list[Reading]) -> int:
    """Where the numbers at the end of a line begin, with nothing but signs between them."""
    begin = len(line)
    for found in reversed(readings):
        if line[found.end : begin].strip(_SIGNS):
            break
        begin = found.start
    return begin


def _multiplied(readings: list[Reading], last: Reading) -> Reading | None:
    """How many, of a row whose amount is a number times a price that both stand in it."""
    before = [found for found in readings if found.end <= last.start][-_MOST_FACTORS:]
    for place in range(len(before) - 1, -1, -1):
        one = before[place]
        for other in before[place + 1 :]:
            product = one.values[0] * other.values[0]
            if product and abs(product - last.values[0]) <= _ROUNDING:
                return other if one.is_amount and not other.is_amount else one
    return None


def _find_count(readings: list[Reading], first: Reading) -> Reading | None:
    before = [found for found in readings if found.end <= first.start and not found.is_amount]
    if before and first.start - before[-1].end <= _COUNT_GAP:
        return before[-1]
    return None


def _fill(
    field: Field,
    words: tuple[int, str],
    count: Reading | None,
    amounts: list[Reading],
    offset: int,
) -> dict[str, Member]:
    names = [member.name for member in field.fields if member.type != "string"]
    columns: list[Reading | None] = [amounts[-1]]
    if len(names) > 1:
        between: list[Reading | None] = [*amounts[:-1]]
        columns = [count, *between[: len(names) - 2], amounts[-1]]
        columns[1:1] = [None] * (len(names) - len(columns))
    members = {
        member.name: Member(words[1], words[0], words[0] + len(words[1]))
        for member in field.fields
        if member.type == "string"
    }
    for name, found in zip(names, columns, strict=True):
        member = Member(None)
        if found is not None:
            member = Member(found.values[0], offset + found.start, offset + found.end)
        members[name] = member
    return members
