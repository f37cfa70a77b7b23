"""Documents made to do harm: each ends as a row, in time, and nothing that is in one is run."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.reader import Reader
from pipeline.records import Document, FoundFile
from tests import hostile

TIMEOUT_S = 5.0
MEMORY_BYTES = 400 << 20


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader(timeout_s=TIMEOUT_S, memory_bytes=MEMORY_BYTES) as reader:
        yield reader


def read(reader: Reader, folder: Path, name: str, data: bytes) -> Document:
    path = folder / name
    path.write_bytes(data)
    return reader.read(FoundFile(folder, path, name, 0, 0))


@pytest.mark.parametrize(
    ("data", "kinds"),
    [
        (hostile.looping_pages(), {"", "damaged"}),
        (hostile.looping_contents(), {"", "damaged", "no_text"}),
        (hostile.looping_reference(), {"damaged"}),
        (hostile.looping_form(), {"", "damaged"}),
        (hostile.deep_arrays(), {"", "damaged"}),
        (hostile.deep_page_tree(), {"damaged", "no_text"}),
        (hostile.deep_filters(), {"", "damaged", "no_text"}),
        (hostile.bomb(), {"damaged", "memory", "no_text"}),
        (hostile.huge_image(), {""}),
        (hostile.many_pages(), {"", "damaged"}),
        (hostile.wild_numbers(), {"", "damaged", "no_text"}),
        (hostile.many_operators(), {"", "timeout"}),
    ],
    ids=[
        *("looping pages", "looping contents", "looping reference", "looping form"),
        *("deep arrays", "deep page tree", "deep filters", "bomb"),
        *("huge image", "many pages", "wild numbers", "many operators"),
    ],
)
def test_a_hostile_pdf_is_a_row(
    reader: Reader, tmp_path: Path, data: bytes, kinds: set[str]
) -> None:
    document = read(reader, tmp_path, "a.pdf", data)
    assert document.failure_kind in kinds
    assert document.status == ("failed" if document.failure_kind else "read")
    if document.status == "read":
        assert "visible" in document.text
    server = reader._server
    assert server is not None
    assert server.is_running()
    # None goes on in secret; one that has just answered may take a moment to end.
    _, left = psutil.wait_procs(psutil.Process(server._process.pid).children(), timeout=60)
    assert not left


@pytest.mark.parametrize(
    ("name", "data", "kinds"),
    [
        ("deep.html", hostile.deep_html(), {"", "damaged"}),
        ("deep.eml", hostile.deep_email(), {"", "damaged", "no_text"}),
        ("files.eml", hostile.email_with_files(), {""}),
        ("line.txt", hostile.one_line(), {""}),
    ],
)
def test_a_hostile_text_is_a_row(
    reader: Reader, tmp_path: Path, name: str, data: bytes, kinds: set[str]
) -> None:
    document = read(reader, tmp_path, name, data)
    assert document.failure_kind in kinds
    assert not Path("/tmp/docflash-attack").exists()


def test_what_is_programmed_in_a_pdf_is_not_run(reader: Reader, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    document = read(reader, tmp_path, "a.pdf", hostile.programs(str(marker)))
    assert (document.status, document.text) == ("read", "visible")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pdf"]


def test_a_document_cant_bring_in_another_file(reader: Reader, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("41 secret 42")
    pdf = read(reader, tmp_path, "a.pdf", hostile.outside_stream(str(secret)))
    html = read(reader, tmp_path, "a.html", hostile.entities(str(secret)))
    assert pdf.failure_kind == "no_text"
    assert "visible" in html.text
    for document in (pdf, html):
        assert "secret" not in document.text
        assert len(document.text) < 100_000
