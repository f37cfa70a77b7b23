"""Cuts the documents of a run for its tasks, once each, and hands them to who asks about them.

In: jobs. Out: chunks in the store, and each job's document with its own chunks.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.answers import DocumentText
from pipeline.chunks import cut_chunks
from pipeline.errors import DocumentError
from pipeline.headings import find_sections
from pipeline.progress import Progress
from pipeline.records import Job
from pipeline.run_order import Chosen
from pipeline.store import CutDocument, Store
from pipeline.tokens import load_tokens

_CUT_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Cutting:
    """The chunks of a run's documents. Safe to use from many threads."""

    store: Store
    chosen: Chosen
    progress: Progress

    def cut(self, jobs: Iterable[Job]) -> None:
        """Cuts the documents of many jobs; too long ones wait for `load`, which says so."""
        tasks: dict[str, tuple[str, list[str]]] = {}
        for job in jobs:
            chunking = self.chosen.chunking(job.task)
            tasks.setdefault(chunking, (job.task, []))[1].append(job.document_sha256)
        for chunking, (task, sha256s) in tasks.items():
            uncut = self.store.chunks.list_uncut(dict.fromkeys(sha256s), chunking)
            for start in range(0, len(uncut), _CUT_AT_ONCE):
                if self.progress.is_stopping():
                    return
                batch = uncut[start : start + _CUT_AT_ONCE]
                self.store.chunks.save(self._cut_some(batch, task))

    def load(self, job: Job) -> DocumentText:
        """The document of a job, cut for its task.

        Raises:
            DocumentError: "too_long": it has more tokens than the task takes.
        """
        stored = self.store.documents.load_text(job.document_sha256)
        if stored is None:
            raise DocumentError("vanished", "the document is no longer stored; run again")
        chunks = self.store.chunks.load(job.document_sha256, self.chosen.chunking(job.task))
        if chunks is None:
            cut = self._cut_one(job.document_sha256, job.task)
            self.store.chunks.save([cut])
            chunks = cut.chunks
        sections = find_sections(stored.text, stored.outline) if len(chunks) > 1 else ()
        return DocumentText(stored.title, stored.text, chunks, sections)

    def _cut_some(self, sha256s: Iterable[str], task: str) -> Iterator[CutDocument]:
        for sha256 in sha256s:
            try:
                yield self._cut_one(sha256, task)
            except DocumentError:
                continue

    def _cut_one(self, sha256: str, task: str) -> CutDocument:
        document = self.store.documents.load(sha256)
        if document is None:
            raise DocumentError("vanished", "the document is no longer stored; run again")
        tokens = load_tokens(self.chosen.model.tokenizer_json)
        limits = self.chosen.limits[task]
        sections = find_sections(document.text, document.outline)
        chunks = cut_chunks(document.text, document.pages, tokens, limits, sections)
        return CutDocument(sha256, self.chosen.chunking(task), chunks)
