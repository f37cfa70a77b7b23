"""Companies' names are taken whole: their forms, and places in brackets, belong to them."""

import pytest

from pipeline.choices import MOST_CHOICES, find_choices
from pipeline.party_names import find_parties
from pipeline.records import Field
from tests.own_fields import own_field

NAMES = [
    "Keepsafe Storage (Durham) Limited",
    "Harbour (UK) Holdings Ltd",
    "Blumen Petersen e.K.",
    "Turnverein Musterstadt e.V.",
    "Officine Rossi S.r.l.",
    "Pastificio Conti S.p.A.",
    "De Vries Transport B.V.",
    "Fjord Kayaks A/S",
    "L'Atelier du Pain SARL",
    "Stowell & Byrne Pty Ltd",
    "Brightside Hotels plc",
    "Volksbank Uelzen eG",
    "Blackstone Limited Partnership",
    "Maier GmbH & Cie. KG",
    "Solvay S.A.",
    "Luxfin S.à r.l.",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_seller_of_an_invoice(name: str) -> None:
    text = f"INVOICE\n\nFrom: {name}, 12 Harbour Street, Dover\nTo: Mr A. Bell\n\nTotal 12.00\n"
    field = Field("seller", "string", max_chars=100, labels=("from:",))
    assert find_choices(field, text)[0].value == name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("other", ["Ellery Fruit Growers Inc.", "Officine Rossi S.r.l."])
def test_the_parties_of_a_contract(name: str, other: str) -> None:
    text = f"AGREEMENT made on 9 January 2026 between {name}, of 4 Mill Lane, Dover, and {other} of"
    text += " 9 Quay Row, Ryde.\n\n1. Subject. Storage of goods.\n"
    found = [text[start:end] for start, end in find_parties(text)]
    assert found == ([name, other] if name != other else [name])


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("Lender: Marks and Spencer plc", ["Marks and Spencer plc"]),
        ("Tenant: Smith and Sons Limited", ["Smith and Sons Limited"]),
        ("Vermieter: Karl und Maria Schmidt", ["Karl und Maria Schmidt"]),
        ("Tenant: Daniel Ferreira and Sofia Ferreira", ["Daniel Ferreira", "Sofia Ferreira"]),
    ],
)
def test_what_and_joins_is_two_names_if_both_are_whole(line: str, names: list[str]) -> None:
    text = f"{line}\nRent: 9\n"
    assert [text[start:end] for start, end in find_parties(text)] == names


@pytest.mark.parametrize(
    "text",
    ["A.b.c." * 20_000, "Ab (Cd " * 20_000, "Ab (Cd) " * 20_000, "Landlord: A and B\n" * 6_000],
)
def test_odd_texts_take_no_time(text: str) -> None:
    assert len(find_choices(Field("a", "string", labels=("x",)), text)) <= MOST_CHOICES
    find_parties(f"between {text}")


@pytest.mark.parametrize(
    "column", ["Invoice no. 2231", "Rechnungs-Nr. / Invoice No. 26", "Date: 3 May"]
)
@pytest.mark.parametrize(
    "name", ["ACME Widgets Ltd", "Blumen Petersen e.K.", "Elektro Sommer GmbH & Co. KG"]
)
def test_the_next_column_is_no_part_of_a_name(name: str, column: str) -> None:
    """White space in a line is one blank when values are looked for."""
    text = f"{name} {column}\n14 Forge Lane Page 1\n24937 Flensburg\n\nTo: Mr A. Bell\n"
    assert find_choices(own_field("invoice", "seller"), text)[0].value == name
