"""The files of a library: which are new or changed, and which are gone.

In: what a search of a folder found. Out: what must be read; what need not is noted as still there.
A file that is gone keeps its row: its document's results leave the published tables, and come back
without the model if it does.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pyarrow as pa

from pipeline.records import FoundFile
from pipeline.store.backoff import is_due
from pipeline.store.database import Database, Session
from pipeline.store.mounts import find_lost, is_below, save_mounts
from pipeline.store.texts import folder_text, storable

UNSETTLED_NS = 2_000_000_000
"""A file that was changed this shortly before it was read, or later, may have changed again without
another time or size (a file system's clock ticks in steps); it is read again."""

TRANSIENT_KINDS = ("crashed", "timeout")
"""Kinds of failed documents that may say nothing of the document: they are read again after some
time (`pipeline.jobs.BACKOFF_HOURS`)."""

_FOUND = pa.schema(
    [
        ("place", pa.int64()),
        ("folder", pa.string()),
        ("name", pa.string()),
        ("size_bytes", pa.int64()),
        ("modified_ns", pa.int64()),
        ("document_sha256", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class CheckedFiles:
    """What `Files.check` tells of a batch of files.

    Attributes:
        unchanged: Their documents are stored; nothing is to be done.
        to_read: New, changed, not readable last time, or read by another reader.
    """

    unchanged: tuple[FoundFile, ...]
    to_read: tuple[FoundFile, ...]


class Files:
    """The files of a library. `Store.files`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def check(
        self,
        run_id: str,
        found: Sequence[FoundFile],
        reader_version: str,
        *,
        retry: bool = False,
    ) -> CheckedFiles:
        """Tells which files must be read, and notes the others as seen by this run.

        A file need not be read if its size and time are those it was last read with and its
        document was stored by the same reader, read or failed. (What failed in a way that may pass
        is read again after some time.) Call it with batches of some thousands.

        Args:
            run_id: This run, begun.
            found: A batch of a search.
            reader_version: `pipeline.reader.READER_VERSION`.
            retry: Documents that failed are read again, too.
        """
        with self._database.transaction() as session:
            _offer(session, ((file, None) for file in found))
            session.run(
                "CREATE OR REPLACE TEMP TABLE unchanged_files AS SELECT n.place, n.folder, n.name "
                "FROM found n JOIN files f USING (folder, name) "
                "JOIN documents d ON d.sha256 = f.document_sha256 "
                "WHERE f.size_bytes = n.size_bytes AND f.modified_ns = n.modified_ns "
                "AND f.modified_ns < f.read_started_ns - ? AND d.reader_version = ? "
                "AND NOT (d.status = 'failed' AND (? OR "
                f"(list_contains(?, d.failure_kind) AND {is_due('d.attempts', 'd.read_at')})))",
                UNSETTLED_NS,
                reader_version,
                retry,
                list(TRANSIENT_KINDS),
            )
            session.run(
                "UPDATE files SET last_run_id = ?, deleted_run_id = NULL FROM unchanged_files n "
                "WHERE files.folder = n.folder AND files.name = n.name",
                run_id,
            )
            known = {place for (place,) in session.rows("SELECT place FROM unchanged_files")}
            session.run("DROP TABLE temp.unchanged_files")
        unchanged = tuple(file for place, file in enumerate(found) if place in known)
        to_read = tuple(file for place, file in enumerate(found) if place not in known)
        return CheckedFiles(unchanged, to_read)

    def record_unreadable(self, run_id: str, found: Iterable[FoundFile]) -> None:
        """Notes files that are there but gave no bytes; every run tries them again.

        Why goes to `Runs.record_failure`. What was stored of their documents is kept, but is not
        shown as theirs any more: they have changed since, or they would not have been read.
        """
        with self._database.transaction() as session:
            save_files(session, run_id, [(file, None) for file in found])

    def find_lost(self, run_id: str, root: Path, mounts: Sequence[str]) -> tuple[str, ...]:
        """Places where a drive or a share was when the folder was last searched, and now is none.

        Args:
            run_id: This run, whose search is complete.
            root: The folder that was searched.
            mounts: Names (as `FoundFile.name`, "." for the folder) of where file systems begin.
        """
        folder = folder_text(root)
        seen = "SELECT name FROM files WHERE folder = ? AND last_run_id = ?"
        with self._database.transaction() as session:
            began = _began(session, run_id)
            return find_lost(session, folder, mounts, began, (seen, folder, run_id))

    def finish_search(
        self,
        run_id: str,
        root: Path,
        unreachable: Iterable[str] = (),
        mounts: Sequence[str] = (),
        lost: Sequence[str] = (),
    ) -> int:
        """Marks the files of a folder that this run did not see as deleted.

        Call it after a complete search, when everything found was checked and saved. Failures of
        earlier runs over this folder that were recorded by `Runs.record_failure` and not met again
        are forgotten.

        Args:
            run_id: This run.
            root: The folder that was searched.
            unreachable: Names (as `FoundFile.name`, "." for the folder) of what could not be
                entered or looked at; what is below is not deleted, it is just not seen.
            mounts: Names of where file systems begin.
            lost: What `find_lost` gave; nothing below is deleted either.

        Returns:
            How many files were marked.
        """
        folder = folder_text(root)
        names = [storable(name) for name in (*unreachable, *lost)]
        with self._database.transaction() as session:
            session.run("DELETE FROM failures WHERE folder = ? AND run_id <> ?", folder, run_id)
            save_mounts(session, folder, mounts, lost, _began(session, run_id))
            return session.count(
                "UPDATE files SET deleted_run_id = $1 WHERE folder = $2 AND last_run_id <> $1 "
                "AND deleted_run_id IS NULL AND NOT EXISTS (FROM unnest($3::VARCHAR[]) u(below) "
                f"WHERE {is_below('name', 'below')})",
                run_id,
                folder,
                names,
            )


def save_files(
    session: Session, run_id: str, files: Sequence[tuple[FoundFile, str | None]]
) -> None:
    """Saves files with their documents (None: no bytes), seen by this run."""
    session.run("DROP TABLE IF EXISTS temp.seen_files")
    latest = {(file.root, file.name): (file, sha256) for file, sha256 in files}
    _offer(session, latest.values())
    # The clock of the run: whatever was read in it was read after it began.
    session.run(
        "CREATE TEMP TABLE seen_files AS SELECT n.folder, n.name, n.size_bytes, n.modified_ns, "
        "n.document_sha256, coalesce((SELECT epoch_ns(started_at) FROM runs WHERE run_id = $1), 0) "
        "AS read_started_ns, coalesce(f.first_run_id, $1) AS first_run_id, $1 AS last_run_id, "
        "NULL::VARCHAR AS deleted_run_id "
        "FROM found n LEFT JOIN files f USING (folder, name)",
        run_id,
    )
    session.run(
        "DELETE FROM files USING seen_files s WHERE files.folder = s.folder AND files.name = s.name"
    )
    session.run("INSERT INTO files BY NAME SELECT * FROM seen_files")
    session.run("DROP TABLE temp.seen_files")


def _began(session: Session, run_id: str) -> datetime:
    """When a run began; a run that is not in the table begins now."""
    rows = session.rows("SELECT started_at FROM runs WHERE run_id = ?", run_id)
    return rows[0][0] if rows else datetime.now(UTC)


def _offer(session: Session, files: Iterable[tuple[FoundFile, str | None]]) -> None:
    folders = cache(folder_text)  # of thousands of files it is one
    session.offer(
        "found",
        _FOUND,
        (
            (
                place,
                folders(file.root),
                storable(file.name),
                file.size_bytes,
                file.modified_ns,
                sha256,
            )
            for place, (file, sha256) in enumerate(files)
        ),
    )
