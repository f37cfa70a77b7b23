"""Puts published rows together, document by document.

In: `Rows`. Out: the `Index` of all documents, and a `DocumentView` of each when it is asked for.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

from pipeline.report.answers import ProofBook, make_answer
from pipeline.report.places import PageOffsets
from pipeline.report.rows import (
    AnswerRow,
    DocumentRow,
    EvidenceRow,
    FailureRow,
    JobRow,
    PageRow,
    Rows,
    RunRow,
)
from pipeline.report.shown import visible, visible_line
from pipeline.report.sketches import Sketcher
from pipeline.report.view import (
    Answer,
    DocumentView,
    Entry,
    FailureView,
    Index,
    PageView,
    RunView,
    TaskState,
    Value,
)

_R = TypeVar("_R", PageRow, JobRow, AnswerRow, EvidenceRow)


@dataclass(frozen=True, slots=True)
class Report:
    """All that a page shows.

    Attributes:
        documents: In the order of `index.entries`.
    """

    index: Index
    documents: tuple[DocumentView, ...]

    @property
    def flags(self) -> int:
        """How many values are flagged."""
        return sum(state.flags for entry in self.index.entries for state in entry.tasks)


def build_report(rows: Rows) -> Report:
    """Puts the rows together."""
    pages, jobs = _by_document(rows.pages), _by_document(rows.jobs)
    answers, evidence = _by_document(rows.answers), _by_document(rows.evidence)
    hidden = {task.name for task in rows.manifest.tasks if task.kind == "class"}
    order = [task.name for task in rows.manifest.tasks if task.name not in hidden]
    folder = _common_folder(rows.documents)
    entries: list[Entry] = []
    views: list[DocumentView] = []
    for row in rows.documents:
        found = (jobs[row.document_id], answers[row.document_id], evidence[row.document_id])
        view = _view(pages[row.document_id], *found, hidden, order)
        views.append(view)
        entries.append(_entry(row, view, folder))
    numbers = {row.document_id: number for number, row in enumerate(rows.documents)}
    index = Index(
        rows.manifest.published_at,
        rows.documents_all,
        tuple(order),
        tuple(_run(run) for run in rows.runs),
        tuple(_failure(row, numbers) for row in rows.failures),
        tuple(entries),
    )
    return Report(index, tuple(views))


def _by_document(rows: Iterable[_R]) -> defaultdict[str, list[_R]]:
    found: defaultdict[str, list[_R]] = defaultdict(list)
    for row in rows:
        found[row.document_id].append(row)
    return found


def _view(
    page_rows: list[PageRow],
    jobs: list[JobRow],
    answer_rows: list[AnswerRow],
    evidence: list[EvidenceRow],
    hidden: set[str],
    order: list[str],
) -> DocumentView:
    pages = sorted(page_rows, key=lambda page: page.page_number)
    book = ProofBook(PageOffsets(pages), Sketcher(pages))
    rows = {row.task: row for row in answer_rows}
    states = {job.task: job for job in jobs}
    # An answer without a job is of an older library; a job without an answer has yet to be done.
    for task in rows:
        states.setdefault(task, JobRow("", task, "done"))
    places = {task: place for place, task in enumerate(order)}
    answers: list[Answer] = []
    for task in sorted(states, key=lambda name: (places.get(name, len(places)), name)):
        # The class is told with the document; its question is shown if it failed.
        if task in hidden and states[task].state != "failed":
            continue
        proofs = book.add([row for row in evidence if row.task == task])
        answers.append(make_answer(states[task], rows.get(task), proofs))
    shown = (PageView(p.page_number, p.text, visible_line(p.note), p.source) for p in pages)
    return DocumentView(tuple(shown), tuple(answers), tuple(book.proofs))


def _entry(row: DocumentRow, view: DocumentView, folder: str) -> Entry:
    path = PurePosixPath(os.path.relpath(row.path, folder) if folder else row.path)
    states = tuple(
        TaskState(a.task, a.state, _flags(a, view), a.cut, a.outdated) for a in view.answers
    )
    return Entry(
        row.document_id,
        visible_line(path.name),
        "" if str(path.parent) == "." else visible_line(str(path.parent)),
        tuple(visible_line(other) for other in row.paths or (row.path,)),
        visible_line(row.title),
        row.class_,
        row.class_probability,
        row.class_confidence,
        row.page_count or len(view.pages),
        row.size_bytes,
        row.status == "failed",
        row.failure_kind,
        visible_line(row.failure),
        tuple(visible_line(note) for note in row.notes),
        states,
    )


def _flags(answer: Answer, view: DocumentView) -> int:
    numbers = [number for value in answer.values for number in _proofs_of(value)]
    return sum(view.proofs[number].flagged for number in (*numbers, *answer.unplaced))


def _proofs_of(value: Value) -> Iterable[int]:
    if value.proof is not None:
        yield value.proof
    for member in value.members:
        yield from _proofs_of(member)


def _common_folder(documents: Iterable[DocumentRow]) -> str:
    """The folder that all documents lie in."""
    folders = [os.path.dirname(row.path) for row in documents]  # noqa: PTH120  names, not files
    try:
        return os.path.commonpath(folders)
    except ValueError:  # none, or some without a folder
        return ""


def _run(run: RunRow) -> RunView:
    seconds: float | None = None
    if run.started_at is not None and run.finished_at is not None:
        seconds = (run.finished_at - run.started_at).total_seconds()
    return RunView(
        run.started_at.isoformat() if run.started_at else "",
        seconds,
        run.state,
        visible_line(run.folder),
        visible_line(run.model),
        run.files,
        run.documents,
        run.jobs_done,
        run.jobs_failed,
        run.model_calls,
    )


def _failure(row: FailureRow, numbers: dict[str, Any]) -> FailureView:
    path, message = visible_line(row.path), visible(row.message)
    return FailureView(row.kind, message, path, row.task, numbers.get(row.document_id))
