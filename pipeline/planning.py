"""Plans a run: which jobs of which documents are to be done, in the order to be worked.

In: the documents in the store. Out: a `Work` per document that has something to be asked. Documents
go through in batches, so that those with nothing to be done, a million perhaps, are never all in
memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pipeline.jobs import DocumentEntry, plan_jobs
from pipeline.progress import Progress
from pipeline.prompts import task_applies
from pipeline.records import Job
from pipeline.run_order import Chosen, RunOrder
from pipeline.store import Store


@dataclass(frozen=True, slots=True)
class Work:
    """The jobs of one document that can be done now.

    Attributes:
        document_sha256: The document.
        name: One of its files.
        class_job: Finds its class; its other jobs are planned after that (`Planning.plan_rest`).
        jobs: The others.
    """

    document_sha256: str
    name: str
    class_job: Job | None = None
    jobs: tuple[Job, ...] = ()


@dataclass(slots=True)
class Planning:
    """The planning of a run.

    Attributes:
        store, run_id, order, chosen, progress: Of the run.
    """

    store: Store
    run_id: str
    order: RunOrder
    chosen: Chosen
    progress: Progress
    _waiting: dict[str, list[DocumentEntry]] = field(default_factory=dict[str, list[DocumentEntry]])
    _pending: set[str] = field(default_factory=set[str])

    def plan(self) -> list[Work]:
        """What is to be asked; nothing for what was done before."""
        chosen = self.chosen
        works: list[Work] = []
        for batch in self.store.documents.list_batches(
            self.order.search.folder,
            class_fingerprint=chosen.class_task.fingerprint if chosen.class_task else "",
            model_fingerprint=chosen.model.fingerprint,
            newest_first=self.order.newest_first,
        ):
            if self.progress.is_stopping():
                break
            works += self._plan_batch(batch)
        return works

    def plan_rest(self, class_job: Job) -> list[Work]:
        """What is to be asked of the documents whose class a job has found, or has not."""
        result = self.store.jobs.load_result(class_job.key)
        found = None if result is None else str(result.value)
        entries = self._waiting.pop(class_job.text_sha256, [])
        self.progress.add(jobs=-sum(self._expected(entry) for entry in entries))
        jobs = self._plan_tasks([replace(entry, document_class=found) for entry in entries])
        names = {entry.sha256: entry.names[0] for entry in entries}
        return [
            Work(sha256, name, jobs=tuple(job for job in jobs if job.document_sha256 == sha256))
            for sha256, name in names.items()
        ]

    def _plan_batch(self, documents: Sequence[DocumentEntry]) -> list[Work]:
        class_jobs = self._plan_classes(documents)
        ready = [entry for entry in documents if entry.text_sha256 not in self._waiting]
        by_document: dict[str, list[Job]] = {}
        for job in self._plan_tasks(ready):
            by_document.setdefault(job.document_sha256, []).append(job)
        works: list[Work] = []
        for entry in documents:
            class_job = class_jobs.get(entry.text_sha256)
            if class_job is not None and class_job.document_sha256 == entry.sha256:
                works.append(Work(entry.sha256, entry.names[0], class_job))
            elif jobs := by_document.get(entry.sha256):
                works.append(Work(entry.sha256, entry.names[0], jobs=tuple(jobs)))
        return works

    def _plan_classes(self, documents: Sequence[DocumentEntry]) -> dict[str, Job]:
        """The class questions that these documents open, by the text they are about."""
        finder = self.chosen.class_task
        asked = [entry for entry in documents if self.chosen.needs_class(entry)]
        if finder is None or not asked:
            return {}
        plan = plan_jobs(asked, [finder], self.chosen.model.fingerprint)
        load = self.store.jobs.plan(self.run_id, plan, retry=self.order.search.retry)
        # The same text in an earlier batch has opened the question.
        jobs = {
            job.text_sha256: job for job in load.pending if job.text_sha256 not in self._waiting
        }
        self._waiting |= {text: [] for text in jobs}
        for entry in asked:
            if entry.text_sha256 in self._waiting:
                self._waiting[entry.text_sha256].append(entry)
                self.progress.add(jobs=self._expected(entry))
        self.progress.add(jobs=len(jobs))
        return jobs

    def _plan_tasks(self, documents: Sequence[DocumentEntry]) -> list[Job]:
        plan = plan_jobs(
            documents,
            self.chosen.tasks,
            self.chosen.model.fingerprint,
            force=self.chosen.force,
            only=self.order.only,
        )
        load = self.store.jobs.plan(self.run_id, plan, retry=self.order.search.retry)
        jobs = [job for job in load.pending if job.key not in self._pending]
        self._pending.update(job.key for job in jobs)
        self.progress.add(jobs=len(jobs))
        return jobs

    def _expected(self, entry: DocumentEntry) -> int:
        """How many jobs a document will have at least, whatever its class."""
        return sum(task_applies(task, entry.names, None) for task in self.chosen.tasks)
