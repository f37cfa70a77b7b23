"""Looks into a store without changing it: what a run over a folder would find new, changed, moved.

In: the files of a folder, in batches, and the hashes of those that are not simply unchanged. Out:
counts, documents and jobs as they would be. The file is opened for reading only; what is noted here
is in memory.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from pipeline.jobs import TRANSIENT_KINDS as TRANSIENT_JOBS
from pipeline.jobs import DocumentEntry
from pipeline.records import FoundFile
from pipeline.store.backoff import due_at, is_due
from pipeline.store.database import FILE_NAME, Session
from pipeline.store.files import TRANSIENT_KINDS, UNSETTLED_NS
from pipeline.store.mounts import find_lost, is_below
from pipeline.store.ownership import take_lock
from pipeline.store.read_only import connect_to_read
from pipeline.store.texts import folder_text, storable

_SEEN = pa.schema([("name", pa.string()), ("size_bytes", pa.int64()), ("modified_ns", pa.int64())])
_HASHED = pa.schema([("name", pa.string()), ("sha256", pa.string())])
_KEYS = pa.schema([("key", pa.string())])


@dataclass(frozen=True, slots=True)
class FileChanges:
    """What became of the files of a folder since the last run over it.

    Attributes:
        unchanged: Size and time are those of before; their bytes are not looked at.
        touched: Another time, and the same bytes.
        new: Bytes that were never read.
        changed: Other bytes under a known name.
        moved: Known bytes under a new name, the old one being gone.
        copied: Known bytes under a new name.
        again: The same bytes, which could not be read before and are tried again.
        back: Deleted before, and there again.
        deleted: No longer there.
        unreadable: There, and can't be read.
    """

    unchanged: int = 0
    touched: int = 0
    new: int = 0
    changed: int = 0
    moved: int = 0
    copied: int = 0
    again: int = 0
    back: int = 0
    deleted: int = 0
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """A failure of before that the next run leaves alone.

    Attributes:
        kind, message: As in `records.Failure`.
        due: From when a run tries it again; None: only if its file, task or model changes, or if
            asked to (`--retry`).
    """

    kind: str
    message: str
    due: datetime | None


@dataclass(frozen=True, slots=True)
class Known:
    """What the store has of some jobs, by key.

    Attributes:
        done: They are answered.
        failed: They failed and are left alone.
    """

    done: frozenset[str]
    failed: dict[str, Failed]


class Peek:
    """A store that is only looked at; nobody changes it meanwhile."""

    def __init__(self, out: Path, root: Path) -> None:
        """Opens the store of a library, to ask it about one folder.

        Args:
            out: The library's folder.
            root: The folder with the documents.

        Raises:
            BusyError: A run has it.
            InputError: It can't be read, or is of another version of docflash.
        """
        self._folder = folder_text(root)
        path = out / FILE_NAME
        self._lock = take_lock(out) if path.is_file() else -1
        try:
            self._session = Session(connect_to_read(path if self._lock >= 0 else None))
        except BaseException:
            self._unlock()
            raise
        for table, columns in (
            ("seen", "name VARCHAR, size_bytes BIGINT, modified_ns BIGINT"),
            ("hashed", "name VARCHAR, sha256 VARCHAR"),
        ):
            self._session.run(f"CREATE TEMP TABLE {table} ({columns})")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session.connection.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def note(self, found: Sequence[FoundFile]) -> None:
        """Notes files that are there."""
        rows = ((storable(file.name), file.size_bytes, file.modified_ns) for file in found)
        self._session.offer("noted", _SEEN, rows)
        self._session.run("INSERT INTO temp.seen SELECT * FROM noted")
        self._session.forget_views()

    def list_unsure(self, reader_version: str, *, retry: bool) -> list[str]:
        """The names of the noted files that a run would read."""
        rows = self._session.rows(
            "SELECT n.name FROM temp.seen n WHERE NOT EXISTS (SELECT 1 FROM files f "
            "JOIN documents d ON d.sha256 = f.document_sha256 "
            "WHERE f.folder = ? AND f.name = n.name "
            "AND f.size_bytes = n.size_bytes AND f.modified_ns = n.modified_ns "
            "AND f.modified_ns < f.read_started_ns - ? AND d.reader_version = ? "
            "AND NOT (d.status = 'failed' AND (? OR "
            f"(list_contains(?, d.failure_kind) AND {is_due('d.attempts', 'd.read_at')})))) "
            "ORDER BY n.name",
            self._folder,
            UNSETTLED_NS,
            reader_version,
            retry,
            list(TRANSIENT_KINDS),
        )
        return [name for (name,) in rows]

    def list_unread(self) -> list[tuple[str, Failed]]:
        """The noted files that could not be read before and are left alone; after `note_hashes`."""
        rows = self._session.rows(
            "SELECT n.name, d.failure_kind, d.failure, CASE WHEN list_contains(?, d.failure_kind) "
            f"THEN {due_at('d.attempts', 'd.read_at')} END FROM temp.seen n "
            "JOIN files f ON f.folder = ? AND f.name = n.name "
            "JOIN documents d ON d.sha256 = f.document_sha256 WHERE d.status = 'failed' "
            "AND n.name NOT IN (SELECT name FROM temp.hashed) ORDER BY n.name",
            list(TRANSIENT_KINDS),
            self._folder,
        )
        return [(name, Failed(*failed)) for name, *failed in rows]

    def note_hashes(self, hashes: Iterable[tuple[str, str]]) -> None:
        """Notes the SHA-256 of the bytes of such files, by name; empty if it can't be read."""
        self._session.offer("noted", _HASHED, ((storable(name), sha) for name, sha in hashes))
        self._session.run("INSERT INTO temp.hashed SELECT * FROM noted")
        self._session.forget_views()

    def count_changes(self, unreachable: Sequence[str]) -> FileChanges:
        """What became of the files.

        Args:
            unreachable: Names of what could not be entered; what is below is not deleted.
        """
        kinds: Counter[str] = Counter()
        for kind, count in self._session.rows(
            f"WITH {_GONE}, judged AS (SELECT CASE WHEN h.sha256 = '' THEN 'unreadable' "
            "WHEN f.name IS NOT NULL AND f.deleted_run_id IS NULL "
            "THEN if(f.document_sha256 IS DISTINCT FROM h.sha256, 'changed', "
            "if(d.status = 'failed', 'again', 'touched')) "
            "WHEN f.document_sha256 = h.sha256 THEN 'back' "
            "WHEN h.sha256 IN (SELECT document_sha256 FROM gone) THEN 'moved' "
            "WHEN h.sha256 IN (SELECT sha256 FROM documents) THEN 'copied' "
            "ELSE 'new' END AS kind FROM temp.hashed h "
            "LEFT JOIN files f ON f.folder = $1 AND f.name = h.name "
            "LEFT JOIN documents d ON d.sha256 = f.document_sha256) "
            "SELECT kind, count(*) FROM judged GROUP BY kind "
            "UNION ALL SELECT 'deleted', count(*) FROM gone "
            "WHERE coalesce(document_sha256, '') NOT IN (SELECT sha256 FROM temp.hashed) "
            "UNION ALL SELECT if(f.deleted_run_id IS NULL, 'unchanged', 'back'), count(*) "
            "FROM temp.seen n JOIN files f ON f.folder = $1 AND f.name = n.name "
            "WHERE n.name NOT IN (SELECT name FROM temp.hashed) GROUP BY ALL",
            self._folder,
            [storable(name) for name in unreachable],
        ):
            kinds[kind] += int(count)
        return FileChanges(**kinds)

    def find_lost(self, mounts: Sequence[str]) -> tuple[str, ...]:
        """Places where a drive or a share was, and now is none; as `Files.find_lost`."""
        seen = ("SELECT name FROM temp.seen",)
        return find_lost(self._session, self._folder, mounts, datetime.now(UTC), seen)

    def list_known(
        self, class_fingerprint: str, model_fingerprint: str
    ) -> tuple[DocumentEntry, ...]:
        """The documents among the noted files whose text is stored."""
        rows = self._session.rows(
            "WITH here AS (SELECT n.name, coalesce(h.sha256, f.document_sha256) AS sha256 "
            "FROM temp.seen n LEFT JOIN temp.hashed h USING (name) "
            "LEFT JOIN files f ON f.folder = ? AND f.name = n.name) "
            "SELECT d.sha256, d.text_sha256, list_sort(list(here.name)), any_value(c.class) "
            "FROM here JOIN documents d USING (sha256) "
            "LEFT JOIN (SELECT j.text_sha256, r.value->>'$' AS class FROM jobs j "
            "JOIN results r ON r.job_key = j.key WHERE j.state = 'done' "
            "AND j.task_fingerprint = ? AND j.model_fingerprint = ?) c USING (text_sha256) "
            "WHERE d.status = 'read' GROUP BY ALL ORDER BY min(here.name)",
            self._folder,
            class_fingerprint,
            model_fingerprint,
        )
        return tuple(
            DocumentEntry(sha, text, tuple(names), kind) for sha, text, names, kind in rows
        )

    def list_new(self) -> list[str]:
        """A name for each content among the hashed files that was never read."""
        rows = self._session.rows(
            "SELECT min(name) FROM temp.hashed "
            "WHERE sha256 <> '' AND sha256 NOT IN (SELECT sha256 FROM documents) "
            "GROUP BY sha256 ORDER BY 1"
        )
        return [name for (name,) in rows]

    def find_jobs(self, keys: Iterable[str], *, retry: bool) -> Known:
        """Which of these jobs are done, and which failed and would not be tried again."""
        self._session.offer("wanted", _KEYS, ((key,) for key in keys))
        rows = self._session.rows(
            "SELECT key, state, failure_kind, failure, CASE WHEN list_contains($1, failure_kind) "
            f"THEN {due_at('attempts', 'changed_at')} END AS due FROM jobs "
            "WHERE key IN (SELECT key FROM wanted) AND (state = 'done' OR (state = 'failed' "
            f"AND NOT $2 AND (due IS NULL OR NOT {is_due('attempts', 'changed_at')})))",
            sorted(TRANSIENT_JOBS),
            retry,
        )
        self._session.forget_views()
        done = frozenset(key for key, state, *_ in rows if state == "done")
        failed = {key: Failed(*told) for key, state, *told in rows if state == "failed"}
        return Known(done, failed)

    def calls_per_job(self, model_fingerprint: str) -> dict[str, float]:
        """Model calls that an answer to a task took on the average, by task."""
        rows = self._session.rows(
            "SELECT j.task, avg(r.calls) FROM results r JOIN jobs j ON j.key = r.job_key "
            "WHERE j.model_fingerprint = ? GROUP BY j.task",
            model_fingerprint,
        )
        return dict(rows)

    def seconds_per_call(self, model_fingerprint: str) -> float | None:
        """What a model call took in the last runs, all in all; None if there was none."""
        rows = self._session.rows(
            "SELECT sum(epoch(finished_at) - epoch(started_at)) / sum(model_calls) FROM ("
            "FROM runs WHERE model_fingerprint = ? AND model_calls > 0 "
            "AND finished_at > started_at ORDER BY started_at DESC LIMIT 5)",
            model_fingerprint,
        )
        return None if rows[0][0] is None else float(rows[0][0])


_GONE = (
    "gone AS (SELECT f.name, f.document_sha256 FROM files f WHERE f.folder = $1 "
    "AND f.deleted_run_id IS NULL AND f.name NOT IN (SELECT name FROM temp.seen) "
    "AND NOT EXISTS (FROM unnest($2::VARCHAR[]) u(below) "
    f"WHERE {is_below('f.name', 'below')}))"
)
