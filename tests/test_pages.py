"""What the parsers make of files: PDF, text in any encoding, HTML and e-mail."""

import logging

import pytest

from pipeline.contents import (
    NO_TEXT,
    Contents,
    FileBytes,
    RawPage,
    decode_document,
    encode_document,
    make_document,
)
from pipeline.encodings import decode_text
from pipeline.errors import DocumentError
from pipeline.markup import read_email, read_html
from pipeline.pages import read_contents
from pipeline.records import Document
from tests.pdfs import assemble, encrypt, make_form_pdf, make_pdf

CATALOGUE = b"<< /Type /Catalog /Pages 2 0 R >>"
GERMAN = "Der M\xfcller \xfcberweist f\xfcr die Stra\xdfe; sch\xf6ne Gr\xfc\xdfe! " * 5
POLISH = "Za\u017c\xf3\u0142\u0107 g\u0119\u015bl\u0105 ja\u017a\u0144. Ksi\u0105\u017cka. " * 3
RUSSIAN = (
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u044d\u0442\u043e "
    "\u0434\u043e\u0433\u043e\u0432\u043e\u0440 \u043f\u043e\u0441\u0442\u0430\u0432\u043a\u0438. "
) * 3
JAPANESE = "\u8acb\u6c42\u66f8\u3067\u3059\u3002\u4e00\u4e07\u5186\u3067\u3059\u3002" * 4


def document_of(data: bytes, suffix: str) -> Document:
    return make_document(FileBytes("00" * 32, len(data), "?"), read_contents(data, suffix))


def texts(contents: Contents) -> list[str]:
    return [page.text.strip() for page in contents.pages]


def test_a_pdf_gives_its_pages() -> None:
    document = document_of(make_pdf("First page.", "An exam-\nple (second)."), ".pdf")
    assert [page.text for page in document.pages] == ["First page.", "An example (second)."]
    assert document.text == "First page.\fAn example (second)."
    second = document.pages[1]
    assert document.text[second.start_char :] == second.text
    span = second.alignment.to_raw(3, 10)
    assert second.raw[slice(*span)] == "exam-\nple"
    assert (document.status, document.media_type) == ("read", "application/pdf")
    assert len(document.text_sha256) == 64


def test_what_is_filled_into_a_form_is_read() -> None:
    assert document_of(make_form_pdf(), ".pdf").text == "total: 19.90\nname: Ada"


def test_a_file_of_white_space_is_not_called_a_scan() -> None:
    document = document_of(b" \n\n ", ".txt")
    assert document.failure_kind == "no_text"
    assert "OCR" not in document.failure


def test_pages_without_text_are_noted() -> None:
    document = document_of(make_pdf("words", "", ""), ".pdf")
    assert [page.note for page in document.pages] == ["", NO_TEXT, NO_TEXT]
    assert document.notes == (f"pages 2, 3 of 3: {NO_TEXT}",)
    assert document.status == "read"


def test_a_document_without_any_text_is_a_failure_that_keeps_its_pages() -> None:
    document = document_of(make_pdf("", ""), ".pdf")
    assert (document.status, document.failure_kind) == ("failed", "no_text")
    assert "what reads scans (OCR) is not installed; install it" in document.failure
    assert len(document.pages) == 2


def test_an_empty_password_is_no_obstacle_and_is_noted() -> None:
    document = document_of(encrypt(make_pdf("secret"), ""), ".pdf")
    assert document.text == "secret"
    assert "empty password" in document.notes[0]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encrypt(make_pdf("secret"), "letmein"), "password"),
        (b"%PDF-1.7\nnothing that is a PDF", "damaged"),
        (make_pdf("words")[:150], "damaged"),
        (assemble([CATALOGUE, b"<< /Type /Pages /Kids [] >>"]), "damaged"),
        (assemble([CATALOGUE, b"<< /Type /Pages /Kids [2 0 R] >>"]), "damaged"),
        (b"PK\x03\x04 a Word file" + bytes(100), "damaged"),
        (bytes(range(256)) * 10, "damaged"),
    ],
    ids=["password", "garbage", "truncated", "no pages", "endless tree", "a zip", "binary"],
)
def test_a_pdf_that_cannot_be_read(data: bytes, kind: str) -> None:
    with pytest.raises(DocumentError) as failure:
        read_contents(data, ".pdf")
    assert failure.value.kind == kind
    assert "secret" not in str(failure.value)


def test_a_damaged_page_does_not_take_the_others_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = make_pdf("one", "two", "three")
    # The second page's contents become a number, which no page can show.
    data = good.replace(b"/Contents 5 0 R", b"/Contents 3 0 R")
    broken = document_of(data, ".pdf")
    assert [page.text for page in broken.pages] == ["one", "", "three"]
    assert "page 2 of 3" in broken.notes[0]


def test_parser_warnings_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        document_of(make_pdf("one", "two").replace(b"/Contents 5 0 R", b"/Contents 3 0 R"), ".pdf")
    assert not caplog.records


def test_a_font_that_does_not_say_its_letters_is_noted() -> None:
    document = make_document(
        FileBytes("00", 1, "?"),
        Contents("application/pdf", (raw_page("\ue001\ue002 \ue003"),)),
    )
    assert "can't be read" in document.pages[0].note


def raw_page(text: str) -> RawPage:
    return RawPage(text, "pypdf")


@pytest.mark.parametrize(
    ("data", "suffix", "text", "note"),
    [
        (make_pdf("words"), ".txt", "words", "the file is a PDF"),
        (make_pdf("words"), ".html", "words", "the file is a PDF"),
        (b"just text", ".pdf", "just text", "the file is text"),
        (b"<!DOCTYPE html><p>page</p>", ".pdf", "page", "the file is HTML"),
    ],
)
def test_a_wrong_suffix_is_seen_through(data: bytes, suffix: str, text: str, note: str) -> None:
    contents = read_contents(data, suffix)
    assert texts(contents) == [text]
    assert note in contents.notes[0]


def test_a_text_about_pdf_is_text() -> None:
    assert read_contents(b"A file begins with %PDF-1.7", ".txt").media_type == "text/plain"


@pytest.mark.parametrize(
    ("text", "encoding", "noted"),
    [
        ("caf\xe9 \u20ac", "utf-8", False),
        ("caf\xe9 \u20ac", "utf-8-sig", False),
        ("caf\xe9 \u20ac", "utf-16", False),
        ("caf\xe9 \u20ac", "utf-32", False),
        ("a plain text in wide letters", "utf-16-le", True),
        ("a plain text in wide letters", "utf-16-be", True),
        (GERMAN, "latin-1", True),
        (GERMAN + "\u201cquoted\u201d \u20ac", "cp1252", True),
        ("x" * 100_000 + "\n" + GERMAN, "cp1252", True),
        (POLISH, "cp1250", True),
        (RUSSIAN, "cp1251", True),
        (RUSSIAN, "koi8_r", True),
        (JAPANESE, "shift_jis", True),
        (JAPANESE, "iso2022_jp", True),
        ("", "utf-8", False),
    ],
)
def test_encodings(text: str, encoding: str, *, noted: bool) -> None:
    decoded, note = decode_text(text.encode(encoding))
    assert decoded == text
    assert bool(note) is noted


def test_a_few_bad_bytes_do_not_make_utf8_something_else() -> None:
    text, note = decode_text(
        "na\xefve caf\xe9 \u20ac100 \u2014 d\xe9j\xe0 vu\n".encode() * 3 + b"\xff."
    )
    assert text.endswith("vu\n\ufffd.")
    assert "1 piece" in note


@pytest.mark.parametrize(
    "data", [b"PK\x03\x04word/document.xml", b"\x89PNG\r\n", bytes(500), b"\x01\x02\x03\x04ab" * 99]
)
def test_what_is_not_text_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError) as failure:
        decode_text(data)
    assert failure.value.kind == "binary"


def test_what_cannot_stand_in_a_table_is_replaced() -> None:
    assert decode_text(b"a\0b" + b"c" * 100)[0].startswith("a\ufffdbc")


def test_html_keeps_its_blocks() -> None:
    page = b"""<!doctype html><html><head><title>A  title</title><style>p {}</style></head><body>
      <!-- no --><h1>Head</h1><p>One <b>bold</b>, two<?php no ?> three<br>four</p>
      <ul><li>first<li>second</ul><script>no()</script>
      <table><tr><td>a<td>b<tr><td>c&nbsp;d</table><pre>  as
   is</pre>end</body></html>"""
    contents = read_html(page)
    assert contents.title == "A title"
    assert contents.pages[0].text == (
        "A title\n\nHead\n\nOne bold, two three\nfour\n\n- first\n- second\n\n"
        "a  b\nc\xa0d\n\n  as\n   is\n\nend"
    )


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ('<meta charset="windows-1251"><p>\u0434\u0430'.encode("cp1251"), "\u0434\u0430"),
        ("<p>caf\xe9".encode(), "caf\xe9"),
        ("<p>caf\xe9".encode("utf-16"), "caf\xe9"),
        ('<meta charset="nonsense"><p>caf\xe9'.encode(), "caf\xe9"),
        (b"", ""),
        (b"<!-- only -->", ""),
        (b"<p>a\0b&#0;c", "a\ufffdb\ufffdc"),
        (b"<div>" * 1000 + b"deep", "deep"),
    ],
)
def test_html_encodings_and_odd_pages(data: bytes, text: str) -> None:
    assert texts(read_html(data)) == [text]


def test_html_that_the_parser_would_cut_is_refused() -> None:
    with pytest.raises(DocumentError, match=r"nested deeper"):
        read_html(b"<div>" * 50_000 + b"deep")


MAIL = b"""From: =?utf-8?q?J=C3=B6rg?= <j@example.org>
To: anna@example.org
Date: Mon, 02 Mar 2026 10:00:00 +0100
Subject: The =?utf-8?q?caf=C3=A9?=
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=M

--M
Content-Type: multipart/alternative; boundary=A

--A
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

Meet at the caf=E9.
--A
Content-Type: text/html

<p>Not this one</p>
--A--
--M
Content-Type: application/pdf; name="bill.pdf"
Content-Disposition: attachment; filename="bill.pdf"
Content-Transfer-Encoding: base64

JVBERg==
--M
Content-Type: text/plain

A footer.
--M--
"""


def test_an_email_gives_headers_text_and_names_of_attachments() -> None:
    contents = read_email(MAIL)
    assert contents.title == "The caf\xe9"
    assert contents.pages[0].text == (
        "From: J\xf6rg <j@example.org>\nTo: anna@example.org\n"
        "Date: Mon, 02 Mar 2026 10:00:00 +0100\nSubject: The caf\xe9\n\n"
        "Meet at the caf\xe9.\n\nA footer."
    )
    assert contents.notes == ("1 attachment not read: bill.pdf",)


@pytest.mark.parametrize(
    ("mail", "text"),
    [
        (b"Subject: x\nContent-Type: text/html\n\n<p>one<p>two", "Subject: x\n\none\n\ntwo"),
        (b"Content-Type: text/plain; charset=bogus\n\ncaf\xc3\xa9", "caf\xe9"),
        (b"no headers at all", "no headers at all"),
        (b"Date: \xff\xfe not a date\n\nbody", "body"),
    ],
)
def test_odd_emails(mail: bytes, text: str) -> None:
    assert read_email(mail).pages[0].text.endswith(text)


def test_a_document_survives_the_way_between_processes() -> None:
    document = document_of(make_pdf("An exam-\nple.", ""), ".pdf")
    assert decode_document(encode_document(document)) == document


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[1, 2]", b'[{"sha256": 1}, []]', b"\xff", b"[" * 100_000, b'["a", []]']
)
def test_an_answer_that_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError) as failure:
        decode_document(data)
    assert failure.value.kind == "crashed"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"status":"read"', '"status":"evil"'),
        ('"title":""', '"title":[5]'),
        ('"title":""', '"title":"","other":1'),
        ('"notes":[]', '"notes":[{}]'),
        ('"size_bytes":', '"size_bytes":1e99,"x":'),
        ('"size_bytes":', '"size_bytes":18446744073709551616'),
        ('"media_type":"application/pdf"', '"media_type":"text/evil"'),
        ('"sha256":"', '"sha256":"../'),
        ('"pypdf"', '"magic"'),
        ("[0,", "[-1,"),
        ("[0,", "[9999,"),
        ("[0,", "[true,"),
        ('["An', '[7,"An'),
    ],
)
def test_an_answer_of_a_parser_that_was_taken_over_is_refused(old: str, new: str) -> None:
    text = encode_document(document_of(make_pdf("An example."), ".pdf")).decode()
    assert old in text
    with pytest.raises(DocumentError) as failure:
        decode_document(text.replace(old, new, 1).encode())
    assert failure.value.kind == "crashed"
