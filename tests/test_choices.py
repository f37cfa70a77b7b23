"""What a small model may choose from: values with the words that lead to them."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.choices import MOST_CHOICES, find_choices
from pipeline.derive import judge
from pipeline.forms import field_schema, find_taken
from pipeline.records import Field
from tests.own_fields import own_field

TEXT = """Harbour Street Print Works Ltd
41 Harbour Street, Bristol
Invoice no. INV-2026-0417
17 April 2026
Bill to: Tamsin & Grey Architects LLP
Cards, 400 gsm £135.00
Subtotal £1,535.00
Total due £1,660.00
Please pay by 17 May 2026. Goods remain ours.
"""


def found(text: str = TEXT, **field: Any) -> list[tuple[str, Any]]:
    name = field.pop("name", "a")
    kind = field.pop("type")
    return [(c.quote, c.value) for c in find_choices(Field(name, kind, **field), text)]


def test_a_value_comes_with_the_words_that_lead_to_it() -> None:
    assert found(type="date") == [
        ("INV-2026-0417\n17 April 2026", date(2026, 4, 17)),
        ("Please pay by 17 May 2026", date(2026, 5, 17)),
    ]
    assert ("Total due £1,660.00", Decimal("1660.00")) in found(type="decimal")


def test_where_there_are_amounts_other_numbers_are_no_decimals() -> None:
    values = [value for _, value in found(type="decimal")]
    assert values == [Decimal("135.00"), Decimal("1535.00"), Decimal("1660.00")]
    assert [value for _, value in found("3 and 4.5", type="decimal")] == [3, Decimal("4.5")]


def test_labels_leave_what_is_near_the_surest() -> None:
    only = [("Total due £1,660.00", Decimal("1660.00"))]
    assert found(type="decimal", labels=("total due",)) == only
    assert found(type="date", labels=("no such label",)) == []
    assert found(type="date", labels=("no such label", "^"))[0][1] == date(2026, 4, 17)
    names = [value for _, value in found(type="string", max_chars=40, labels=("bill to",))]
    assert "Tamsin & Grey Architects LLP" in names
    assert len(names) < len(found(type="string", max_chars=40))


def test_a_short_label_is_one_only_where_it_stands_as_one() -> None:
    text = "We ask you to pay Acme Ltd now.\nTo: Ada Lovelace\n"
    values = [value for _, value in found(text, type="string", max_chars=20, labels=("to",))]
    assert "Ada Lovelace" in values
    assert "Acme Ltd" not in values


def test_text_is_a_line_a_name_or_marked_with_digits() -> None:
    values = [value for _, value in found(type="string", max_chars=40)]
    assert {"Harbour Street Print Works Ltd", "INV-2026-0417", "Bristol"} & set(values)
    assert "Tamsin & Grey Architects LLP" in values
    assert all(len(value) <= 40 for value in values)
    long = [value for _, value in found(type="string", max_chars=200)]
    assert "Goods remain ours." in long


def test_three_characters_are_a_currency() -> None:
    assert {value for _, value in found(type="string", max_chars=3)} == {"GBP"}
    assert {value for _, value in found("8 EUR, 5 $", type="string", max_chars=3)} == {"EUR", "USD"}


def test_a_schema_offers_the_choices_or_none() -> None:
    schema = field_schema(Field("total", "decimal", labels=("total due",)), TEXT, "")
    assert schema is not None
    assert schema["properties"]["total"]["anyOf"][0] == {"enum": ["Total due £1,660.00"]}
    assert field_schema(Field("day", "date"), "no day here", "") is None


@pytest.mark.parametrize("label", ["Date", "Invoice Date", "Due"])
def test_a_company_s_name_is_over_before_a_label_on_its_line(label: str) -> None:
    text = f"Invoice 77 from Brightwater Tools Ltd. {label}: 3 May 2026\nTotal: 30.00\n"
    names = [str(value) for _, value in found(text, type="string", max_chars=100)]
    assert "Brightwater Tools Ltd." in names
    assert f"Brightwater Tools Ltd. {label}" not in names


@given(
    st.text(st.sampled_from("Ab 1.,\n:€-\u00e9\f") | st.characters(exclude_categories=["Cs"])),
    st.sampled_from(["date", "decimal", "integer", "string"]),
    st.sampled_from([3, 40, 200]),
    st.sampled_from([(), ("a", "b 1"), ("^",)]),
)
def test_every_choice_stands_in_the_text_and_supports_its_value(
    text: str, kind: Any, most: int, labels: tuple[str, ...]
) -> None:
    field = Field("a", kind, max_chars=most, labels=labels)
    choices = find_choices(field, text)
    assert len({choice.quote for choice in choices}) == len(choices) <= MOST_CHOICES
    for choice in choices:
        assert choice.quote
        assert text[choice.start : choice.end] == choice.quote
        assert judge(field, choice.value, choice.quote)[0] != "unsupported"


@pytest.mark.parametrize("text", ["x" * 100_000, "1" * 50_000, "A " * 40_000, "\n" * 100_000])
def test_odd_texts_take_no_time(text: str) -> None:
    assert len(find_choices(Field("a", "string", labels=("x",)), text)) <= MOST_CHOICES
    find_choices(Field("a", "date"), text)
    find_choices(Field("a", "decimal"), text)


@pytest.mark.parametrize("title", ["INVOICE", "Tax Invoice", "Rechnung Nr. 5", "FACTURE"])
def test_the_title_of_an_invoice_is_not_its_seller(title: str) -> None:
    seller = own_field("invoice", "seller")
    text = f"{title}\n\nInvoicely Ltd\n4 Quay Street\n"
    schema = field_schema(seller, text, text, partial=False)
    assert schema is not None
    assert find_taken(seller, schema) == "Invoicely Ltd"


def test_a_sentence_needs_no_words_to_lead_to_it() -> None:
    text = (
        "Rain at Gillhead was above the mean of thirty years. The highest level of the river was "
        "measured at the bridge.\nThe bridge was closed for four days. The river fell in May."
    )
    field = Field("points", "string", max_chars=300, labels=("@main",))
    choices = find_choices(field, text, in_list=True)
    assert choices
    assert [choice.quote.replace("\n", " ") for choice in choices] == [c.value for c in choices]


def test_the_mark_of_a_sentence_in_a_list_is_no_part_of_it() -> None:
    text = (
        "Decisions\n1. The fee was agreed\n2. It was agreed to meet on\n12. Mai.\n"
        "- A 3rd plan was agreed.\nIt was agreed to pay in the\n4. Quartal of the year.\n"
        "It was agreed that he, who\n- as was noted -\nis ill, be paid.\n"
    )
    field = Field("decisions", "string", max_chars=160, labels=("agreed",))
    values = [choice.value for choice in find_choices(field, text, in_list=True)]
    assert values == [
        *("The fee was agreed", "It was agreed to meet on 12. Mai.", "A 3rd plan was agreed."),
        "It was agreed to pay in the 4. Quartal of the year.",
        "It was agreed that he, who - as was noted - is ill, be paid.",
    ]
