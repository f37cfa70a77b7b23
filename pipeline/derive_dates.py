"""Dates as documents write them, in English, German and French.

In: a text. Out: each date in it with its place and what it can mean. The rules:

- Year first: 2026-04-17, 2026/4/17, 2026.04.17.
- Numbers with the year last: 17/4/2026, 17-04-26, 17.4.2026. Day before month; where the month
  could come first too (4/5/2026, not with full stops), both meanings are given, and a note; the
  month first where another date of the text can only be read so (3/13/2026).
- Names and short names of months: 17 April 2026, 17th of April, 2026, 17. Apr. 26, 17-Apr-2026,
  April 17, 2026, 1er mai 2026, 17th day of April 2026.
- A year of two digits is 1970 to 2069.
- A day without a year (by 30 January) is that day nearest to the first whole date of the document;
  without such a date it means nothing. It may go over the end of a line only after a word ("by
  30 | January"): elsewhere a number ends a row or counts a paragraph ("in September. | 5. Rent").
"""
# ruff: noqa: RUF001  the apostrophes are meant

import re
from dataclasses import dataclass, replace
from datetime import date

_PIVOT = 70
_MONTHS_OF_YEAR = 12
_MONTHS = {
    1: "january|jan|januar|jänner|janvier|janv",
    2: "february|feb|februar|février|fevrier|févr|fév",
    3: "march|mar|märz|maerz|mrz|mars",
    4: "april|apr|avril|avr",
    5: "may|mai",
    6: "june|jun|juni|juin",
    7: "july|jul|juli|juillet|juil",
    8: "august|aug|août|aout",
    9: "september|sept|sep|septembre",
    10: "october|oct|oktober|okt|octobre",
    11: "november|nov|novembre",
    12: "december|dec|dezember|dez|décembre|decembre|déc",
}
_NUMBERS = {name: number for number, names in _MONTHS.items() for name in names.split("|")}
_NAME = (
    "(?P<month>"
    + "|".join(sorted(_NUMBERS, key=len, reverse=True))
    + r")\b(?:\.(?=,?\s*['’]?[0-9]))?"
)
_DAY = r"(?P<day>3[01]|[12][0-9]|0?[1-9])"
# Two digits are a year only where no word follows: "8 October. 20 people came."
_YEAR = r"(?P<year>[12][0-9]{3}|['’]?[0-9]{2}(?![0-9:.,]|[ ]\w))"
_BEFORE = r"(?<![\w.,/-])"
_AFTER = r"(?![\w/])(?![.,-][0-9])"
_PATTERNS = tuple(
    re.compile(f"{_BEFORE}(?:{pattern}){_AFTER}", re.IGNORECASE)
    for pattern in (
        r"(?P<year>[12][0-9]{3})([-/.])(?P<m>[0-9]{1,2})\2(?P<day>[0-9]{1,2})",
        r"(?P<day>\d\d?)(?P<mark>[-/.])[ ]?(?P<m>\d\d?)(?P=mark)[ ]?(?P<year>(?:\d\d){1,2})",
        rf"{_DAY}(?:st|nd|rd|th|er|\.)?(?:\s+day)?(?:\s+of)?(?:\s*|[-/]){_NAME}(?:(?:,?\s*|[-/]){_YEAR})?",
        rf"{_NAME}\s+{_DAY}(?:st|nd|rd|th)?(?:,?\s+{_YEAR})?",
    )
)
_NUMERIC = _PATTERNS[1]
_LINE_END = re.compile(r"[\n\f]")


@dataclass(frozen=True, slots=True)
class DateReading:
    """A date in a text.

    Attributes:
        start, end: Where it stands.
        days: What it can mean, likeliest first.
        note: What to know of the meaning, or empty.
    """

    start: int
    end: int
    days: tuple[date, ...]
    note: str = ""


def read_dates(text: str, context: str = "") -> list[DateReading]:
    """The dates in a text, in order, without overlap.

    Args:
        text: Where to look.
        context: The document around it, for days without a year.
    """
    matches: list[re.Match[str]] = []
    taken = bytearray(len(text))
    for pattern in _PATTERNS:
        for match in pattern.finditer(text):
            start, end = match.span()
            if not any(taken[start:end]) and not _is_torn(match):
                taken[start:end] = b"\1" * (end - start)
                matches.append(match)
    # Once: a text may have thousands of days without a year.
    first = None if all(match["year"] for match in matches) else first_whole_date(context)
    readings = [_read(match, first) for match in sorted(matches, key=re.Match[str].start)]
    month_first = _puts_months_first(matches)
    return [_turn(reading) if month_first else reading for reading in readings if reading.days]


def first_whole_date(text: str) -> date | None:
    """The first date with a year in a text."""
    firsts: list[tuple[int, date]] = []
    for pattern in _PATTERNS:
        found = (
            (match.start(), days[0])
            for match in pattern.finditer(text)
            if match["year"] and (days := _days(match))
        )
        firsts += [first for first in (next(found, None),) if first]
    return min(firsts)[1] if firsts else None


def _puts_months_first(matches: list[re.Match[str]]) -> bool:
    """Whether some date of numbers can only have the month first, and none only the day."""
    numbers = [m for m in matches if m.re is _NUMERIC and m["mark"] != "." and _days(m)]
    months = any(int(m["m"]) > _MONTHS_OF_YEAR for m in numbers)
    return months and not any(int(m["day"]) > _MONTHS_OF_YEAR for m in numbers)


def _is_torn(match: re.Match[str]) -> bool:
    """Whether a day without a year is only made of what ends a line and what begins the next."""
    if match["year"] or not _LINE_END.search(match[0]):
        return False
    before = match.string[max(0, match.start() - 2) : match.start()].rstrip(" ")
    return not (match[0][0].isdigit() and before[-1:].isalpha())


def _turn(reading: DateReading) -> DateReading:
    return replace(reading, days=reading.days[::-1])


def _read(match: re.Match[str], first: date | None) -> DateReading:
    if match["year"]:
        days = _days(match)
        note = "day and month could be the other way round" if len(days) > 1 else ""
        return DateReading(match.start(), match.end(), days, note)
    month, day = _NUMBERS[match["month"].lower()], int(match["day"])
    years = (first.year - 1, first.year, first.year + 1) if first else ()
    days = [found for year in years if (found := _real(year, month, day))]
    if first is None or not days:
        return DateReading(match.start(), match.end(), ())
    nearest = min(days, key=lambda found: abs(found - first))
    note = "the year is not in the quote; it is the nearest to the document's first date"
    return DateReading(match.start(), match.end(), (nearest,), note)


def _days(match: re.Match[str]) -> tuple[date, ...]:
    year, day = _year(match["year"]), int(match["day"])
    named = match.groupdict().get("month")
    month = _NUMBERS[named.lower()] if named else int(match["m"])
    days = [_real(year, month, day)]
    if match.re is _NUMERIC and match["mark"] != ".":
        days.append(_real(year, day, month))
    return tuple(dict.fromkeys(found for found in days if found))


def _year(text: str) -> int:
    digits = text.lstrip("'’")
    if len(digits) > 2:  # noqa: PLR2004
        return int(digits)
    return int(digits) + (1900 if int(digits) >= _PIVOT else 2000)


def _real(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None
