"""Signals as wishes to stop: what is finished is published, and the process ends by itself.

In: a run's progress. Out: the first Ctrl-C, or a SIGTERM (the system shuts down, a service is
stopped), asks the run to stop; it does within a second or so, and the next run goes on from there.
"""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from pipeline.progress import Progress

BY_YOU = "by you"
BY_SYSTEM = "by the system"


@contextmanager
def stop_gently(progress: Progress) -> Generator[None]:
    """Makes Ctrl-C and SIGTERM wishes to stop while the block lasts; a second Ctrl-C won't wait."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if progress.stop_reason == BY_YOU:
            raise KeyboardInterrupt
        progress.stop(BY_YOU)

    before = signal.signal(signal.SIGINT, stop)
    try:
        with stop_on_sigterm(progress):
            yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def stop_on_sigterm(progress: Progress) -> Generator[None]:
    """Makes SIGTERM a wish to stop while the block lasts.

    Prefect's own handler, which it sets when a flow begins, raises an error wherever the main
    thread is just then, publishing included. So the flow sets this one again.
    """

    def stop(_signal: int, _frame: FrameType | None) -> None:
        progress.stop(BY_SYSTEM)  # more than once is once: a service's stop may send two

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread: whoever runs the flow here has the signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
