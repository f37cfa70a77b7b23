"""The log of runs, for programs: a JSON object per line in a private file that rotates.

In: events of a run. Out: `logs/runs.jsonl` in docflash's state folder (`DOCFLASH_STATE`). Numbers,
ids, kinds of failures and the folder's name only: no text of a document, no name of a file.
"""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from flows.stopping import BY_SYSTEM, BY_YOU
from pipeline.progress import Counts
from pipeline.records import Failure, RunSummary
from pipeline.settings import private_folder, state_folder

_BYTES = 1_000_000
_FILES = 5
_NAME = "docflash.runs"


def log_path() -> Path:
    """The file; older ones beside it end in .1, .2, ..."""
    return state_folder() / "logs" / "runs.jsonl"


class RunLog:
    """The log, for one run."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._logger = logging.getLogger(f"{_NAME}.{run_id}")
        self._logger.propagate = False
        self._logger.setLevel(logging.INFO)
        private_folder(log_path().parent)
        self._handler = _Private(log_path(), maxBytes=_BYTES, backupCount=_FILES, delay=True)
        self._handler.setFormatter(_Json())
        self._logger.addHandler(self._handler)

    def begin(self, summary: RunSummary) -> None:
        """A run has begun."""
        tasks = list(summary.tasks)
        self._tell("begun", folder=summary.folder, model=summary.model, tasks=tasks)

    def publish(self, counts: Counts) -> None:
        """A run has published what is finished so far."""
        self._tell("published", **_numbers(counts))

    def end(
        self, summary: RunSummary, counts: Counts, failures: Iterable[Failure], reason: str
    ) -> None:
        """A run has ended, however.

        Args:
            summary: Its row of the table `runs`.
            counts: What it did.
            failures: What of its folder is published as failed.
            reason: Why it was stopped; empty if it was not.
        """
        kinds = Counter(failure.kind for failure in failures)
        finished = summary.finished_at or datetime.now(UTC)
        level = logging.INFO if summary.state == "done" and not kinds else logging.WARNING
        self._tell(
            "ended",
            level,
            state=summary.state,
            reason=_brief(reason),
            seconds=round((finished - summary.started_at).total_seconds(), 3),
            **_numbers(counts),
            failures_by_kind=dict(kinds.most_common()),
        )

    def close(self) -> None:
        """Closes the file."""
        self._logger.removeHandler(self._handler)
        self._handler.close()

    def _tell(self, event: str, level: int = logging.INFO, **values: Any) -> None:
        self._logger.log(level, event, extra={"values": {"run_id": self._run_id, **values}})


class _Private(RotatingFileHandler):
    """A rotating file that only this user can read, whatever the umask."""

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        return os.fdopen(os.open(self.baseFilename, flags, 0o600), "a", encoding="utf-8")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """A record as one line."""
        values: dict[str, Any] = getattr(record, "values", {})
        head = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        return json.dumps({**head, **values}, ensure_ascii=False)


def _brief(reason: str) -> str:
    """A reason without what may name files: one of a run's own words, or "error"."""
    known = ("", BY_YOU, BY_SYSTEM, "it was ended")
    if reason in known or reason.startswith("it is "):
        return reason
    return "engine" if reason.startswith("engine:") else "error"


def _numbers(counts: Counts) -> dict[str, int]:
    return {
        "files": counts.files,
        "documents_read": counts.documents_read,
        "jobs": counts.jobs,
        "jobs_done": counts.jobs_done,
        "jobs_failed": counts.jobs_failed,
        "model_calls": counts.calls,
        "prompt_tokens": counts.prompt_tokens,
        "cached_tokens": counts.cached_tokens,
        "completion_tokens": counts.completion_tokens,
    }
