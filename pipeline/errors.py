"""The tree of errors: which ones end a run, which are recorded and passed over.

    DocflashError
    +-- InputError       the input or the settings are wrong            exit 2
    |   +-- BusyError    another run owns the store                     exit 2
    +-- DocumentError    one document can't be done: recorded as a row  exit 1
    +-- ResultError      one answer is invalid: retried once, recorded  exit 1
    +-- EngineError      the engine stopped; the run can be resumed     exit 3
        +-- EngineLostError     it was lost while it answered: the document may be the cause
        +-- EngineStoppedError  it was stopped on purpose: trying again at once is no use
        +-- RequestError the engine refuses this one request: recorded as a row

Every message says what happened, `name=value!r`, and what to do.
"""

import traceback
from pathlib import Path
from typing import ClassVar


class DocflashError(Exception):
    """Root of all errors that docflash raises on purpose."""

    exit_code: ClassVar[int] = 3


class InputError(DocflashError):
    """The input or the settings are wrong; nothing was done."""

    exit_code = 2


class BusyError(InputError):
    """Another run owns the store at this moment."""


class DocumentError(DocflashError):
    """One document can't be done. It is recorded in `failures`, and the run goes on.

    Attributes:
        kind: A short stable word for the `failures.kind` column, e.g. "encrypted".
    """

    exit_code = 1

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class ResultError(DocflashError):
    """The model's answer is not valid for its task. Tried once more, then recorded.

    Attributes:
        kind: A short stable word for the `failures.kind` column, e.g. "invalid_json".
    """

    exit_code = 1

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class EngineError(DocflashError):
    """The engine stopped or can't be reached. What is finished is kept; run again to go on."""

    exit_code = 3


class EngineLostError(EngineError):
    """The engine was killed, or failed, while it answered this request."""


class EngineStoppedError(EngineError):
    """Somebody has stopped the engine, or this run's use of it; trying again at once is no use."""


class RequestError(EngineError):
    """The engine refuses this request (too long, a schema it can't compile...), not the run.

    Attributes:
        kind: A short stable word for the `failures.kind` column, e.g. "context_too_long".
    """

    exit_code = 1

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def describe_fault(error: BaseException) -> str:
    """Where an unexpected error arose; without its own text, which could be a document's."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename
    ]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown"
    return f"a fault of docflash itself: {type(error).__name__} at {place}; please report it"
