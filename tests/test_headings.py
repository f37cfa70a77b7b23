"""Sections: what outlines and headings tell of a document, and where each begins."""

import io
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader, PdfWriter
from pypdf.generic import NameObject

from pipeline.contents import (
    FileBytes,
    RawPage,
    decode_document,
    encode_document,
    make_document,
    replace_pages,
)
from pipeline.errors import DocumentError
from pipeline.headings import find_sections, outline_markdown
from pipeline.outline import MOST_ENTRIES, OutlineEntry, Section, highest_entries, place_outline
from pipeline.pages import read_contents
from pipeline.records import Document
from tests.pdfs import make_pdf

SAMPLES = Path(__file__).parents[1] / "sample_docs" / "documents"
FILE = FileBytes("0" * 64, 1, "application/pdf")
BODY = "These are some words of the section, enough of them to make it more than a line. " * 4


def make_outlined_pdf(*entries: tuple[int, str, int], pages: tuple[str, ...]) -> bytes:
    """A PDF with outline entries (level, title, page from 1)."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(make_pdf(*pages))))
    parents: list[object] = []
    for level, title, page in entries:
        parent = parents[level - 2] if level > 1 else None
        item = writer.add_outline_item(title=title, page_number=page - 1, parent=parent)  # type: ignore[arg-type]
        parents[level - 1 :] = [item]
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def read(data: bytes, suffix: str = ".pdf") -> Document:
    return make_document(FILE, read_contents(data, suffix))


def titles(text: str) -> list[tuple[int, str]]:
    return [(section.level, section.title) for section in find_sections(text)]


def test_the_outline_of_a_pdf_leads_to_its_headings() -> None:
    pages = ("Cover", f"1 Rules\n{BODY}\n1.1 Of keepers\nmore", f"on it goes\n2 FEES\n{BODY}")
    data = make_outlined_pdf(
        (1, "Rules", 2), (2, "Of keepers", 2), (1, "Fees", 3), (1, "Not there", 3), pages=pages
    )
    document = read(data)
    assert document.outline[1] == OutlineEntry(2, "Of keepers", 2)
    sections = find_sections(document.text, document.outline)
    assert [(s.level, s.title) for s in sections] == [(1, "Rules"), (2, "Of keepers"), (1, "Fees")]
    starts = ["1 Rules", "1.1 Of keepers", "2 FEES"]
    for section, start in zip(sections, starts, strict=True):
        assert document.text.startswith(start, section.start_char)


def test_an_entry_whose_title_is_not_on_its_page_begins_with_the_page() -> None:
    text = "first\fsecond\f\f third"
    outline = [OutlineEntry(1, "A", 1), OutlineEntry(1, "B", 2), OutlineEntry(1, "C", 4)]
    assert [s.start_char for s in place_outline(text, outline)] == [0, 6, 15]
    assert place_outline(text, [OutlineEntry(1, "D", 9), OutlineEntry(1, "E", 0)]) == ()


def test_an_outline_survives_the_way_from_the_process_that_read_it_and_ocr() -> None:
    document = read(make_outlined_pdf((1, "Rules", 2), (1, "More", 1), pages=("", "Rules")))
    assert decode_document(encode_document(document)) == document
    scanned = replace_pages(document, {1: RawPage("Read by OCR.\nMore", "ocr")})
    assert scanned.outline == document.outline
    assert [s.title for s in find_sections(scanned.text, scanned.outline)] == ["More", "Rules"]


@pytest.mark.parametrize("entry", ['["Rules",2,1]', '[1,"Rules",Infinity]', "[1,2,2]", "[1]", "7"])
def test_an_outline_that_is_none_is_no_whole_answer(entry: str) -> None:
    whole = encode_document(read(make_outlined_pdf((1, "Rules", 1), pages=("Rules",))))
    assert whole.count(b'[1,"Rules",1]') == 1
    with pytest.raises(DocumentError, match="no whole answer"):
        decode_document(whole.replace(b'[1,"Rules",1]', entry.encode()))
    huge = decode_document(whole.replace(b'[1,"Rules",1]', b'[1e9,"Rules",1e99]'))
    assert huge.outline == (OutlineEntry(9, "Rules", 2**31 - 1),)


def test_an_outline_without_end_costs_nothing_but_itself() -> None:
    reader = PdfReader(io.BytesIO(make_outlined_pdf((1, "A", 1), (1, "B", 1), pages=("A\nB",))))
    writer = PdfWriter(clone_from=reader)
    first = writer.root_object["/Outlines"]["/First"]  # type: ignore[index]
    first[NameObject("/Next")] = first.indirect_reference
    out = io.BytesIO()
    writer.write(out)
    document = read(out.getvalue())
    assert document.text == "A\nB"
    assert len(document.outline) <= 1


def test_headings_of_html_are_its_outline() -> None:
    html = (
        b"<body><nav><a>Rules</a></nav><h1>Rules</h1><p>Some words.<h2>Of <i>keepers</i></h2><p>x"
        b"<template><h2>Hidden</h2></template><h2> </h2><h1>Fees &amp;\n dues</h1><p>None.</body>"
    )
    document = read(html, ".html")
    sections = find_sections(document.text, document.outline)
    assert [(s.level, s.title) for s in sections] == [
        (1, "Rules"),
        (2, "Of keepers"),
        (1, "Fees & dues"),
    ]
    assert document.text.startswith("Fees & dues", sections[-1].start_char)


def test_headings_of_markdown_are_its_outline_but_not_those_in_code() -> None:
    text = "# Top #\nwords\n```sh\n# a comment\n```\nSecond\n------\n#hash\n### Third\n"
    assert outline_markdown(text) == (
        OutlineEntry(1, "Top"),
        OutlineEntry(2, "Second"),
        OutlineEntry(3, "Third"),
    )
    document = read(text.encode(), ".md")
    assert [s.title for s in find_sections(document.text, document.outline)] == [
        "Top",
        "Second",
        "Third",
    ]


def test_underlined_headings_have_the_levels_in_which_their_marks_come() -> None:
    text = (
        f"Rules\n=====\n{BODY}\nKeepers\n~~~~~~~\n{BODY}\nFees\n====\nsee below\nx\n\nName\n---\n"
    )
    assert titles(text) == [(1, "Rules"), (2, "Keepers"), (1, "Fees"), (3, "Name")]
    table = "a column of a table\n---\nOne\n===\nTwo\n===\n"
    assert titles(table) == [(1, "One"), (1, "Two")]


def test_words_with_numbers_and_numbers_that_follow_each_other_are_headings() -> None:
    parts = [
        "CHAPTER I. General", "1. Scope", "1.1 Keepers", "1.2 Stores", "Section 9 of this Act is",
        "2. Fees", "7 Apples were there", "Chapter II", "1. Law", "2 Places, and\nmore", "2 Courts",
    ]  # fmt: skip
    text = "\n".join(f"{part}\n{BODY}" for part in parts)
    found = [title for _, title in titles(text)]
    assert found == [
        "CHAPTER I. General", "1. Scope", "1.1 Keepers", "1.2 Stores", "2. Fees", "Chapter II",
        "1. Law", "2 Courts",
    ]  # fmt: skip
    levels = [level for level, _ in titles(text)]
    assert levels[:5] == [2, 5, 6, 6, 5]


def test_lists_and_tables_of_contents_are_no_headings() -> None:
    contents = "1. Scope\n2. Fees\n3. Law\n"
    text = f"{contents}\n1. Scope\n{BODY}\n2. Fees\n{BODY}\n3. Law\n{BODY}"
    sections = find_sections(text)
    assert [s.title for s in sections] == ["1. Scope", "2. Fees", "3. Law"]
    assert sections[0].start_char == len(contents) + 1
    assert titles(f"1 Scope 3\n{BODY}\n2 Fees . . . 9\n{BODY}") == []


def test_real_documents_have_their_sections() -> None:
    def of(name: str) -> list[tuple[int, str]]:
        path = SAMPLES / "long" / name
        document = read(path.read_bytes(), path.suffix)
        found = find_sections(document.text, document.outline)
        return [(section.level, section.title) for section in found]

    constitution = of("constitution-of-the-united-states.pdf")
    articles = [title for level, title in constitution if level == 3]
    assert articles[:7] == [f"Article {n}" for n in ("I", "II", "III", "IV", "V", "VI", "VII")]
    assert (4, "Section 8") in constitution
    assert (7, "2.1.1. Stream Header") in of("xz-file-format.pdf")
    assert (1, "Rationale") in of("pep-0287-restructuredtext-docstrings.txt")
    assert len(of("sqlite-appropriate-uses.html")) > 3


def test_a_longer_outline_keeps_its_highest_levels() -> None:
    outline = [OutlineEntry(1 + (n % 100 > 0), str(n), 1) for n in range(2 * MOST_ENTRIES)]
    assert highest_entries(outline) == tuple(outline[::100])
    flat = [OutlineEntry(1, str(n), 1) for n in range(2 * MOST_ENTRIES)]
    assert highest_entries(flat) == tuple(flat[:MOST_ENTRIES])


@given(
    st.text(alphabet="aA1. \n\f#=-", max_size=200),
    st.lists(st.builds(OutlineEntry, st.integers(1, 9), st.text("aA1 ", max_size=4),
                       st.integers(0, 5)), max_size=12),
)  # fmt: skip
def test_sections_begin_at_words_in_the_order_of_the_text(
    text: str, outline: list[OutlineEntry]
) -> None:
    sections = find_sections(text, outline)
    assert len(sections) != 1
    starts = [section.start_char for section in sections]
    assert starts == sorted(set(starts))
    assert all(isinstance(s, Section) and not text[s.start_char].isspace() for s in sections)


@pytest.mark.parametrize(
    "text",
    ["# " + "#" * 500_000, "1 A " * 200_000, "A\n===" * 150_000, "```\n" * 150_001, "1." * 400_000],
    ids=["marks", "numbers", "lines", "fences", "points"],
)
def test_finding_sections_takes_no_longer_than_the_text_is_long(text: str) -> None:
    began_s = time.process_time()
    find_sections(text, outline_markdown(text))
    assert time.process_time() - began_s < 10
