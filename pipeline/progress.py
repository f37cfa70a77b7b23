"""How far a run is, for whoever watches, and the wish to stop it, from whoever may.

Written by the run's threads, read by a display or by nobody. Holds numbers and file names only.
"""

import threading
import time
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Literal

from pipeline.records import Result

_ENOUGH_TO_GUESS = 8  # the first answers wait for the engine, and come long after they were begun

Phase = Literal["starting", "reading", "answering", "publishing", "done"]


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run has done so far.

    Attributes:
        files: Files found in the folder.
        files_done: Of those, how many were looked at.
        documents_read: Documents that had to be read; the others were known.
        jobs: Jobs that this run has to do, as far as is known.
        jobs_done, jobs_failed: Jobs that ended.
        calls: Model calls.
        prompt_tokens, cached_tokens, completion_tokens: Of the finished jobs.
        failures: Rows of the table `failures` that this run wrote.
    """

    files: int = 0
    files_done: int = 0
    documents_read: int = 0
    jobs: int = 0
    jobs_done: int = 0
    jobs_failed: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    failures: int = 0


@dataclass(slots=True)
class Progress:
    """A run as seen from outside. Safe to use from many threads.

    Attributes:
        phase: What it is at.
        doing: More about that, e.g. what the engine is loading; may be empty.
        until: When the run is to stop; None for when it is done.
    """

    phase: Phase = "starting"
    doing: str = ""
    until: datetime | None = None
    _counts: Counts = field(default_factory=Counts)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop_reason: str = ""
    _answering_since: float = 0.0

    @property
    def counts(self) -> Counts:
        """The counts at this moment."""
        return self._counts

    @property
    def answering_s(self) -> float:
        """Seconds since the first job was begun; 0 before."""
        return time.monotonic() - self._answering_since if self._answering_since else 0.0

    @property
    def stop_reason(self) -> str:
        """Why the run is to stop; empty if it is not."""
        return self._stop_reason

    def enter(self, phase: Phase, doing: str = "") -> None:
        """Begins a phase."""
        self.phase, self.doing = phase, doing
        if phase == "answering" and not self._answering_since:
            self._answering_since = time.monotonic()

    def add(self, **more: int) -> None:
        """Adds to the counts, by their names."""
        with self._lock:
            known = {item.name: getattr(self._counts, item.name) for item in fields(Counts)}
            changed = {name: known[name] + number for name, number in more.items()}
            self._counts = replace(self._counts, **changed)

    def add_result(self, result: Result) -> None:
        """Adds a finished job."""
        self.add(
            jobs_done=1,
            calls=result.calls,
            prompt_tokens=result.prompt_tokens,
            cached_tokens=result.cached_tokens,
            completion_tokens=result.completion_tokens,
        )

    def left_s(self) -> float | None:
        """A guess at the seconds that the other jobs will take; None if too little is known."""
        counts = self._counts
        ended = counts.jobs_done + counts.jobs_failed
        if ended < _ENOUGH_TO_GUESS or not self._answering_since:
            return None
        return self.answering_s / ended * (counts.jobs - ended)

    def stop(self, reason: str) -> None:
        """Asks the run to stop soon; what is finished is kept. The first reason counts."""
        with self._lock:
            self._stop_reason = self._stop_reason or reason

    def is_stopping(self) -> bool:
        """Whether the run has been asked to stop, or its time is over."""
        # The clock on the wall, not a timer: the machine may have slept.
        if self.until is not None and datetime.now(self.until.tzinfo) >= self.until:
            self.stop(f"it is {self.until:%H:%M}")
        return bool(self._stop_reason)
