"""The documents of a library: their texts, and their pages with the maps back to raw text.

In: documents as they were read. Out: the same, loaded back, and what planning has to know of them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.jobs import DocumentEntry
from pipeline.outline import OutlineEntry
from pipeline.records import Document, FoundFile, Page
from pipeline.store.chunks import delete_cuts
from pipeline.store.database import Database, Session
from pipeline.store.document_rows import (
    DOCUMENTS,
    PAGES,
    document_row,
    page_rows,
    read_frame,
    read_outline,
)
from pipeline.store.evidence import OF_PAIRS
from pipeline.store.files import save_files
from pipeline.store.memory import make_room
from pipeline.store.texts import folder_text, unpack_alignment

_DOCUMENTS_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class StoredText:
    """What cutting and asking need of a document; see `Document`."""

    title: str
    text: str
    outline: tuple[OutlineEntry, ...] = ()


class Documents:
    """The documents of a library. `Store.documents`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(
        self, run_id: str, reader_version: str, read: Iterable[tuple[FoundFile, Document]]
    ) -> None:
        """Saves documents, read or failed, and the files they were read from, as one.

        A document that is stored already is replaced; its chunks go if its text is another now.
        Save some thousands at once where you can: each call is a transaction.

        Args:
            run_id: This run, begun.
            reader_version: `pipeline.reader.READER_VERSION`.
            read: Files and what was read from them.
        """
        pairs = list(read)
        documents = {document.sha256: document for _, document in pairs}
        read_at = datetime.now(UTC)
        with self._database.transaction() as session:
            before = _failed_before(session, reader_version, documents)
            session.offer(
                "new_documents",
                DOCUMENTS,
                (
                    (
                        *document_row(document),
                        reader_version,
                        run_id,
                        read_at,
                        1 + before.get((document.sha256, document.failure_kind), 0),
                    )
                    for document in documents.values()
                ),
            )
            _forget(session)
            session.run(
                "INSERT INTO documents BY NAME "
                "SELECT *, nextval('revisions') AS revision FROM new_documents"
            )
            session.offer(
                "new_pages",
                PAGES,
                (row for document in documents.values() for row in page_rows(document)),
            )
            session.run(
                "INSERT INTO pages BY NAME "
                "SELECT d.revision AS document_revision, n.* EXCLUDE (document_sha256) "
                "FROM new_pages n JOIN documents d ON d.sha256 = n.document_sha256 "
                "ORDER BY d.revision, n.number"
            )
            save_files(session, run_id, [(file, document.sha256) for file, document in pairs])
            make_room(session)

    def known(self, sha256s: Iterable[str], reader_version: str) -> frozenset[str]:
        """Which documents are stored by this reader already, read or failed.

        For files that are new but hold known bytes: save them with the loaded document, or read
        them again.
        """
        wanted = list(sha256s)
        with self._database.transaction() as session:
            rows = session.rows(
                "SELECT sha256 FROM documents "
                "WHERE sha256 IN (SELECT unnest(?::VARCHAR[])) AND reader_version = ?",
                wanted,
                reader_version,
            )
        return frozenset(sha256 for (sha256,) in rows)

    def load(self, sha256: str) -> Document | None:
        """A document with all its pages, None if it isn't stored."""
        with self._database.transaction() as session:
            rows = session.rows(
                "SELECT sha256, size_bytes, media_type, status, title, text_sha256, notes, "
                "failure_kind, failure, outline FROM documents WHERE sha256 = ?",
                sha256,
            )
            pages = session.rows(
                "SELECT number, coalesce(raw, text), text, alignment, start_char, source, note, "
                "frame FROM pages WHERE document_revision = ? ORDER BY number",
                _revision(session, sha256),
            )
        if not rows:
            return None
        *head, notes, failure_kind, failure, outline = rows[0]
        return Document(
            *head,
            pages=tuple(
                Page(number, raw, text, unpack_alignment(alignment), *rest, frame=read_frame(frame))
                for number, raw, text, alignment, *rest, frame in pages
            ),
            notes=tuple(notes),
            failure_kind=failure_kind,
            failure=failure,
            outline=read_outline(outline),
        )

    def load_text(self, sha256: str) -> StoredText | None:
        """What cutting and asking need of a document, None if it isn't stored."""
        with self._database.transaction() as session:
            rows = session.rows("SELECT title, outline FROM documents WHERE sha256 = ?", sha256)
            pages = session.rows(
                "SELECT text FROM pages WHERE document_revision = ? ORDER BY number",
                _revision(session, sha256),
            )
        if not rows:
            return None
        title, outline = rows[0]
        return StoredText(title, "\f".join(text for (text,) in pages), read_outline(outline))

    def list_live(self, root: Path, **asked: Any) -> tuple[DocumentEntry, ...]:
        """All that `list_batches` gives, at once."""
        return tuple(chain.from_iterable(self.list_batches(root, **asked)))

    def list_batches(
        self,
        root: Path,
        *,
        class_fingerprint: str = "",
        model_fingerprint: str = "",
        newest_first: bool = False,
    ) -> Iterator[tuple[DocumentEntry, ...]]:
        """The documents with text that lie in a folder now, as planning needs them.

        They are as they were at the beginning, whatever is written meanwhile.

        Args:
            root: The folder.
            class_fingerprint: Fingerprint of the task that finds classes; empty: no classes.
            model_fingerprint: The model that was asked for them.
            newest_first: By the files' times, newest first; else by name.
        """
        folder = folder_text(root)
        with self._database.snapshot() as session:
            session.run(_ORDER_LIVE, folder, newest_first)
            [(count,)] = session.rows("SELECT count(*) FROM temp.live")
            for start in range(0, count, _DOCUMENTS_AT_ONCE):
                rows = session.rows(
                    _LIST_LIVE,
                    class_fingerprint,
                    model_fingerprint,
                    folder,
                    start,
                    start + _DOCUMENTS_AT_ONCE,
                )
                yield tuple(
                    DocumentEntry(sha256, text_sha256, tuple(names), document_class)
                    for sha256, text_sha256, names, document_class in rows
                )


# First the order alone, of numbers: a million hashes and lists of names are too much to be sorted.
_ORDER_LIVE = """
CREATE OR REPLACE TEMP TABLE live AS SELECT revision, row_number() OVER (
    ORDER BY CASE WHEN $2 THEN -modified_ns END, name) AS place FROM (
    SELECT d.revision, min(f.name) AS name, max(f.modified_ns) AS modified_ns
    FROM documents d JOIN files f ON f.document_sha256 = d.sha256
    WHERE f.folder = $1 AND f.deleted_run_id IS NULL AND d.status = 'read' GROUP BY d.revision)
"""
_LIST_LIVE = """
SELECT d.sha256, d.text_sha256, list_sort(list(f.name)), any_value(c.class)
FROM temp.live l JOIN documents d USING (revision) JOIN files f ON f.document_sha256 = d.sha256
LEFT JOIN (SELECT j.text_sha256, r.value->>'$' AS class FROM jobs j
    JOIN results r ON r.job_key = j.key WHERE j.state = 'done'
    AND j.task_fingerprint = ? AND j.model_fingerprint = ?) c USING (text_sha256)
WHERE f.folder = ? AND f.deleted_run_id IS NULL AND l.place > ? AND l.place <= ?
GROUP BY d.sha256, d.text_sha256 ORDER BY min(l.place)
"""


def _revision(session: Session, sha256: str) -> int:
    rows = session.rows("SELECT revision FROM documents WHERE sha256 = ?", sha256)
    return rows[0][0] if rows else -1


def _failed_before(
    session: Session, reader_version: str, sha256s: Iterable[str]
) -> dict[tuple[str, str], int]:
    """How often stored documents failed with a kind by the same reader."""
    rows = session.rows(
        "SELECT sha256, failure_kind, attempts FROM documents WHERE status = 'failed' "
        "AND reader_version = ? AND sha256 IN (SELECT unnest(?::VARCHAR[]))",
        reader_version,
        list(sha256s),
    )
    return {(sha256, kind): attempts for sha256, kind, attempts in rows}


def _forget(session: Session) -> None:
    """Deletes what `new_documents` replace."""
    replaced = session.rows(
        "SELECT d.revision, d.text_sha256 <> n.text_sha256, d.sha256 "
        "FROM documents d JOIN new_documents n USING (sha256)"
    )
    if not replaced:
        return
    for table in ("pages", *OF_PAIRS):
        session.run(
            f"DELETE FROM {table} WHERE document_revision IN (SELECT unnest(?::BIGINT[]))",
            [revision for revision, _, _ in replaced],
        )
    cuts = session.rows(
        "SELECT revision FROM cuts WHERE document_sha256 IN (SELECT unnest(?::VARCHAR[]))",
        [sha256 for _, is_changed, sha256 in replaced if is_changed],
    )
    delete_cuts(session, [revision for (revision,) in cuts])
    session.run("DELETE FROM documents WHERE sha256 IN (SELECT sha256 FROM new_documents)")
