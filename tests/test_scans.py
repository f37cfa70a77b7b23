"""Pages that are pictures: what OCR finds takes its place in the document, and faults are told."""

from collections.abc import Sequence

from pipeline.contents import (
    NOTHING_FOUND,
    READ_BY_OCR,
    UNREADABLE,
    Contents,
    FileBytes,
    RawPage,
    make_document,
)
from pipeline.orders import ENDED_BROKEN, ENDED_FULL, ENDED_LATE, ENDED_WELL
from pipeline.records import Document
from pipeline.scans import (
    GIVEN_UP,
    MOST_FAILURES,
    PAGES_AT_ONCE,
    REASONS,
    count_failures,
    decode_texts,
    find_scans,
    read_scans,
    scans_at_once,
)

FILE = FileBytes("ab" * 32, 9, "application/pdf")


def document_of(*texts: str, notes: tuple[str, ...] = ()) -> Document:
    pages = tuple(RawPage(text, "pypdf") for text in texts)
    return make_document(FILE, Contents("application/pdf", pages, "A title", notes))


def test_the_text_takes_its_place_and_the_map_holds() -> None:
    document = document_of("First page.", "", "Last page.", notes=("it is encrypted",))
    asked: list[Sequence[int]] = []

    def read(numbers: Sequence[int]) -> list[str] | str:
        asked.append(numbers)
        return ["An exam-\nple of a scan."]

    scanned = read_scans(document, read)
    assert asked == [[2]]
    assert scanned.text == "First page.\fAn example of a scan.\fLast page."
    second, last = scanned.pages[1:]
    assert (second.source, second.note) == ("ocr", "")
    assert second.raw[slice(*second.alignment.to_raw(3, 10))] == "exam-\nple"
    assert scanned.text[last.start_char :] == last.text
    assert scanned.notes == ("it is encrypted", f"page 2 of 3: {READ_BY_OCR}")
    assert (scanned.title, scanned.sha256) == (document.title, document.sha256)
    assert scanned.text_sha256 != document.text_sha256


def test_a_document_of_scans_is_no_failure_any_more() -> None:
    scanned = read_scans(document_of("", ""), lambda numbers: ["One.", "Two."])
    assert (scanned.status, scanned.failure_kind, scanned.text) == ("read", "", "One.\fTwo.")


def test_a_blank_page_is_told_from_a_scan() -> None:
    document = read_scans(document_of("", "words"), lambda numbers: [""])
    assert document.pages[0].note == NOTHING_FOUND
    blank = read_scans(document_of(""), lambda numbers: [""])
    assert (blank.status, blank.failure_kind) == ("failed", "no_text")
    assert "OCR found none" in blank.failure


def test_a_page_whose_fonts_say_nothing_is_read_as_a_picture() -> None:
    document = document_of("\ue001\ue002\ue003", "words")
    assert document.pages[0].note == UNREADABLE
    assert read_scans(document, lambda numbers: ["Plain"]).text == "Plain\fwords"
    assert read_scans(document, lambda numbers: [""]) == document


def test_pages_with_text_are_not_asked_for() -> None:
    document = document_of("one", "two")
    assert find_scans(document) == []
    text = make_document(FILE, Contents("text/plain", (RawPage("", "text"),)))
    assert find_scans(text) == []


def test_a_page_that_fails_takes_no_other_along() -> None:
    asked: list[int] = []

    def read(numbers: Sequence[int]) -> list[str] | str:
        asked.append(len(numbers))
        return "OCR failed on it" if 3 in numbers else [f"page {number}" for number in numbers]

    document = read_scans(document_of(*[""] * 6), read)
    assert [page.text for page in document.pages] == [
        *("page 1", "page 2", "", "page 4", "page 5", "page 6")
    ]
    assert document.pages[2].note == "no text on this page: OCR failed on it"
    assert asked == [PAGES_AT_ONCE, 1, 1, 1, 1, 2]


def test_a_document_on_which_ocr_fails_again_and_again_is_given_up() -> None:
    """Each page that fails takes the whole time of a document, and thousands would take a night."""
    asked: list[int] = []

    def read(numbers: Sequence[int]) -> list[str] | str:
        asked.append(len(numbers))
        return "OCR took longer than it may"

    document = read_scans(document_of("words", *[""] * 1000), read)
    assert asked == [PAGES_AT_ONCE, *[1] * PAGES_AT_ONCE] * (MOST_FAILURES // PAGES_AT_ONCE)
    notes = [page.note for page in document.pages[1:]]
    assert notes[:MOST_FAILURES] == [f"no text on this page: {REASONS[ENDED_LATE]}"] * MOST_FAILURES
    assert set(notes[MOST_FAILURES:]) == {f"no text on this page: {GIVEN_UP}"}
    assert (document.text.strip(), count_failures(document.pages)) == ("words", MOST_FAILURES)


def test_memory_bounds_how_many_are_read_at_once() -> None:
    assert scans_at_once(1 << 60) == 1
    assert scans_at_once(1 << 20) > 100


def test_an_answer_is_whole_or_none() -> None:
    assert decode_texts(b'["a", "b"]\n', 2, ENDED_WELL) == ["a", "b"]
    for broken in (b"", b'["a"]', b'["a", 1]', b"{}", b"7", b'["a", "b"'):
        assert decode_texts(broken, 2, ENDED_BROKEN) == "OCR failed on it"
    assert decode_texts(b"", 1, ENDED_LATE) == "OCR took longer than it may"
    assert decode_texts(b"", 1, ENDED_FULL) == "OCR took too much memory"
