"""A run over a folder without Prefect and without a model: what a document says is what happens.

The engine answers every question with a sentence of its own, at once; a document with the word
KILLER in it takes the engine down, each time.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.engine.interface import Completion, Engine, Request
from pipeline.errors import EngineLostError
from pipeline.folder_run import FolderRun
from pipeline.ingest import Search
from pipeline.planning import Work
from pipeline.progress import Progress
from pipeline.records import Job
from pipeline.run_order import RunOrder

TASK = "summary"
KILLER = "KILLER"
WORKERS = 4


class ScriptedEngine:
    """Answers without a model.

    Args:
        on_ask: Called with the id of each request, which begins with its job's key.
    """

    def __init__(self, on_ask: Callable[[str], None] = lambda _: None) -> None:
        self.asked: list[str] = []
        self.most_at_once = 0
        self._on_ask = on_ask
        self._running: set[str] = set()
        self._lock = threading.Lock()
        self._lives = 0

    def complete(self, request: Request) -> Completion:
        """As `interface.Engine`.

        Raises:
            EngineLostError: This document, or another that was asked about meanwhile, is a KILLER.
        """
        with self._lock:
            life = self._lives
            self.asked.append(request.id)
            self._running.add(request.id)
            self.most_at_once = max(self.most_at_once, len(self._running))
        try:
            self._on_ask(request.id)
            if any(KILLER in message.content for message in request.messages):
                with self._lock:
                    self._lives += 1
            if life != self._lives:
                raise EngineLostError("the engine was lost")
            return Completion(request.id, "It is a letter.", "stop", 9, 0, 4, 0.0, 0.1, 0.1)
        finally:
            with self._lock:
                self._running.discard(request.id)


class ScriptedRun(FolderRun):
    """A run whose engine is scripted."""

    def __init__(self, order: RunOrder, engine: Engine) -> None:
        super().__init__(order, Progress())
        self._scripted = engine

    def _engine(self) -> Engine:
        return self._scripted


def make_order(documents: Path, out: Path, model: Path, *, retry: bool = False) -> RunOrder:
    """One task for every document."""
    return RunOrder(Search(documents, out, retry=retry), model=str(model), tasks=(TASK,))


def answer_all(
    run: FolderRun, works: Sequence[Work], on_answer: Callable[[Job], None] = lambda _: None
) -> None:
    """Answers jobs in several threads, as the flow does."""

    def answer(work: Work) -> None:
        for job in work.jobs:
            if run.answer(job, work.name):
                on_answer(job)

    with ThreadPoolExecutor(WORKERS) as pool:
        for done in [pool.submit(answer, work) for work in works]:
            done.result()


def run_folder(
    order: RunOrder, engine: Engine, on_answer: Callable[[Job], None] = lambda _: None
) -> ScriptedRun:
    """A whole run; the run, closed."""
    run = ScriptedRun(order, engine)
    try:
        run.ingest()
        answer_all(run, run.plan(), on_answer)
        run.publish("done")
    finally:
        run.close()
    return run
