"""Purging leaves no trace, compacting and copying lose nothing."""

import secrets
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipeline import upkeep
from pipeline.errors import BusyError, InputError
from pipeline.parquet import publish
from pipeline.queries import query
from pipeline.records import Failure
from pipeline.store import CutDocument, Store
from tests.library import (
    READER,
    make_chunks,
    make_document,
    make_file,
    make_result,
    make_run,
    make_task,
    open_library,
    plan,
)

# Random, so that no compression makes it unrecognisable.
CANARY = secrets.token_hex(40)
TASKS = [make_task(), make_task("bullets")]


@pytest.fixture(autouse=True)
def no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCFLASH_RUNTIME", str(tmp_path / "runtime"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A library with a secret in it: in texts, answers, names, an older version, and a copy."""
    out = tmp_path / "out"
    with open_library(out, "run1") as store:
        old = make_document(f"an older text with {CANARY}")
        store.documents.save("run1", READER, [(make_file("secret/a.txt"), old)])
        answer_all(store)
        secret = make_document(f"the word is {CANARY}", "page two", title=f"title {CANARY}")
        store.documents.save(
            "run1",
            READER,
            [
                (make_file("secret/a.txt"), secret),
                (make_file(f"copy-{CANARY}.txt"), secret),
                (make_file("other/b.txt"), make_document("a harmless text")),
            ],
        )
        answer_all(store)
        gone = Failure("no_permission", f"{CANARY} can't be read", name="secret/a.txt")
        store.runs.record_failure("run1", gone)
        store.runs.save(make_run("run0", "/in/secret", state="done"))
        publish(store, TASKS, "run1")
        publish(store, TASKS, "run1")
    return out


def answer_all(store: Store) -> None:
    for job in plan(store, "run1", *TASKS).pending:
        text = store.documents.load_text(job.document_sha256)
        assert text is not None
        cut = CutDocument(job.document_sha256, "cut", make_chunks(text.text))
        store.chunks.save([cut])
        store.jobs.finish("run1", job, make_result(job, f"it says: {text.text}"), "cut")


def traces(folder: Path) -> list[str]:
    """Where the secret is found: in raw bytes, and in every value of every table."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and _holds(path)] + [
        str(path) for path in folder.rglob("*") if CANARY in path.name
    ]


def _holds(path: Path) -> bool:
    return CANARY.encode() in path.read_bytes() or any(CANARY in str(row) for row in _rows(path))


def _rows(path: Path) -> Iterator[Any]:
    if path.suffix == ".parquet":
        yield from duckdb.read_parquet(str(path)).fetchall()
    elif path.suffix == ".duckdb":
        with duckdb.connect(str(path), read_only=True) as store:
            for (table,) in store.sql("SELECT table_name FROM duckdb_tables()").fetchall():
                yield from store.table(table).fetchall()


@pytest.mark.parametrize("what", ["/in/secret/a.txt", "/in/secret", "id"])
def test_a_purge_leaves_no_trace(out: Path, what: str) -> None:
    assert any(path.endswith("store.duckdb") for path in traces(out))
    assert any(path.endswith(".parquet") for path in traces(out))
    before = query(out, "SELECT * EXCLUDE (run_id) FROM summaries WHERE path = '/in/other/b.txt'")
    if what == "id":
        rows = query(out, "SELECT document_id FROM files WHERE path LIKE '%/a.txt'").to_pylist()
        what = rows[0]["document_id"]
    done = upkeep.purge(out, what)
    assert done.paths == (f"/in/copy-{CANARY}.txt", "/in/secret/a.txt")
    assert (done.documents, done.engine) == (1, "not running")
    assert traces(out) == []
    after = query(out, "SELECT * EXCLUDE (run_id) FROM summaries")
    assert after.to_pylist() == before.to_pylist()
    assert query(out, "SELECT path FROM files").to_pylist() == [{"path": "/in/other/b.txt"}]
    with Store.open(out) as store:
        assert len(plan(store, "run1", *TASKS).pending) == 0
        publish(store, TASKS, "run1")
    assert query(out, "FROM summaries").num_rows == 2
    with pytest.raises(InputError, match="knows nothing"):
        upkeep.purge(out, "/in/secret/a.txt")


def test_a_purge_is_for_a_library_that_is_there_and_free(out: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no library"):
        upkeep.purge(tmp_path / "nothing", "/in/secret")
    with Store.open(out), pytest.raises(BusyError):
        upkeep.purge(out, "/in/secret")
    assert sorted(upkeep.find_traces(out, "/in/secret"))[1] == "/in/secret/a.txt"


def test_old_runs_are_forgotten_unless_something_refers_to_them(out: Path) -> None:
    old = datetime.now(UTC) - timedelta(days=200)
    with Store.open(out) as store:
        for run_id in ("idle", "run1"):
            store.runs.save(make_run(run_id, state="done", finished_at=old))
        store.runs.save(make_run("recent", state="done", finished_at=datetime.now(UTC)))
    assert upkeep.vacuum(out).runs == 1
    with Store.open(out) as store:
        assert store.runs.load("idle") is None
        assert store.runs.load("run1") is not None
        assert store.runs.load("recent") is not None


def test_a_vacuum_gives_space_back_and_loses_nothing(out: Path) -> None:
    with Store.open(out) as store:
        large = make_document("small")
        for _ in range(30):
            large = make_document(secrets.token_hex(20_000))
            store.documents.save("run1", READER, [(make_file("large.txt"), large)])
        publish(store, TASKS, "run1")
        store.removal.forget(store.removal.find(large.sha256))  # and all versions before it
    before = query(out, "FROM summaries ORDER BY ALL").to_pylist()
    assert upkeep.vacuum(out).freed_bytes > 500_000
    with Store.open(out) as store:
        publish(store, TASKS, "run1")
        document = make_document("one more")
        store.documents.save("run1", READER, [(make_file("more.txt"), document)])
        assert store.documents.load(document.sha256) == document
    assert query(out, "FROM summaries ORDER BY ALL").to_pylist() == before


def test_a_backup_is_a_whole_library(out: Path, tmp_path: Path) -> None:
    folder = tmp_path / "restored"
    folder.mkdir()
    assert upkeep.backup(out, folder / "store.duckdb") == (folder / "store.duckdb").stat().st_size
    assert stat.S_IMODE((folder / "store.duckdb").stat().st_mode) == 0o600
    with Store.open(folder) as store:
        publish(store, TASKS, "run2")
        assert plan(store, "run1", *TASKS).pending == ()
    rows = "SELECT path, text FROM summaries ORDER BY ALL"
    assert query(folder, rows).to_pylist() == query(out, rows).to_pylist()


@pytest.mark.parametrize("place", ["missing/copy", "", "out/copy.duckdb"])
def test_a_backup_in_an_impossible_place_is_told(out: Path, tmp_path: Path, place: str) -> None:
    with pytest.raises(InputError, match=r"copy="):
        upkeep.backup(out, tmp_path / place)


def test_a_full_disk_leaves_the_library_as_it_was(out: Path) -> None:
    from tests.test_store_processes import full_disk

    before = query(out, "FROM summaries ORDER BY ALL").to_pylist()
    with full_disk(20_000), pytest.raises(InputError, match="free disk space"):
        upkeep.vacuum(out)
    with Store.open(out) as store:
        publish(store, TASKS, "run1")
    assert query(out, "FROM summaries ORDER BY ALL").to_pylist() == before
    assert not list(out.glob("store.new*"))
