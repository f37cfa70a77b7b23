"""Runs a user's SQL over the published tables, and lets it reach nothing else.

In: a library's folder and one reading statement. Out: an Arrow table. The statement runs in a
DuckDB of its own in memory, which may open the files of one snapshot and no other file, and whose
settings are locked. It sees every table by its name, and a view for each task:

    documents, files, pages, chunks, jobs, runs, summaries, extractions_<task>, evidence, failures
    <task>     the answers to one task: of summary, its rows of summaries; of invoice,
               extractions_invoice
"""

import difflib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from pipeline.errors import InputError
from pipeline.snapshots import Manifest, current_snapshot, read_manifest
from pipeline.tables import name_in_sql, quoted

Fetch = Callable[[duckdb.DuckDBPyRelation], Any]

_ATTEMPTS = 5
_THREADS = 4
_LIMITS = {
    "memory_limit": "1GB",
    "threads": str(min(_THREADS, os.cpu_count() or 1)),
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_ONE_STATEMENT = "give one statement that reads: SELECT, WITH, FROM, VALUES, DESCRIBE, SUMMARIZE"


@dataclass(frozen=True, slots=True)
class View:
    """Something a query can read from.

    Attributes:
        name: Its name.
        sql: What it shows.
    """

    name: str
    sql: str


def query(out: Path, sql: str) -> Any:
    """Runs one reading statement over what is published now.

    Args:
        out: The library's folder.
        sql: The statement.

    Returns:
        All its rows, a `pyarrow.Table` (whose stubs leave the class unknown). While it runs,
        Ctrl-C ends it with KeyboardInterrupt.

    Raises:
        InputError: Nothing is published, or the statement is wrong, or more than one, or does
            something else than read, or needs more memory than it may have.
    """
    return _query(out, sql, lambda relation: relation.to_arrow_table())


def query_value(out: Path, sql: str) -> Any:
    """The one value that a reading statement gives; see `query`. Times must be asked for as text.

    pyarrow, which takes longer to load than a small query runs, is not needed for it.
    """
    return _query(out, sql, lambda relation: relation.fetchall()[0][0])


def _query(out: Path, sql: str, fetch: Fetch) -> Any:
    for attempt in range(_ATTEMPTS):
        snapshot = _find_snapshot(out)
        try:
            return _query_snapshot(snapshot, sql, fetch)
        except (duckdb.IOException, OSError) as error:
            # A run that publishes twice meanwhile has removed these files: read the newer ones.
            if current_snapshot(out) == snapshot or attempt + 1 == _ATTEMPTS:
                raise InputError(
                    f"the tables in snapshot={str(snapshot)!r} can't be read ({_brief(error)}); "
                    "run `docflash run FOLDER` to publish them again"
                ) from error
    raise AssertionError


def list_views(out: Path) -> tuple[str, ...]:
    """The names that a query can read from, tables first.

    Raises:
        InputError: Nothing is published.
    """
    snapshot = _find_snapshot(out)
    try:
        return tuple(view.name for view in _views(snapshot, read_manifest(snapshot)))
    except OSError as error:
        raise InputError(
            f"the tables in snapshot={str(snapshot)!r} can't be read ({error.strerror}); try again"
        ) from error


def _find_snapshot(out: Path) -> Path:
    snapshot = current_snapshot(out)
    if snapshot is None:
        raise InputError(
            f"nothing is published yet in out={str(out)!r}; run `docflash run FOLDER` first, with "
            "the same --out"
        )
    return snapshot


def _query_snapshot(snapshot: Path, sql: str, fetch: Fetch) -> Any:
    manifest = read_manifest(snapshot)
    views = _views(snapshot, manifest)
    files = [_file(snapshot, table.name) for table in manifest.tables]
    with duckdb.connect(":memory:", config=dict(_LIMITS)) as connection:
        for view in views:
            connection.execute(f"CREATE VIEW {name_in_sql(view.name)} AS {view.sql}")
        _lock_down(connection, files)
        statement = _check_statement(connection, sql)
        try:
            return _fetch(connection, statement, fetch)
        except duckdb.IOException:
            raise
        except duckdb.Error as error:
            raise InputError(_explain(error, views)) from None


def _fetch(connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement, fetch: Fetch) -> Any:
    """The rows of a statement; Ctrl-C ends it.

    DuckDB's own look for signals comes between its tasks, and one task of a join of two large
    tables may take hours. So it runs in a thread, while this one is free to hear of a signal.
    """
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: fetch(connection.sql(statement)))
        try:
            return running.result()
        except KeyboardInterrupt:
            connection.interrupt()
            raise


def _views(snapshot: Path, manifest: Manifest) -> list[View]:
    views = [
        View(
            table.name,
            f"SELECT * FROM read_parquet({quoted(_file(snapshot, table.name))})",
        )
        for table in manifest.tables
    ]
    taken = {view.name for view in views}
    for task in manifest.tasks:
        if task.name in taken:
            continue
        if task.kind == "fields":
            views.append(View(task.name, f"FROM {name_in_sql('extractions_' + task.name)}"))
        elif task.kind == "text":
            views.append(View(task.name, f"FROM summaries WHERE task = {quoted(task.name)}"))
    return views


def _file(snapshot: Path, table: str) -> str:
    return str(snapshot / f"{table}.parquet")


def _lock_down(connection: duckdb.DuckDBPyConnection, files: list[str]) -> None:
    """Takes everything from the connection but reading these files."""
    for setting in (
        "enable_progress_bar = false",  # on in a program without a file, and writes to stdout
        "python_enable_replacements = false",  # no Python variables as tables
        "temp_directory = ''",  # no text of documents elsewhere on the disk
        # Files, not their folder: nothing can be added to it.
        f"allowed_paths = [{', '.join(map(quoted, files))}]",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")


def _check_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    """The one statement in the text, if it only reads."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise InputError(f"the SQL has a mistake: {error}") from None
    if len(statements) != 1:
        raise InputError(f"the SQL has statements={len(statements)!r}; {_ONE_STATEMENT}")
    # EXPLAIN would do for harmless ones, but EXPLAIN ANALYZE runs whatever comes after it.
    if statements[0].type != duckdb.StatementType.SELECT:
        kind = statements[0].type.name
        raise InputError(f"a statement of kind={kind!r} is not for reading; {_ONE_STATEMENT}")
    return statements[0]


def _explain(error: duckdb.Error, views: list[View]) -> str:
    message = str(error).strip()
    if isinstance(error, duckdb.OutOfMemoryException):
        return (
            f"the query needs more than memory_limit={_LIMITS['memory_limit']!r}; read fewer "
            f"columns or rows ({_brief(error)})"
        )
    if isinstance(error, duckdb.PermissionException):
        return f"a query may read the published tables and nothing else ({_brief(error)})"
    if isinstance(error, duckdb.CatalogException) and "Table with name" in message:
        missing = message.partition("Table with name ")[2].split(" ", 1)[0].strip('"!')
        names = [view.name for view in views]
        near = difflib.get_close_matches(missing, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        return f"there is no table named {missing!r}{hint} There are: {', '.join(names)}"
    return f"the query failed: {message}"


def _brief(error: BaseException) -> str:
    return str(error).partition("\n")[0][:300]
