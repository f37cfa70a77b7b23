"""Opens the file of a store for reading only; where there is none yet, an empty one in memory."""

from pathlib import Path
from typing import Any

import duckdb

from pipeline.errors import InputError
from pipeline.store.database import first_line, set_up
from pipeline.store.migrations import MIGRATIONS

_OPTIONS = {
    "memory_limit": "512MB",
    "threads": "2",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


def connect_to_read(path: Path | None) -> duckdb.DuckDBPyConnection:
    """A connection that can change nothing.

    Args:
        path: The file of a store; None for an empty store.

    Raises:
        InputError: It can't be read, or is of another version of docflash.
    """
    if path is None:  # no run yet: an empty store, in memory
        connection = duckdb.connect(":memory:")
        for migration in MIGRATIONS:
            connection.execute(migration.sql)
        return connection
    try:
        connection = duckdb.connect(str(path), read_only=True, config=dict(_OPTIONS))
        set_up(connection)
        rows: list[tuple[Any, ...]] = connection.execute(
            "SELECT max(version) FROM schema_versions"
        ).fetchall()
    except duckdb.Error as error:
        raise InputError(
            f"the store can't be read: path={str(path)!r} ({first_line(error)}); a run may say more"
        ) from error
    if rows[0][0] != MIGRATIONS[-1].version:
        connection.close()
        raise InputError(
            f"the store has the schema version={rows[0][0]!r} and this docflash has "
            f"{MIGRATIONS[-1].version!r}; a run brings it up to date, a dry run changes nothing"
        )
    return connection
