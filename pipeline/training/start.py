"""Starts a training or an evaluation in a process of its own, and follows it; without mlx.

In: a job. Out: its report; or, detached, the process's id, and the files that tell how far it is.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pipeline
from pipeline import errors
from pipeline.engine.machine.blas import engine_environment
from pipeline.engine.machine.child import follow, hand_over
from pipeline.errors import DocflashError, EngineError
from pipeline.settings import private_folder
from pipeline.training.recipe import EvaluateJob, TrainJob
from pipeline.training.report import Evaluation, TrainReport, parse_evaluation, parse_report

LOG = "train.log"
STOPPING_S = 300.0
"""How long a stopped process may take to save where it is."""
Progress = Callable[[str, float], None]


def start_training(job: TrainJob, progress: Progress) -> TrainReport:
    """Trains a drafter, and waits for it.

    Args:
        job: What to do.
        progress: Told what is being done, and the part of it that is done, 0 to 1.

    Raises:
        DocflashError: As `run.run_training`.
        KeyboardInterrupt: It was stopped; the same job goes on from there.
    """
    job.check()
    return parse_report(_follow(asdict(job), progress))


def start_evaluation(job: EvaluateJob, progress: Progress) -> Evaluation:
    """Judges a drafter, and waits for it; raises as `run.run_evaluation`."""
    return parse_evaluation(_follow(asdict(job), progress))


def detach_training(job: TrainJob) -> tuple[int, Path]:
    """Starts a training that outlives this process.

    Returns:
        Its process id, and its log; `work/progress.json` tells how far it is.
    """
    job.check()
    log = private_folder(Path(job.out) / "work") / LOG
    with log.open("ab") as file, spawn(file, start_new_session=True) as process:
        hand_over(process, asdict(job))
        pid = process.pid
        # Nobody waits for it: it is init's child once this process is gone.
        process.returncode = 0
    return pid, log


def spawn(
    output: Any, more: dict[str, str] | None = None, *, start_new_session: bool = False
) -> "subprocess.Popen[str]":
    """A process that waits for a job on its standard input.

    Args:
        output: Where it writes.
        more: Added to its environment.
        start_new_session: Whether it is to outlive this process; its errors go to `output`, too.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.training.process"],
        cwd=Path(pipeline.__file__).parents[1],
        env=os.environ | engine_environment() | (more or {}),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output if start_new_session else None,
        text=True,
        start_new_session=start_new_session,
    )


def _follow(values: dict[str, Any], progress: Progress) -> dict[str, Any]:
    with spawn(subprocess.PIPE) as process:
        try:
            hand_over(process, values)
            last = follow(process, progress)
        except BaseException:
            _stop(process)
            raise
    return read_report(last, process.returncode)


def _stop(process: "subprocess.Popen[str]") -> None:
    """Has it save where it is, and waits for that."""
    process.send_signal(signal.SIGINT)
    late = threading.Timer(STOPPING_S, process.kill)
    late.start()
    for _ in process.stdout or ():  # a full pipe would hold it up
        continue
    process.wait()
    late.cancel()


def read_report(line: str, code: int) -> dict[str, Any]:
    """What a process ended with: its report, in the last line that it wrote.

    Raises:
        DocflashError: What it refused the job with; or it ended without a word.
        KeyboardInterrupt: It was stopped, and has nothing to report.
    """
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        raise EngineError(
            f"the process ended without a report (exit={code}); the machine may lack memory; run "
            "the same command again: it goes on from what is kept"
        ) from None
    if "refused" not in found:
        return found["report"]
    if found["refused"] == "Interrupted":
        raise KeyboardInterrupt
    kind: Any = getattr(errors, found["refused"], EngineError)
    if kind in {errors.DocumentError, errors.ResultError, errors.RequestError}:
        raise kind("training", found["message"])
    raise (kind if issubclass(kind, DocflashError) else EngineError)(found["message"])
