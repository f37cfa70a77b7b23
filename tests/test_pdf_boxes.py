"""Boxes of quotes: what pdfium reads inside them is the quote, on pages of many kinds."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pages import read_pdf
from pipeline.pdf_boxes import find_boxes
from pipeline.quote_places import (
    Box,
    Boxes,
    Query,
    compact,
    decode_boxes,
    encode_boxes,
    find_once,
    make_query,
)
from pipeline.reader import Reader
from pipeline.records import FoundFile
from tests.pdfs import assemble, encrypt, make_pdf, make_pdf_of, make_slow_pdf, stream

SAMPLES = Path(__file__).parents[1] / "sample_docs"
TEXT = b"BT /F1 12 Tf %b Tm (%b) Tj ET "
PAGE = (
    b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] %b /Contents 4 0 R "
    b"/Resources << /Font << /F1 3 0 R >> >> >>"
)
FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding %b >>"


def make_page(content: bytes, extra: bytes = b"", encoding: bytes = b"/WinAnsiEncoding") -> bytes:
    kids = b"<< /Type /Pages /Count 1 /Kids [5 0 R] >>"
    catalogue = b"<< /Type /Catalog /Pages 2 0 R >>"
    return assemble([catalogue, kids, FONT % encoding, stream(content), PAGE % extra])


def show(*lines: tuple[str, str]) -> bytes:
    """Lines with their text matrices."""
    return b"".join(TEXT % (matrix.encode(), text.encode("latin-1")) for matrix, text in lines)


def quote(text: str, words: str, page: int = 1) -> Query:
    start = text.index(words)
    return make_query(page, text, start, start + len(words))


def read_inside(pdf: bytes, boxes: Boxes) -> list[str]:
    """What pdfium reads in each box."""
    with pypdfium2.PdfDocument(pdf) as document:
        return [
            document[box.page - 1].get_textpage().get_text_bounded(box.x0, box.y0, box.x1, box.y1)
            for box in boxes or ()
        ]


COLUMNS = show(
    ("1 0 0 1 72 700", "The left column says"),
    ("1 0 0 1 72 686", "that rent is due on"),
    ("1 0 0 1 72 672", "the first of May."),
    ("1 0 0 1 330 700", "The right column says"),
    ("1 0 0 1 330 686", "that rent is due on"),
    ("1 0 0 1 330 672", "the last of June."),
)
LEFT = "The left column says\nthat rent is due on\nthe first of May."
RIGHT = "The right column says\nthat rent is due on\nthe last of June."


@pytest.mark.parametrize(
    ("pdf", "text", "words", "inside"),
    [
        (make_pdf("A line of text."), "A line of text.", "line of", ["line of"]),
        (
            make_page(COLUMNS),
            f"{LEFT}\n{RIGHT}",
            "due on\nthe last of June.",
            ["due on", "the last of June."],
        ),
        (
            make_page(show(("1 0 0 1 100 700", "Turned as a page")), b"/Rotate 90"),
            "Turned as a page",
            "as a page",
            ["as a page"],
        ),
        (
            make_page(show(("0 1 -1 0 200 100", "Text that"), ("0 1 -1 0 214 100", "goes up"))),
            "Text that\ngoes up",
            "that\ngoes up",
            ["that", "goes up"],
        ),
        (
            make_page(show(("-1 0 0 -1 300 100", "Upside down"))),
            "Upside down",
            "Upside",
            ["Upside"],
        ),
        (
            make_page(
                show(("1 0 0 1 72 700", "An o\x01ce to \x01nd")),
                encoding=b"<< /BaseEncoding /WinAnsiEncoding /Differences [1 /fi] >>",
            ),
            "An oﬁce to find",
            "to find",
            ["to ﬁnd"],
        ),
        (
            make_pdf("One exam-\nple of it and one self-\nmade."),
            "One example of it and one self-made.",
            "example of it and one self-made",
            ["exam-", "ple of it and one self-", "made"],
        ),
        (make_pdf("Paid: -5.00 today"), "Paid: -5.00 today", "-5.00", ["-5.00"]),
        (
            make_page(show(("1 0 0 1 72 700", "caf\xe9 and \xbd")), b"/MediaBox [50 60 612 792]"),
            "cafe\u0301 and \xbd",
            "cafe\u0301 and \xbd",
            ["caf\xe9 and \xbd"],
        ),
    ],
    ids=["line", "columns", "page", "up", "down", "ligature", "hyphen", "minus", "accent"],
)
def test_the_words_in_the_boxes_are_the_quote(
    pdf: bytes, text: str, words: str, inside: list[str]
) -> None:
    (boxes,) = find_boxes(pdf, [quote(text, words)])
    found = read_inside(pdf, boxes)
    assert [compact(piece) for piece in found] == [compact(piece) for piece in inside]
    assert compact("".join(found)) == compact(words)


def test_boxes_are_in_points_from_the_lower_left_corner() -> None:
    (boxes,) = find_boxes(make_pdf("H"), [quote("H", "H")])  # 12 points, at 72, 720
    assert boxes is not None
    (box,) = boxes
    assert box.page == 1
    assert 72 < box.x0 < 74
    assert 79 < box.x1 < 72 + 0.722 * 12
    assert box.y0 == pytest.approx(720, abs=0.1)
    assert box.y1 == pytest.approx(720 + 0.72 * 12, abs=0.3)


def test_what_stands_around_tells_the_same_words_apart() -> None:
    text = "Net total: 500.00\nTax: 500.00\nGross total: 500.00"
    pdf = make_pdf(text)
    queries = [make_query(1, text, m.start(), m.end()) for m in re.finditer("500.00", text)]
    tops = [boxes[0].y0 for boxes in find_boxes(pdf, queries) if boxes]
    assert len(tops) == 3
    assert tops == sorted(set(tops), reverse=True)


@pytest.mark.parametrize(
    "query",
    [
        quote("a word, no more", "word"),  # the page has another text
        Query(1, "twice", (("", ""),)),
        Query(9, "once", (("", ""),)),
        make_query(1, "a - b", 2, 3),
    ],
)
def test_what_is_not_sure_has_no_boxes(query: Query) -> None:
    assert find_boxes(make_pdf("twice twice once"), [query]) == [None]


def test_a_box_that_would_hold_other_words_is_none() -> None:
    # Drawn word by word: the quote is the first and the last of three on a line.
    page = make_page(
        show(("1 0 0 1 72 700", "first"), ("1 0 0 1 200 700", "last"), ("1 0 0 1 110 700", "other"))
    )
    assert find_boxes(page, [Query(1, "firstlast", (("", ""),))]) == [None]


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader(timeout_s=20.0, reads_scans=False) as opened:
        yield opened


def read_words(reader: Reader, path: Path) -> tuple[str, list[Query]]:
    """A document's hash, and phrases of one to eight words from all over its first pages."""
    document = reader.read(FoundFile(path.parent, path, path.name, 0, 0))
    queries: list[Query] = []
    for page in document.pages[:3]:
        words = [match.span() for match in re.finditer(r"\S+", page.text)]
        for place in range(0, len(words), max(1, len(words) // 12)):
            last = min(place + place % 8, len(words) - 1)
            queries.append(make_query(page.number, page.text, words[place][0], words[last][1]))
    return document.sha256, queries


@pytest.mark.parametrize(
    "name",
    [
        "documents/invoices/lakeside-electric-10482.pdf",
        "documents/contracts/consulting-agreement-bluefern.pdf",
        "documents/long/libtommath-manual-pages-1-30.pdf",
        "documents/odd/encrypted-empty-password.pdf",
        *(f"gold/documents/{name}-1.pdf" for name in ("invoices/grid", "letters/din")),
        *(f"gold/documents/minutes/{name}-1.pdf" for name in ("bulletin", "table")),
    ],
)
def test_phrases_of_the_samples_are_found_where_they_stand(reader: Reader, name: str) -> None:
    sha256, queries = read_words(reader, SAMPLES / name)
    found = reader.find_boxes(SAMPLES / name, sha256, queries)
    assert len(queries) >= 12
    assert sum(boxes is not None for boxes in found) >= 0.95 * len(queries)
    for query, boxes in zip(queries, found, strict=True):
        if boxes:
            inside = "".join(read_inside((SAMPLES / name).read_bytes(), boxes))
            assert compact(inside) == compact(query.words)


def test_a_page_of_a_document_that_can_not_be_measured_costs_its_boxes_alone(
    reader: Reader, tmp_path: Path
) -> None:
    path = tmp_path / "a.pdf"
    query = quote("one word", "word")

    def find(data: bytes, queries: Sequence[Query] = (query,)) -> list[Boxes]:
        path.write_bytes(data)
        return reader.find_boxes(path, hashlib.sha256(data).hexdigest(), queries)

    good = make_pdf("one word")
    assert find(good)[0]
    assert find(good[:200]) == [None]
    assert find(encrypt(good, "secret")) == [None]
    assert find(b"no PDF at all") == [None]
    assert reader.find_boxes(path, "0" * 64, [query]) == [None]  # it has changed
    assert reader.find_boxes(tmp_path / "gone.pdf", "0" * 64, [query]) == [None]
    many = find(good, [query] * 5000)  # an order of many messages
    assert many == [many[0]] * 5000
    assert many[0]


def test_a_page_without_end_is_given_up(tmp_path: Path) -> None:
    data = make_slow_pdf(100)
    path = tmp_path / "slow.pdf"
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    queries = [Query(page, "a" * 30_000, (("", ""),)) for page in range(1, 101)]
    with Reader(timeout_s=60.0, reads_scans=False) as reader:
        assert reader.find_boxes(path, sha256, queries[:1]) != [None]
        reader.timeout_s = 0.2
        assert reader.find_boxes(path, sha256, queries) == [None] * 100


BOXES: list[Boxes] = [None, (Box(1, 0.5, 1.0, 2.0, 3.25), Box(1, 4.0, 0.0, 5.0, 1.0))]


def test_boxes_come_back_as_they_were_sent() -> None:
    queries = [quote("word", "word")] * 2
    assert decode_boxes(encode_boxes(BOXES), queries) == BOXES


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=2), inner),
        max_leaves=12,
    )
)
def test_what_is_no_answer_is_no_box(answer: Any) -> None:
    queries = [Query(1, "word", ()), Query(2, "word", ())]
    for data in (json.dumps(answer).encode(), json.dumps(answer).encode()[:-1]):
        decoded = decode_boxes(data, queries)
        assert len(decoded) == 2
        for query, boxes in zip(queries, decoded, strict=True):
            assert boxes is None or {box.page for box in boxes} == {query.page}


@given(st.text(st.sampled_from("ab -\n"), max_size=30), st.data())
def test_each_context_tells_the_place(text: str, data: Any) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    query = make_query(1, text, start, end)
    whole, words = compact(text), compact(query.words)
    for before, after in query.contexts:
        assert words
        assert find_once(whole, before + words + after) == len(compact(text[:start])) - len(before)


def test_the_text_of_a_page_is_that_of_pypdf() -> None:
    """The two parsers see the same page, but for what `compact` drops."""
    pdf = make_pdf_of(COLUMNS)
    text = read_pdf(pdf).pages[0].text
    (boxes,) = find_boxes(pdf, [quote(text, "first of May")])
    assert [piece.strip() for piece in read_inside(pdf, boxes)] == ["first of May"]
