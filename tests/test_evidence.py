"""Evidence: spans of pages, kept with an answer and published with raw offsets that fit."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evidence import Evidence, page_spans
from pipeline.parquet import publish
from pipeline.records import Document
from pipeline.store import Store
from tests.library import (
    READER,
    make_document,
    make_file,
    make_result,
    make_task,
    open_library,
    plan,
)

TASK = make_task("summary")
COLUMNS = (
    *("document_id", "path", "task", "field", "item", "span", "value", "quote", "support"),
    *("confidence", "measured", "probability", "score", "chosen", "reason"),
    *("page_number", "start_char", "end_char"),
    *("raw_start", "raw_end", "boxes", "job_key"),
)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with open_library(tmp_path, "run1", "run2") as opened:
        yield opened


@given(st.lists(st.text(st.sampled_from("ab \n")), min_size=1, max_size=5), st.data())
def test_spans_hold_all_of_a_quote_and_stay_on_their_pages(pages: list[str], data: Any) -> None:
    text = "\f".join(pages)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    spans = page_spans(text, start, end)
    assert "".join(span.quote for span in spans) == text[start:end].replace("\f", "")
    for span in spans:
        assert text[span.start_char : span.end_char] == span.quote
        first = len("\f".join(pages[: span.page_number - 1])) + (span.page_number > 1)
        assert first <= span.start_char < span.end_char <= first + len(pages[span.page_number - 1])


def save(store: Store, run_id: str, *documents: tuple[str, Document]) -> None:
    store.documents.save(run_id, READER, [(make_file(name), doc) for name, doc in documents])
    store.files.finish_search(run_id, Path("/in"))


def published(store: Store, run_id: str = "run1") -> list[dict[str, Any]]:
    return pq.read_table(publish(store, [TASK], run_id) / "evidence.parquet").to_pylist()


def quote_all(store: Store, document: Document, run_id: str = "run1") -> None:
    """An answer whose quote runs from the second word to the last but one."""
    start, end = document.text.index(" ") + 1, document.text.rindex(" ")
    evidence = (
        Evidence("text", 0, "a value", "derived", page_spans(document.text, start, end), score=0.5),
        Evidence("other", 0, None, "not_found", reason="the document does not say it"),
    )
    for job in plan(store, run_id, TASK).pending:
        store.jobs.finish(run_id, job, make_result(job, "a value", evidence=evidence))


def test_published_quotes_stand_in_the_text_and_in_the_raw_pages(store: Store) -> None:
    document = make_document("One  two\u00ad three", "four \r\nﬁve  six")
    save(store, "run1", ("a.txt", document))
    quote_all(store, document)
    rows = published(store)
    assert tuple(rows[0]) == COLUMNS
    assert [row["quote"] for row in rows] == ["two three", "four\nfive", None]
    assert [(row["field"], row["span"], row["page_number"]) for row in rows] == [
        ("text", 0, 1), ("text", 1, 2), ("other", 0, None)
    ]  # fmt: skip
    for row in rows[:2]:
        page = document.pages[row["page_number"] - 1]
        assert document.text[row["start_char"] : row["end_char"]] == row["quote"]
        raw = page.raw[row["raw_start"] : row["raw_end"]]
        assert raw.replace("\u00ad", "").split() == row["quote"].replace("fi", "ﬁ").split()
    assert rows[2]["start_char"] is rows[2]["raw_end"] is None
    assert rows[2]["reason"] == "the document does not say it"
    assert rows[0]["score"] == 0.5
    assert rows[0]["confidence"] is None


def test_copies_of_a_text_have_raw_offsets_of_their_own(store: Store) -> None:
    one, other = make_document("One two three four"), make_document("  One   two\tthree  four ")
    assert one.text_sha256 == other.text_sha256
    save(store, "run1", ("a.txt", one))
    quote_all(store, one)
    save(store, "run2", ("a.txt", one), ("b.txt", other))
    assert not plan(store, "run2", TASK).pending
    rows = [row for row in published(store, "run2") if row["quote"]]
    assert [row["path"] for row in rows] == ["/in/a.txt", "/in/b.txt"]
    raws = {"/in/a.txt": one, "/in/b.txt": other}
    for row in rows:
        raw = raws[row["path"]].pages[0].raw[row["raw_start"] : row["raw_end"]]
        assert raw.split() == ["two", "three"]


def test_a_document_read_again_gets_new_raw_offsets(store: Store) -> None:
    first = make_document("One two three four")
    save(store, "run1", ("a.txt", first))
    quote_all(store, first)
    again = make_document("One    two three four", sha256=first.sha256)
    save(store, "run2", ("a.txt", again))
    row = published(store, "run2")[0]
    assert again.pages[0].raw[row["raw_start"] : row["raw_end"]] == "two three"


def test_a_new_answer_replaces_the_evidence_of_the_old(store: Store) -> None:
    document = make_document("One two three four")
    save(store, "run1", ("a.txt", document))
    quote_all(store, document)
    store_again = plan(store, "run2", make_task("summary", instructions="Otherwise."))
    (job,) = store_again.pending
    store.jobs.finish("run2", job, make_result(job, "another"))
    assert not published(store, "run2")


def test_offsets_in_a_text_that_is_gone_are_not_published(store: Store) -> None:
    document = make_document("One two three four")
    save(store, "run1", ("a.txt", document))
    quote_all(store, document)
    changed = make_document("Another text", sha256=document.sha256)
    save(store, "run2", ("a.txt", changed))
    row = published(store, "run2")[0]
    assert row["quote"] == "two three"
    assert row["start_char"] is row["raw_start"] is None
