"""The store: what goes in comes out, for one owner at a time, and what is gone is remembered."""

import os
import stat
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alignment import Alignment, Run
from pipeline.errors import InputError
from pipeline.outline import OutlineEntry
from pipeline.records import Document, Failure, FoundFile, Job
from pipeline.store import CutDocument, Store
from pipeline.store.database import Database
from pipeline.store.migrations import MIGRATIONS, Migration
from pipeline.store.texts import pack_alignment, storable, unpack_alignment
from tests.library import (
    MODEL,
    ODD_ALIGNMENT,
    OLD_NS,
    READER,
    make_chunks,
    make_document,
    make_failed,
    make_file,
    make_result,
    make_run,
    make_task,
    open_library,
    plan,
)

ROOT = Path("/in")


def open_store(tmp_path: Path, *run_ids: str) -> Store:
    return open_library(tmp_path / "out", *(run_ids or ("run1",)))


def ingest(
    store: Store, run_id: str, *pairs: tuple[FoundFile, Document], finish: bool = True
) -> None:
    """What a run does: reads what must be, and ends the search."""
    checked = store.files.check(run_id, [file for file, _ in pairs], READER)
    store.documents.save(run_id, READER, [pair for pair in pairs if pair[0] in checked.to_read])
    if finish:
        store.files.finish_search(run_id, ROOT)


def test_a_run_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    run = make_run(tasks=("summary", "invoice"), files=3)
    done = replace(
        run, state="done", finished_at=datetime(2026, 11, 20, 3, tzinfo=UTC), jobs_done=7
    )
    with Store.open(tmp_path / "out") as store:
        assert store.runs.latest() is None
        store.runs.save(run)
        assert store.runs.load("run1") == run
        store.runs.save(done)
        assert store.runs.latest() == done
        assert store.runs.load("other") is None


def test_a_run_that_was_killed_is_stopped_when_the_store_is_opened_again(tmp_path: Path) -> None:
    with open_store(tmp_path):
        pass
    with Store.open(tmp_path / "out") as store:
        run = store.runs.load("run1")
    assert run is not None
    assert run.state == "stopped"
    assert run.finished_at is not None


def test_everything_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with open_store(tmp_path) as store:
            store.documents.save("run1", READER, [(make_file("a.txt"), make_document("text"))])
            modes = {
                path.name: stat.S_IMODE(path.stat().st_mode)
                for path in [store.out, *store.out.iterdir()]
            }
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert modes.pop("out") == 0o700
    assert {"store.duckdb", "store.duckdb.wal", "store.lock"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_a_document_comes_back_with_its_pages_and_maps(tmp_path: Path) -> None:
    pages = (
        "Plain.",
        "soft\xadhyphen  and  \u2028 spa\u00a0ces",
        "",
        "e\u0301 \U0001f600 \x00 \ufb01",
    )
    document = make_document(*pages, notes=("page 3 of 4: no text", "a note"))
    with open_store(tmp_path) as store:
        store.documents.save("run1", READER, [(make_file("a.txt"), document)])
        assert store.documents.load(document.sha256) == document
        stored = store.documents.load_text(document.sha256)
        assert stored is not None
        assert (stored.title, stored.text) == (document.title, document.text)
        assert store.documents.load("0" * 64) is None
        assert store.documents.load_text("0" * 64) is None


def test_an_outline_comes_back_with_the_text(tmp_path: Path) -> None:
    outline = (OutlineEntry(1, "Rules \ud800", 1), OutlineEntry(2, "Of keepers", 2))
    document = make_document("Rules", "Of keepers", outline=outline)
    with open_store(tmp_path) as store:
        ingest(store, "run1", (make_file("a.pdf"), document))
        stored = store.documents.load_text(document.sha256)
        whole = store.documents.load(document.sha256)
    kept = (replace(outline[0], title=storable(outline[0].title)), outline[1])
    assert stored is not None
    assert whole is not None
    assert stored.outline == whole.outline == kept


def test_a_failed_document_comes_back(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.documents.save("run1", READER, [(make_file("a.pdf"), make_failed())])
        assert store.documents.load(make_failed().sha256) == make_failed()


@given(st.text(st.characters(codec=None), max_size=40))
def test_any_text_can_be_stored_without_moving_offsets(text: str) -> None:
    stored = storable(text)
    stored.encode()
    assert len(stored) == len(text)
    assert all(a == b or "\ud800" <= a <= "\udfff" for a, b in zip(text, stored, strict=True))


def test_lone_surrogates_and_nuls_do_not_stop_a_document(tmp_path: Path) -> None:
    document = make_document("a\x00b", title="x\ud800y\x00", notes=("\udcff",))
    with open_store(tmp_path) as store:
        store.documents.save("run1", READER, [(make_file("a\x00.txt"), document)])
        loaded = store.documents.load(document.sha256)
    assert loaded is not None
    assert (loaded.title, loaded.notes) == ("x\ufffdy\x00", ("\ufffd",))
    assert loaded.pages[0].raw == "a\x00b"


RUNS = st.lists(st.tuples(st.integers(1, 9), st.integers(-3, 9), st.integers(1, 9)), max_size=30)


@given(RUNS)
def test_alignments_survive_packing(steps: list[tuple[int, int, int]]) -> None:
    runs: list[Run] = []
    text_end = raw_end = 0
    for length, gap, raw_length in steps:
        raw_start = max(raw_end + gap, 0)
        runs.append(Run(text_end, text_end + length, raw_start, raw_start + raw_length))
        text_end, raw_end = text_end + length, raw_start + raw_length
    alignment = Alignment(tuple(runs))
    assert unpack_alignment(pack_alignment(alignment)) == alignment


def test_an_alignment_of_a_newer_format_is_refused() -> None:
    packed = pack_alignment(ODD_ALIGNMENT)
    with pytest.raises(InputError, match="unknown format"):
        unpack_alignment(b"\x63" + packed[1:])


def test_unchanged_files_need_no_reading(tmp_path: Path) -> None:
    files = [make_file("a.txt"), make_file("b.txt")]
    with open_store(tmp_path, "run1", "run2") as store:
        assert store.files.check("run1", files, READER).to_read == tuple(files)
        ingest(store, "run1", (files[0], make_document("a")), (files[1], make_document("b")))
        checked = store.files.check("run2", files, READER)
        assert (checked.unchanged, checked.to_read) == (tuple(files), ())
        assert store.files.finish_search("run2", ROOT) == 0


@pytest.mark.parametrize(
    "changed",
    [make_file("a.txt", size=11), make_file("a.txt", modified_ns=OLD_NS + 1), make_file("b.txt")],
)
def test_changed_and_new_files_are_read(tmp_path: Path, changed: FoundFile) -> None:
    with open_store(tmp_path, "run1", "run2") as store:
        ingest(store, "run1", (make_file("a.txt"), make_document("a")))
        assert store.files.check("run2", [changed], READER).to_read == (changed,)


def test_another_reader_reads_all_files_again(tmp_path: Path) -> None:
    with open_store(tmp_path, "run1", "run2") as store:
        ingest(store, "run1", (make_file("a.txt"), make_document("a")))
        assert store.documents.known([make_document("a").sha256], READER)
        assert not store.documents.known([make_document("a").sha256], "reader 2")
        assert store.files.check("run2", [make_file("a.txt")], "reader 2").to_read


def test_a_file_changed_just_before_it_was_read_is_read_again(tmp_path: Path) -> None:
    run = make_run()
    recent = int(run.started_at.timestamp()) * 1_000_000_000 - 1_000_000_000
    file = make_file("a.txt", modified_ns=recent)
    with open_store(tmp_path, "run1", "run2") as store:
        ingest(store, "run1", (file, make_document("a")))
        assert store.files.check("run2", [file], READER).to_read == (file,)


def test_failed_documents_are_left_alone_unless_their_reader_broke_or_asked(tmp_path: Path) -> None:
    damaged, crashed = make_file("a.pdf"), make_file("b.pdf")
    with open_store(tmp_path, "run1", "run2") as store:
        ingest(
            store,
            "run1",
            (damaged, make_failed("a")),
            (crashed, make_failed("b", kind="crashed")),
        )
        assert store.files.check("run2", [damaged, crashed], READER).to_read == (crashed,)
        checked = store.files.check("run2", [damaged, crashed], READER, retry=True)
        assert checked.to_read == (damaged, crashed)


def live(store: Store) -> list[tuple[str, ...]]:
    return [entry.names for entry in store.documents.list_live(ROOT)]


def test_deleted_files_go_and_come_back_without_reading(tmp_path: Path) -> None:
    a, b = (make_file("a.txt"), make_document("a")), (make_file("b.txt"), make_document("b"))
    with open_store(tmp_path, "run1", "run2", "run3") as store:
        ingest(store, "run1", a, b)
        ingest(store, "run2", a)
        assert live(store) == [("a.txt",)]
        checked = store.files.check("run3", [a[0], b[0]], READER)
        assert checked.to_read == ()
        assert live(store) == [("a.txt",), ("b.txt",)]


def test_a_document_lives_as_long_as_one_of_its_files(tmp_path: Path) -> None:
    same = make_document("same")
    with open_store(tmp_path, "run1", "run2") as store:
        ingest(store, "run1", (make_file("a.txt"), same), (make_file("copy of a.txt"), same))
        assert live(store) == [("a.txt", "copy of a.txt")]
        ingest(store, "run2", (make_file("copy of a.txt"), same))
        assert live(store) == [("copy of a.txt",)]


def test_other_folders_of_the_library_are_left_alone(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.runs.save(make_run("other", folder="/else"))
        ingest(store, "run1", (make_file("a.txt"), make_document("a")))
        elsewhere = make_file("b.txt", root="/else")
        store.documents.save("other", READER, [(elsewhere, make_document("b"))])
        assert store.files.finish_search("other", Path("/else")) == 0
        assert live(store) == [("a.txt",)]
        assert len(store.documents.list_live(Path("/else"))) == 1


def test_what_could_not_be_entered_is_not_deleted(tmp_path: Path) -> None:
    pairs = [
        (make_file(name), make_document(name)) for name in ("sub/a.txt", "subway.txt", "sub_/b.txt")
    ]
    with open_store(tmp_path, "run1", "run2") as store:
        ingest(store, "run1", *pairs)
        assert store.files.finish_search("run2", ROOT, unreachable=["."]) == 0
        assert store.files.finish_search("run2", ROOT, unreachable=["sub"]) == 2
        assert live(store) == [("sub/a.txt",)]


def test_files_without_bytes_are_tried_again_and_show_no_old_results(tmp_path: Path) -> None:
    before, now = make_file("a.txt"), make_file("a.txt", modified_ns=OLD_NS + 1)
    with open_store(tmp_path, "run1", "run2", "run3") as store:
        ingest(store, "run1", (before, make_document("a")))
        store.files.record_unreadable("run2", [now])
        assert store.files.finish_search("run2", ROOT) == 0
        assert live(store) == []
        assert store.files.check("run3", [now], READER).to_read == (now,)


def test_documents_are_listed_by_name_or_newest_first(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        for name, age in (("b.txt", 2), ("a.txt", 3), ("c.txt", 1)):
            file = make_file(name, modified_ns=OLD_NS - age)
            ingest(store, "run1", (file, make_document(name)), finish=False)
        assert live(store) == [("a.txt",), ("b.txt",), ("c.txt",)]
        newest = store.documents.list_live(ROOT, newest_first=True)
        assert [entry.names for entry in newest] == [("c.txt",), ("b.txt",), ("a.txt",)]


def test_chunks_come_back_and_go_when_the_text_changes(tmp_path: Path) -> None:
    document = make_document("one two three")
    chunks = make_chunks(document.text)
    other = replace(make_document("another text"), sha256=document.sha256)
    with open_store(tmp_path) as store:
        ingest(store, "run1", (make_file("a.txt"), document))
        assert store.chunks.load(document.sha256, "cut1") is None
        assert store.chunks.list_uncut([document.sha256], "cut1") == (document.sha256,)
        store.chunks.save([CutDocument(document.sha256, "cut1", chunks)])
        store.chunks.save([CutDocument(document.sha256, "cut2", ())])
        assert store.chunks.load(document.sha256, "cut1") == chunks
        assert store.chunks.load(document.sha256, "cut2") == ()
        assert store.chunks.list_uncut([document.sha256, "x"], "cut1") == ("x",)
        store.documents.save("run1", "reader 2", [(make_file("a.txt"), document)])
        assert store.chunks.load(document.sha256, "cut1") == chunks
        store.documents.save("run1", "reader 3", [(make_file("a.txt"), other)])
        assert store.chunks.load(document.sha256, "cut1") is None
        assert store.documents.load(document.sha256) == other


def test_jobs_are_pending_until_they_are_done(tmp_path: Path) -> None:
    tasks = make_task("summary"), make_task("bullets")
    with open_store(tmp_path) as store:
        ingest(
            store,
            "run1",
            (make_file("a.txt"), make_document("a")),
            (make_file("b.txt"), make_document("b")),
        )
        work = plan(store, "run1", *tasks)
        assert [job.task for job in work.pending] == ["summary", "bullets"] * 2
        assert (work.done, work.failed) == (0, 0)
        first = work.pending[0]
        result = make_result(first, "A summary.", chunks=(0, 1), cut=True)
        store.jobs.finish("run1", first, result, "cut1")
        assert store.jobs.load_result(first.key) == result
        work = plan(store, "run1", *tasks)
        assert (len(work.pending), work.done) == (3, 1)
        counts = store.jobs.count()
        assert (counts.files, counts.documents, counts.pages) == (2, 2, 2)
        assert (counts.jobs_pending, counts.jobs_done, counts.jobs_failed) == (3, 1, 0)


def test_a_changed_task_redoes_just_its_own_jobs(tmp_path: Path) -> None:
    summary, bullets = make_task("summary"), make_task("bullets")
    changed = make_task("summary", instructions="Do it better.")
    with open_store(tmp_path, "run1", "run2") as store:
        ingest(store, "run1", (make_file("a.txt"), make_document("a")))
        for job in plan(store, "run1", summary, bullets).pending:
            store.jobs.finish("run1", job, make_result(job, "text"))
        assert plan(store, "run2", summary, bullets).pending == ()
        work = plan(store, "run2", changed, bullets)
        assert [job.task for job in work.pending] == ["summary"]


def test_documents_with_the_same_text_share_a_job(tmp_path: Path) -> None:
    text = make_document("same text")
    copy = replace(text, sha256="f" * 64)
    with open_store(tmp_path) as store:
        ingest(store, "run1", (make_file("a.txt"), text), (make_file("b.txt"), copy))
        work = plan(store, "run1", make_task())
        assert len(work.pending) == 1
        store.jobs.finish("run1", work.pending[0], make_result(work.pending[0], "text"))
        again = plan(store, "run1", make_task())
        assert (again.pending, again.done) == ((), 1)


@pytest.mark.parametrize(
    ("kind", "retry", "tried"),
    [("invalid_json", False, 0), ("invalid_json", True, 1), ("engine_lost", False, 1)],
)
def test_failed_jobs_are_tried_again_if_that_may_help(
    tmp_path: Path, kind: str, retry: bool, tried: int
) -> None:
    with open_store(tmp_path, "run1", "run2") as store:
        ingest(store, "run1", (make_file("a.txt"), make_document("a")))
        [job] = plan(store, "run1", make_task()).pending
        store.jobs.fail("run1", job, Failure(kind, "it failed", job_key=job.key))
        assert store.jobs.count().jobs_failed == 1
        work = plan(store, "run2", make_task(), retry=retry)
        assert (len(work.pending), work.failed) == (tried, 1 - tried)


def test_the_class_of_a_document_is_known_once_it_was_found(tmp_path: Path) -> None:
    finder = make_task("document_class", "class", classes=("invoice", "letter"))
    with open_store(tmp_path) as store:
        ingest(store, "run1", (make_file("a.txt"), make_document("a")))
        [job] = plan(store, "run1", finder).pending
        store.jobs.finish("run1", job, make_result(job, "invoice", probability=0.75))

        def find_class(class_fingerprint: str, model_fingerprint: str) -> str | None:
            [entry] = store.documents.list_live(
                ROOT, class_fingerprint=class_fingerprint, model_fingerprint=model_fingerprint
            )
            return entry.document_class

        assert find_class(finder.fingerprint, MODEL) == "invoice"
        assert find_class(finder.fingerprint, "another model") is None
        assert find_class("", "") is None


def test_typed_values_are_stored_as_json(tmp_path: Path) -> None:
    value = {"total": Decimal("1E+2"), "due": date(2026, 1, 2), "tags": ["\ud800"], "none": None}
    with open_store(tmp_path) as store:
        ingest(store, "run1", (make_file("a.txt"), make_document("a")))
        [job] = plan(store, "run1", make_task()).pending
        store.jobs.finish("run1", job, make_result(job, value))
        loaded = store.jobs.load_result(job.key)
    assert loaded is not None
    assert loaded.value["total"] == "100"
    assert loaded.value["due"] == "2026-01-02"
    assert loaded.value["none"] is None


def test_results_of_jobs_that_were_not_planned_are_refused(tmp_path: Path) -> None:
    job = Job("k" * 64, "d" * 64, "t" * 64, "summary", "f" * 64, MODEL)
    with open_store(tmp_path) as store:
        with pytest.raises(ValueError, match="was not planned"):
            store.jobs.finish("run1", job, make_result(job, "text"))
        with pytest.raises(ValueError, match="is not of"):
            store.jobs.finish("run1", job, make_result(replace(job, key="other"), "text"))
        assert store.jobs.load_result(job.key) is None


def test_a_plan_writes_the_assignments_that_change_and_no_others(tmp_path: Path) -> None:
    def assigned() -> dict[str, tuple[str, str | None, str]]:
        with closing(Database(tmp_path / "out")) as database, database.transaction() as session:
            rows = session.rows("SELECT task, job_key, done_key, run_id FROM assignments")
        return {task: tuple(rest) for task, *rest in rows}

    kept, changed, dropped = (make_task(name) for name in ("kept", "changed", "dropped"))
    with open_store(tmp_path, "run1", "run2") as store:
        ingest(store, "run1", (make_file("a.txt"), make_document("a")))
        for job in plan(store, "run1", kept, changed, dropped).pending:
            store.jobs.finish("run1", job, make_result(job, "text"))
    before = assigned()
    with Store.open(tmp_path / "out") as store:
        changed = replace(changed, fingerprint="another")
        dropped = replace(dropped, globs=("*.pdf",))
        [job] = plan(store, "run2", kept, changed, dropped).pending
    after = {"kept": before["kept"], "changed": (job.key, before["changed"][1], "run2")}
    assert assigned() == after
    assert {run_id for *_, run_id in before.values()} == {"run1"}


def test_a_store_of_an_older_schema_is_brought_up(tmp_path: Path) -> None:
    out = tmp_path / "out"
    database = Database(out)
    with database.transaction() as session:
        session.run("INSERT INTO assignments VALUES ('d', 'task', 'key', NULL, 'run1')")
    database.close()
    newer = Migration(99, "a reason", "ALTER TABLE assignments ADD COLUMN reason VARCHAR")
    database = Database(out, (*MIGRATIONS, newer))
    with database.transaction() as session:
        assert session.rows("SELECT document_sha256, reason FROM assignments") == [("d", None)]
        assert session.count("SELECT max(version) FROM schema_versions") == 99
    database.close()
    with pytest.raises(InputError, match="written by a newer docflash"):
        Store.open(out)


def test_a_store_without_evidence_gets_its_tables_and_keeps_its_answers(tmp_path: Path) -> None:
    out = tmp_path / "out"
    database = Database(out, MIGRATIONS[:1])
    with database.transaction() as session:
        session.run("INSERT INTO assignments VALUES ('d', 'task', 'key', NULL, 'run1')")
        assert session.count("SELECT count(*) FROM evidence") == 0
    database.close()
    database = Database(out)
    with database.transaction() as session:
        assert session.rows("SELECT document_sha256 FROM assignments") == [("d",)]
        assert session.count("SELECT count(*) FROM quotes") == 0
        assert session.count("SELECT max(version) FROM schema_versions") == MIGRATIONS[-1].version
        tables = {name for (name,) in session.rows("SELECT table_name FROM duckdb_tables()")}
    database.close()
    assert "evidence" not in tables


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    Database(out).close()
    broken = Migration(99, "broken", "CREATE TABLE half (a INTEGER); SELECT * FROM nowhere")
    with pytest.raises(InputError, match="can't be opened"):
        Database(out, (*MIGRATIONS, broken))
    database = Database(out)
    with database.transaction() as session:
        tables = {name for (name,) in session.rows("SELECT table_name FROM duckdb_tables()")}
    database.close()
    assert "half" not in tables
    assert "documents" in tables


def test_a_damaged_store_says_what_to_do(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "store.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(InputError, match="move it away"):
        Store.open(out)
    (out / "store.duckdb").unlink()
    Store.open(out).close()


@pytest.mark.parametrize("name", ["what?", "not \udcff text"])
def test_folders_that_duckdb_can_not_use_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="choose another with --out"):
        Store.open(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.close()
    store.close()
    with pytest.raises(InputError, match="was closed"):
        store.runs.latest()
