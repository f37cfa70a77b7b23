"""Scans are read by the real OCR, in a process that is locked in; skipped where it is missing."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from pypdf import PdfReader, PdfWriter

from pipeline import ocr
from pipeline.contents import READ_BY_OCR
from pipeline.reader import READER_VERSION, Reader
from pipeline.records import Document, FoundFile
from tests.pdfs import make_pdf

SCAN = Path(__file__).parents[1] / "sample_docs/documents/odd/scanned-delivery-note.pdf"
LINES = (
    "Delivery note no. 60218",
    "40 white oak boards, 5/4 x 8 in x 10 ft",
    "2 boards split, to be credited.",
)

needs_ocr = pytest.mark.skipif(
    not ocr.ocr_version(), reason=f"the extra `ocr` is not installed: {ocr.INSTALL}"
)


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader(timeout_s=300.0) as reader:
        yield reader


def read(reader: Reader, path: Path) -> Document:
    return reader.read(FoundFile(path.parent, path, path.name, 0, 0))


@needs_ocr
def test_a_scan_is_read_and_marked(reader: Reader) -> None:
    document = read(reader, SCAN)
    assert document.status == "read"
    assert [page.source for page in document.pages] == ["ocr"]
    assert set(LINES) <= set(document.text.split("\n"))
    assert document.notes == (f"page 1 of 1: {READ_BY_OCR}",)
    page = document.pages[0]
    start = page.text.index("60218")
    assert page.raw[slice(*page.alignment.to_raw(start, start + 5))] == "60218"
    assert "rapidocr" in READER_VERSION


@needs_ocr
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_scan_that_lies_on_its_side_is_turned(
    reader: Reader, tmp_path: Path, degrees: int
) -> None:
    writer = PdfWriter()
    page = writer.add_page(PdfReader(SCAN).pages[0])
    page.rotate(degrees)
    out = io.BytesIO()
    writer.write(out)
    path = tmp_path / "turned.pdf"
    path.write_bytes(out.getvalue())
    assert set(LINES) <= set(read(reader, path).text.split("\n"))


@needs_ocr
def test_scans_and_pages_with_text_stay_in_order(reader: Reader, tmp_path: Path) -> None:
    writer = PdfWriter()
    for source in (io.BytesIO(make_pdf("A first page.")), SCAN, io.BytesIO(make_pdf("The end."))):
        writer.append(source)
    path = tmp_path / "mixed.pdf"
    writer.write(path)
    document = read(reader, path)
    assert [page.source for page in document.pages] == ["pypdf", "ocr", "pypdf"]
    assert document.text.startswith("A first page.\fOSTRANDER")
    assert document.text.endswith("\fThe end.")


@needs_ocr
def test_the_server_that_is_forked_has_no_second_thread(reader: Reader) -> None:
    read(reader, SCAN)
    assert reader._server is not None
    assert psutil.Process(reader._server._process.pid).num_threads() == 1


@needs_ocr
def test_many_threads_share_what_memory_allows(tmp_path: Path) -> None:
    # A limit above what there is lets one scan be read at a time; the others wait for it.
    memory_bytes = psutil.virtual_memory().total
    with Reader(300.0, memory_bytes) as reader, ThreadPoolExecutor(3) as pool:
        documents = list(pool.map(lambda _: read(reader, SCAN), range(3)))
    assert len({document.text_sha256 for document in documents}) == 1
    assert documents[0].status == "read"


@needs_ocr
def test_limits_hold_for_a_scan(tmp_path: Path) -> None:
    with Reader(timeout_s=300.0, memory_bytes=200 << 20) as reader:
        document = read(reader, SCAN)
    assert (document.status, document.failure_kind) == ("failed", "no_text")
    assert document.pages[0].note.startswith("no text on this page: OCR ")


def test_without_ocr_it_is_said_how_to_get_it() -> None:
    with Reader(timeout_s=300.0, reads_scans=False) as reader:
        document = read(reader, SCAN)
    assert (document.status, document.failure_kind) == ("failed", "no_text")
    assert ocr.INSTALL in document.failure
    assert ocr.INSTALL in document.pages[0].note


def test_what_is_not_installed_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise ocr.PackageNotFoundError(name)

    monkeypatch.setattr(ocr, "version", version)
    ocr.ocr_version.cache_clear()
    try:
        assert ocr.ocr_version() == ""
        assert not Reader().reads_scans
    finally:
        ocr.ocr_version.cache_clear()
