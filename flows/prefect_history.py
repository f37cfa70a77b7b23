"""Takes names of files out of the history that docflash's own Prefect keeps.

In: the names. Out: its database without the tasks, logs, events and artifacts that name them, and
written anew, so that nothing stays in unused pages. A server may be using it meanwhile.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from pipeline.errors import InputError

DATABASE = "prefect.db"

# What a run writes about its documents; deployments, schedules and the runs themselves stay.
_HISTORY = (
    *("log", "events", "event_resources", "task_run", "task_run_state", "task_run_state_cache"),
    *("artifact", "artifact_collection"),
)
_WAIT_S = 30.0


def forget_names(prefect_home: Path, names: Sequence[str]) -> int:
    """Deletes what names files.

    Args:
        prefect_home: The folder with Prefect's database; nothing is done if there is none.
        names: Paths of files, and their names within a folder.

    Returns:
        How many rows were deleted.

    Raises:
        InputError: The database is busy or damaged.
    """
    path = prefect_home / DATABASE
    if not path.is_file() or not names:
        return 0
    try:
        with closing(sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)) as database:
            database.execute("PRAGMA secure_delete = ON")
            deleted = sum(_delete(database, *place, names) for place in _text_columns(database))
            database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise InputError(
            f"names of files could not be taken out of Prefect's history, path={str(path)!r} "
            f"({error}); stop what is using it and purge again"
        ) from error
    return deleted


def _text_columns(database: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Each table of the history with each of its columns."""
    for table in _HISTORY:
        for _, column, *_ in database.execute(f'PRAGMA table_info("{table}")').fetchall():
            yield table, column


def _delete(database: sqlite3.Connection, table: str, column: str, names: Sequence[str]) -> int:
    sql = f'DELETE FROM "{table}" WHERE instr(CAST("{column}" AS TEXT), ?)'
    return sum(database.execute(sql, (name,)).rowcount for name in names)
