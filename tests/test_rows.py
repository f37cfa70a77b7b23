"""Lines of an invoice become items by rule, with every member where it stands."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records import Field
from pipeline.rows import find_rows, has_rows

LINE = Field(
    "lines",
    "object",
    fields=(Field("what", "string"), Field("count", "decimal"), Field("sum", "decimal")),
    unlike=("total", "vat"),
)
TEXT = """Description Qty Price Amount
Training day, for staff 12 336.08 4,032.96
LED tube, 1.2 m, 24 at £401.84 £9,644.16
Site fee, at cost: $145.00
Materials (3-phase, panel LP-7) 1.250,00 €
Total due £1,660.00
VAT 20% £125.00
Paid on 17 April 2026
12.50
"""


def found(text: str, field: Field = LINE) -> list[tuple[Any, ...]]:
    rows = find_rows(field, text)
    for row in rows:
        assert text[row.start : row.end] == row.quote
        for member in row.members.values():
            if member.value is not None:
                assert row.start <= member.start < member.end <= row.end
    return [tuple(row.members[f.name].value for f in field.fields) for row in rows]


def test_rows_are_lines_with_amounts_and_their_members_follow() -> None:
    assert found(TEXT) == [
        ("Training day, for staff", 12, Decimal("4032.96")),
        ("LED tube, 1.2 m", 24, Decimal("9644.16")),
        ("Site fee, at cost", None, Decimal("145.00")),
        ("Materials (3-phase, panel LP-7)", None, Decimal("1250.00")),
    ]


def test_columns_between_are_the_amounts_between() -> None:
    more = Field(
        "l", "object", fields=(*LINE.fields[:2], Field("price", "decimal"), LINE.fields[2])
    )
    assert found("Oak doors 2 40.00 80.00\nFitting 9.00\n", more) == [
        ("Oak doors", 2, Decimal("40.00"), Decimal("80.00")),
        ("Fitting", None, None, Decimal("9.00")),
    ]
    only = Field("l", "object", fields=(LINE.fields[0], LINE.fields[2]))
    assert found("Oak doors 2 40.00 80.00\n", only) == [("Oak doors", Decimal("80.00"))]


def test_only_objects_of_one_text_and_numbers_have_rows() -> None:
    assert has_rows(LINE)
    assert not has_rows(Field("l", "object", fields=(*LINE.fields, Field("day", "date"))))
    assert not has_rows(Field("l", "object", fields=LINE.fields[1:]))
    assert not has_rows(Field("l", "object", fields=LINE.fields[:1]))


@given(st.text(st.sampled_from("ab 1.,5$€\n\f-()%") | st.characters(exclude_categories=["Cs"])))
def test_any_text_has_rows_that_stand_in_it(text: str) -> None:
    assert all(amount is not None for *_, amount in found(text))


@pytest.mark.parametrize("text", ["1.50 " * 20_000, "a 1.50\n" * 5_000])
def test_odd_tables_take_no_time(text: str) -> None:
    assert len(find_rows(LINE, text)) <= 100


def test_the_numbers_of_a_text_are_no_columns_and_a_sum_is_no_row() -> None:
    text = (
        "2 Ladle no. 1, 5 oz 4.50 9.00\n1 Rod 40 cm 12.00 12.00\n"
        "Net 21.00\n3 Hooks 2.00 6.00\nNet 27.00\n"
    )
    assert found(text) == [
        ("Ladle no. 1, 5 oz", 2, Decimal("9.00")),
        ("Rod 40 cm", 1, Decimal("12.00")),
        ("Hooks", 3, Decimal("6.00")),
    ]
