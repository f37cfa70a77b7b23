"""Plans jobs: which document gets which task, and the keys that tell whether it was done before.

In: the documents of a run, the tasks and the model. Out: jobs in the order to be worked. Nothing
here reads or writes anything; `pipeline.store` tells which of the jobs are still to be done.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.prompts import task_applies
from pipeline.records import Job, Limits, Task

TRANSIENT_KINDS = frozenset(
    (
        *("cancelled", "crashed", "duplicate_id", "engine_failed", "engine_lost", "fault"),
        *("leaving", "out_of_memory", "queue_full", "timeout", "vanished"),
    )
)
"""Kinds of failures that may say nothing of the document or the task.

A job that failed with one of these is tried again by a later run (`BACKOFF_HOURS`). Any other
failed job would fail again, so it is tried again only if its text, task or model changed (which
gives it another key) or if the user asks for it.
"""

BACKOFF_HOURS = (0, 20, 68, 164, 716)
"""So long after its first, second... failure something is tried again: by the next run, then a
night, three, a week and a month later, an early run included; the last one holds for all after."""

_KEY_VERSION = "docflash job 1"
_CHUNKING_VERSION = "docflash chunking 2"
"""Raise it when `cut_chunks` cuts the same text in another way."""


@dataclass(frozen=True, slots=True)
class DocumentEntry:
    """What planning has to know of a document.

    Attributes:
        sha256: The document.
        text_sha256: Hash of its normalised text.
        names: Its files' names relative to the folder, sorted.
        document_class: Its class, None if it is not known (yet).
    """

    sha256: str
    text_sha256: str
    names: tuple[str, ...]
    document_class: str | None = None


@dataclass(frozen=True, slots=True)
class JobPlan:
    """The jobs for some documents and tasks: the whole truth about those, done or not.

    Attributes:
        jobs: In the order to be worked: the tasks of a document follow each other, so that the
            engine can reuse the document's tokens.
        documents: SHA-256 of every document that was considered.
        tasks: Name of every task that was considered.
    """

    jobs: tuple[Job, ...]
    documents: tuple[str, ...]
    tasks: tuple[str, ...]


def job_key(text_sha256: str, task_fingerprint: str, model_fingerprint: str) -> str:
    """The key of a job: the same question about the same text to the same model has the same."""
    return _digest(_KEY_VERSION, text_sha256, task_fingerprint, model_fingerprint)


def chunking_fingerprint(limits: Limits, model_fingerprint: str) -> str:
    """Names a way to cut chunks: the same text cut under it gives the same chunks.

    Args:
        limits: As given to `cut_chunks` (that is, lowered by `chunk_limits`).
        model_fingerprint: The model, whose tokenizer counts.
    """
    return _digest(
        _CHUNKING_VERSION, limits.chunk_tokens, limits.overlap_tokens, model_fingerprint
    )[:16]


def plan_jobs(
    documents: Iterable[DocumentEntry],
    tasks: Sequence[Task],
    model_fingerprint: str,
    *,
    force: bool = False,
    only: Mapping[str, frozenset[str]] | None = None,
) -> JobPlan:
    """Plans the jobs of these tasks for these documents.

    Tasks that need the class of a document are planned after the class was found; until then they
    don't apply.

    Args:
        documents: In the order to be worked.
        tasks: In the order to be worked.
        model_fingerprint: The model that will be asked.
        force: Each task is for each document, whatever its `applies_to` (`--task`).
        only: By file name: the tasks that it gets, instead of all of that.

    Returns:
        The plan, for `Store.jobs.plan`.
    """
    jobs: list[Job] = []
    considered: list[str] = []
    for document in documents:
        considered.append(document.sha256)
        for task in tasks:
            if _is_for(task, document, force=force, only=only):
                key = job_key(document.text_sha256, task.fingerprint, model_fingerprint)
                jobs.append(
                    Job(
                        key,
                        document.sha256,
                        document.text_sha256,
                        task.name,
                        task.fingerprint,
                        model_fingerprint,
                    )
                )
    return JobPlan(tuple(jobs), tuple(considered), tuple(task.name for task in tasks))


def _is_for(
    task: Task,
    document: DocumentEntry,
    *,
    force: bool,
    only: Mapping[str, frozenset[str]] | None,
) -> bool:
    if only is not None:
        return any(task.name in only.get(name, ()) for name in document.names)
    return force or task_applies(task, document.names, document.document_class)


def _digest(*parts: str | int) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
