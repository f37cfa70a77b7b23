"""Documents and pages as rows of their tables, and back: what the store writes in one batch.

In: records. Out: values in the order of a schema, every text as DuckDB takes it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from pipeline.outline import OutlineEntry
from pipeline.page_frames import PageFrame
from pipeline.records import Document
from pipeline.store.texts import pack_alignment, storable

_TEXTS = pa.list_(pa.string())
_ENTRY = pa.struct([("level", pa.int32()), ("title", pa.string()), ("page", pa.int32())])
_FRAME = pa.struct(
    [*((n, pa.float64()) for n in ("x0", "y0", "x1", "y1")), ("rotation", pa.int32())]
)
DOCUMENTS = pa.schema(
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
        ("outline", pa.list_(_ENTRY)),
        ("reader_version", pa.string()),
        ("read_run_id", pa.string()),
        ("read_at", pa.timestamp("us", "UTC")),
        ("attempts", pa.int32()),
    ]
)
PAGES = pa.schema(
    [
        ("document_sha256", pa.string()),
        ("number", pa.int32()),
        ("raw", pa.string()),
        ("text", pa.string()),
        ("alignment", pa.binary()),
        ("start_char", pa.int64()),
        ("source", pa.string()),
        ("note", pa.string()),
        ("frame", _FRAME),
    ]
)


def read_outline(rows: Sequence[dict[str, Any]]) -> tuple[OutlineEntry, ...]:
    """The entries of an outline that were stored."""
    return tuple(OutlineEntry(**row) for row in rows)


def read_frame(row: dict[str, Any] | None) -> PageFrame | None:
    """The frame of a page that was stored."""
    return None if row is None else PageFrame(**row)


def document_row(document: Document) -> tuple[Any, ...]:
    """A document in the order of `DOCUMENTS`, but for what is known of its reading."""
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
        [asdict(entry) | {"title": storable(entry.title)} for entry in document.outline],
    )


def page_rows(document: Document) -> Iterable[Sequence[Any]]:
    """Its pages in the order of `PAGES`."""
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
            page.frame and asdict(page.frame),
        )
