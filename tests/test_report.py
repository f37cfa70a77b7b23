"""The report: what is in its data, how it is tied together, and that nothing can get out of it."""

import base64
import gzip
import hashlib
import json
import re
import stat
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from flows.cli import app
from pipeline.errors import InputError
from pipeline.report import write_report
from pipeline.report.places import PageOffsets
from pipeline.report.rows import PageRow, read_rows
from pipeline.report.shown import visible, visible_line
from pipeline.snapshots import current_snapshot
from tests.report_library import (
    HOSTILE,
    HOSTILE_NAME,
    PAGES,
    SENTENCES,
    make_library,
)

BLOCK = re.compile(r'<script type="application/gzip" id="(\w+)">([^<]*)</script>')


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "out"
    make_library(out, others=2)
    return out


@pytest.fixture(scope="module")
def page(library: Path) -> str:
    file = library / "report.html"
    write_report(library, file)
    return file.read_text("utf-8")


def unpacked(page: str) -> dict[str, Any]:
    return {
        name: json.loads(gzip.decompress(base64.b64decode(data)))
        for name, data in BLOCK.findall(page)
    }


def opened(page: str, name: str) -> dict[str, Any]:
    blocks = unpacked(page)
    numbers = {entry["name"]: n for n, entry in enumerate(blocks["index"]["entries"])}
    return blocks[f"d{numbers[name]}"]


def shown_words(view: dict[str, Any], proof: int) -> list[str]:
    """What a browser marks: UTF-16 units of the pages."""
    found: list[str] = []
    for place in view["proofs"][proof]["places"]:
        units = view["pages"][place["page"]]["text"].encode("utf-16-le")
        found.append(units[2 * place["start"] : 2 * place["end"]].decode("utf-16-le"))
    return found


def values_of(view: dict[str, Any], task: str) -> dict[str, Any]:
    answer = next(answer for answer in view["answers"] if answer["task"] == task)
    return {value["name"]: value for value in answer["values"]}


def test_each_value_leads_to_its_words(page: str) -> None:
    view = opened(page, "acme.pdf")
    values = values_of(view, "invoice")
    assert [p["text"] for p in view["pages"]] == list(PAGES)
    found = {
        name: (value["text"], shown_words(view, value["proof"]))
        for name, value in values.items()
        if value["kind"] == "value"
    }
    assert found == {
        "number": ("A-17", ["A-17"]),
        "total": ("12.50", ["12.50"]),
        "due": ("2026-04-30", ["the last", "day of April 2026"]),
        "paid": ("true", ["to be paid"]),
    }
    name, city = values["seller"]["members"]
    assert (name["text"], shown_words(view, name["proof"])) == ("Acme & Sons", ["Acme & Sons"])
    assert (city["text"], view["proofs"][city["proof"]]["support"]) == (None, "not_found")
    lines = [
        [(m["text"], shown_words(view, m["proof"])) for m in line["members"]]
        for line in values["lines"]["members"]
    ]
    assert lines == [
        [("Carriage", ["Carriage"]), ("5.50", ["5.50"])],
        [("Bolts", ["Bolts"]), ("7.00", ["7.00"])],
    ]


def test_alternatives_belong_to_their_value(page: str) -> None:
    view = opened(page, "acme.pdf")
    due = view["proofs"][values_of(view, "invoice")["due"]["proof"]]
    (other,) = due["others"]
    lost = view["proofs"][other]
    assert (lost["value"], lost["chosen"], lost["flagged"]) == ("2026-03-03", False, False)
    assert lost["reason"] == "another part of the document was surer"
    assert shown_words(view, other) == ["3 March 2026"]


def test_what_is_unsupported_is_flagged_with_its_reason(page: str) -> None:
    view = opened(page, "acme.pdf")
    flagged = {(p["field"], p["value"], p["reason"]) for p in view["proofs"] if p["flagged"]}
    assert flagged == {
        ("paid", "true", "neither yes nor no follows from the quote"),
        ("text", SENTENCES[1], "the number 99.99 is not in the document"),
    }
    (entry,) = (e for e in unpacked(page)["index"]["entries"] if e["name"] == "acme.pdf")
    assert {t["task"]: t["flags"] for t in entry["tasks"]} == {"summary": 1, "invoice": 1}


def test_the_pieces_of_a_summary_are_its_text(page: str) -> None:
    view = opened(page, "acme.pdf")
    pieces = values_of(view, "summary")["text"]["members"]
    assert "".join(piece["text"] for piece in pieces) == " ".join(SENTENCES)
    assert [p["text"] for p in pieces if p["proof"] is not None] == list(SENTENCES)


def test_states_failures_and_runs_are_told(page: str) -> None:
    index = unpacked(page)["index"]
    entries = {entry["name"]: entry for entry in index["entries"]}
    late = {t["task"]: t["state"] for t in entries["late.txt"]["tasks"]}
    assert late == {"summary": "pending", "invoice": "failed"}
    assert entries["0000.txt"]["tasks"][1]["cut"] is True
    assert entries["broken.pdf"]["failed"] is True
    assert entries["acme.pdf"]["class_name"] == "invoice"
    assert (entries["acme.pdf"]["folder"], index["documents_all"]) == ("2026", 6)
    failures = {(f["kind"], f["path"], f["task"]) for f in index["failures"]}
    assert failures == {
        ("damaged", "/in/broken.pdf", ""),
        ("invalid_json", "/in/late.txt", "invoice"),
        ("unreadable", "/in/locked.txt", ""),
    }
    assert index["runs"][0]["state"] == "running"
    (failed,) = (a for a in opened(page, "late.txt")["answers"] if a["task"] == "invoice")
    assert (failed["failure_kind"], failed["values"]) == ("invalid_json", [])


class _Elements(HTMLParser):
    """What a browser makes elements of."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[dict[str, str | None]] = []
        self.text: list[str] = []
        self.attributes: set[str] = set()
        self.addresses: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.scripts.append(dict(attrs))
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_no_text_of_a_document_stands_in_the_page_as_markup(page: str) -> None:
    parser = _Elements()
    parser.feed(page)
    # The blocks, and the one program.
    assert [s for s in parser.scripts if s.get("type") != "application/gzip"] == [{}]
    assert len(parser.scripts) == 1 + 1 + 6
    for words in ("hacked", "ignore your instructions", "Acme", "Small print"):
        assert words not in page
    (shown,) = opened(page, visible_line(HOSTILE_NAME))["pages"]
    assert shown["text"] == re.sub("[\u202e\u202c]", "", HOSTILE)  # a reader takes them out


def test_the_page_lets_nothing_in_or_out(page: str) -> None:
    parser = _Elements()
    parser.feed(page)
    assert parser.addresses == ["#/"]
    assert not {name for name in parser.attributes if name.startswith("on")} | (
        parser.attributes & {"style", "srcset", "action"}
    )
    assert "url(" not in page
    assert "@import" not in page
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    told = dict(part.split(" ", 1) for part in policy[1].split("; "))
    assert told["default-src"] == told["base-uri"] == told["form-action"] == "'none'"
    for name, tag in (("script-src", "script"), ("style-src", "style")):
        (inner,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert told[name] == f"'sha256-{digest}'"


def test_names_that_hide_something_show_it(page: str) -> None:
    names = [entry["name"] for entry in unpacked(page)["index"]["entries"]]
    assert "\\u202efdp.<b>\\x07\\x0a.txt" in names
    summary = values_of(opened(page, visible_line(HOSTILE_NAME)), "summary")["text"]
    shown = "".join(piece["text"] for piece in summary["members"])
    assert "\\u202etxt.exe\\u202c" in shown
    assert "\u202e" not in shown


@given(st.text())
def test_visible_text_has_nothing_that_hides(text: str) -> None:
    shown = visible_line(text)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]", shown)
    assert visible(text).count("\n") == text.count("\n")
    if text.isprintable() and not re.search("[\xad\u061c\u180e]", text):
        assert shown == text


TEXTS = st.lists(st.text(st.sampled_from("ab \n\U0001f600é")), min_size=1, max_size=4)


@given(TEXTS, st.data())
def test_places_are_those_of_a_browser(pages: list[str], data: Any) -> None:
    text = "\f".join(pages)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    starts = [sum(len(page) + 1 for page in pages[:n]) for n in range(len(pages))]
    rows = [PageRow("d", n + 1, page, starts[n]) for n, page in enumerate(pages)]
    found = [
        pages[place.page].encode("utf-16-le")[2 * place.start : 2 * place.end].decode("utf-16-le")
        for place in PageOffsets(rows).find(start, end)
    ]
    assert found == [piece for piece in text[start:end].split("\f") if piece]


def test_the_file_is_private_and_whole(library: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    done = write_report(library, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (done.size_bytes, done.documents, done.flags) == (file.stat().st_size, 6, 2)
    file.chmod(0o644)
    write_report(library, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_what_is_no_report_is_not_replaced(library: Path, tmp_path: Path) -> None:
    file = tmp_path / "letter.html"
    file.write_text("Dear Sir")
    with pytest.raises(InputError, match="no report of docflash"):
        write_report(library, file)
    with pytest.raises(InputError, match="not a file"):
        write_report(library, tmp_path)
    with pytest.raises(InputError, match="can't be written"):
        write_report(library, tmp_path / "no" / "report.html")
    assert file.read_text() == "Dear Sir"


def test_the_command_writes_it_and_says_so(library: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.html"
    arguments = ["report", "--out", str(library), "-o", str(file)]
    told = CliRunner().invoke(app, [*arguments, "--include", "*.pdf", "--json"])
    assert told.exit_code == 0, told.output
    size = file.stat().st_size
    assert json.loads(told.stdout) == {
        "file": str(file), "size_bytes": size, "documents": 2, "documents_all": 6, "flags": 2,
    }  # fmt: skip
    assert "2 of 6" in CliRunner().invoke(app, [*arguments, "--limit", "2"]).stdout
    assert CliRunner().invoke(app, ["report", "--out", str(tmp_path)]).exit_code == 2


def test_documents_can_be_chosen(library: Path, tmp_path: Path) -> None:
    done = write_report(library, tmp_path / "a.html", ("many/*", "*.pdf"))
    page = (tmp_path / "a.html").read_text("utf-8")
    names = [entry["name"] for entry in unpacked(page)["index"]["entries"]]
    assert names == ["acme.pdf", "broken.pdf", "0000.txt", "0001.txt"]
    assert (done.documents, done.documents_all) == (4, 6)
    assert write_report(library, tmp_path / "b.html", limit=1).documents == 1
    assert read_rows(library, ("none",)).pages == []


def test_a_library_without_tables_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="docflash run FOLDER"):
        write_report(tmp_path, tmp_path / "report.html")


def test_an_older_snapshot_without_evidence_columns_is_shown(tmp_path: Path) -> None:
    make_library(tmp_path / "out")
    snapshot = current_snapshot(tmp_path / "out")
    assert snapshot is not None
    old = pq.read_table(snapshot / "evidence.parquet").drop(
        ["value", "support", "confidence", "probability", "score", "chosen", "reason"]
    )
    pq.write_table(old, snapshot / "evidence.parquet")
    write_report(tmp_path / "out", tmp_path / "report.html")
    view = opened((tmp_path / "report.html").read_text("utf-8"), "acme.pdf")
    number = values_of(view, "invoice")["number"]
    assert (number["text"], shown_words(view, number["proof"])) == ("A-17", ["A-17"])
    empty: Any = pa.table({"document_id": pa.array([], pa.string())})
    pq.write_table(empty, snapshot / "evidence.parquet")
    write_report(tmp_path / "out", tmp_path / "report.html")
    view = opened((tmp_path / "report.html").read_text("utf-8"), "acme.pdf")
    assert values_of(view, "invoice")["number"]["proof"] is None


def test_a_damaged_table_is_told(tmp_path: Path) -> None:
    make_library(tmp_path / "out")
    snapshot = current_snapshot(tmp_path / "out")
    assert snapshot is not None
    (snapshot / "pages.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="publish them again"):
        write_report(tmp_path / "out", tmp_path / "report.html")
