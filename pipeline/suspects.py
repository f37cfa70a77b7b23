"""Finds the one document on which the engine is lost: those in doubt are asked about alone.

When the engine is lost, all jobs that were running come under suspicion. Each of them is then
asked with no other job of the run beside it: an innocent one is answered, and one on which the
engine is lost again is the cause. In: jobs. Out: their turns. The store remembers who is in doubt.
"""

import threading
from collections.abc import Generator
from contextlib import contextmanager

from pipeline.records import Job
from pipeline.store import Store

QUARANTINED = "quarantined"
QUARANTINE = (
    "the engine was lost twice over this document, the second time with nothing else to do (it was "
    "killed, failed, or ran out of memory); the document is left alone from now on. To ask again: "
    "`docflash run FOLDER --retry`"
)


class Suspects:
    """The jobs of a run that are in doubt. Safe to use from many threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._keys = set(store.jobs.list_suspects())
        self._running = 0
        self._alone = 0  # waiting for the engine alone, or having it

    def add(self, run_id: str, job: Job) -> None:
        """The engine was lost while it answered this job."""
        self._store.jobs.suspect(run_id, job)
        with self._changed:
            self._keys.add(job.key)

    @contextmanager
    def turn(self, job: Job) -> Generator[bool]:
        """Waits until a job may be asked, and keeps others away meanwhile if it is in doubt.

        Yields:
            Whether it has the engine alone.
        """
        with self._changed:
            alone = job.key in self._keys
            self._alone += alone
            self._changed.wait_for(lambda: not (self._running if alone else self._alone))
            self._running += 1
        try:
            yield alone
        finally:
            with self._changed:
                self._running -= 1
                self._alone -= alone
                self._changed.notify_all()
