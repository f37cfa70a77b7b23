"""Dates and amounts in running text, by regular expressions: what the baseline reads values with.

In: text. Out: values with their places. Frozen with `pipeline.evaluation.baseline`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Generic, TypeVar

V = TypeVar("V", date, Decimal)

_MONTHS = {
    1: "january jan januar janvier janv enero gennaio januari",
    2: "february feb februar février fevrier févr febrero febbraio februari",
    3: "march mar märz maerz mars marzo maart",
    4: "april apr avril avr abril aprile",
    5: "may mai mayo maggio mei",
    6: "june jun juni juin junio giugno",
    7: "july jul juli juillet juil julio luglio",
    8: "august aug août aout agosto augustus",
    9: "september sept sep septembre septiembre settembre",
    10: "october oct oktober okt octobre octubre ottobre",
    11: "november nov novembre noviembre",
    12: "december dec dezember dez décembre decembre diciembre dicembre",
}
_NUMBERS = {word: number for number, words in _MONTHS.items() for word in words.split()}
_MONTH = "(?P<month>" + "|".join(sorted(_NUMBERS, key=len, reverse=True)) + r")\b\.?"
_YEAR = r"(?P<year>(?:19|20)\d\d)\b"
_DAY = r"\b(?P<day>[0-3]?\d)"
_DATES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?P<year>(?:19|20)\d\d)-(?P<m>\d\d)-(?P<day>\d\d)\b",
        (
            rf"{_DAY}(?:st|nd|rd|th|er|\.|º)?[ -](?:day\s+of\s+|of\s+|de\s+)?"
            rf"{_MONTH},?[ -](?:de\s+)?{_YEAR}"
        ),
        rf"\b{_MONTH} (?P<day>[0-3]?\d)(?:st|nd|rd|th)?,?\s+{_YEAR}",
        r"\b(?P<a>[0-3]?\d)(?P<mark>[/.-])(?P<b>[0-3]?\d)(?P=mark)(?P<year>(?:20|19)?\d\d)\b",
    )
)
_SYMBOLS = {"$": "USD", "£": "GBP", "€": "EUR", "¥": "JPY", "kr": "NOK"}
_CODES = r"USD|EUR|GBP|CHF|JPY|CAD|AUD|NOK|SEK|DKK|PLN|DM"
_MONEY = rf"(?:US\$|[$£€¥]|\b(?:{_CODES})\b)"
_DIGITS = r"\d{1,3}(?:[.,\u2019' ]\d{3})+(?:[.,]\d{1,2})?|\d+(?:[.,]\d{1,2})?"
_AMOUNT = re.compile(
    rf"(?P<before>{_MONEY})?\s?(?<![\d.,/-])(?P<digits>{_DIGITS})(?![\d/-]|[.,]\d)"
    rf"(?P<percent>\s?%)?(?:\s?(?P<after>{_MONEY}))?"
)
_MONEY_LOOK = re.compile(r"[.,]\d\d$")


@dataclass(frozen=True, slots=True)
class Found(Generic[V]):
    """A value in a text: `text[start:end]` is how it is written."""

    value: V
    start: int
    end: int


def find_dates(text: str, *, month_first: bool = False) -> list[Found[date]]:
    """All dates in the order of the text.

    Args:
        text: Any text.
        month_first: 03/04/2026 is the fourth of March.
    """
    found: dict[int, Found[date]] = {}
    for pattern in _DATES:
        for match in pattern.finditer(text):
            day = _read_date(match, month_first=month_first)
            if day is not None and not any(
                known.start < match.end() and match.start() < known.end for known in found.values()
            ):
                found[match.start()] = Found(day, match.start(), match.end())
    return [found[start] for start in sorted(found)]


def _read_date(match: re.Match[str], *, month_first: bool) -> date | None:
    parts = match.groupdict()
    if parts.get("a"):
        first, second = int(parts["a"]), int(parts["b"])
        swap = (month_first and first <= 12) or second > 12  # noqa: PLR2004 (months)
        day, month = (second, first) if swap else (first, second)
    else:
        day = int(parts["day"])
        month = int(parts["m"]) if parts.get("m") else _NUMBERS[parts["month"].lower()]
    year = int(parts["year"])
    try:
        return date(year if year >= 100 else 2000 + year, month, day)  # noqa: PLR2004 (two digits)
    except ValueError:
        return None


def find_amounts(text: str) -> Iterator[Found[Decimal]]:
    """Amounts of money: with a currency beside them, or with two decimals; no percentages."""
    for match in _AMOUNT.finditer(text):
        is_money = match["before"] or match["after"] or _MONEY_LOOK.search(match["digits"])
        if is_money and not match["percent"]:
            yield Found(read_decimal(match["digits"]), match.start("digits"), match.end("digits"))


def read_decimal(digits: str) -> Decimal:
    """The number that digits with separators stand for: 1,234.50 and 1.234,50 alike."""
    plain = re.sub(r"[\u2019' ]", "", digits)
    last = max(plain.rfind("."), plain.rfind(","))
    if last >= 0 and len(plain) - last - 1 == 3:  # noqa: PLR2004 (groups of thousands)
        last = -1
    whole = plain if last < 0 else plain[:last]
    rest = "" if last < 0 else plain[last + 1 :]
    return Decimal(re.sub(r"[.,]", "", whole) + (f".{rest}" if rest else ""))


def find_currency(text: str) -> str | None:
    """The currency that is named most often, as its code."""
    counts: dict[str, int] = {}
    for mark in re.findall(_MONEY, text):
        code = _SYMBOLS.get(mark[-1] if mark == "US$" else mark, mark)
        counts[code] = counts.get(code, 0) + 1
    return max(counts, key=lambda code: counts[code]) if counts else None
