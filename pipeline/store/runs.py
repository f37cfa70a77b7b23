"""Runs and failures: what was done when, and what did not work."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from pipeline.records import Failure, RunSummary
from pipeline.store.database import Database, Session
from pipeline.store.texts import folder_text, storable

_COLUMNS = pa.schema(
    [
        ("run_id", pa.string()),
        ("folder", pa.string()),
        ("started_at", pa.timestamp("us", "UTC")),
        ("finished_at", pa.timestamp("us", "UTC")),
        ("state", pa.string()),
        ("model", pa.string()),
        ("model_fingerprint", pa.string()),
        ("files", pa.int64()),
        ("documents", pa.int64()),
        ("jobs_planned", pa.int64()),
        ("jobs_done", pa.int64()),
        ("jobs_failed", pa.int64()),
        ("model_calls", pa.int64()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("tasks", pa.list_(pa.string())),
        ("updated_at", pa.timestamp("us", "UTC")),
    ]
)
_SELECT = (
    "SELECT run_id, folder, epoch_us(started_at), epoch_us(finished_at), state, model, "
    "model_fingerprint, files, documents, jobs_planned, jobs_done, jobs_failed, model_calls, "
    "prompt_tokens, completion_tokens, tasks FROM runs"
)


class Runs:
    """The runs of a library. `Store.runs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, run: RunSummary) -> None:
        """Writes a run: its beginning, its counters while it goes on, its end.

        Args:
            run: The whole row as it is now. Times without a zone are taken for UTC.
        """
        row = (
            run.run_id,
            folder_text(run.folder),
            _utc(run.started_at),
            None if run.finished_at is None else _utc(run.finished_at),
            run.state,
            storable(run.model),
            run.model_fingerprint,
            run.files,
            run.documents,
            run.jobs_planned,
            run.jobs_done,
            run.jobs_failed,
            run.model_calls,
            run.prompt_tokens,
            run.completion_tokens,
            list(run.tasks),
            datetime.now(UTC),
        )
        with self._database.transaction() as session:
            session.offer("new_run", _COLUMNS, [row])
            session.run("DELETE FROM runs WHERE run_id = ?", run.run_id)
            session.run("INSERT INTO runs BY NAME SELECT * FROM new_run")

    def load(self, run_id: str) -> RunSummary | None:
        """One run, None if there is none of this id."""
        with self._database.transaction() as session:
            rows = session.rows(f"{_SELECT} WHERE run_id = ?", run_id)
        return _read_run(rows[0]) if rows else None

    def latest(self) -> RunSummary | None:
        """The run that started last, None if there was none."""
        with self._database.transaction() as session:
            rows = session.rows(f"{_SELECT} ORDER BY started_at DESC, run_id DESC LIMIT 1")
        return _read_run(rows[0]) if rows else None

    def reap(self) -> int:
        """Marks runs as stopped whose process was killed; for the owner, who knows they are.

        Returns:
            How many there were.
        """
        with self._database.transaction() as session:
            return session.count(
                "UPDATE runs SET state = 'stopped', finished_at = updated_at "
                "WHERE state = 'running'"
            )

    def record_failure(self, run_id: str, failure: Failure) -> None:
        """Records what did not work and has no row of its own: a folder, a file without bytes.

        It is shown until the next search of the same folder ends without meeting it again
        (`Files.finish_search`). A document or a job that failed is saved as such instead, by
        `Documents.save` and `Jobs.fail`, and shown as long as it is so.
        """
        with self._database.transaction() as session:
            record_failure(session, run_id, failure)


def record_failure(session: Session, run_id: str, failure: Failure) -> None:
    """As `Runs.record_failure`, inside a transaction."""
    about = (
        storable(failure.name),
        failure.document_sha256,
        failure.task,
        failure.job_key,
        failure.kind,
    )
    session.run(
        "DELETE FROM failures WHERE folder = (SELECT folder FROM runs WHERE run_id = ?) "
        "AND name = ? AND document_sha256 = ? AND task = ? AND job_key = ? AND kind = ?",
        run_id,
        *about,
    )
    session.run(
        "INSERT INTO failures (run_id, folder, message, failed_at, "
        "name, document_sha256, task, job_key, kind) "
        "VALUES (?, coalesce((SELECT folder FROM runs WHERE run_id = ?), ''), ?, now(), "
        "?, ?, ?, ?, ?)",
        run_id,
        run_id,
        storable(failure.message),
        *about,
    )


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _read_run(row: tuple[Any, ...]) -> RunSummary:
    run_id, folder, started_us, finished_us, *middle, tasks = row
    return RunSummary(
        run_id,
        folder,
        _time(started_us),
        None if finished_us is None else _time(finished_us),
        *middle,
        tasks=tuple(tasks),
    )


def _time(epoch_us: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=epoch_us)
