"""Damaged documents: each is read or fails as a row. Many more of them: benchmarks/fuzz.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.reader import Reader
from pipeline.records import FoundFile, Page
from tests import hostile
from tests.mutate import Seed, mutate
from tests.pdfs import encrypt, make_form_pdf, make_pdf

SEEDS = [
    Seed("pages", ".pdf", make_pdf("one word\nand more", "page two")),
    Seed("form", ".pdf", make_form_pdf()),
    Seed("encrypted", ".pdf", encrypt(make_pdf("one word"), "")),
    Seed("loop", ".pdf", hostile.looping_contents()),
    Seed("html", ".html", hostile.entities("/etc/passwd")),
    Seed("mail", ".eml", hostile.email_with_files()),
    Seed("text", ".txt", b"one word\r\n\xe2\x82\xac and more \xff" * 4000),
]
KINDS = {
    *("empty", "too_large", "binary", "encoding", "password", "encrypted", "damaged", "no_text"),
    *("timeout", "memory", "crashed", "killed"),
}


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader(timeout_s=10.0, memory_bytes=512 << 20, reads_scans=False) as reader:
        yield reader


@pytest.mark.parametrize("part", range(7))
def test_a_damaged_document_is_a_row(reader: Reader, tmp_path: Path, part: int) -> None:
    for number in range(part, 280, 7):
        mutant = mutate(SEEDS, number)
        path = tmp_path / f"{number}{mutant.suffix}"
        path.write_bytes(mutant.data)
        document = reader.read(FoundFile(tmp_path, path, path.name, 0, 0))
        if document.status == "failed":
            assert document.failure_kind in KINDS, mutant.name
        else:
            assert document.text, mutant.name
            assert all(page.text == document.text[slice_of(page)] for page in document.pages)


def slice_of(page: Page) -> slice:
    start = page.start_char
    return slice(start, start + len(page.text))


def test_a_mutant_is_the_same_for_the_same_number() -> None:
    assert [mutate(SEEDS, n).data for n in range(50)] == [mutate(SEEDS, n).data for n in range(50)]
    assert sum(mutate(SEEDS, n).data == SEEDS[n % 7].data for n in range(100)) < 20
