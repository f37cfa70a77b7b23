"""The training's process: `python -m pipeline.training.process`, a job in, a report out.

What goes on is told on the pipe, and in `work/progress.json` for whoever does not hold the other
end of it. SIGINT and SIGTERM stop it once it has saved where it is.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.engine.machine.child import PROGRESS
from pipeline.errors import DocflashError
from pipeline.training.gather import write_share
from pipeline.training.recipe import EvaluateJob, TrainJob, WriteJob, parse_record
from pipeline.training.run import run_evaluation, run_training
from pipeline.training.shards import write_whole

TOLD_S = 1.0
PROGRESS_FILE = "progress.json"


class _Teller:
    """Says how far it is: to the pipe, and to a file."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._told_s, self._doing = 0.0, ""

    def __call__(self, doing: str, done: float) -> None:
        now = time.monotonic()
        if doing.split(":", maxsplit=1)[0] == self._doing and now - self._told_s < TOLD_S:
            return
        self._told_s, self._doing = now, doing.split(":", maxsplit=1)[0]
        _say(PROGRESS + json.dumps([doing, done]))
        values = {"doing": doing, "done": round(done, 4), "pid": os.getpid(), "at": time.time()}
        if self._file is None:
            return
        with suppress(DocflashError):  # a full disk is told by who keeps what counts
            write_whole(self._file, json.dumps(values).encode())


def _say(line: str) -> None:
    with suppress(BrokenPipeError):  # whoever began it has gone; it goes on
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def main() -> int:
    """Reads the job, tells how far it is, and ends with the report in one line."""
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _: stopped.append(got))
    values = json.load(sys.stdin)
    answer: dict[str, Any]
    tell = _Teller(_progress_file(values))
    try:
        answer = {"report": asdict(_run(values, lambda: bool(stopped), tell))}
        tell("ended", 1.0)
    except DocflashError as error:
        answer = {"refused": type(error).__name__, "message": str(error)}
        tell(f"ended: {error}", 1.0)
    except KeyboardInterrupt:
        answer = {"refused": "Interrupted", "message": "stopped by you"}
        tell("ended: stopped by you", 1.0)
    _say(json.dumps(answer))
    return 0


def _progress_file(values: dict[str, Any]) -> Path | None:
    if "share" in values:
        return None  # whoever shared the work tells it
    work = values["work"] if "drafter" in values else f"{values['out']}/work"
    return Path(work) / PROGRESS_FILE


def _run(values: dict[str, Any], stop: Callable[[], bool], tell: "_Teller") -> Any:
    if "share" in values:
        return write_share(parse_record(WriteJob, values), stop, tell)
    if "drafter" in values:
        return run_evaluation(parse_record(EvaluateJob, values), stop, tell)
    return run_training(parse_record(TrainJob, values), stop, tell)


if __name__ == "__main__":
    sys.exit(main())
