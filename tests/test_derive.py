"""What follows from a quote by rule: dates, amounts and choices as documents write them."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.derive import find_value, judge, read_values, value_text
from pipeline.derive_dates import first_whole_date, read_dates
from pipeline.derive_numbers import read_numbers
from pipeline.records import Field

DATE = Field("a", "date")
DECIMAL = Field("a", "decimal")
INTEGER = Field("a", "integer")
TEXT = Field("a", "string")
FLAG = Field("a", "boolean")
CHOICE = Field("a", "enum", values=("EUR", "not_paid", "open"))


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("2026-04-17", ["2026-04-17"]),
        ("2026/4/17", ["2026-04-17"]),
        ("17.4.2026", ["2026-04-17"]),
        ("17. 4. 26", ["2026-04-17"]),
        ("17/04/26", ["2026-04-17"]),
        ("4/17/2026", ["2026-04-17"]),
        ("4/5/2026", ["2026-05-04", "2026-04-05"]),
        ("4.5.2026", ["2026-05-04"]),
        ("5-5-70", ["1970-05-05"]),
        ("1.5.69", ["2069-05-01"]),
        ("17 April 2026", ["2026-04-17"]),
        ("17th of April, 2026", ["2026-04-17"]),
        ("17\nApril\n2026", ["2026-04-17"]),
        ("APRIL 17, 2026", ["2026-04-17"]),
        ("Apr. 17 2026", ["2026-04-17"]),
        ("24. März 1998", ["1998-03-24"]),
        ("3. Okt. 98", ["1998-10-03"]),
        ("1er août 2026", ["2026-08-01"]),
        ("le 14 février 2026", ["2026-02-14"]),
        ("Thu, 15 Jan 2026 10:42:07", ["2026-01-15"]),
        ("29 February 2027", []),
        ("31/31/2026", []),
        ("May 2026", []),
        ("version 1.2.3.4", []),
        ("192.168.1.10", []),
        ("30 January", []),
        ("8 October. 20 people came.", []),
    ],
)
def test_dates(text: str, days: list[str]) -> None:
    assert [str(day) for found in read_dates(text) for day in found.days] == days


def test_a_day_without_a_year_is_the_nearest_to_the_first_date_of_the_document() -> None:
    letter = "24 September 2026. Answer by 8 October, or 3 January. We wrote on 30 August."
    found = {letter[r.start : r.end]: r for r in read_dates(letter, letter)}
    assert found["8 October"].days == (date(2026, 10, 8),)
    assert found["3 January"].days == (date(2027, 1, 3),)
    assert found["30 August"].days == (date(2026, 8, 30),)
    assert "year" in found["3 January"].note
    assert first_whole_date("by 3 May, on 4 May 2020 or 2019-01-01") == date(2020, 5, 4)


def test_a_day_without_a_year_is_not_made_of_two_lines() -> None:
    text = (
        "19 February 2024.\nHagg Bridge 168.2 4\nApril to June.\nBetween April and September.\n"
        "5. Insurance. Pay by 30\nJune, or on 3\nMay 2024; 44 7\nMay"
    )
    found = [text[reading.start : reading.end] for reading in read_dates(text, text)]
    assert found == ["19 February 2024", "30\nJune", "3\nMay 2024"]


def test_what_can_be_meant_otherwise_is_noted() -> None:
    assert judge(DATE, date(2026, 4, 5), "4/5/2026") == (
        "derived",
        "day and month could be the other way round",
    )
    assert judge(DATE, date(2026, 5, 4), "4/5/2026")[0] == "derived"
    assert "thousands" in judge(DECIMAL, Decimal("1.5"), "1,500")[1]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("£1,660.00", ["1660.00"]),
        ("1.234,50 €", ["1234.50"]),
        ("1'234.50", ["1234.50"]),
        ("1.234.567", ["1234567"]),
        ("1,234,567.89", ["1234567.89"]),
        ("1.234,567.89", []),
        ("0,5", ["0.5"]),
        ("0.125", ["0.125"]),
        ("1,500", ["1500", "1.500"]),
        ("12345,678", ["12345.678"]),
        ("($2,000.00)", ["-2000.00", "2000.00"]),
        ("(45)", ["45", "-45"]),
        ("-12.5", ["-12.5"]),
        ("£-5.00", ["-5.00"]),
        ("-£5.00", ["-5.00"]),
        ("5.00-", ["-5.00"]),
        ("13.5%", ["13.5", "0.135"]),
        ("EUR 6.5 million", ["6500000", "6.5"]),
        ("3 Mio. DM", ["3000000", "3"]),
        ("$98.00 $4,508.00", ["98.00", "4508.00"]),
        ("INV-2026-0417", []),
        ("A17", []),
        ("9" * 40, []),
    ],
)
def test_numbers(text: str, numbers: list[str]) -> None:
    found = [number for reading in read_numbers(text) for number in reading.numbers]
    assert [format(number, "f") for number in found] == numbers


def test_numbers_with_spaces_are_read_whole_and_in_parts() -> None:
    found = [format(n, "f") for reading in read_numbers("1 234,50") for n in reading.numbers]
    assert found == ["1234.50", "1", "234.50"]


@pytest.mark.parametrize(
    ("field", "value", "quote", "support"),
    [
        (DECIMAL, Decimal("1660.00"), "Total due\n£1,660.00", "derived"),
        (DECIMAL, Decimal("1660.00"), "1660.00", "verbatim"),
        (DECIMAL, Decimal(12), "12.50", "unsupported"),
        (DECIMAL, Decimal(-12), "12", "unsupported"),
        (INTEGER, 2026, "17 April 2026", "verbatim"),
        (INTEGER, 30, "thirty days", "derived"),
        (INTEGER, 1500, "1,500 units", "derived"),
        (INTEGER, 12, "12.5", "unsupported"),
        (DATE, date(2026, 4, 17), "on 2026-04-17", "verbatim"),
        (DATE, date(2026, 4, 17), "17 April 2026", "derived"),
        (DATE, date(2026, 4, 18), "17 April 2026", "unsupported"),
        (TEXT, "harbour  street", "Harbour\nStreet Print", "verbatim"),
        (TEXT, "arbour", "Harbour", "unsupported"),
        (TEXT, "GBP", "£12", "derived"),
        (TEXT, "EUR", "£12", "unsupported"),
        (CHOICE, "EUR", "12 €", "derived"),
        (CHOICE, "not_paid", "it is Not Paid yet", "derived"),
        (CHOICE, "open", "opened", "unsupported"),
        (FLAG, True, "Pets: yes", "derived"),
        (FLAG, False, "No pets", "derived"),
        (FLAG, True, "No pets", "unsupported"),
        (FLAG, False, "Pets", "unsupported"),
        (FLAG, True, "yes and no", "unsupported"),
    ],
)
def test_support(field: Field, value: Any, quote: str, support: str) -> None:
    found, reason = judge(field, value, quote)
    assert found == support
    assert bool(reason) or support != "unsupported"


@given(st.dates(date(1970, 1, 1), date(2069, 12, 31)), st.integers(0, 6))
def test_every_date_follows_from_what_it_was_written_as(day: date, form: int) -> None:
    months = "Januar Februar März April Mai Juni Juli August September Oktober November Dezember"
    written = (
        day.isoformat(),
        f"{day:%d.%m.%Y}",
        f"{day:%d/%m/%y}",
        f"{day:%B} {day.day}, {day.year}",
        f"{day.day} {day:%b} {day.year}",
        f"{day.day}. {months.split()[day.month - 1]} {day.year}",
        f"{day:%m/%d/%Y}",
    )[form]
    text = f"Paid ({written}), thanks."
    assert judge(DATE, day, text)[0] in ("verbatim", "derived")
    place = find_value(DATE, day, text)
    assert place is not None
    assert written in text[place[0] : place[1]]


@given(st.decimals(-(10**9), 10**9, places=2, allow_nan=False), st.sampled_from(["en", "de", "ch"]))
def test_every_amount_follows_from_what_it_was_written_as(amount: Decimal, style: str) -> None:
    plain = f"{amount:,.2f}"
    swapped = plain.translate(str.maketrans(",.", ".,"))
    written = {"en": plain, "de": swapped, "ch": plain.replace(",", "'")}[style]
    assert judge(DECIMAL, amount, f"Sum: {written} EUR.")[0] in ("verbatim", "derived")
    assert judge(DECIMAL, amount + 1, f"Sum: {written} EUR.")[0] == "unsupported"


@given(st.text(), st.sampled_from([DATE, DECIMAL, INTEGER, CHOICE]))
def test_any_text_can_be_read_and_what_is_read_is_supported_there(text: str, field: Field) -> None:
    for found in read_values(field, text):
        assert 0 <= found.start < found.end <= len(text)
        for value in found.values:
            assert judge(field, value, text)[0] in ("verbatim", "derived")
            assert value_text(value)
