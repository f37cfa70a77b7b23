"""A library made of the sample documents without a model, to show what a report looks like.

In: `sample_docs`. Out: a published library. The documents are read as `docflash run` reads them.
The answers are the facts of `expected.json`, which were checked by hand, tied to their words by the
rules of `pipeline.derive`; a summary is the first sentences of its document. Probabilities are made
up. To show doubt, some answers are wrong on purpose (`_WRONG`, `_INVENTED`), and two jobs failed.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from pipeline.derive import find_words, judge, read_values, value_text
from pipeline.evidence import Evidence, page_spans
from pipeline.ingest import Search, ingest_folder
from pipeline.jobs import plan_jobs
from pipeline.measuring import measure_quotes
from pipeline.parquet import publish
from pipeline.progress import Progress
from pipeline.prompts import load_tasks
from pipeline.records import Failure, Field, Job, Result, RunSummary, Task
from pipeline.store import Store

SAMPLES = Path(__file__).resolve().parents[1] / "sample_docs"
_MODEL = "0" * 64
_STARTED = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)
_NO_SUCH = "the document does not say it"
_WRONG: dict[tuple[str, str], Any] = {
    ("harbour-print-INV-2026-0417.pdf", "tax"): Decimal("152.00"),
    ("tenant-repair-request.pdf", "letter_date"): date(2026, 10, 3),
}
_INVENTED = ("consulting-agreement-bluefern.pdf", "The work is worth $84,500.00 in all.")
_LINE = re.compile(r"[^\n\f]+")
_GOOD = ("verbatim", "derived")
_FAILED = ("xz-file-format.pdf", "libtommath-manual-pages-1-30.pdf")
_SENTENCE = re.compile(
    r"(?<=[.!?]\s)[A-Z][^.!?\f]{0,20}[a-z]+ [^.!?\f]{40,240}?[.!?](?=\s[A-Z\d\f]|\s*$)"
)


def make_library(out: Path, folder: Path = SAMPLES / "documents") -> None:
    """Publishes a library of the samples.

    Args:
        out: The library's folder; new.
        folder: The documents, copies of the samples' where the path is to be shown.
    """
    expected = json.loads((SAMPLES / "expected.json").read_text("utf-8"))["documents"]
    tasks = tuple(task for task in load_tasks() if task.name not in ("bullets", "entities"))
    finder = next(task for task in tasks if task.kind == "class")
    run = RunSummary(
        "20261120T020000Z", str(folder), _STARTED, None, "running", "embedded", _MODEL,
        tasks=tuple(task.name for task in tasks),
    )  # fmt: skip
    with Store.open(out) as store:
        store.runs.save(run)
        done = ingest_folder(store, run.run_id, Search(folder, out), Progress())
        jobs = 0
        for _round in ("classes", "answers"):
            documents = store.documents.list_live(
                folder, class_fingerprint=finder.fingerprint, model_fingerprint=_MODEL
            )
            names = {entry.sha256: entry.names[0] for entry in documents}
            plan = plan_jobs(documents, tasks, _MODEL)
            for job in store.jobs.plan(run.run_id, plan).pending:
                name = names[job.document_sha256]
                task = next(task for task in tasks if task.name == job.task)
                _answer(store, run.run_id, job, task, (name, expected.get(name, {})))
                jobs += 1
        measure_quotes(store, run.run_id, Progress())
        store.runs.save(
            replace(
                run, finished_at=_STARTED + timedelta(minutes=14), state="done", files=done.files,
                documents=done.documents_read, jobs_planned=jobs, jobs_done=jobs - len(_FAILED),
                jobs_failed=len(_FAILED), model_calls=jobs,
            )
        )  # fmt: skip
        publish(store, tasks, run.run_id)


def _answer(
    store: Store, run_id: str, job: Job, task: Task, known: tuple[str, dict[str, Any]]
) -> None:
    name, facts = known
    stored = store.documents.load_text(job.document_sha256)
    text = stored.text if stored else ""
    file = Path(name).name
    if task.kind == "class":
        store.jobs.finish(run_id, job, _result(job, facts.get("class", "other"), ()))
    elif task.kind == "text" and file in _FAILED:
        message = "the document has more tokens than max_document_tokens; raise it in the task"
        store.jobs.fail(run_id, job, Failure("document_too_long", message, name))
    elif task.kind == "text":
        evidence = tuple(_sentences(file, text))
        prose = " ".join(entry.value or "" for entry in evidence)
        store.jobs.finish(run_id, job, _result(job, prose, evidence))
    else:
        values = {field.name: facts.get("fields", {}).get(field.name) for field in task.fields}
        typed = {field.name: _typed(field, values[field.name]) for field in task.fields}
        typed |= {field: value for (of, field), value in _WRONG.items() if of == file}
        found = [entry for f in task.fields for entry in _prove(f, f.name, typed[f.name], text)]
        store.jobs.finish(run_id, job, _result(job, typed, tuple(found)))


def _result(job: Job, value: Any, evidence: tuple[Evidence, ...]) -> Result:
    return Result(
        job.key, value, probability=0.97, chunks=(0,), calls=1, cut=False, prompt_tokens=900,
        cached_tokens=0, completion_tokens=80, model_s=1.5, evidence=evidence,
    )  # fmt: skip


def _sentences(file: str, text: str) -> Iterator[Evidence]:
    for number, match in enumerate(list(_SENTENCE.finditer(text))[:3]):
        words = " ".join(match[0].split())
        spans = page_spans(text, *match.span())
        yield Evidence("text", number, words, "derived", spans, score=1.0)
    if file == _INVENTED[0]:
        reason = "the number 84,500.00 is not in the document"
        yield Evidence("text", 9, _INVENTED[1], "unsupported", score=0.2, reason=reason)


def _typed(field: Field, value: Any) -> Any:
    """A fact of `expected.json` as the field's type."""
    if value is None:
        return [] if field.type == "list" else None
    if field.type == "list" and field.items:
        return [_typed(field.items, item) for item in cast("list[Any]", value)]
    if field.type == "object":
        return {member.name: _typed(member, value.get(member.name)) for member in field.fields}
    if field.type == "date":
        return date.fromisoformat(value)
    return Decimal(value) if field.type == "decimal" else value


def _prove(field: Field, path: str, value: Any, text: str, item: int = 0) -> Iterator[Evidence]:
    if field.type == "list" and field.items:
        for number, member in enumerate(value):
            yield from _prove(field.items, path, member, text, number)
    elif field.type == "object":
        for member in field.fields:
            yield from _prove(member, f"{path}.{member.name}", value[member.name], text, item)
    elif value is None:
        yield Evidence(path, item, None, "not_found", reason=_NO_SUCH)
    else:
        yield from _prove_one(field, path, value, text, item)


def _prove_one(field: Field, path: str, value: Any, text: str, item: int) -> Iterator[Evidence]:
    """The first words that the value follows from, and a second date as what lost against it."""
    readings = read_values(field, text)
    fitting = (
        [(r.start, r.end) for r in readings if value in r.values]
        or list(find_words(str(value), text))
        or [
            line.span() for line in _LINE.finditer(text) if judge(field, value, line[0])[0] in _GOOD
        ]
    )
    shown = value_text(value)
    if not fitting:
        reason = f"no {field.type} of this value follows from the document"
        yield Evidence(path, item, shown, "unsupported", probability=0.41, reason=reason)
        return
    spans = page_spans(text, *fitting[0])
    support, note = judge(field, value, text[slice(*fitting[0])], text)
    yield Evidence(path, item, shown, support, spans, probability=0.97, reason=note)
    others = [r for r in readings if path == "due_date" and value not in r.values][:1]
    for other in others:
        lost = page_spans(text, other.start, other.end)
        yield Evidence(
            path, item, value_text(other.values[0]), "derived", lost,
            probability=0.58, chosen=False, reason="another part of the document was surer",
        )  # fmt: skip
