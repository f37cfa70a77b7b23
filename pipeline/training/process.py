"""The training's process: `python -m pipeline.training.process`, a job in, a report out.

What goes on is told on the pipe, and in `work/progress.json` for whoever does not hold the other
end of it. SIGINT and SIGTERM stop it once it has saved where it is.
"""

import json
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.engine.child import PROGRESS
from pipeline.errors import DocflashError
from pipeline.training.recipe import EvaluateJob, TrainJob, parse_record
from pipeline.training.run import run_evaluation, run_training
from pipeline.training.shards import write_whole

TOLD_S = 1.0
PROGRESS_FILE = "progress.json"


class _Teller:
    """Says how far it is: to the pipe, and to a file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / PROGRESS_FILE
        self._told_s, self._doing = 0.0, ""

    def __call__(self, doing: str, done: float) -> None:
        now = time.monotonic()
        if doing.split(":", maxsplit=1)[0] == self._doing and now - self._told_s < TOLD_S:
            return
        self._told_s, self._doing = now, doing.split(":", maxsplit=1)[0]
        _say(PROGRESS + json.dumps([doing, done]))
        values = {"doing": doing, "done": round(done, 4), "pid": os.getpid(), "at": time.time()}
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
    evaluates = "drafter" in values
    tell = _Teller(Path(values["work"] if evaluates else f"{values['out']}/work"))
    answer: dict[str, Any]
    try:
        if evaluates:
            found: Any = run_evaluation(
                parse_record(EvaluateJob, values), lambda: bool(stopped), tell
            )
        else:
            found = run_training(parse_record(TrainJob, values), lambda: bool(stopped), tell)
        answer = {"report": asdict(found)}
        tell("ended", 1.0)
    except DocflashError as error:
        answer = {"refused": type(error).__name__, "message": str(error)}
        tell(f"ended: {error}", 1.0)
    except KeyboardInterrupt:
        answer = {"refused": "Interrupted", "message": "stopped by you"}
        tell("ended: stopped by you", 1.0)
    _say(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
