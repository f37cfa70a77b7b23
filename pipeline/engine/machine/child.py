"""Talks to a process that does one job: its orders go in, its progress and its last line come out.

In: a running process that takes JSON on standard input and writes lines, those about progress
marked. Out: the last of the others, which is its verdict.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.engine.machine.blas import serving_environment
from pipeline.errors import DocflashError, EngineError, InputError

PROGRESS = "progress "
"""Begins a line about progress: JSON of what is being done, and the part that is done, 0 to 1."""


def hand_over(process: "subprocess.Popen[str]", job: dict[str, Any]) -> None:
    """Gives it its job; one that ended at once is told by its missing verdict."""
    if process.stdin:
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(job))
            process.stdin.close()


def follow(process: "subprocess.Popen[str]", progress: Callable[[str, float], None]) -> str:
    """Tells its progress until it ends; gives its last line, or nothing."""
    last = ""
    for line in process.stdout or ():
        if line.startswith(PROGRESS):
            progress(*json.loads(line.removeprefix(PROGRESS)))
        else:
            last = line
    return last


def run_child(
    module: str, job: dict[str, Any], progress: Callable[[str, float], None], lost: str
) -> dict[str, Any]:
    """Runs a module in a process with the engine's environment.

    Args:
        module: One that calls `serve_job`.
        job: What to do, with a `model`.
        progress: Told what is being done, and the part of it that is done, 0 to 1.
        lost: What is told of one that ends without a report; "{code}" is its exit code.

    Returns:
        Its report.

    Raises:
        InputError: It refused the job.
        EngineError: It ended without a report.
    """
    with subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=Path(__file__).parents[3],
        env=os.environ | serving_environment(job["model"]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            hand_over(process, job)
            last = follow(process, progress)
        except BaseException:
            process.terminate()
            raise
    try:
        found: dict[str, Any] = json.loads(last)
    except ValueError:
        raise EngineError(lost.format(code=process.returncode)) from None
    if "refused" in found:
        raise InputError(found["refused"])
    return found


def serve_job(run: Callable[[dict[str, Any], Callable[[str, float], None]], Any]) -> None:
    """The child's side: reads the job, tells how far it is, and ends with the report in one line.

    Args:
        run: Does the job; gives its report in JSON's types. What it refuses is reported, too.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends without a traceback; what is kept is kept

    def tell(doing: str, done: float) -> None:
        _say(PROGRESS + json.dumps([doing, done]))

    try:
        report = run(json.load(sys.stdin), tell)
    except DocflashError as error:
        report = {"refused": str(error)}
    _say(json.dumps(report))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
