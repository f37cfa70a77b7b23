"""Published tables: whole snapshots behind one link, typed, and of what is there now."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.parquet import publish
from pipeline.records import Document, Failure, Field, FoundFile, Task
from pipeline.schema import arrow_type
from pipeline.snapshots import current_snapshot, read_manifest
from pipeline.store import CutDocument, Store
from pipeline.tables import ANSWER_COLUMNS, list_tables
from pipeline.task_fields import RESERVED_COLUMNS
from tests.library import (
    INVOICE_FIELDS,
    OLD_NS,
    READER,
    make_chunks,
    make_document,
    make_failed,
    make_file,
    make_result,
    make_task,
    open_library,
    plan,
)

ROOT = Path("/in")
SUMMARY = make_task("summary")
INVOICE = make_task("invoice", "fields", fields=INVOICE_FIELDS)
VALUE: dict[str, Any] = {
    "number": "A 'quoted' \U0001f600",
    "total": Decimal("-12.5"),
    "due": date(2026, 2, 28),
    "pages_sent": -(10**17),
    "paid": False,
    "currency": None,
    "tags": ["a", "b"],
    "lines": [{"text": "x", "amount": Decimal("0.0001")}, {"text": None, "amount": None}],
}

Rows = list[dict[str, Any]]


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with open_library(tmp_path, "run1", "run2") as opened:
        yield opened


def read(store: Store, name: str) -> Rows:
    snapshot = current_snapshot(store.out)
    assert snapshot is not None
    return pq.read_table(snapshot / f"{name}.parquet").to_pylist()


def ingest(store: Store, run_id: str, *pairs: tuple[FoundFile, Document]) -> None:
    store.documents.save(run_id, READER, pairs)
    store.files.finish_search(run_id, ROOT)


def answer(store: Store, run_id: str, tasks: list[Task], value: Callable[[str], Any]) -> None:
    for job in plan(store, run_id, *tasks).pending:
        store.jobs.finish(run_id, job, make_result(job, value(job.task)), "cut")


def test_an_empty_store_is_published_with_all_its_tables(store: Store) -> None:
    snapshot = publish(store, [SUMMARY, INVOICE], "run1")
    names = {path.stem for path in snapshot.glob("*.parquet")}
    assert names == {
        *("runs", "files", "documents", "pages", "chunks", "jobs", "summaries"),
        *("extractions_invoice", "evidence", "failures"),
    }
    assert [row["run_id"] for row in read(store, "runs")] == ["run1", "run2"]
    assert read(store, "extractions_invoice") == []


def test_columns_have_the_types_of_the_schema(store: Store) -> None:
    snapshot = publish(store, [INVOICE], "run1")
    schema = pq.read_schema(snapshot / "extractions_invoice.parquet")
    for field in INVOICE_FIELDS:
        # Parquet names the items of a list, which Arrow compares.
        assert str(schema.field(field.name).type).replace("element:", "item:") == str(
            arrow_type(field)
        ).replace("element:", "item:")


def test_typed_values_come_back(store: Store) -> None:
    ingest(store, "run1", (make_file("a.txt"), make_document("a")))
    answer(store, "run1", [INVOICE, SUMMARY], {"invoice": VALUE, "summary": "So."}.__getitem__)
    publish(store, [SUMMARY, INVOICE], "run1")
    [row] = read(store, "extractions_invoice")
    assert {name: row[name] for name in VALUE} == VALUE
    document = make_document("a")
    assert (row["document_id"], row["path"], row["paths"]) == (
        document.sha256,
        "/in/a.txt",
        ["/in/a.txt"],
    )
    assert (row["task"], row["model"], row["run_id"]) == ("invoice", "embedded", "run1")
    assert (row["prompt_fingerprint"], row["is_current"]) == (INVOICE.fingerprint, True)
    assert (row["prompt_tokens"], row["completion_tokens"], row["model_s"]) == (100, 20, 1.5)
    assert (row["chunking"], row["chunks"]) == ("cut", [0])
    [row] = read(store, "summaries")
    assert (row["text"], row["task"]) == ("So.", "summary")


def test_pages_chunks_and_documents_are_published(store: Store) -> None:
    document = make_document("one\xa0two", "three", notes=("a note",))
    ingest(store, "run1", (make_file("a.txt"), document), (make_file("b.txt"), document))
    store.chunks.save([CutDocument(document.sha256, "cut", make_chunks(document.text))])
    finder = make_task("document_class", "class", classes=("letter",))
    for job in plan(store, "run1", finder).pending:
        store.jobs.finish("run1", job, make_result(job, "letter", probability=0.75))
    publish(store, [finder], "run1")
    pages = read(store, "pages")
    assert [(row["page_number"], row["text"], row["raw_text"]) for row in pages] == [
        (1, "one two", "one\xa0two"),
        (2, "three", "three"),
    ]
    assert [document.text[row["start_char"] : row["end_char"]] for row in pages] == [
        "one two",
        "three",
    ]
    assert [row["tokens"] for row in read(store, "chunks")] == [5, 6]
    [row] = read(store, "documents")
    assert row["paths"] == ["/in/a.txt", "/in/b.txt"]
    assert (row["class"], row["class_probability"]) == ("letter", 0.75)
    assert (row["status"], row["notes"], row["page_count"]) == ("read", ["a note"], 2)
    [first, _] = read(store, "files")
    assert first["modified_at"] == datetime.fromtimestamp(OLD_NS / 1e9, UTC)


def test_deleted_documents_leave_and_come_back_without_work(store: Store) -> None:
    a, b = (make_file("a.txt"), make_document("a")), (make_file("b.txt"), make_document("b"))
    ingest(store, "run1", a, b)
    answer(store, "run1", [SUMMARY], lambda _: "text")
    publish(store, [SUMMARY], "run1")
    assert len(read(store, "summaries")) == 2
    store.files.check("run2", [a[0]], READER)
    store.files.finish_search("run2", ROOT)
    publish(store, [SUMMARY], "run2")
    for name in ("summaries", "documents", "files", "pages", "jobs"):
        assert len(read(store, name)) == 1, name
    store.files.check("run2", [b[0]], READER)
    assert plan(store, "run2", SUMMARY).pending == ()
    publish(store, [SUMMARY], "run2")
    assert [row["path"] for row in read(store, "summaries")] == ["/in/a.txt", "/in/b.txt"]


def test_an_old_answer_is_shown_until_the_new_one_is_there(store: Store) -> None:
    ingest(store, "run1", (make_file("a.txt"), make_document("a")))
    answer(store, "run1", [INVOICE], lambda _: VALUE)
    other = make_task(
        "invoice",
        "fields",
        fields=(
            Field("total", "date"),  # was a decimal
            Field("tags", "object", fields=(Field("x", "integer"),)),  # was a list
            Field("number", "string"),
            Field("brand_new", "list", items=Field("item", "string")),
        ),
    )
    [job] = plan(store, "run2", other).pending
    publish(store, [other], "run2")
    [row] = read(store, "extractions_invoice")
    assert row["is_current"] is False
    assert (row["number"], row["brand_new"], row["total"]) == (VALUE["number"], None, None)
    assert (row["run_id"], row["prompt_fingerprint"]) == ("run1", INVOICE.fingerprint)
    store.jobs.fail("run2", job, Failure("invalid_json", "it failed"))
    publish(store, [other], "run2")
    assert len(read(store, "extractions_invoice")) == 1
    [failure] = read(store, "failures")
    assert (failure["kind"], failure["task"], failure["run_id"]) == (
        "invalid_json",
        "invoice",
        "run2",
    )
    value = {"total": None, "tags": None, "number": "new", "brand_new": []}
    store.jobs.finish("run2", job, make_result(job, value))
    publish(store, [other], "run2")
    [row] = read(store, "extractions_invoice")
    assert (row["is_current"], row["number"], row["brand_new"]) == (True, "new", [])
    assert read(store, "failures") == []


@pytest.mark.parametrize("value", ["prose", ["list"], 5, None])
def test_answers_of_another_kind_do_not_break_publishing(store: Store, value: Any) -> None:
    ingest(store, "run1", (make_file("a.txt"), make_document("a")))
    answer(store, "run1", [INVOICE], lambda _: value)
    answer(store, "run1", [SUMMARY], lambda _: {"an": "object"})
    publish(store, [INVOICE, SUMMARY], "run1")
    assert read(store, "extractions_invoice") == []
    assert read(store, "summaries") == []


def test_a_task_that_is_not_for_a_document_any_more_shows_no_rows(store: Store) -> None:
    ingest(store, "run1", (make_file("a.txt"), make_document("a")))
    answer(store, "run1", [INVOICE, SUMMARY], lambda name: VALUE if name == "invoice" else "text")
    narrowed = replace(INVOICE, globs=("*.pdf",))
    assert plan(store, "run2", narrowed).pending == ()
    publish(store, [narrowed, SUMMARY], "run2")
    assert read(store, "extractions_invoice") == []
    assert len(read(store, "summaries")) == 1


def test_failures_last_as_long_as_what_they_tell(store: Store) -> None:
    ingest(store, "run1", (make_file("a.pdf"), make_failed()))
    lost = Failure("no_permission", "it may not be entered", name="sub")
    store.runs.record_failure("run1", lost)
    store.runs.record_failure("run1", lost)
    publish(store, [], "run1")
    assert [(row["kind"], row["path"], row["run_id"]) for row in read(store, "failures")] == [
        ("damaged", "/in/a.pdf", "run1"),
        ("no_permission", "/in/sub", "run1"),
    ]
    store.files.check("run2", [make_file("a.pdf")], READER)
    store.files.finish_search("run2", ROOT)
    publish(store, [], "run2")
    assert [(row["kind"], row["run_id"]) for row in read(store, "failures")] == [
        ("damaged", "run2")
    ]
    ingest(store, "run2", (make_file("a.pdf", size=11), make_document("repaired")))
    publish(store, [], "run2")
    assert read(store, "failures") == []


def test_unchanged_tables_are_linked_and_two_snapshots_stay(store: Store) -> None:
    ingest(store, "run1", (make_file("a.txt"), make_document("a")))
    snapshots = [publish(store, [SUMMARY], "run1") for _ in range(3)]
    assert [path.name for path in snapshots] == ["run1", "run1.2", "run1.3"]
    assert not snapshots[0].exists()
    for name in ("pages", "documents", "runs"):
        assert (snapshots[1] / f"{name}.parquet").samefile(snapshots[2] / f"{name}.parquet")
    ingest(
        store,
        "run2",
        (make_file("a.txt"), make_document("a")),
        (make_file("b.txt"), make_document("b")),
    )
    after = publish(store, [SUMMARY], "run2")
    assert not (after / "pages.parquet").samefile(snapshots[2] / "pages.parquet")
    assert (after / "summaries.parquet").samefile(snapshots[2] / "summaries.parquet")
    assert len(read(store, "pages")) == 2


def test_every_table_follows_what_changes_in_the_store(store: Store) -> None:
    """A table is rewritten if and only if its rows changed: cheap versions included."""
    document = make_document("a")

    def versions() -> dict[str, str]:
        snapshot = publish(store, [SUMMARY], "run1")
        return {table.name: table.version for table in read_manifest(snapshot).tables}

    def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
        return {name for name in after if before[name] != after[name]}

    start = versions()
    assert changed(start, versions()) == set()
    ingest(store, "run1", (make_file("a.txt"), document))
    read_once = versions()
    assert changed(start, read_once) == {"files", "documents", "pages"}
    store.chunks.save([CutDocument(document.sha256, "cut", make_chunks(document.text))])
    cut = versions()
    assert changed(read_once, cut) == {"chunks"}
    answer(store, "run1", [SUMMARY], lambda _: "text")
    done = versions()
    assert changed(cut, done) == {"jobs", "summaries"}
    store.chunks.save([CutDocument(document.sha256, "cut", make_chunks(document.text)[:1])])
    assert changed(done, versions()) == {"chunks"}


def test_a_changed_file_of_the_last_snapshot_is_not_passed_on(store: Store) -> None:
    first = publish(store, [SUMMARY], "run1")
    (first / "runs.parquet").write_bytes(b"something else")
    publish(store, [SUMMARY], "run1")
    assert len(read(store, "runs")) == 2


def test_a_damaged_last_snapshot_does_not_stop_publishing(store: Store) -> None:
    first = publish(store, [SUMMARY], "run1")
    (first / "manifest.json").write_text("{}")
    publish(store, [SUMMARY], "run1")
    assert len(read(store, "runs")) == 2


def test_what_a_killed_run_left_is_removed(store: Store) -> None:
    left = store.out / "snapshots" / ".building"
    left.mkdir(parents=True)
    (left / "runs.parquet").write_bytes(b"half")
    snapshot = publish(store, [SUMMARY], "run1")
    assert [path.name for path in (store.out / "snapshots").iterdir()] == [snapshot.name]


def test_a_folder_in_the_place_of_the_link_is_told(store: Store) -> None:
    (store.out / "latest").mkdir()
    (store.out / "latest" / "file").touch()
    with pytest.raises(InputError, match="can't be published"):
        publish(store, [SUMMARY], "run1")


def test_a_run_id_that_is_no_folder_name_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="run_id"):
        publish(store, [], "../run1")


def test_own_columns_are_reserved() -> None:
    """A field of the same name would hide them."""
    assert set(ANSWER_COLUMNS) <= RESERVED_COLUMNS


def test_tables_are_those_of_the_design() -> None:
    names = [table.name for table in list_tables([])]
    assert names == [
        *("runs", "files", "documents", "pages", "chunks", "jobs", "summaries"),
        *("evidence", "failures"),
    ]
