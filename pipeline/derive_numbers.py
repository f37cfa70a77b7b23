"""Numbers and amounts as documents write them.

In: a text. Out: each number in it with its place and what it can mean. The rules:

- Of a point and a comma, the last is the decimal sign: 1,234.50 and 1.234,50. One that comes more
  than once separates thousands. One alone before exactly three digits can be either (1,500): both
  meanings are given, thousands first.
- Apostrophes and spaces separate thousands: 1'234.50, 1 234,50.
- A minus before or after it, or parentheses around an amount, make it negative; parentheses may
  also mean nothing.
- A per cent sign changes nothing; a hundredth is given as a second meaning.
- A word such as million, thousand, Mio. or Tsd. after it multiplies it; the number as written is
  a second meaning.
- Number words up to twenty, and tens, count for whole numbers, in English, German and French.
"""
# ruff: noqa: RUF001  the signs are meant

import re
from dataclasses import dataclass
from decimal import Decimal

CURRENCIES = {
    "€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "₹": "INR", "₽": "RUB", "₩": "KRW",
    "us$": "USD", "euro": "EUR", "euros": "EUR", "dollars": "USD", "pounds": "GBP", "dm": "DEM",
    "mark": "DEM", "yen": "JPY", "sfr": "CHF", "fr.": "CHF", "franken": "CHF", "kroner": "NOK",
}  # fmt: skip
"""Codes of ISO 4217 by how a currency is written, in small letters."""

CODES = (
    "EUR", "USD", "GBP", "CHF", "JPY", "AUD", "CAD", "NZD", "SGD", "HKD", "CNY", "INR", "KRW",
    "RUB", "NOK", "SEK", "DKK", "ISK", "PLN", "CZK", "HUF", "RON", "BGN", "TRY", "ILS", "AED",
    "SAR", "ZAR", "BRL", "MXN", "THB", "IDR", "MYR", "PHP", "TWD", "UAH",
)  # fmt: skip
"""Codes of ISO 4217 that are read beside amounts."""

_SCALES = {
    "thousand": 3, "tsd": 3, "tausend": 3, "mille": 3, "million": 6, "millions": 6, "millionen": 6,
    "mio": 6, "mn": 6, "milliarden": 9, "billion": 9, "bn": 9, "mrd": 9, "milliards": 9,
}  # fmt: skip
_COUNTED = (
    """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty""",
    """null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn
    sechzehn siebzehn achtzehn neunzehn zwanzig""",
    """zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize
    dix-sept dix-huit dix-neuf vingt""",
)
_TENS = {
    1: "eine eins une", 30: "thirty dreißig trente", 40: "forty vierzig quarante",
    50: "fifty fünfzig cinquante", 60: "sixty sechzig soixante", 70: "seventy siebzig",
    80: "eighty achtzig", 90: "ninety neunzig", 100: "hundred hundert cent",
}  # fmt: skip
_WORDS = {word: place for words in _COUNTED for place, word in enumerate(words.split())} | {
    word: number for number, words in _TENS.items() for word in words.split()
}
_SYMBOL = r"(?:[€$£¥₹₽₩]|(?-i:\b(?:" + "|".join(CODES) + r"|DM)\b))"
_NUMBER = re.compile(
    rf"(?P<open>\()?(?P<minus>(?<![\w.,)])[-−–])?(?P<before>(?:US)?{_SYMBOL}[ ]?)?"
    r"(?P<inner>(?<=[ €$£])[-−])?"
    r"(?<![\w.,/])(?<!\w[-−–])(?P<digits>[0-9]+(?:[.,'’][0-9]+)*)"
    rf"(?P<after>[ ]?{_SYMBOL}(?![ ]?[0-9]))?(?P<percent>[ ]?%)?"
    r"(?P<tail>[-−](?![\w-]))?(?P<close>\))?"
    r"(?P<scale>[ ]?(?:" + "|".join(sorted(_SCALES, key=len, reverse=True)) + r")\b\.?)?",
    re.IGNORECASE,
)
_SPACED = re.compile(r"(?<![\w.,/-])[0-9]{1,3}(?:[ ][0-9]{3})+(?:[.,][0-9]+)?(?![\w])")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)?")
_MOST_DIGITS = 30


@dataclass(frozen=True, slots=True)
class NumberReading:
    """A number in a text.

    Attributes:
        start, end: Where it stands, with its sign, currency and per cent sign.
        numbers: What it can mean, likeliest first.
        note: What to know of the meaning, or empty.
        is_amount: It has a currency, or two decimals.
    """

    start: int
    end: int
    numbers: tuple[Decimal, ...]
    note: str = ""
    is_amount: bool = False


def read_numbers(text: str) -> list[NumberReading]:
    """The numbers in a text, in order; one with spaces inside is given whole and in its parts."""
    found = [_read(match) for match in _NUMBER.finditer(text)]
    for match in _SPACED.finditer(text):
        whole = _meanings(match[0].replace(" ", ""))
        found.append(NumberReading(match.start(), match.end(), whole))
    return sorted(
        (reading for reading in found if reading.numbers), key=lambda r: (r.start, -r.end)
    )


def read_number_words(text: str) -> list[NumberReading]:
    """The numbers written as words."""
    return [
        NumberReading(match.start(), match.end(), (Decimal(_WORDS[match[0].lower()]),))
        for match in _WORD.finditer(text)
        if match[0].lower() in _WORDS
    ]


def _read(match: re.Match[str]) -> NumberReading:
    digits = match["digits"]
    numbers = _meanings(digits)
    note = "the sign in it could separate thousands or decimals" if len(numbers) > 1 else ""
    has_currency = bool(match["before"] or match["after"])
    has_cents = re.search(r"[.,][0-9]{2}$", digits) is not None
    is_amount = has_currency or (has_cents and not match["percent"])
    if match["minus"] or match["inner"] or match["tail"]:
        numbers = tuple(-number for number in numbers)
    elif match["open"] and match["close"]:
        negative = tuple(-number for number in numbers)
        numbers = negative + numbers if is_amount else numbers + negative
    if match["scale"]:
        power = _SCALES[match["scale"].strip(" .").lower()]
        numbers = tuple(number.scaleb(power) for number in numbers) + numbers
    if match["percent"]:
        numbers += tuple(number / 100 for number in numbers)
    start, end = match.span()
    if match["open"] and not match["close"]:
        start += 1
    if match["close"] and not match["open"]:
        end = match.start("close")
    return NumberReading(start, end, tuple(dict.fromkeys(numbers)), note, is_amount)


def _meanings(digits: str) -> tuple[Decimal, ...]:
    text = re.sub("['’ ]", "", digits)
    if len(text) > _MOST_DIGITS:
        return ()
    last = max(text.rfind("."), text.rfind(","))
    if last < 0:
        return (Decimal(text),)
    mark, other = text[last], "," if text[last] == "." else "."
    as_thousands = _grouped(text, mark) if other not in text else None
    if text.count(mark) > 1:
        return () if as_thousands is None else (as_thousands,)
    head, tail = text[:last], text[last + 1 :]
    whole = _grouped(head, other) if other in head else Decimal(head)
    as_decimal = None if whole is None else whole + Decimal(tail).scaleb(-len(tail))
    return tuple(value for value in (as_thousands, as_decimal) if value is not None)


def _grouped(text: str, mark: str) -> Decimal | None:
    """The number with its thousands separated by a mark, None if that is not how it is written."""
    first, *groups = text.split(mark)
    if not 1 <= len(first) <= 3 or first == "0" or any(len(group) != 3 for group in groups):  # noqa: PLR2004
        return None
    return Decimal(first + "".join(groups))
