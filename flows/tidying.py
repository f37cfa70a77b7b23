"""Keeps docflash's state folder from growing night after night.

In: the folder that docflash's own Prefect keeps its files in. Out: its database without what is
known of old runs, and its logs cut to their ends. A server may be using both meanwhile.
"""

import os
import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flows.prefect_history import DATABASE
from pipeline.errors import InputError
from pipeline.settings import state_folder

_FLOW = "process-folder"
_AT_ONCE = 500
_WAIT_S = 5.0
_LOG_BYTES = 1_000_000
_LOG_END_BYTES = 100_000
_ENDED = "('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED')"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of the runs that have ended; of the last one always all.

    Attributes:
        runs: So many runs: as many as `docflash nights` can show.
        days: And none that ended longer ago.
        runs_with_tasks: Of so many runs what became of each document is kept, too,
        tasks: as long as these are no more documents' tasks than so many.
        event_days: Events of a server that stores them (docflash's own does not).
        seconds: How long this may take; the rest is for the next night.
        free_bytes: With more unused space, and that the larger part, the file is written anew.
    """

    runs: int = 200
    days: int = 90
    runs_with_tasks: int = 30
    tasks: int = 10_000
    event_days: int = 7
    seconds: float = 30.0
    free_bytes: int = 32 << 20


def tidy_state() -> None:
    """Tidies the state folder; a Prefect that has its files elsewhere is the user's own to tidy.

    Raises:
        InputError: Prefect's database is busy or damaged.
    """
    home = state_folder() / "prefect"
    for folder in (state_folder(), home):
        cut_logs(folder)
    tidy_history(home)


def tidy_history(prefect_home: Path, kept: Kept | None = None) -> int:
    """Deletes from Prefect's database what is known of runs of docflash that are long over.

    Args:
        prefect_home: The folder with the database; nothing is done if there is none.
        kept: What stays.

    Returns:
        How many runs were deleted with all that was known of them.

    Raises:
        InputError: The database is busy or damaged.
    """
    path = prefect_home / DATABASE
    if not path.is_file():
        return 0
    try:
        with closing(sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)) as database:
            return _History(database, kept or Kept()).tidy()
    except sqlite3.Error as error:
        raise InputError(
            f"Prefect's history can't be tidied, path={str(path)!r} ({error}); the next run tries "
            "again"
        ) from error


def cut_logs(folder: Path) -> None:
    """Cuts the logs of server and worker to their ends if they are long.

    Whoever writes one has it open to append, and so goes on at its new end.
    """
    for path in folder.glob("docflash-*.log"):
        if path.stat().st_size <= _LOG_BYTES:
            continue
        with path.open("r+b") as file:
            file.seek(-_LOG_END_BYTES, os.SEEK_END)
            _, _, end = file.read().partition(b"\n")
            file.seek(0)
            file.write(end)
            file.truncate()


class _History:
    """Prefect's database, as far as it is about runs that have ended."""

    def __init__(self, database: sqlite3.Connection, kept: Kept) -> None:
        self._database = database
        self._kept = kept
        self._deadline = time.monotonic() + kept.seconds

    def tidy(self) -> int:
        kept, deleted = self._kept, 0
        long = self._find_runs("place > ? OR tasks > ?", kept.runs_with_tasks, kept.tasks)
        for run_id in long:
            self._delete_tasks(run_id)
        for run_id in self._find_runs("place > ? OR ended < ?", kept.runs, _days_ago(kept.days)):
            self._delete_tasks(run_id)
            deleted += self._delete_run(run_id)
        self._delete_events(_days_ago(kept.event_days))
        self._give_space_back()
        return deleted

    def _find_runs(self, condition: str, *values: object) -> list[str]:
        """Ids of runs that have ended, the oldest first; never the last one."""
        counted = "(SELECT count(*) FROM task_run t WHERE t.flow_run_id = r.id)"
        sql = (
            "WITH run AS (SELECT r.id, coalesce(r.end_time, r.state_timestamp) AS ended, "
            f"{counted} AS own FROM flow_run r JOIN flow f ON f.id = r.flow_id "
            f"WHERE f.name = ? AND r.state_type IN {_ENDED}), "
            "placed AS (SELECT id, ended, row_number() OVER newest AS place, "
            "sum(own) OVER newest AS tasks FROM run "
            "WINDOW newest AS (ORDER BY ended DESC, id ROWS UNBOUNDED PRECEDING)) "
            f"SELECT id FROM placed WHERE place > 1 AND ({condition}) ORDER BY place DESC"
        )
        return [run_id for (run_id,) in self._database.execute(sql, (_FLOW, *values))]

    def _delete_tasks(self, run_id: str) -> None:
        """By one transaction for some of them: who wants to write meanwhile waits for no more."""
        rows = self._database.execute("SELECT id FROM task_run WHERE flow_run_id = ?", (run_id,))
        self._delete_rows(
            [one for (one,) in rows],
            (("log", "task_run_id"), ("task_run_state", "task_run_id"), ("task_run", "id")),
        )

    def _delete_events(self, before: str) -> None:
        rows = self._database.execute("SELECT id FROM events WHERE occurred < ?", (before,))
        self._delete_rows(
            [one for (one,) in rows], (("event_resources", "event_id"), ("events", "id"))
        )

    def _delete_rows(self, ids: Sequence[str], places: Sequence[tuple[str, str]]) -> None:
        for begin in range(0, len(ids), _AT_ONCE):
            if self._is_late():
                return
            with self._transaction():
                for table, column in places:
                    self._delete(table, column, ids[begin : begin + _AT_ONCE])

    def _delete_run(self, run_id: str) -> int:
        """Returns 0 if it is for the next night."""
        if self._is_late():
            return 0
        with self._transaction():
            for table in ("log", "artifact", "flow_run_input", "flow_run_state"):
                self._delete(table, "flow_run_id", [run_id])
            self._database.execute(
                "DELETE FROM artifact_collection WHERE latest_id NOT IN (SELECT id FROM artifact)"
            )
            self._delete("flow_run", "id", [run_id])
        return 1

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            self._database.execute("ROLLBACK")
            raise

    def _delete(self, table: str, column: str, ids: Sequence[str]) -> None:
        marks = ", ".join("?" * len(ids))
        self._database.execute(f"DELETE FROM {table} WHERE {column} IN ({marks})", ids)

    def _give_space_back(self) -> None:
        free, pages, size = (
            self._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("freelist_count", "page_count", "page_size")
        )
        if free * size > self._kept.free_bytes and free * 2 > pages:
            self._database.execute("VACUUM")
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _days_ago(days: int) -> str:
    """That time as Prefect writes it."""
    return f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%d %H:%M:%S.%f}"
