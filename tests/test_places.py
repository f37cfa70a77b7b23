"""Where values stand by layout, in lists and by patterns, without a word before them."""

from typing import Any

import pytest

from pipeline.choices import find_choices
from pipeline.forms import field_schema
from pipeline.layout_parts import find_part
from pipeline.listings import find_listed
from pipeline.main_sentences import MOST, find_main_sentences
from pipeline.named import find_people, find_places
from pipeline.party_names import find_parties
from pipeline.places import without_beginning
from pipeline.prompts import load_tasks
from pipeline.records import Field
from tests.own_fields import own_field

LETTER = """Meridian Mutual Insurance
Claims Department
PO Box 900, Swindon SN1 1AA

12 August 2025

Strictly confidential
Mrs Beatrix Colley
3 Sandpiper Close
Poole
BH15 4XY

Dear Mrs Colley

Your claim for storm damage to the roof

Please let us have two photographs by 2 September 2025.

Kind regards

I. Prosser
Ifan Prosser, claims handler
"""


def parts(name: str, text: str = LETTER) -> list[str]:
    return [text[start:end] for start, end in find_part(name, text)]


def test_a_letter_is_read_by_its_layout() -> None:
    assert parts("@letterhead") == ["Meridian Mutual Insurance"]
    assert parts("@addressee")[0] == "Beatrix Colley"
    assert parts("@greeted") == ["Beatrix Colley"]
    assert parts("@signature") == ["Ifan Prosser"]
    assert parts("@subject")[0] == "Your claim for storm damage to the roof"
    assert parts("@unheard") == []


@pytest.mark.parametrize(
    "address",
    ["Plot 22B\n19 Leazes Terrace\nHexham", "Flat 3\nHexham", "The Old Mill\nbehind the church"],
)
def test_who_is_greeted_stands_above_whatever_address_there_is(address: str) -> None:
    text = f"Ridgeway Allotments\n4 Mill Lane\n\n3 April 2026\n\nMr Colin Pratt\n{address}\n\n"
    text += "Dear Mr Pratt,\n\nRe: The hedge of Mr Colin Pratt\n\nPlease cut it.\n"
    assert "Colin Pratt" in parts("@greeted", text)
    assert find_choices(own_field("letter", "recipient"), text)[0].value == "Colin Pratt"


def test_who_signs_is_not_who_is_greeted() -> None:
    text = "Jane Smith\n4 Mill Lane\n\n3 May 2026\n\nDear Mr Smith,\n\nThe hedge\n\n"
    text += "Yours sincerely,\n\nJane Smith\n"
    assert parts("@signature", text) == ["Jane Smith"]
    assert parts("@greeted", text) == []


def test_the_sender_in_the_window_of_the_envelope_is_not_written_to() -> None:
    text = """Malerbetrieb Anton Weber
Bergstraße 14
79098 Freiburg
Malerbetrieb Weber · Bergstraße 14 · 79098 Freiburg
Frau
Dr. Ulrike Sommer
Lindenallee 3
79100 Freiburg
Rechnung Nr. 12
"""
    assert parts("@addressee", text) == ["Ulrike Sommer"]


def test_a_street_without_a_word_for_it_is_one_above_a_postcode() -> None:
    text = """Tischlerei Ahornfeld GmbH · Werkstraße 14 · 35037 Marburg
Kindergarten Sonnenhügel e. V.
Frau Annegret Pohlmann
Am Lahnufer 3
35094 Lahntal
Rechnung
"""
    assert parts("@addressee", text) == ["Kindergarten Sonnenhügel e. V.", "Annegret Pohlmann"]
    assert parts("@letterhead", text) == ["Tischlerei Ahornfeld GmbH"]
    assert parts("@addressee", text.replace("35094 Lahntal", "Kundennummer")) == []


HEADED = """Harbor View Dental
12 Quay Street
Portland, Maine 04101

March 3, 2025

Dear Ms. Abrahams,

Your next visit is on April 9.

Sincerely,
Dr. Lena Ortiz
"""


@pytest.mark.parametrize(
    ("head", "addressee"),
    [
        ("Harbor View Dental", []),  # the dentist's own: it is above the date, and is not greeted
        ("Ms. Ruth Abrahams", ["Ruth Abrahams"]),
    ],
)
def test_an_only_address_is_the_reader_s_or_a_letterhead(head: str, addressee: list[str]) -> None:
    assert parts("@addressee", HEADED.replace("Harbor View Dental", head)) == addressee


def test_an_only_address_below_the_date_is_the_reader_s() -> None:
    date = "March 3, 2025\n\n"
    text = date + HEADED.replace(date, "")
    assert parts("@addressee", text) == ["Harbor View Dental"]


def test_the_largest_amount_is_a_total_without_a_word() -> None:
    assert parts("@largest", "Oak 240.00\n38.50\n278.50\nVAT 50.84\n329.34\n") == ["329.34"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            'between Prairie Homes LLC ("Landlord") and Delia Marchetti (the "Tenant").\n1. Term',
            ["Prairie Homes LLC", "Delia Marchetti"],
        ),
        (
            "(1) Calder County Council of County Hall; and\n(2) HARVEST TABLE LIMITED, a company",
            [],
        ),
        (
            (
                '(1) Calder County Council of County Hall (the "Council"); and\n'
                '(2) HARVEST TABLE LIMITED, a company registered in England (the "Supplier").'
            ),
            ["Calder County Council", "HARVEST TABLE LIMITED"],
        ),
        (
            "Landlord: Minster Estates Limited\nTenant: Polly Garnett\nRent: £9\n",
            ["Minster Estates Limited", "Polly Garnett"],
        ),
        (
            "Landlord: Minster Homes (NW) Limited\nTenant: Polly Garnett and Ned Garnett\n",
            ["Minster Homes (NW) Limited", "Polly Garnett", "Ned Garnett"],
        ),
        (
            (
                "PARTIES\n(1) SPARKLE (YORKSHIRE) LLP, a partnership of 8 Kirkgate"
                " (Contractor); and\n(2) Holbeck Dental Practice, of 55 Domestic Street (Client).\n"
                "AGREED TERMS\n1. Cleaning.\n"
            ),
            ["SPARKLE (YORKSHIRE) LLP", "Holbeck Dental Practice"],
        ),
        (
            "Terms.\nFor Alder Baking plc For Hollow Printing Ltd\n",
            ["Alder Baking plc", "Hollow Printing Ltd"],
        ),
        (
            "zwischen\nder Stadtwerke Aue GmbH, Am Kanal 2\nund\nder Rheinlift KG, Köln\n§ 1",
            ["Stadtwerke Aue GmbH", "Rheinlift KG"],
        ),
        ("The weather between March and May was mild.", []),
    ],
)
def test_parties_are_found_however_they_are_introduced(text: str, names: list[str]) -> None:
    assert [text[start:end] for start, end in find_parties(text)] == names


@pytest.mark.parametrize(
    "text",
    [
        "Present: Ann Lee (chair), Bo Ek\nand Cy Orr. Bo Ek opened the meeting.",
        "PRESENT\nAnn Lee (Chair)\nBo Ek\nMr Cy Orr\nAPOLOGIES\nDi Poe\n",
        "Present Ann Lee, Bo Ek, Cy Orr\nApologies Di Poe\n",
        "The members present were Ann Lee, Bo Ek and Cy Orr (clerk). Later Di Poe came.",
        "Present:\n- Ann Lee\n- Bo Ek\n- Cy Orr\n\n1. Minutes\n",
    ],
)
def test_a_list_ends_where_it_ends(text: str) -> None:
    spans = find_listed(text, ("present",), ("apologies",))
    assert [text[start:end] for start, end in spans] == ["Ann Lee", "Bo Ek", "Cy Orr"]


def test_people_and_places_are_named() -> None:
    text = "Dr Abel Quist met Maria Lopez near Fenwick. Clara Works Ltd is in Leeds LS9 8AG."
    people = [text[start:end] for start, end in find_people(text)]
    places = [text[start:end] for start, end in find_places(text)]
    assert people == ["Abel Quist", "Maria Lopez"]
    assert places == ["Fenwick", "Leeds"]


def test_main_sentences_stand_in_the_text_and_say_each_thing_once() -> None:
    text = (
        "Thank you for your letter of May. The bridge will be closed for repairs in June. "
        "The repairs of the bridge cost 14,000 euros. The bridge will be closed for repairs "
        "in June, we repeat. Buses go by the river road. Walkers can use the old ford. "
        "The council asks all drivers for patience with the repairs."
    )
    found = [text[start:end] for start, end in find_main_sentences(text)]
    assert "The repairs of the bridge cost 14,000 euros." in found
    assert "Thank you for your letter of May." not in found
    assert sum("closed for repairs" in sentence for sentence in found) == 1
    assert len(found) <= MOST
    assert find_main_sentences("") == ()


def values(text: str, **field: Any) -> list[Any]:
    kind = field.pop("type")
    return [choice.value for choice in find_choices(Field("a", kind, **field), text)]


def test_a_pattern_is_surer_than_a_label_and_goes_over_the_end_of_a_line() -> None:
    text = "6 Notice\nEither may end it by giving 60\ndays' notice.\n"
    patterns = (r"(?P<value>\d+) days' notice",)
    assert values(text, type="integer", labels=("notice",), patterns=patterns)[0] == 60


def test_a_label_inside_an_unlike_word_is_none() -> None:
    text = "TOTAL GST 10% 75.40\nTOTAL 829.40\n"
    found = values(text, type="decimal", labels=("total",), unlike=("total gst",))
    assert str(found[0]) == "829.40"


def test_labels_in_a_row_or_a_column_lead_to_the_values_below() -> None:
    row = "Invoice # Invoice Date Due Date\n70418 02/11/2026 03/13/2026\n"
    assert str(values(row, type="date", labels=("due date",))[0]) == "2026-03-13"
    assert str(values(row, type="date", labels=("invoice date",))[0]) == "2026-02-11"
    column = "Number\nInvoice date\nPayment due\nINV-7\n17 April 2026\n17 May 2026\nGoods\n"
    assert str(values(column, type="date", labels=("payment due",))[0]) == "2026-05-17"


@pytest.mark.parametrize("text", ["x" * 60_000, "A " * 9_000, "1 " * 9_000, "A\n" * 9_000])
def test_fields_of_all_tasks_stand_odd_texts(text: str) -> None:
    for task in load_tasks():
        for field in task.fields:
            field_schema(field, text, "")


def test_a_later_part_has_no_beginning() -> None:
    seller = Field("seller", "string", labels=("seller", "@letterhead", "^"))
    later = without_beginning(seller)
    assert later is not None
    assert later.labels == ("seller",)
    assert without_beginning(Field("a", "string", labels=("^",))) is None
    plain = Field("a", "string")
    assert without_beginning(plain) == plain


def test_a_label_that_says_none_leaves_nothing() -> None:
    text = "Start date 27/01/2024\nEnd date none, runs on\nPrice 5.00\n"
    assert values(text, type="date", labels=("end date",)) == []
    assert len(values(text, type="date", labels=("start date",))) == 1


def test_a_preposition_counts_only_right_before_a_date() -> None:
    text = "I told you by telephone on 3 May 2025. Please pay by Monday, 9 June 2025."
    assert str(values(text, type="date", labels=("by",))[0]) == "2025-06-09"
    assert values("I told you by telephone on 3 May 2025.", type="date", labels=("by",)) == []


def test_marked_lines_below_a_heading_are_decisions() -> None:
    text = (
        "Decisions\n* The tubs are moved.\n* The association writes\nto its insurer.\n\nNext\n* No"
    )
    field = Field("a", "list", items=Field("a", "string", max_chars=160), labels=("decision",))
    schema = field_schema(field, text, "")
    assert schema is not None
    quotes = schema["properties"]["a"]["items"]["enum"]
    assert [quote.rpartition("* ")[2] for quote in quotes] == [
        "The tubs are moved.",
        "The association writes\nto its insurer.",
    ]


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("MINUTES of the Parish Council meeting held on 3 May 2026", "Parish Council"),
        ("Minutes of the annual general meeting of the Elm Row Allotment Society", None),
        ("Minutes of the Board of Trustees, 4 June 2026", "Board of Trustees"),
        ("Minutes of the meeting of the Finance Committee", "Finance Committee"),
    ],
)
def test_who_met_is_named_whole(text: str, body: str | None) -> None:
    found = find_choices(own_field("minutes", "body"), f"{text}\n\nPresent: A. Bell, C. Dunn\n")[
        0
    ].value
    assert found == (body or "Elm Row Allotment Society")
