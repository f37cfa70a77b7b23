"""The sample documents are what `sample_docs/README.md` and `expected.json` say they are."""

import html
import json
import logging
import re
from collections.abc import Iterator
from decimal import Decimal
from email import message_from_bytes, policy
from functools import cache
from pathlib import Path
from typing import Any

import pypdf
import pytest
from pypdf.errors import FileNotDecryptedError, PdfReadError

SAMPLES = Path(__file__).parent.parent / "sample_docs"
DOCUMENTS = SAMPLES / "documents"
EXPECTED: dict[str, dict[str, Any]] = json.loads((SAMPLES / "expected.json").read_text("utf-8"))[
    "documents"
]
CLASSES = {"invoice", "contract", "letter", "minutes", "report", "other"}
READABLE = sorted(name for name, known in EXPECTED.items() if "failure" not in known)
MB = 1_000_000
# Single-valued fields whose value is a name that must stand in the text as it is.
NAMES = ("invoice_number", "seller", "buyer", "sender", "recipient", "governing_law", "body")
LISTS = ("parties", "attendees", "absent", "decisions")
AMOUNTS = ("total", "tax", "amount")


@pytest.fixture(autouse=True)
def quiet_pypdf() -> Iterator[None]:
    """pypdf warns of the old fonts and the damage that are here on purpose."""
    logger = logging.getLogger("pypdf")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


def squeeze(text: str) -> str:
    return " ".join(text.split())


@cache
def page_texts(name: str) -> tuple[str, ...]:
    """The text of each page, white space squeezed, read without docflash."""
    path = DOCUMENTS / name
    if path.suffix == ".pdf":
        return tuple(squeeze(page.extract_text()) for page in pypdf.PdfReader(path).pages)
    if path.suffix == ".eml":
        message = message_from_bytes(path.read_bytes(), policy=policy.default)
        heads = " ".join(str(value) for value in message.values())
        return (squeeze(f"{heads} {message.get_content()}"),)
    text = path.read_bytes().decode(EXPECTED[name].get("encoding", "utf-8"))
    if path.suffix == ".html":
        text = html.unescape(re.sub(r"(?s)<(script|style)\b.*?</\1>|<[^>]+>", "", text))
    return (squeeze(text),)


def test_every_document_is_described_and_listed() -> None:
    found = {
        path.relative_to(DOCUMENTS).as_posix() for path in DOCUMENTS.rglob("*") if path.is_file()
    }
    readme = (SAMPLES / "README.md").read_text("utf-8")
    assert found == set(EXPECTED)
    rows = {name: line for line in readme.splitlines() for name in found if f"| `{name}`" in line}
    assert set(rows) == found
    sizes = {name: f" {(DOCUMENTS / name).stat().st_size:,} " for name in found}
    assert [name for name in sorted(found) if sizes[name] not in rows[name]] == []


def test_they_are_small() -> None:
    sizes = [path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()]
    assert sum(sizes) <= 12 * MB
    assert max(sizes) <= 3 * MB


def test_the_classes_are_those_of_the_task() -> None:
    for name, known in EXPECTED.items():
        classes = {known["class"], *known.get("class_also", ())} - {None}
        assert classes <= CLASSES, name
        assert bool(classes) != ("failure" in known), name


@pytest.mark.parametrize("name", READABLE)
def test_the_facts_stand_on_their_pages(name: str) -> None:
    known, pages = EXPECTED[name], page_texts(name)
    assert len(pages) == known["pages"]
    facts = known.get("facts", [])
    assert len(facts) >= (0 if "same_as" in known else 2)
    wrong = [fact for fact in facts if fact["text"] not in pages[fact["page"] - 1]]
    assert wrong == []
    empty = [number for number, text in enumerate(pages, start=1) if not text]
    assert empty == known.get("empty_pages", [])


@pytest.mark.parametrize("name", [name for name in READABLE if "fields" in EXPECTED[name]])
def test_the_fields_stand_in_the_text(name: str) -> None:
    fields, text = EXPECTED[name]["fields"], " ".join(page_texts(name))
    wanted = [fields[key] for key in NAMES if key in fields]
    wanted += [value for key in LISTS for value in fields.get(key, ())]
    wanted += [f"{Decimal(fields[key]):,.2f}" for key in AMOUNTS if key in fields]
    for line in fields.get("lines", ()):
        wanted += [line["description"], f"{Decimal(line['amount']):,.2f}"]
    assert [value for value in wanted if value not in text] == []


def test_the_invoices_add_up() -> None:
    def total_of(name: str) -> Decimal:
        fields = EXPECTED[name]["fields"]
        amounts = sum(Decimal(line["amount"]) for line in fields["lines"])
        return amounts + Decimal(fields["tax"]) - Decimal(fields["total"])

    assert total_of("invoices/harbour-print-INV-2026-0417.pdf") == 0
    deposit = Decimal("2000.00")
    assert total_of("invoices/lakeside-electric-10482.pdf") == deposit


def test_a_copy_is_a_copy() -> None:
    copies = {name: known["same_as"] for name, known in EXPECTED.items() if "same_as" in known}
    assert copies
    for name, original in copies.items():
        assert (DOCUMENTS / name).read_bytes() == (DOCUMENTS / original).read_bytes()


def test_one_is_encrypted_with_an_empty_password() -> None:
    reader = pypdf.PdfReader(DOCUMENTS / "odd/encrypted-empty-password.pdf")
    assert reader.is_encrypted
    assert reader.decrypt("") != pypdf.PasswordType.NOT_DECRYPTED


def test_one_needs_its_password() -> None:
    name = "odd/encrypted-needs-password.pdf"
    reader = pypdf.PdfReader(DOCUMENTS / name)
    assert reader.decrypt("") == pypdf.PasswordType.NOT_DECRYPTED
    with pytest.raises(FileNotDecryptedError):
        reader.pages[0].extract_text()
    assert reader.decrypt(EXPECTED[name]["password"]) == pypdf.PasswordType.USER_PASSWORD
    assert "£38,400 a year" in squeeze(reader.pages[0].extract_text())


def test_one_is_damaged() -> None:
    with pytest.raises(PdfReadError):
        len(pypdf.PdfReader(DOCUMENTS / "odd/damaged.pdf").pages)


def test_one_is_a_scan_without_text() -> None:
    page = pypdf.PdfReader(DOCUMENTS / "odd/scanned-delivery-note.pdf").pages[0]
    assert page.extract_text().strip() == ""
    assert page.images.keys() != []


def test_one_text_is_in_an_old_encoding() -> None:
    data = (DOCUMENTS / "odd/angebot-innenhof-1998.txt").read_bytes()
    with pytest.raises(UnicodeDecodeError):
        data.decode("utf-8")
    assert "Mühlgäßchen" in data.decode("cp1252")
