"""Several processes write answers side by side, each a part of them, into one folder.

In: a job for each. Out: what they have done together; their answers are in the folder. On a GPU
one process spends more time on the host than on the device, so some of them fill it; where
CUDA_VISIBLE_DEVICES names several devices, each process gets one of them.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.engine.machine.blas import launch_settings
from pipeline.engine.machine.child import follow, hand_over
from pipeline.training.recipe import WriteJob
from pipeline.training.regenerate import Written
from pipeline.training.start import STOPPING_S, read_report, spawn

LOOK_S = 0.2
TOLD, REPORT = "written:", '{"report"'
DEVICES = "CUDA_VISIBLE_DEVICES"


def tell_written(now: Written, total: int, kept: int) -> tuple[str, float]:
    """What is told of so many answers, and the part of all of them that is done."""
    done = min(total, kept + now.answers)
    speed = now.tokens / max(now.seconds, 1e-9)
    return f"answers: {done} of about {total}, {speed:.0f} tokens/s", done / total


def as_told(now: Written) -> tuple[str, float]:
    """How a writer tells its own part: answers, refused and tokens, and no part of the whole."""
    return f"{TOLD} {now.answers} {now.refused} {now.tokens}", 0.0


@dataclass(slots=True)
class _Writer:
    """A process, as its thread follows it."""

    process: "subprocess.Popen[str]"
    written: Written = field(default_factory=Written)
    last: str = ""

    @property
    def failed(self) -> bool:
        """Whether it has ended, and not with a report."""
        return self.process.poll() is not None and not self.last.startswith(REPORT)

    def follow(self) -> None:
        self.last = follow(self.process, self._hear)

    def _hear(self, told: str, _done: float) -> None:
        if told.startswith(TOLD):
            answers, refused, tokens = map(int, told.removeprefix(TOLD).split())
            self.written = Written(answers, refused, tokens)


def write_in_processes(
    jobs: Sequence[WriteJob],
    total: int,
    kept: int,
    stop: Callable[[], bool],
    progress: Callable[[str, float], None],
) -> Written:
    """Runs the jobs at once, and waits for all of them.

    Args:
        jobs: One for each process.
        total: Answers that are wanted.
        kept: How many of them were there before.
        stop: Says whether to stop; the processes then keep what is finished.
        progress: Told how far they are together.

    Raises:
        DocflashError: What one of them ended with; the others are stopped, and keep what they have.
    """
    started, stopped, told, late = time.monotonic(), False, False, float("inf")
    with ExitStack() as stack:
        writers = [
            _Writer(stack.enter_context(spawn(subprocess.PIPE, _environment(job)))) for job in jobs
        ]
        threads = [threading.Thread(target=one.follow, daemon=True) for one in writers]
        for writer, job, thread in zip(writers, jobs, threads, strict=True):
            hand_over(writer.process, asdict(job))
            thread.start()
        while any(thread.is_alive() for thread in threads):
            stopped = stopped or stop()
            if not told and (stopped or any(one.failed for one in writers)):
                told, late = True, time.monotonic() + STOPPING_S
                _send(writers, signal.SIGINT)
            if time.monotonic() > late:  # a GPU that hangs holds its process
                _send(writers, signal.SIGKILL)
            progress(*tell_written(_together(writers, started), total, kept))
            time.sleep(LOOK_S)
    found = [
        read_report(one.last, one.process.returncode)
        for one in writers
        if not stopped or one.last.startswith(REPORT)  # else it had not begun
    ]
    return Written(
        answers=sum(one["answers"] for one in found),
        refused=sum(one["refused"] for one in found),
        tokens=sum(one["tokens"] for one in found),
        seconds=time.monotonic() - started,
        stopped=stopped or any(one["stopped"] for one in found),
    )


def _together(writers: Sequence[_Writer], started: float) -> Written:
    done = Written(seconds=time.monotonic() - started)
    for writer in writers:
        done.answers += writer.written.answers
        done.refused += writer.written.refused
        done.tokens += writer.written.tokens
    return done


def _send(writers: Sequence[_Writer], number: signal.Signals) -> None:
    for writer in writers:
        if writer.process.poll() is None:
            writer.process.send_signal(number)


def _environment(job: WriteJob) -> dict[str, str]:
    """Its device, and a place for its compiled kernels.

    MLX keeps those in one folder for all processes, and reads what another one is still writing:
    cut-off machine code, then memory errors.
    """
    kernels = Path(job.folder).parent / "kernels" / str(job.share)
    devices = [name for name in os.environ.get(DEVICES, "").split(",") if name]
    own = {DEVICES: devices[job.share % len(devices)]} if len(devices) > 1 else {}
    return own | launch_settings(job.model) | {"MLX_PTX_CACHE_DIR": str(kernels)}
