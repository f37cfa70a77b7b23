"""Reads from one published snapshot what a report shows.

In: a library's folder and which documents. Out: `Rows`. A table or column that an older snapshot
does not have is empty, so that any published library can be looked at.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import InputError
from pipeline.globs import Glob
from pipeline.snapshots import Manifest, current_snapshot, read_manifest
from pipeline.tables import ANSWER_COLUMNS

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A row of `documents`."""

    document_id: str
    path: str = ""
    paths: tuple[str, ...] = ()
    title: str = ""
    class_: str = ""
    class_probability: float | None = None
    class_confidence: float | None = None
    size_bytes: int = 0
    status: str = ""
    page_count: int = 0
    notes: tuple[str, ...] = ()
    failure_kind: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class PageRow:
    """A row of `pages`; the offsets are in the document's normalised text."""

    document_id: str
    page_number: int = 1
    text: str = ""
    start_char: int = 0
    source: str = ""
    note: str = ""
    frame: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class JobRow:
    """A row of `jobs`."""

    document_id: str
    task: str = ""
    state: str = ""
    failure_kind: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """A row of `summaries` or of a table of extractions.

    Attributes:
        values: The answer: (column, value), in the order of the task's fields.
    """

    document_id: str
    task: str = ""
    is_current: bool = True
    cut: bool = False
    model: str = ""
    calls: int = 0
    completion_tokens: int = 0
    model_s: float = 0.0
    values: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """A row of `evidence`: a span of a quote, or a value without one."""

    document_id: str
    task: str = ""
    field: str = ""
    item: int = 0
    span: int = 0
    value: str | None = None
    quote: str = ""
    support: str = ""
    confidence: float | None = None
    probability: float | None = None
    score: float | None = None
    chosen: bool = True
    reason: str = ""
    start_char: int | None = None
    end_char: int | None = None
    boxes: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class FailureRow:
    """A row of `failures`."""

    kind: str = ""
    message: str = ""
    path: str = ""
    document_id: str = ""
    task: str = ""


@dataclass(frozen=True, slots=True)
class RunRow:
    """A row of `runs`."""

    run_id: str = ""
    folder: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    state: str = ""
    model: str = ""
    files: int = 0
    documents: int = 0
    jobs_done: int = 0
    jobs_failed: int = 0
    model_calls: int = 0


@dataclass(frozen=True, slots=True)
class Rows:
    """What one snapshot has of the chosen documents.

    Attributes:
        manifest: Of the snapshot.
        documents: The chosen ones, by path.
        documents_all: How many the library has.
    """

    manifest: Manifest
    documents: list[DocumentRow]
    documents_all: int
    pages: list[PageRow] = field(default_factory=list[PageRow])
    jobs: list[JobRow] = field(default_factory=list[JobRow])
    answers: list[AnswerRow] = field(default_factory=list[AnswerRow])
    evidence: list[EvidenceRow] = field(default_factory=list[EvidenceRow])
    failures: list[FailureRow] = field(default_factory=list[FailureRow])
    runs: list[RunRow] = field(default_factory=list[RunRow])


def read_rows(out: Path, include: Sequence[str] = (), limit: int = 0) -> Rows:
    """Reads what is published now.

    Args:
        out: The library's folder.
        include: Globs for the paths of documents; none: all.
        limit: At most so many documents, by path; 0: all.

    Raises:
        InputError: Nothing is published, or it can't be read.
    """
    for attempt in range(_ATTEMPTS):
        snapshot = current_snapshot(out)
        if snapshot is None:
            raise InputError(
                f"nothing is published yet in out={str(out)!r}; run `docflash run FOLDER` first, "
                "with the same --out"
            )
        try:
            return _read_snapshot(snapshot, include, limit)
        except (OSError, ValueError) as error:
            # A run that publishes twice meanwhile has removed these files: read the newer ones.
            if current_snapshot(out) == snapshot or attempt + 1 == _ATTEMPTS:
                raise InputError(
                    f"the tables in snapshot={str(snapshot)!r} can't be read "
                    f"({type(error).__name__}); run `docflash run FOLDER` to publish them again"
                ) from error
    raise AssertionError


def _read_snapshot(snapshot: Path, include: Sequence[str], limit: int) -> Rows:
    manifest = read_manifest(snapshot)
    published = _Published(snapshot, frozenset(table.name for table in manifest.tables))
    found = list(_rows(published, "documents", DocumentRow))
    globs = [Glob(pattern if pattern.startswith("/") else f"**/{pattern}") for pattern in include]
    wanted = [row for row in found if _is_included(row, globs)]
    chosen = wanted[:limit] if limit else wanted
    if len(chosen) < len(found):
        # Failures that are not about a document are those of files that could not be read.
        ids = frozenset({"", *(row.document_id for row in chosen)})
        published = replace(published, document_ids=ids)
    answers = list(_answers(published, "summaries"))
    for task in manifest.tasks:
        answers += _answers(published, f"extractions_{task.name}", task.name)
    return Rows(
        manifest,
        chosen,
        len(found),
        list(_rows(published, "pages", PageRow)),
        list(_rows(published, "jobs", JobRow)),
        answers,
        list(_rows(published, "evidence", EvidenceRow)),
        list(_rows(published, "failures", FailureRow)),
        list(_rows(published, "runs", RunRow)),
    )


def _is_included(row: DocumentRow, globs: Sequence[Glob]) -> bool:
    """Whether one of the document's paths fits; a pattern may begin at any folder."""
    paths = row.paths or (row.path,)
    return not globs or any(glob.matches(path.lstrip("/")) for glob in globs for path in paths)


@dataclass(frozen=True, slots=True)
class _Published:
    """The tables of a snapshot, or their rows about some documents."""

    snapshot: Path
    tables: frozenset[str]
    document_ids: frozenset[str] | None = None

    def read(self, table: str, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
        """The rows of a table, group by group."""
        import pyarrow as pa
        import pyarrow.compute
        import pyarrow.parquet as pq

        if table not in self.tables:
            return
        compute: Any = pyarrow.compute  # its functions are made when it is imported
        with pq.ParquetFile(self.snapshot / f"{table}.parquet") as file:
            there = file.schema_arrow.names
            for batch in file.iter_batches(columns=[n for n in columns or there if n in there]):
                chosen = batch
                if self.document_ids is not None and "document_id" in batch.schema.names:
                    column = compute.fill_null(batch.column("document_id"), "")
                    wanted = pa.array(list(self.document_ids))
                    chosen = batch.filter(compute.is_in(column, value_set=wanted))
                yield from chosen.to_pylist()


_R = TypeVar("_R")


def _rows(published: _Published, table: str, kind: type[_R]) -> Iterator[_R]:
    """The rows of a table as records; what is null or not there has its default."""
    make: Any = kind  # one of the dataclasses above
    names = {column.name.rstrip("_"): column.name for column in fields(make)}
    for row in published.read(table, list(names)):
        values = {names[name]: value for name, value in row.items() if value is not None}
        yield make(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _answers(published: _Published, table: str, task: str = "") -> Iterator[AnswerRow]:
    """Rows of answers; whatever is not a column of all of them is the answer itself."""
    known = {column.name for column in fields(AnswerRow)}
    for row in published.read(table):
        about: dict[str, Any] = {"task": task}
        about |= {k: v for k, v in row.items() if k in known and v is not None}
        about["values"] = tuple((k, v) for k, v in row.items() if k not in ANSWER_COLUMNS)
        yield AnswerRow(**about)
