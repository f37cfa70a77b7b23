"""Feeds the documents of a run to the engine, a few at a time, until all are done or it must stop.

In: the work that was planned. Out: nothing; results are in the store. What can be asked of a
document at once is submitted together, so that the engine reads the document once.
"""

import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from prefect.futures import PrefectFuture

from flows.steps import RUNS, Running, classify, extract, is_text, publish, summarize
from pipeline.errors import DocflashError
from pipeline.planning import Work

WORKERS = 16
"""As many as the engine decodes at once."""

_DOCUMENTS = 12  # at once: they have 16 tasks or more, so that no worker waits
_CUT_AHEAD = 24  # documents; the engine is at work on others meanwhile
_PUBLISH_S = 600.0
_LOOK_S = 0.5  # how often the clock and the wish to stop are looked at


class DocumentLine:
    """The documents of a run on their way through the engine."""

    def __init__(self, run_id: str, works: Sequence[Work]) -> None:
        self._run_id = run_id
        self._running: Running = RUNS[run_id]
        self._line = deque(works)
        self._cut = 0  # so many at the head of the line are cut
        self._ended: queue.SimpleQueue[tuple[Work, PrefectFuture[Any]]] = queue.SimpleQueue()
        self._active: dict[str, int] = {}
        self._published_at = time.monotonic()

    def run(self) -> None:
        """Answers all documents, or those that can be until the run is asked to stop.

        Raises:
            EngineError: The engine stopped, and starting it again did not help.
            InputError: The model can't be loaded, or the library can't be written.
        """
        progress = self._running.run.progress
        while self._active or (self._line and not progress.is_stopping()):
            if progress.is_stopping():
                self._running.run.stop_answering()
            else:
                self._fill()
            self._take_ended()
            if time.monotonic() - self._published_at > _PUBLISH_S:
                publish(self._run_id)
                self._published_at = time.monotonic()

    def _fill(self) -> None:
        while self._line and len(self._active) < _DOCUMENTS:
            if not self._cut:
                ahead = list(islice(self._line, _CUT_AHEAD))
                self._running.run.cut(ahead)
                self._cut = len(ahead)
            self._cut -= 1
            self._submit(self._line.popleft())

    def _submit(self, work: Work) -> None:
        self._running.works[work.document_sha256] = work
        kinds = {is_text(self._running.run, job) for job in work.jobs}
        steps = [step for kind, step in ((True, summarize), (False, extract)) if kind in kinds]
        for step in [classify] if work.class_job else steps:
            self._active[work.document_sha256] = self._active.get(work.document_sha256, 0) + 1
            future = step.submit(self._run_id, work.document_sha256, work.name)
            future.add_done_callback(self._callback(work))

    def _callback(self, work: Work) -> Callable[[PrefectFuture[Any]], None]:
        return lambda future: self._ended.put((work, future))

    def _take_ended(self) -> None:
        try:
            work, future = self._ended.get(timeout=_LOOK_S)
        except queue.Empty:
            return
        sha256 = work.document_sha256
        self._active[sha256] -= 1
        if not self._active[sha256]:
            del self._active[sha256], self._running.works[sha256]
        run = self._running.run
        self._check(future)
        if work.class_job is not None and not run.progress.is_stopping():
            # Next in line: the engine still has these documents.
            rest = run.plan_rest(work.class_job)
            self._line.extendleft(reversed(rest))
            self._cut += len(rest)  # each when it is asked about

    def _check(self, future: PrefectFuture[Any]) -> None:
        """Ends the run on what is no fault of a document."""
        future.wait()  # it has ended; this makes its last state known
        error = future.state.result(raise_on_failure=False)
        if isinstance(error, DocflashError) and not self._running.run.progress.is_stopping():
            raise error
