"""What is known of nights long past leaves the state folder; the last ones stay as they are."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flows.tidying import Kept, cut_logs, tidy_history
from pipeline.errors import InputError

TABLES = (
    "flow (id, name)",
    "flow_run (id, flow_id, state_type, end_time, state_timestamp)",
    "flow_run_state (id, flow_run_id)",
    "flow_run_input (id, flow_run_id)",
    "task_run (id, flow_run_id)",
    "task_run_state (id, task_run_id, data)",
    "log (id, flow_run_id, task_run_id)",
    "artifact (id, flow_run_id)",
    "artifact_collection (id, latest_id)",
    "events (id, occurred)",
    "event_resources (id, event_id)",
)
DATA = "x" * 2000


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Twelve nights of this year, each with three documents, and one that is at work."""
    with closing(_connect(tmp_path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        for table in TABLES:
            database.execute(f"CREATE TABLE {table}")
        database.execute("INSERT INTO flow VALUES ('ours', 'process-folder'), ('f', 'another')")
        for number in range(12):
            _add_run(database, f"night{number:02}", "COMPLETED", f"2999-01-{number + 1:02}")
        _add_run(database, "now", "RUNNING", None)
        _add_run(database, "other", "COMPLETED", "1999-01-01", "f")
    return tmp_path


def _connect(home: Path) -> sqlite3.Connection:
    return sqlite3.connect(home / "prefect.db", isolation_level=None)


def _add_run(
    database: sqlite3.Connection, run: str, state: str, ended: str | None, flow: str = "ours"
) -> None:
    rows: list[tuple[str, tuple[str | None, ...]]] = [
        ("flow_run", (run, flow, state, ended, ended or "2000-01-01")),
        ("flow_run_state", (f"{run}-s", run)),
        ("artifact", (f"{run}-a", run)),
        ("log", (f"{run}-l", run, None)),
        ("events", (f"{run}-e", ended or "2000-01-01")),
        ("event_resources", (f"{run}-er", f"{run}-e")),
    ]
    for number in range(3):
        task = f"{run}-{number}"
        rows += [
            ("task_run", (task, run)),
            ("task_run_state", (f"{task}-s", task, DATA)),
            ("log", (f"{task}-l", run, task)),
        ]
    for table, row in rows:
        marks = ", ".join("?" * len(row))
        database.execute(f"INSERT INTO {table} VALUES ({marks})", row)  # noqa: S608


def _column(home: Path, sql: str) -> list[str]:
    with closing(_connect(home)) as database:
        return [str(value) for (value,) in database.execute(sql)]


def test_only_so_many_runs_and_documents_stay(home: Path) -> None:
    with closing(_connect(home)) as other:  # a server
        other.execute("SELECT * FROM task_run").fetchall()
        assert tidy_history(home, Kept(runs=5, runs_with_tasks=2)) == 7
    last = [f"night{number:02}" for number in range(7, 12)]
    assert _column(home, "SELECT id FROM flow_run ORDER BY id") == [*last, "now", "other"]
    with_tasks = ["night10", "night11", "now", "other"]
    tasks = "SELECT DISTINCT flow_run_id FROM task_run ORDER BY 1"
    assert _column(home, tasks) == with_tasks
    assert _column(home, "SELECT count(*) FROM task_run_state") == ["12"]
    assert _column(home, "SELECT count(*) FROM log WHERE task_run_id IS NOT NULL") == ["12"]
    for table in ("flow_run_state", "artifact", "log"):
        runs = _column(home, f"SELECT DISTINCT flow_run_id FROM {table} ORDER BY 1")  # noqa: S608
        assert runs == [*last, "now", "other"]
    # Events of before 1999 and 2000; the nights are of a time to come.
    assert _column(home, "SELECT count(*) FROM events") == ["12"]
    assert _column(home, "SELECT count(*) FROM event_resources") == ["12"]
    assert tidy_history(home, Kept(runs=5, runs_with_tasks=2)) == 0


def test_a_large_night_gives_its_documents_up_but_for_the_last(home: Path) -> None:
    assert tidy_history(home, Kept(tasks=7)) == 0
    tasks = "SELECT DISTINCT flow_run_id FROM task_run ORDER BY 1"
    assert _column(home, tasks) == ["night10", "night11", "now", "other"]
    tidy_history(home, Kept(tasks=2))
    assert _column(home, tasks) == ["night11", "now", "other"]
    assert len(_column(home, "SELECT id FROM flow_run")) == 14


def test_what_ended_long_ago_goes_however_few_there_are(home: Path) -> None:
    with closing(_connect(home)) as database:
        database.execute("UPDATE flow_run SET end_time = '2001-01-01' WHERE id <> 'night11'")
    assert tidy_history(home) == 11
    assert _column(home, "SELECT id FROM flow_run ORDER BY id") == ["night11", "now", "other"]


def test_a_night_that_has_no_time_left_leaves_it_for_the_next(home: Path) -> None:
    assert tidy_history(home, Kept(runs=1, seconds=-1)) == 0
    assert len(_column(home, "SELECT id FROM flow_run")) == 14
    assert tidy_history(home, Kept(runs=1)) == 11


def test_the_space_is_given_back(home: Path) -> None:
    with closing(_connect(home)) as database:
        database.executemany(
            "INSERT INTO task_run_state SELECT ?, 'night00-1', ?",
            [(f"s{number}", DATA) for number in range(500)],
        )
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = (home / "prefect.db").stat().st_size
    tidy_history(home, Kept(runs=1))
    assert (home / "prefect.db").stat().st_size == before  # too little to be worth the work
    tidy_history(home, Kept(runs=1, free_bytes=100_000))
    assert (home / "prefect.db").stat().st_size < before / 5


def test_without_a_history_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert tidy_history(tmp_path) == 0
    assert not list(tmp_path.iterdir())


def test_a_damaged_history_is_told(tmp_path: Path) -> None:
    (tmp_path / "prefect.db").write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="can't be tidied"):
        tidy_history(tmp_path)


def test_long_logs_keep_their_ends_and_are_gone_on_with(tmp_path: Path) -> None:
    long, short = tmp_path / "docflash-server.log", tmp_path / "docflash-worker.log"
    short.write_text("a line\n", "utf-8")
    with long.open("ab") as writer:
        writer.write(b"".join(b"line %d\n" % number for number in range(120_000)))
        writer.flush()
        cut_logs(tmp_path)
        writer.write(b"one more\n")
    lines = long.read_text("utf-8").splitlines()
    assert lines[-2:] == ["line 119999", "one more"]
    assert lines[0].startswith("line ")
    assert 90_000 < long.stat().st_size < 110_000
    assert short.read_text("utf-8") == "a line\n"
