"""The documents of a library: their pages with the maps back to raw text, and their chunks.

In: documents as they were read, chunks as they were cut. Out: the same, loaded back, and what the
planning has to know of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.jobs import DocumentEntry
from pipeline.records import Chunk, Document, FoundFile, Page
from pipeline.store.database import Database, Session
from pipeline.store.files import save_files
from pipeline.store.texts import folder_text, pack_alignment, storable, unpack_alignment

_TEXTS = pa.list_(pa.string())
_DOCUMENTS = pa.schema(
    [
        ("sha256", pa.string()),
        ("size_bytes", pa.int64()),
        ("media_type", pa.string()),
        ("status", pa.string()),
        ("title", pa.string()),
        ("text_sha256", pa.string()),
        ("page_count", pa.int32()),
        ("char_count", pa.int64()),
        ("notes", _TEXTS),
        ("failure_kind", pa.string()),
        ("failure", pa.string()),
        ("reader_version", pa.string()),
        ("read_run_id", pa.string()),
        ("read_at", pa.timestamp("us", "UTC")),
    ]
)
_PAGES = pa.schema(
    [
        ("document_sha256", pa.string()),
        ("number", pa.int32()),
        ("raw", pa.string()),
        ("text", pa.string()),
        ("alignment", pa.binary()),
        ("start_char", pa.int64()),
        ("source", pa.string()),
        ("note", pa.string()),
    ]
)
_CUTS = pa.schema(
    [
        ("document_sha256", pa.string()),
        ("chunking", pa.string()),
        ("chunk_count", pa.int32()),
    ]
)
_CHUNK_COLUMNS = "number, start_char, end_char, own_start, own_end, page_first, page_last, tokens"
_CHUNKS = pa.schema(
    [
        ("document_sha256", pa.string()),
        ("chunking", pa.string()),
        ("number", pa.int32()),
        ("start_char", pa.int64()),
        ("end_char", pa.int64()),
        ("own_start", pa.int64()),
        ("own_end", pa.int64()),
        ("page_first", pa.int32()),
        ("page_last", pa.int32()),
        ("tokens", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class CutDocument:
    """A document's chunks under one chunking.

    Attributes:
        document_sha256: The document.
        chunking: `pipeline.jobs.chunking_fingerprint`.
        chunks: All of them; none for a text without any.
    """

    document_sha256: str
    chunking: str
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class StoredText:
    """What cutting and asking need of a document.

    Attributes:
        title: Its title, or empty.
        text: Its normalised text.
    """

    title: str
    text: str


class Documents:
    """The documents of a library. `Store.documents`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(
        self, run_id: str, reader_version: str, read: Iterable[tuple[FoundFile, Document]]
    ) -> None:
        """Saves documents, read or failed, and the files they were read from, as one.

        A document that is stored already is replaced; its chunks go if its text is another now.
        Save some hundreds at once where you can: each call is a transaction.

        Args:
            run_id: This run, begun.
            reader_version: `pipeline.reader.READER_VERSION`.
            read: Files and what was read from them.
        """
        pairs = list(read)
        documents = {document.sha256: document for _, document in pairs}
        read_at = datetime.now(UTC)
        with self._database.transaction() as session:
            session.offer(
                "new_documents",
                _DOCUMENTS,
                (
                    (*_document_row(document), reader_version, run_id, read_at)
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
                _PAGES,
                (row for document in documents.values() for row in _page_rows(document)),
            )
            session.run("INSERT INTO pages BY NAME SELECT * FROM new_pages")
            save_files(session, run_id, [(file, document.sha256) for file, document in pairs])

    def known(self, sha256s: Iterable[str], reader_version: str) -> frozenset[str]:
        """Which documents are stored by this reader already, read or failed.

        For files that are new but hold known bytes: save them with the loaded document, or read
        them again.
        """
        wanted = list(sha256s)
        with self._database.transaction() as session:
            rows = session.rows(
                "SELECT sha256 FROM documents "
                "WHERE list_contains(?::VARCHAR[], sha256) AND reader_version = ?",
                wanted,
                reader_version,
            )
        return frozenset(sha256 for (sha256,) in rows)

    def load(self, sha256: str) -> Document | None:
        """A document with all its pages, None if it isn't stored."""
        with self._database.transaction() as session:
            rows = session.rows(
                "SELECT sha256, size_bytes, media_type, status, title, text_sha256, notes, "
                "failure_kind, failure FROM documents WHERE sha256 = ?",
                sha256,
            )
            pages = session.rows(
                "SELECT number, coalesce(raw, text), text, alignment, start_char, source, note "
                "FROM pages WHERE document_sha256 = ? ORDER BY number",
                sha256,
            )
        if not rows:
            return None
        *head, notes, failure_kind, failure = rows[0]
        return Document(
            *head,
            pages=tuple(
                Page(number, raw, text, unpack_alignment(alignment), *rest)
                for number, raw, text, alignment, *rest in pages
            ),
            notes=tuple(notes),
            failure_kind=failure_kind,
            failure=failure,
        )

    def load_text(self, sha256: str) -> StoredText | None:
        """A document's title and normalised text, None if it isn't stored."""
        with self._database.transaction() as session:
            rows = session.rows("SELECT title FROM documents WHERE sha256 = ?", sha256)
            pages = session.rows(
                "SELECT text FROM pages WHERE document_sha256 = ? ORDER BY number", sha256
            )
        if not rows:
            return None
        return StoredText(rows[0][0], "\f".join(text for (text,) in pages))

    def list_live(
        self,
        root: Path,
        *,
        class_fingerprint: str = "",
        model_fingerprint: str = "",
        newest_first: bool = False,
    ) -> tuple[DocumentEntry, ...]:
        """The documents with text that lie in a folder now, as planning needs them.

        Args:
            root: The folder.
            class_fingerprint: Fingerprint of the task that finds classes; empty: no classes.
            model_fingerprint: The model that was asked for them.
            newest_first: By the files' times, newest first; else by name.
        """
        with self._database.transaction() as session:
            rows = session.rows(
                "SELECT d.sha256, d.text_sha256, list_sort(list(f.name)), any_value(c.class) "
                "FROM documents d JOIN files f ON f.document_sha256 = d.sha256 "
                "LEFT JOIN (SELECT j.text_sha256, r.value->>'$' AS class FROM jobs j "
                "JOIN results r ON r.job_key = j.key WHERE j.state = 'done' "
                "AND j.task_fingerprint = ? AND j.model_fingerprint = ?) c USING (text_sha256) "
                "WHERE f.folder = ? AND f.deleted_run_id IS NULL AND d.status = 'read' "
                "GROUP BY d.sha256, d.text_sha256 "
                "ORDER BY CASE WHEN ? THEN -max(f.modified_ns) END, min(f.name)",
                class_fingerprint,
                model_fingerprint,
                folder_text(root),
                newest_first,
            )
        return tuple(
            DocumentEntry(sha256, text_sha256, tuple(names), document_class)
            for sha256, text_sha256, names, document_class in rows
        )

    def save_chunks(self, cut: Iterable[CutDocument]) -> None:
        """Saves the chunks of documents, in place of those of the same chunking."""
        latest = {(each.document_sha256, each.chunking): each for each in cut}
        with self._database.transaction() as session:
            session.offer(
                "new_cuts",
                _CUTS,
                (
                    (each.document_sha256, each.chunking, len(each.chunks))
                    for each in latest.values()
                ),
            )
            for table in ("chunks", "cuts"):
                session.run(
                    f"DELETE FROM {table} USING new_cuts n WHERE {table}.chunking = "
                    f"n.chunking AND {table}.document_sha256 = n.document_sha256"
                )
            session.run(
                "INSERT INTO cuts BY NAME SELECT *, nextval('revisions') AS revision FROM new_cuts"
            )
            session.offer(
                "new_chunks",
                _CHUNKS,
                (
                    (each.document_sha256, each.chunking, *_chunk_row(chunk))
                    for each in latest.values()
                    for chunk in each.chunks
                ),
            )
            session.run("INSERT INTO chunks BY NAME SELECT * FROM new_chunks")

    def load_chunks(self, sha256: str, chunking: str) -> tuple[Chunk, ...] | None:
        """A document's chunks, None if it was not cut like this."""
        with self._database.transaction() as session:
            cuts = session.rows(
                "SELECT 1 FROM cuts WHERE document_sha256 = ? AND chunking = ?", sha256, chunking
            )
            rows = session.rows(
                f"SELECT {_CHUNK_COLUMNS} FROM chunks "
                "WHERE document_sha256 = ? AND chunking = ? ORDER BY number",
                sha256,
                chunking,
            )
        return tuple(Chunk(*row) for row in rows) if cuts else None

    def list_uncut(self, sha256s: Iterable[str], chunking: str) -> tuple[str, ...]:
        """Which of these documents have no chunks of this chunking yet, in their order."""
        wanted = list(sha256s)
        with self._database.transaction() as session:
            rows = session.rows(
                "SELECT document_sha256 FROM cuts "
                "WHERE chunking = ? AND list_contains(?::VARCHAR[], document_sha256)",
                chunking,
                wanted,
            )
        cut = {sha256 for (sha256,) in rows}
        return tuple(sha256 for sha256 in wanted if sha256 not in cut)


def _forget(session: Session) -> None:
    """Deletes what `new_documents` replace."""
    changed = (
        "(SELECT d.sha256 FROM documents d JOIN new_documents n USING (sha256) "
        "WHERE d.text_sha256 <> n.text_sha256)"
    )
    for table in ("chunks", "cuts"):
        session.run(f"DELETE FROM {table} WHERE document_sha256 IN {changed}")
    stored = "(SELECT d.sha256 FROM documents d JOIN new_documents n USING (sha256))"
    session.run(f"DELETE FROM pages WHERE document_sha256 IN {stored}")
    session.run(f"DELETE FROM documents WHERE sha256 IN {stored}")


def _document_row(document: Document) -> tuple[Any, ...]:
    last = document.pages[-1] if document.pages else None
    return (
        document.sha256,
        document.size_bytes,
        document.media_type,
        document.status,
        storable(document.title),
        document.text_sha256,
        len(document.pages),
        last.start_char + len(last.text) if last else 0,
        [storable(note) for note in document.notes],
        document.failure_kind,
        storable(document.failure),
    )


def _page_rows(document: Document) -> Iterable[Sequence[Any]]:
    for page in document.pages:
        yield (
            document.sha256,
            page.number,
            None if page.raw == page.text else storable(page.raw),
            storable(page.text),
            pack_alignment(page.alignment),
            page.start_char,
            page.source,
            storable(page.note),
        )


def _chunk_row(chunk: Chunk) -> Sequence[Any]:
    return (
        chunk.number,
        chunk.start_char,
        chunk.end_char,
        chunk.own_start,
        chunk.own_end,
        chunk.page_first,
        chunk.page_last,
        chunk.tokens,
    )
