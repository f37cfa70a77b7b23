"""The chunks of a library's documents, under each way of cutting that a task asked for.

In: chunks as they were cut. Out: the same, loaded back, and which documents are still to be cut.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.records import Chunk
from pipeline.store.database import Database, Session

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


class Chunks:
    """The chunks of a library. `Store.chunks`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, cut: Iterable[CutDocument]) -> None:
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
            replaced = "FROM cuts c JOIN new_cuts n USING (document_sha256, chunking)"
            revisions = [revision for (revision,) in session.rows(f"SELECT c.revision {replaced}")]
            delete_cuts(session, revisions)
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
            session.run(
                "INSERT INTO chunks BY NAME "
                "SELECT c.revision AS cut_revision, n.* EXCLUDE (document_sha256, chunking) "
                "FROM new_chunks n JOIN cuts c USING (document_sha256, chunking) "
                "ORDER BY c.revision, n.number"
            )

    def load(self, sha256: str, chunking: str) -> tuple[Chunk, ...] | None:
        """A document's chunks, None if it was not cut like this."""
        with self._database.transaction() as session:
            cuts = session.rows(
                "SELECT revision FROM cuts WHERE document_sha256 = ? AND chunking = ?",
                sha256,
                chunking,
            )
            if not cuts:
                return None
            rows = session.rows(
                f"SELECT {_CHUNK_COLUMNS} FROM chunks WHERE cut_revision = ? ORDER BY number",
                cuts[0][0],
            )
        return tuple(Chunk(*row) for row in rows)

    def list_uncut(self, sha256s: Iterable[str], chunking: str) -> tuple[str, ...]:
        """Which of these documents have no chunks of this chunking yet, in their order."""
        wanted = list(sha256s)
        with self._database.transaction() as session:
            rows = session.rows(
                "SELECT document_sha256 FROM cuts "
                "WHERE chunking = ? AND document_sha256 IN (SELECT unnest(?::VARCHAR[]))",
                chunking,
                wanted,
            )
        cut = {sha256 for (sha256,) in rows}
        return tuple(sha256 for sha256 in wanted if sha256 not in cut)


def delete_cuts(session: Session, revisions: list[int]) -> None:
    """Deletes cuts and their chunks, inside a transaction."""
    if revisions:
        session.run(
            "DELETE FROM chunks WHERE cut_revision IN (SELECT unnest(?::BIGINT[]))", revisions
        )
        session.run("DELETE FROM cuts WHERE revision IN (SELECT unnest(?::BIGINT[]))", revisions)


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
