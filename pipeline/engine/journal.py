"""The engine's log: JSON lines of events, ids, counts and timings, never of anyone's text.

Exceptions are written as their type and the places they passed through: a message may quote what
was asked. The same holds for what libraries log.
"""

import json
import logging
import logging.handlers
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from pipeline.errors import RequestError
from pipeline.settings import state_folder

LOG_NAME = "engine.log"
OUTPUT_NAME = "engine-output.log"
LOG_BYTES = 4 << 20
KEPT_LOGS = 2
_LOGGER = logging.getLogger("docflash.engine")


def log_path() -> Path:
    """The engine's log."""
    return state_folder() / LOG_NAME


def output_path() -> Path:
    """What the engine process and the libraries in it print, of its last start only."""
    return state_folder() / OUTPUT_NAME


def open_journal() -> None:
    """Sends this process's log records to the log file, readable for this user only.

    Raises:
        InputError: The state folder can't be used.
    """
    path = log_path()
    path.touch(mode=0o600)
    path.chmod(0o600)
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=LOG_BYTES, backupCount=KEPT_LOGS, encoding="utf-8"
    )
    handler.setFormatter(JournalFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    _LOGGER.setLevel(logging.INFO)
    logging.raiseExceptions = False  # a full disk must not stop the engine


def note(event: str, **fields: float | str | None) -> None:
    """Writes one event.

    Args:
        event: A constant word.
        fields: Ids, counts, seconds, names of models; never text of a request or an answer.
    """
    _LOGGER.info(event, extra={"fields": fields})


def note_fault(event: str, error: BaseException, **fields: float | str | None) -> None:
    """Writes an unexpected exception: its type and where it came from, not its message."""
    info = (type(error), error, error.__traceback__)
    _LOGGER.error(event, extra={"fields": fields}, exc_info=info)


def fault_of(where: str, error: BaseException) -> RequestError:
    """What whoever asked is told of such an exception.

    Args:
        where: What the engine was doing.
        error: The exception; only its type is told.
    """
    return RequestError(
        "engine_failed",
        f"the engine failed in {where} ({type(error).__name__}); see the engine's log",
    )


class JournalFormatter(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line; of foreign records only the constant part of the message."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.msg if record.name == _LOGGER.name else record.name,
        }
        if record.name != _LOGGER.name:
            line["message"] = record.msg if record.args or not record.exc_info else ""
        line.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
            line["frames"] = _frames(record.exc_info[2])
        return json.dumps(line, ensure_ascii=True, default=lambda value: type(value).__name__)


def _frames(trace: TracebackType | None) -> list[str]:
    return [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(trace)]
