"""What a run would do, and about how long it would take; nothing is changed and no model loaded.

In: a `RunOrder`. Out: a `Forecast`. Files are found and, where size or time are not those of
before, hashed; the store is looked at (`pipeline.store.peek`), and jobs are planned as a run plans
them. What can't be known before a document is read (its class, its length) is left out, so that
the jobs are "at least".
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from pipeline.documents import Tally, hash_file
from pipeline.errors import DocumentError
from pipeline.ingest import batch_files, check_folder, search_files
from pipeline.jobs import DocumentEntry, plan_jobs
from pipeline.prompts import task_applies
from pipeline.reader import READER_VERSION
from pipeline.records import Failure, FoundFile, Job
from pipeline.run_order import Chosen, RunOrder, choose
from pipeline.store.peek import Failed, FileChanges, Peek

_READING = "reading"
_Left = tuple[str, str, Failed]  # a task, a file, what became of it


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """What failed alike before and would not be tried now.

    Attributes:
        task: A task; "reading" if the documents themselves can't be read.
        kind: Of the failures.
        count: How many documents.
        such_as: One of their files.
        why: Why that one failed.
        due: From when a run tries one of them again by itself; None if no run does.
    """

    task: str
    kind: str
    count: int
    such_as: str
    why: str
    due: datetime | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would do.

    Attributes:
        files: Files that it would look at.
        changes: What became of them since the last run.
        jobs: By task, the most first: answers that it would ask for, at least.
        left_alone: What failed before and would not be tried now, the most first.
        calls: Model calls for those, by what answers took so far.
        seconds: About how long, by the last runs with this model; None if there was none.
    """

    files: int
    changes: FileChanges
    jobs: tuple[tuple[str, int], ...]
    left_alone: tuple[LeftAlone, ...]
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
        there.unreachable += peek.find_lost(there.tally.mounts)
        changes = peek.count_changes(there.unreachable)
        jobs, failed = _count_jobs(peek, chosen, retry=order.search.retry)
        failed += [(_READING, *unread) for unread in peek.list_unread()]
        calls = _count_calls(peek, chosen, jobs)
        per_call = peek.seconds_per_call(chosen.model.fingerprint)
    seconds = None if per_call is None else per_call * calls
    left = _group(failed)
    return Forecast(there.files, changes, tuple(jobs.most_common()), left, calls, seconds)


@dataclass(slots=True)
class _There:
    """What a search found, but for the files, which are noted in the store."""

    folder: Path
    files: int = 0
    tally: Tally = field(default_factory=Tally)
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
    taken = map(there.take, search_files(order.search, there.tally))
    for batch in batch_files(file for file in taken if file is not None):
        peek.note(batch)
    return there


def _hash(path: Path) -> str:
    try:
        return hash_file(path)
    except DocumentError:
        return ""


def _count_jobs(peek: Peek, chosen: Chosen, *, retry: bool) -> tuple[Counter[str], list[_Left]]:
    """The jobs that would be worked, by task, and the failed ones that would not."""
    finder = chosen.class_task
    known = peek.list_known(finder.fingerprint if finder else "", chosen.model.fingerprint)
    new = [DocumentEntry("", "", (name,)) for name in peek.list_new()]
    jobs: dict[str, Job] = {job.key: job for job in _plan(chosen, known)}
    found = peek.find_jobs(jobs, retry=retry)
    counted = Counter(
        job.task for key, job in jobs.items() if key not in found.done and key not in found.failed
    )
    for entry in new:
        counted.update(_expected(chosen, entry))
    names = {entry.sha256: entry.names[0] for entry in known}
    left = [
        (jobs[key].task, names[jobs[key].document_sha256], failed)
        for key, failed in found.failed.items()
    ]
    return counted, left


def _group(failed: Iterable[_Left]) -> tuple[LeftAlone, ...]:
    """Failures that are alike, the most first; of their files, the first by its name."""
    groups: dict[tuple[str, str], LeftAlone] = {}
    for task, name, one in sorted(failed, key=lambda left: left[:2]):
        new = LeftAlone(task, one.kind, 0, name, one.message, one.due)
        group = groups.get((task, one.kind), new)
        due = min(filter(None, (group.due, one.due)), default=None)
        groups[task, one.kind] = replace(group, count=group.count + 1, due=due)
    return tuple(sorted(groups.values(), key=lambda group: -group.count))


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
