"""Takes documents out of a library for good, and what else nobody needs any more.

In: a file, a folder, or a document's id. Out: every row gone that holds or names them; what stays
in the file's free blocks goes when the file is written anew (`Store.compact`).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipeline.store.database import Database, Session
from pipeline.store.evidence import OF_PAIRS

KEPT_DAYS = 180
"""Runs to which nothing refers any more are kept so long."""

_PATH = "rtrim(folder, '/') || '/' || name"
_INSIDE = "({path} = ? OR starts_with({path}, ? || '/'))"

# Of a question that was changed, or that is not for its document any more.
_UNUSED_CALLS = "DELETE FROM calls WHERE job_key NOT IN (SELECT job_key FROM assignments)"
_UNUSED = (
    "DELETE FROM pages WHERE document_revision NOT IN (SELECT revision FROM documents)",
    "DELETE FROM cuts WHERE document_sha256 NOT IN (SELECT sha256 FROM documents)",
    "DELETE FROM chunks WHERE cut_revision NOT IN (SELECT revision FROM cuts)",
    "DELETE FROM assignments WHERE document_sha256 NOT IN (SELECT sha256 FROM documents)",
    # An answer about an older text stays as long as it is shown.
    (
        "DELETE FROM jobs WHERE text_sha256 NOT IN (SELECT text_sha256 FROM documents) "
        "AND key NOT IN (SELECT done_key FROM assignments WHERE done_key IS NOT NULL)"
    ),
    "DELETE FROM results WHERE job_key NOT IN (SELECT key FROM jobs)",
    _UNUSED_CALLS,
    "DELETE FROM quoted_jobs WHERE job_key NOT IN (SELECT key FROM jobs)",
    "DELETE FROM quotes WHERE quoted_revision NOT IN (SELECT revision FROM quoted_jobs)",
    *(
        f"DELETE FROM {table} WHERE document_revision NOT IN (SELECT revision FROM documents) "
        "OR quoted_revision NOT IN (SELECT revision FROM quoted_jobs)"
        for table in OF_PAIRS
    ),
)


@dataclass(frozen=True, slots=True)
class Traces:
    """What a library knows of a file, a folder, or a document.

    Attributes:
        place: The file's or folder's path, or the document's id.
        documents: SHA-256 of the documents.
        paths: Their files, copies in other places included.
        run_ids: Runs over folders inside of the place.
    """

    place: str
    documents: tuple[str, ...]
    paths: tuple[str, ...]
    run_ids: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.documents or self.paths)


class Removal:
    """Takes things out of a library. `Store.removal`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, place: str) -> Traces:
        """What is known of a place.

        Args:
            place: An absolute path (see `texts.folder_text`), or a document's id.
        """
        with self._database.transaction() as session:
            inside = _INSIDE.format(path=_PATH)
            documents = session.rows(
                "SELECT DISTINCT document_sha256 FROM files "
                f"WHERE document_sha256 IS NOT NULL AND ({inside} OR document_sha256 = ?) "
                "UNION SELECT sha256 FROM documents WHERE sha256 = ? ORDER BY 1",
                *[place] * 4,
            )
            sha256s = [sha256 for (sha256,) in documents]
            paths = session.rows(
                f"SELECT {_PATH} FROM files WHERE {inside} OR {_among('document_sha256')} "
                "ORDER BY 1",
                place,
                place,
                sha256s,
            )
            runs = session.rows(
                f"SELECT run_id FROM runs WHERE {_INSIDE.format(path='folder')}", place, place
            )
        return Traces(
            place,
            tuple(sha256s),
            tuple(path for (path,) in paths),
            tuple(run_id for (run_id,) in runs),
        )

    def forget(self, traces: Traces) -> None:
        """Deletes all rows that hold or name what was found.

        Documents that no file refers to (any more) go, too: they may be older versions of the same
        files. The texts of other documents, and the answers about them, stay.
        """
        sha256s = list(traces.documents)
        with self._database.transaction() as session:
            session.run(
                f"DELETE FROM mounts WHERE {_INSIDE.format(path=_PATH)}",
                traces.place,
                traces.place,
            )
            for table in ("files", "failures"):
                session.run(
                    f"DELETE FROM {table} WHERE {_INSIDE.format(path=_PATH)} "
                    f"OR {_among('document_sha256')} OR {_among(_PATH)}",
                    traces.place,
                    traces.place,
                    sha256s,
                    list(traces.paths),
                )
            session.run(
                f"DELETE FROM documents WHERE {_among('sha256')} OR sha256 NOT IN "
                "(SELECT document_sha256 FROM files WHERE document_sha256 IS NOT NULL)",
                sha256s,
            )
            session.run(f"DELETE FROM runs WHERE {_among('run_id')}", list(traces.run_ids))
            delete_unused(session)

    def forget_old_runs(self, kept_days: int = KEPT_DAYS) -> int:
        """Deletes runs that ended so long ago and to which nothing refers any more.

        With them go answers to parts of documents for jobs that are no longer wanted.

        Returns:
            How many runs there were.
        """
        before = datetime.now(UTC) - timedelta(days=kept_days)
        with self._database.transaction() as session:
            if session.count("SELECT count(*) FROM calls"):
                session.run(_UNUSED_CALLS)
            # Nearly always there is none, and nothing else to look at.
            old = "SELECT count(*) FROM runs WHERE coalesce(finished_at, updated_at) < ?"
            if not session.count(old, before):
                return 0
            return session.count(
                "DELETE FROM runs WHERE coalesce(finished_at, updated_at) < ? "
                "AND state <> 'running' AND run_id NOT IN ("
                "SELECT run_id FROM results UNION SELECT run_id FROM jobs "
                "UNION SELECT run_id FROM assignments UNION SELECT read_run_id FROM documents "
                "UNION SELECT first_run_id FROM files UNION SELECT last_run_id FROM files "
                "UNION SELECT deleted_run_id FROM files WHERE deleted_run_id IS NOT NULL "
                "UNION SELECT run_id FROM failures)",
                before,
            )


def delete_unused(session: Session) -> None:
    """Deletes what belonged to documents that are gone, inside a transaction."""
    for sql in _UNUSED:
        session.run(sql)


def _among(column: str) -> str:
    return f"coalesce(({column}) IN (SELECT unnest(?::VARCHAR[])), false)"
