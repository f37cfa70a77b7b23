"""The evidence of results: one row for each span, and where that stands in the raw pages.

Evidence belongs to a job, so to a text; raw offsets belong to each document with that text, as it
was last read. They are worked out here when both are there.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from pipeline.evidence import Evidence
from pipeline.store.database import Database, Session
from pipeline.store.texts import storable, unpack_alignment

_EVIDENCE = pa.schema(
    [
        ("number", pa.int32()),
        ("field", pa.string()),
        ("item", pa.int32()),
        ("span", pa.int32()),
        ("value", pa.string()),
        ("quote", pa.string()),
        ("support", pa.string()),
        ("probability", pa.float64()),
        ("score", pa.float64()),
        ("chosen", pa.bool_()),
        ("reason", pa.string()),
        ("page_number", pa.int32()),
        ("start_char", pa.int64()),
        ("end_char", pa.int64()),
    ]
)
_PLACES = pa.schema(
    [
        ("document_revision", pa.int64()),
        ("quoted_revision", pa.int64()),
        ("number", pa.int32()),
        ("raw_start", pa.int64()),
        ("raw_end", pa.int64()),
    ]
)
_PLACED_AT_ONCE = 100
PAIRS = (
    "assignments a JOIN documents d ON d.sha256 = a.document_sha256 "
    "JOIN jobs j ON j.key = a.done_key AND j.text_sha256 = d.text_sha256 "
    "JOIN quoted_jobs e ON e.job_key = a.done_key"
)
"""Documents `d`, each with the evidence `e` of its last answers, if they are about its text."""

OF_PAIRS = ("placed", "raw_places", "measured", "quote_boxes")
"""Tables about the evidence `quoted_revision` in the document `document_revision`."""

_UNPLACED = (
    f"SELECT d.revision, e.revision FROM {PAIRS} "
    "ANTI JOIN placed p ON p.document_revision = d.revision AND p.quoted_revision = e.revision"
)


class EvidencePlaces:
    """Where quotes stand in raw pages. `Store.evidence`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def place_all(self) -> None:
        """Works out the raw offsets that are missing: of copies, and of what was read again."""
        more = True
        while more:
            with self._database.transaction() as session:
                pairs = session.rows(f"{_UNPLACED} LIMIT {_PLACED_AT_ONCE}")
                for pair in pairs:
                    _place(session, *pair)
            more = len(pairs) == _PLACED_AT_ONCE


def save_evidence(session: Session, job_key: str, evidence: Sequence[Evidence]) -> None:
    """Replaces the evidence of a job that is done, inside a transaction."""
    old = session.rows("SELECT revision FROM quoted_jobs WHERE job_key = ?", job_key)
    for (revision,) in old:
        for table in ("quotes", *OF_PAIRS):
            session.run(f"DELETE FROM {table} WHERE quoted_revision = ?", revision)
        session.run("DELETE FROM quoted_jobs WHERE job_key = ?", job_key)
    if not evidence:
        return
    session.run("INSERT INTO quoted_jobs SELECT ?, nextval('revisions')", job_key)
    revision = session.count("SELECT revision FROM quoted_jobs WHERE job_key = ?", job_key)
    session.offer("new_evidence", _EVIDENCE, _rows(evidence))
    session.run(
        "INSERT INTO quotes BY NAME SELECT ?::BIGINT AS quoted_revision, * FROM new_evidence",
        revision,
    )
    for pair in session.rows(f"{_UNPLACED} WHERE e.job_key = ?", job_key):
        _place(session, *pair)


def _place(session: Session, document_revision: int, quoted_revision: int) -> None:
    rows = session.rows(
        "SELECT q.number, p.alignment, q.start_char - p.start_char, q.end_char - p.start_char "
        "FROM quotes q JOIN pages p ON p.number = q.page_number "
        "WHERE q.quoted_revision = ? AND p.document_revision = ?",
        quoted_revision,
        document_revision,
    )
    session.offer(
        "new_places",
        _PLACES,
        (
            (document_revision, quoted_revision, number, *_raw(alignment, start, end))
            for number, alignment, start, end in rows
        ),
    )
    session.run("INSERT INTO raw_places BY NAME SELECT * FROM new_places")
    session.run("INSERT INTO placed VALUES (?, ?)", document_revision, quoted_revision)


def _raw(alignment: bytes, start: int, end: int) -> tuple[int, int]:
    return unpack_alignment(alignment).to_raw(start, end)


def _rows(evidence: Sequence[Evidence]) -> Iterator[Sequence[Any]]:
    number = 0
    for entry in evidence:
        for place, span in enumerate(entry.spans or (None,)):
            yield (
                number,
                entry.field,
                entry.item,
                place,
                None if entry.value is None else storable(entry.value),
                None if span is None else storable(span.quote),
                entry.support,
                entry.probability,
                entry.score,
                entry.chosen,
                entry.reason or None,
                None if span is None else span.page_number,
                None if span is None else span.start_char,
                None if span is None else span.end_char,
            )
            number += 1
