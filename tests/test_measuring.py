"""Boxes of quotes from the answer to the published table: measured once, where they can be."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.evidence import Evidence, page_spans
from pipeline.measuring import measure_quotes
from pipeline.parquet import publish
from pipeline.progress import Progress
from pipeline.queries import query
from pipeline.reader import Reader
from pipeline.records import Document, FoundFile
from pipeline.store import Store
from pipeline.store.database import Database
from pipeline.store.migrations import MIGRATIONS
from tests.home import OLD_S, Home
from tests.library import (
    READER,
    make_document,
    make_result,
    make_run,
    make_task,
    open_library,
    plan,
)
from tests.pdfs import make_pdf

TASK = make_task("summary")
PAGES = ("Rent is due on 1 May.", "It is 900.00 a month.")


class Library:
    """A folder with documents, and the store that knows them."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store

    def read(self, run_id: str, *names: str) -> list[Document]:
        """Reads files as a run does."""
        self.store.runs.save(make_run(run_id, str(self.folder)))
        found = [FoundFile(self.folder, self.folder / n, n, 1, 1) for n in names]
        with Reader() as reader:
            documents = [reader.read(file) for file in found]
        self.store.documents.save(run_id, READER, list(zip(found, documents, strict=True)))
        self.store.files.finish_search(run_id, self.folder)
        return documents

    def answer(self, run_id: str, words: str, task: Any = TASK) -> None:
        """Has each document answered with the same words as a quote, if it has them."""
        for job in plan(self.store, run_id, task, root=str(self.folder)).pending:
            document = self.store.documents.load(job.document_sha256)
            assert document
            start = document.text.index(words)
            spans = page_spans(document.text, start, start + len(words))
            evidence = (
                Evidence("text", 0, "a", "derived", spans),
                Evidence("none", 0, None, "not_found"),
            )
            self.store.jobs.finish(run_id, job, make_result(job, "a", evidence=evidence))

    def measure(self, run_id: str) -> int:
        """How many documents were measured."""
        count = len(self.store.boxes.list_unmeasured(run_id))
        measure_quotes(self.store, run_id, Progress())
        assert not self.store.boxes.list_unmeasured(run_id)
        return count

    def boxes(self, run_id: str) -> list[tuple[str, Any]]:
        """Names and boxes of all evidence, as SQL gives them."""
        publish(self.store, [TASK], run_id)
        rows = query(self.store.out, "SELECT path, boxes FROM evidence").to_pylist()
        return [(Path(row["path"]).name, row["boxes"]) for row in rows]


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    folder = tmp_path / "in"
    folder.mkdir()
    with open_library(tmp_path / "out") as store:
        yield Library(folder, store)


def test_a_quote_over_two_pages_has_boxes_on_both(library: Library) -> None:
    (library.folder / "a.pdf").write_bytes(make_pdf(*PAGES))
    library.read("run1", "a.pdf")
    library.answer("run1", "on 1 May.\fIt is 900.00")
    assert library.measure("run1") == 1
    (_, first), (_, second), (_, none) = library.boxes("run1")
    assert [box["page"] for box in first + second] == [1, 2]
    assert set(first[0]) == {"page", "x0", "y0", "x1", "y1"}
    assert second[0]["x0"] < 74 < first[0]["x0"] < first[0]["x1"]
    assert none is None
    high = "SELECT count(*) FROM evidence WHERE boxes[1].y1 BETWEEN 720 AND 732"
    assert query(library.store.out, high).to_pylist() == [{"count_star()": 2}]


def test_a_document_is_measured_once_and_again_when_it_is_answered_anew(library: Library) -> None:
    for name, word in (("a.pdf", "monthly"), ("b.pdf", "yearly")):
        (library.folder / name).write_bytes(make_pdf(f"Rent is due {word}."))
    library.read("run1", "a.pdf", "b.pdf")
    library.answer("run1", "Rent is due")
    assert library.measure("run1") == 2
    before = library.boxes("run1")
    assert library.measure("run1") == 0
    library.answer("run1", "is due", make_task("summary", instructions="Otherwise."))
    assert all(boxes is None for _, boxes in library.boxes("run1"))
    assert library.measure("run1") == 2
    after = library.boxes("run1")
    assert [name for name, boxes in after if boxes] == ["a.pdf", "b.pdf"]
    assert before[0][1][0]["x1"] == after[0][1][0]["x1"]
    assert before[0][1][0]["x0"] < after[0][1][0]["x0"]


def test_a_document_that_is_read_again_is_measured_again(library: Library) -> None:
    (library.folder / "a.pdf").write_bytes(make_pdf(*PAGES))
    library.read("run1", "a.pdf")
    library.answer("run1", "Rent is due")
    library.measure("run1")
    before = library.boxes("run1")
    library.read("run2", "a.pdf")
    assert library.measure("run2") == 1
    assert library.boxes("run2") == before
    with library.store.snapshot() as session:
        assert session.count("SELECT count(*) FROM quote_boxes") == 1


def test_pages_read_by_ocr_and_other_kinds_of_files_are_not_measured(library: Library) -> None:
    (library.folder / "a.txt").write_text(PAGES[0])
    data = make_pdf(*PAGES)
    (library.folder / "a.pdf").write_bytes(data)
    library.read("run1", "a.txt")
    scan = make_document(
        PAGES[0], sha256=hashlib.sha256(data).hexdigest(), media_type="application/pdf"
    )
    scanned = FoundFile(library.folder, library.folder / "a.pdf", "a.pdf", 1, 1)
    library.store.documents.save("run1", READER, [(scanned, scan)])  # its page is no pypdf's
    library.answer("run1", "Rent is due")
    assert library.measure("run1") == 1
    assert [boxes for _, boxes in library.boxes("run1")] == [None] * 4


def test_a_file_that_is_gone_or_another_has_no_boxes_and_fails_nothing(library: Library) -> None:
    for name in ("a.pdf", "b.pdf"):
        (library.folder / name).write_bytes(make_pdf(f"Rent is due, says {name}."))
    library.read("run1", "a.pdf", "b.pdf")
    library.answer("run1", "Rent is due")
    (library.folder / "a.pdf").unlink()
    (library.folder / "b.pdf").write_bytes(make_pdf("Rent is due, says somebody else."))
    library.measure("run1")
    assert [boxes for _, boxes in library.boxes("run1")] == [None] * 4


def test_a_run_that_is_to_stop_measures_no_more(library: Library) -> None:
    (library.folder / "a.pdf").write_bytes(make_pdf(*PAGES))
    library.read("run1", "a.pdf")
    library.answer("run1", "Rent is due")
    progress = Progress()
    progress.stop("told to")
    measure_quotes(library.store, "run1", progress)
    assert library.measure("run1") == 1


def test_purging_a_document_takes_its_boxes_along(library: Library) -> None:
    (library.folder / "a.pdf").write_bytes(make_pdf(*PAGES))
    library.read("run1", "a.pdf")
    library.answer("run1", "Rent is due")
    library.measure("run1")
    library.store.removal.forget(library.store.removal.find(str(library.folder)))
    with library.store.snapshot() as session:
        for table in ("measured", "quote_boxes"):
            assert session.count(f"SELECT count(*) FROM {table}") == 0  # noqa: S608


def test_a_store_without_boxes_gets_their_tables_and_keeps_its_quotes(tmp_path: Path) -> None:
    database = Database(tmp_path, MIGRATIONS[:4])
    with database.transaction() as session:
        session.run("INSERT INTO quoted_jobs VALUES ('key', 7)")
    database.close()
    database = Database(tmp_path)
    with database.transaction() as session:
        assert session.rows("FROM quoted_jobs") == [("key", 7)]
        for table in ("measured", "quote_boxes"):
            assert session.count(f"SELECT count(*) FROM {table}") == 0  # noqa: S608
    database.close()


QUOTING = """
title = "Some word"
instructions = "Copy a word of the document above."
form = "one_call"

[fields.word]
type = "string"
required = true
"""


@pytest.mark.flow
def test_a_run_publishes_boxes_and_the_next_one_keeps_them(home: Home) -> None:
    path = home.documents / "a.pdf"
    path.write_bytes(make_pdf("Copyright"))  # no letter twice: whatever is quoted stands once
    os.utime(path, (OLD_S, OLD_S))
    home.write_task("quoting", QUOTING)
    asked = ("--prompts", home.prompts, "--task", "quoting")
    for _ in range(2):
        assert home.run(*asked).code == 0
        (row,) = home.rows("SELECT quote, boxes FROM evidence")
        assert row["quote"] in "Copyright"
        (box,) = row["boxes"]
        assert box["page"] == 1
        assert 72 <= box["x0"] < box["x1"]
