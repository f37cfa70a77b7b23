"""Names of files leave Prefect's history for good; the rest of it stays."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flows.prefect_history import forget_names
from pipeline.errors import InputError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "prefect.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        for sql in (
            "CREATE TABLE task_run (id TEXT, name TEXT)",
            "CREATE TABLE events (id TEXT, payload JSON)",
            "CREATE TABLE deployment (id TEXT, parameters JSON)",
            "INSERT INTO task_run VALUES ('1', 'summarize private-letter.txt'), ('2', 'other.txt')",
            """INSERT INTO events VALUES ('1', '{"name": "summarize private-letter.txt"}')""",
            """INSERT INTO deployment VALUES ('1', '{"folder": "/in"}')""",
        ):
            database.execute(sql)
    return tmp_path


def test_what_names_a_file_is_deleted_and_nothing_else(home: Path) -> None:
    with closing(sqlite3.connect(home / "prefect.db")) as other:  # a server
        other.execute("SELECT * FROM task_run").fetchall()
        assert forget_names(home, ["private-letter.txt"]) == 2
        assert other.execute("SELECT id FROM task_run").fetchall() == [("2",)]
        assert other.execute("SELECT count(*) FROM deployment").fetchone() == (1,)
    for path in home.iterdir():
        assert b"private-letter" not in path.read_bytes()


def test_without_a_history_there_is_nothing_to_do(tmp_path: Path, home: Path) -> None:
    assert forget_names(tmp_path / "nothing", ["a.txt"]) == 0
    assert forget_names(home, []) == 0


def test_a_damaged_history_is_told(tmp_path: Path) -> None:
    (tmp_path / "prefect.db").write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="Prefect's history"):
        forget_names(tmp_path, ["a.txt"])
