"""The gold set is what its README says, and each expected value stands in what docflash reads."""

import json
from collections import Counter
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipeline.normalise import normalise
from pipeline.pages import read_contents

SAMPLES = Path(__file__).parents[1] / "sample_docs"
GOLD: dict[str, dict[str, Any]] = json.loads((SAMPLES / "gold" / "gold.json").read_text("utf-8"))[
    "documents"
]
TYPESET = sorted(name for name, entry in GOLD.items() if "printed" in entry)
KINDS = {"invoice", "contract", "letter", "minutes"}
BYTES_AT_MOST = 3_000_000


def squeeze(text: str) -> str:
    return " ".join(text.split())


@cache
def pages_of(name: str) -> tuple[str, ...]:
    path = SAMPLES / name
    contents = read_contents(path.read_bytes(), path.suffix)
    return tuple(squeeze(normalise(page.text)[0]) for page in contents.pages)


def test_the_set_is_as_large_as_is_said() -> None:
    assert len(GOLD) == 84
    assert len(TYPESET) == 64
    assert sum(path.stat().st_size for path in (SAMPLES / "gold").rglob("*")) <= BYTES_AT_MOST
    assert [name for name in GOLD if not (SAMPLES / name).is_file()] == []
    found = {path.relative_to(SAMPLES).as_posix() for path in (SAMPLES / "gold").rglob("*.pdf")}
    assert found == set(TYPESET)


def test_the_layouts_of_the_test_are_not_in_training() -> None:
    layouts = Counter((entry["split"], entry["layout"]) for entry in GOLD.values())
    train, test = ({name for split, name in layouts if split == one} for one in ("train", "test"))
    assert not train & test
    typeset = {entry["layout"] for name, entry in GOLD.items() if name in TYPESET}
    assert len(typeset) == 16
    for kind in KINDS:
        assert {split for split, name in layouts if name.startswith(f"{kind}-")} == {
            "train",
            "test",
        }
    readme = (SAMPLES / "gold" / "README.md").read_text("utf-8")
    assert [name for name in typeset if f"`{name.partition('-')[2]}`" not in readme] == []


@pytest.mark.parametrize("name", TYPESET)
def test_each_value_stands_on_its_pages(name: str) -> None:
    entry, pages = GOLD[name], pages_of(name)
    for task, fields in entry["printed"].items():
        answers = entry["answers"][task]
        for field, forms in fields.items():
            numbers = entry["pages"][task][field]
            for form in forms:
                hits = [n for n, text in enumerate(pages, 1) if squeeze(normalise(form)[0]) in text]
                assert hits, (field, form)
                assert set(hits) <= set(numbers)
            assert answers[field] not in (None, [])
        told = {field for field, value in answers.items() if value not in (None, [])}
        assert told == set(fields)


@pytest.mark.parametrize("name", sorted(set(GOLD)))
def test_a_good_summary_names_the_facts(name: str) -> None:
    summary = GOLD[name]["answers"]["summary"].casefold()
    for forms in GOLD[name]["facts"]["summary"]:
        assert any(form.casefold() in summary for form in forms), forms


def test_values_that_the_document_lacks_are_null() -> None:
    nulls = Counter(
        field
        for entry in GOLD.values()
        for task, answer in entry["answers"].items()
        if task in KINDS
        for field, value in answer.items()
        if value is None
    )
    missing = {"due_date", "tax", "end_date", "notice_days", "governing_law", "reply_by"}
    assert missing | {"next_meeting"} <= set(nulls)


def test_the_invoices_add_up() -> None:
    for name in TYPESET:
        invoice = GOLD[name]["answers"].get("invoice", {})
        if "lines" in invoice:
            net = sum(Decimal(line["amount"]) for line in invoice["lines"])
            assert net + Decimal(invoice["tax"] or 0) == Decimal(invoice["total"]), name
