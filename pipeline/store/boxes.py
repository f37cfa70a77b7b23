"""Where quotes stand on the pages of PDFs: what is to be measured, and what was.

A document's quotes are measured once; a document that is read again, or answered anew, is measured
again. What can't be found is measured, too: it has no boxes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from pipeline.contents import MEDIA_TYPES
from pipeline.quote_places import Boxes, Query, make_query
from pipeline.store.database import Database
from pipeline.store.evidence import PAIRS

_BOX = pa.struct(
    [
        ("page", pa.int32()),
        ("x0", pa.float64()),
        ("y0", pa.float64()),
        ("x1", pa.float64()),
        ("y1", pa.float64()),
    ]
)
_PAIRS = pa.schema([("document_revision", pa.int64()), ("quoted_revision", pa.int64())])
_BOXES = pa.schema([*_PAIRS, ("number", pa.int32()), ("boxes", pa.list_(_BOX))])


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """A PDF with evidence that was not looked for on its pages.

    Attributes:
        revision: Of the document.
        sha256: The document.
        path: A file of it.
        quoted: Revisions of the evidence.
    """

    revision: int
    sha256: str
    path: Path
    quoted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Quote:
    """A span of the evidence of a document: which it is, and how to find it on its page."""

    quoted_revision: int
    number: int
    query: Query


class QuoteBoxes:
    """Boxes of quotes. `Store.boxes`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_unmeasured(self, run_id: str) -> list[Unmeasured]:
        """The PDFs to measure, of those whose files a run has seen."""
        with self._database.transaction() as session:
            rows = session.rows(
                "SELECT d.revision, d.sha256, f.path, list(DISTINCT e.revision) "
                f"FROM {PAIRS} JOIN (SELECT document_sha256 AS sha256, "
                "min(rtrim(folder, '/') || '/' || name) AS path FROM files "
                "WHERE last_run_id = ? AND deleted_run_id IS NULL GROUP BY ALL) f USING (sha256) "
                "ANTI JOIN measured m "
                "ON m.document_revision = d.revision AND m.quoted_revision = e.revision "
                "WHERE d.media_type = ? GROUP BY ALL ORDER BY d.revision",
                run_id,
                MEDIA_TYPES[".pdf"],
            )
        return [
            Unmeasured(revision, sha256, Path(path), tuple(quoted))
            for revision, sha256, path, quoted in rows
        ]

    def load_quotes(self, document: Unmeasured) -> list[Quote]:
        """What is to be found of a document; nothing of pages that were read by OCR."""
        with self._database.transaction() as session:
            rows = session.rows(
                "SELECT q.quoted_revision, q.number, p.number, p.text, "
                "q.start_char - p.start_char, q.end_char - p.start_char "
                "FROM quotes q JOIN pages p ON p.number = q.page_number "
                "WHERE q.quoted_revision IN (SELECT unnest(?::BIGINT[])) "
                "AND p.document_revision = ? AND p.source = 'pypdf'",
                list(document.quoted),
                document.revision,
            )
        return [Quote(quoted, number, make_query(*rest)) for quoted, number, *rest in rows]

    def save(self, document: Unmeasured, found: Sequence[tuple[Quote, Boxes]]) -> None:
        """Saves what was found of a document's quotes: it is measured now."""
        with self._database.transaction() as session:
            pairs = ((document.revision, quoted) for quoted in document.quoted)
            session.offer("new_measured", _PAIRS, pairs)
            session.run("INSERT INTO measured BY NAME SELECT * FROM new_measured")
            session.offer(
                "new_boxes",
                _BOXES,
                (
                    (
                        document.revision,
                        quote.quoted_revision,
                        quote.number,
                        [asdict(box) for box in boxes],
                    )
                    for quote, boxes in found
                    if boxes
                ),
            )
            session.run("INSERT INTO quote_boxes BY NAME SELECT * FROM new_boxes")
