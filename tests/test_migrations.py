"""A store of each earlier schema is brought up: its rows stay, and it is as one that is new."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.parquet import publish
from pipeline.queries import query
from pipeline.store import Store
from pipeline.store.database import Database, Session
from pipeline.store.migrations import MIGRATIONS
from tests.library import make_task

# Values that fit together, by column; of other columns one of their type will do.
VALUES = {
    "state": "'done'", "status": "'read'", "value": "'\"So.\"'", "task": "'summary'",
    "job_key": "'k'", "key": "'k'", "done_key": "'k'", "document_sha256": "'d'", "sha256": "'d'",
    "text_sha256": "'t'", "folder": "'/in'", "name": "'a.txt'", "lost_at": "NULL",
    "deleted_run_id": "NULL",
}  # fmt: skip
OF_TYPE = {"VARCHAR": "'x'", "BLOB": "''::BLOB", "BOOLEAN": "true", "JSON": "'1'"}
# A revision is that of the document, of the cut, or of the quoted job: each is the first.
NUMBER = "1"
GONE = {"evidence": 2}
"""Tables that a version dropped: what was in them is made anew."""


def columns(session: Session) -> dict[str, list[tuple[str, str]]]:
    """The columns of each table, with their types."""
    found: dict[str, list[tuple[str, str]]] = {}
    for table, name, kind in session.rows(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE NOT internal AND table_name <> 'schema_versions' ORDER BY ALL"
    ):
        found.setdefault(table, []).append((name, kind))
    return found


def value_of(name: str, kind: str) -> str:
    if name in VALUES:
        return VALUES[name]
    if kind.endswith("[]"):
        return "[]"
    if kind.startswith("TIMESTAMP"):
        return "now()"
    return "NULL" if kind.startswith("STRUCT") else OF_TYPE.get(kind, NUMBER)


def fill(session: Session) -> None:
    """Writes a row into each table."""
    for table, its in columns(session).items():
        values = ", ".join(f"{value_of(name, kind)} AS {name}" for name, kind in its)
        session.run(f'INSERT INTO "{table}" BY NAME SELECT {values}')
    session.run("SELECT nextval('revisions')")


def as_it_is(out: Path) -> tuple[Any, list[tuple[Any, ...]]]:
    """A store's columns, and what names its indexes and keys."""
    database = Database(out)
    with database.transaction() as session:
        rules = session.rows(
            "SELECT table_name, constraint_type, constraint_text FROM duckdb_constraints() "
            "UNION ALL SELECT table_name, index_name, sql FROM duckdb_indexes() ORDER BY ALL"
        )
        found = columns(session), rules
    database.close()
    return found


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A store that is new, as it is."""
    out = tmp_path_factory.mktemp("new")
    Store.open(out).close()
    return as_it_is(out)


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS) + 1))
def test_a_store_of_each_version_is_brought_up(version: int, new: Any, tmp_path: Path) -> None:
    out = tmp_path / "old"
    old = Database(out, MIGRATIONS[:version])
    with old.transaction() as session:
        fill(session)
        tables = set(columns(session))
    old.close()

    assert as_it_is(out) == new

    task = make_task("summary")
    with Store.open(out) as store:
        with store.snapshot() as session:
            for table in tables - {name for name, gone in GONE.items() if version < gone}:
                assert session.count(f'SELECT count(*) FROM "{table}"') == 1, table  # noqa: S608
            assert session.count("SELECT max(version) FROM schema_versions") == len(MIGRATIONS)
        publish(store, [task], "run1")
    (summary,) = query(out, "SELECT path, text FROM summary").to_pylist()
    assert summary == {"path": "/in/a.txt", "text": "So."}
    assert query(out, "FROM pages").num_rows == query(out, "FROM chunks").num_rows == 1
