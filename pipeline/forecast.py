"""What a run would do, and about how long it would take; nothing is changed and no model loaded.

In: a `RunOrder`. Out: a `Forecast`. Files are found and, where size or time are not those of
before, hashed; the store is looked at (`pipeline.store.peek`), and jobs are planned as a run plans
them. What can't be known before a document is read (its class, its length) is left out, so that
the jobs are "at least".
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.documents import Tally, hash_file
from pipeline.errors import DocumentError
from pipeline.ingest import batch_files, check_folder, search_files
from pipeline.jobs import TRANSIENT_KINDS, DocumentEntry, plan_jobs
from pipeline.prompts import task_applies
from pipeline.reader import READER_VERSION
from pipeline.records import Failure, FoundFile, Job
from pipeline.run_order import Chosen, RunOrder, choose
from pipeline.store.peek import FileChanges, Peek


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would do.

    Attributes:
        files: Files that it would look at.
        changes: What became of them since the last run.
        jobs: By task, the most first: answers that it would ask for, at least.
        left_alone: Jobs that failed before and would not be tried again.
        calls: Model calls for those, by what answers took so far.
        seconds: About how long, by the last runs with this model; None if there was none.
    """

    files: int
    changes: FileChanges
    jobs: tuple[tuple[str, int], ...]
    left_alone: int
    calls: int
    seconds: float | None


def forecast(order: RunOrder) -> Forecast:
    """Says what a run would do.

    Raises:
        BusyError: A run is at work on the library.
        InputError: As a run would raise it.
    """
    check_folder(order.search)
    chosen = choose(order, lambda _doing, _done: None)
    with Peek(order.search.out, order.search.folder) as peek:
        there = _note_files(peek, order)
        unsure = peek.list_unsure(READER_VERSION, retry=order.search.retry)
        peek.note_hashes((name, _hash(there.path(name))) for name in unsure)
        changes = peek.count_changes(there.unreachable)
        jobs, left_alone = _count_jobs(peek, chosen, retry=order.search.retry)
        calls = _count_calls(peek, chosen, jobs)
        per_call = peek.seconds_per_call(chosen.model.fingerprint)
    seconds = None if per_call is None else per_call * calls
    return Forecast(there.files, changes, tuple(jobs.most_common()), left_alone, calls, seconds)


@dataclass(slots=True)
class _There:
    """What a search found, but for the files, which are noted in the store."""

    folder: Path
    files: int = 0
    unreachable: list[str] = field(default_factory=list[str])
    odd: dict[str, Path] = field(default_factory=dict[str, Path])

    def path(self, name: str) -> Path:
        """The file of a name; a name that can't be shown as it is stands for another one."""
        return self.odd.get(name, self.folder / name)

    def take(self, found: FoundFile | Failure) -> FoundFile | None:
        if isinstance(found, Failure):
            self.unreachable.append(found.name)
            return None
        if self.folder / found.name != found.path:
            self.odd[found.name] = found.path
        self.files += 1
        return found


def _note_files(peek: Peek, order: RunOrder) -> _There:
    there = _There(order.search.folder)
    taken = map(there.take, search_files(order.search, Tally()))
    for batch in batch_files(file for file in taken if file is not None):
        peek.note(batch)
    return there


def _hash(path: Path) -> str:
    try:
        return hash_file(path)
    except DocumentError:
        return ""


def _count_jobs(peek: Peek, chosen: Chosen, *, retry: bool) -> tuple[Counter[str], int]:
    """The jobs that would be worked, by task, and how many failed ones would be left alone."""
    finder = chosen.class_task
    known = peek.list_known(finder.fingerprint if finder else "", chosen.model.fingerprint)
    new = [DocumentEntry("", "", (name,)) for name in peek.list_new()]
    jobs: dict[str, Job] = {job.key: job for job in _plan(chosen, known)}
    states = peek.job_states(jobs)
    failed = {
        key
        for key, (state, kind) in states.items()
        if state == "failed" and not retry and kind not in TRANSIENT_KINDS
    }
    done = {key for key, (state, _) in states.items() if state == "done"}
    counted = Counter(job.task for key, job in jobs.items() if key not in failed | done)
    for entry in new:
        counted.update(_expected(chosen, entry))
    return counted, len(failed)


def _plan(chosen: Chosen, known: tuple[DocumentEntry, ...]) -> Iterable[Job]:
    """The jobs of known documents: those of the class where it is not known yet, and the others."""
    fingerprint = chosen.model.fingerprint
    if chosen.class_task is not None:
        asked = [entry for entry in known if chosen.needs_class(entry)]
        yield from plan_jobs(asked, [chosen.class_task], fingerprint).jobs
    yield from plan_jobs(known, chosen.tasks, fingerprint, force=chosen.force).jobs


def _expected(chosen: Chosen, entry: DocumentEntry) -> Iterable[str]:
    """The tasks of a document that was never read, whatever its class."""
    if chosen.class_task is not None and chosen.needs_class(entry):
        yield chosen.class_task.name
    for task in chosen.tasks:
        if chosen.force or task_applies(task, entry.names, None):
            yield task.name


def _count_calls(peek: Peek, chosen: Chosen, jobs: Counter[str]) -> int:
    per_job = peek.calls_per_job(chosen.model.fingerprint)
    return round(sum(per_job.get(task, 1.0) * count for task, count in jobs.items()))
