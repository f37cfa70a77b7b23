"""Shows how far a run is: a live line on a terminal, now and then a plain line elsewhere."""

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic

from flows.cli_output import shown, stderr_console
from pipeline.progress import Progress

_LIVE_S = 0.25
_PLAIN_S = 10.0


@contextmanager
def watch_run(progress: Progress) -> Generator[None]:
    """Shows a run on standard error while the block lasts."""
    ended = threading.Event()
    show = _show_live if sys.stderr.isatty() else _show_plain
    thread = threading.Thread(target=show, args=(progress, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5)


def describe(progress: Progress) -> str:
    """One line: what the run is at, how far, how fast, how long yet."""
    counts = progress.counts
    if progress.is_stopping() and progress.phase != "done":
        return f"stopping ({progress.stop_reason}): what is finished is being published"
    if progress.phase == "reading":
        return f"reading: {counts.files_done} files looked at, {counts.documents_read} read"
    if progress.phase == "answering" and counts.jobs:
        return _describe_answers(progress)
    return f"{progress.phase}: {progress.doing}" if progress.doing else progress.phase


def _describe_answers(progress: Progress) -> str:
    counts = progress.counts
    ended = counts.jobs_done + counts.jobs_failed
    parts = [f"answers: {ended} of {counts.jobs}"]
    if counts.jobs_failed:
        parts.append(f"{counts.jobs_failed} failed")
    seconds = progress.answering_s
    if counts.completion_tokens and seconds:
        read = (counts.prompt_tokens - counts.cached_tokens) / seconds
        parts.append(f"{read:.0f} tokens/s read, {counts.completion_tokens / seconds:.0f} written")
    left_s = progress.left_s()
    if left_s is not None and ended < counts.jobs:
        parts.append(f"about {show_duration(left_s)} left")
    if not ended and progress.doing:
        parts.append(progress.doing)
    return ", ".join(parts)


def show_duration(seconds: float) -> str:
    """A length of time for people, such as "2 min 05 s"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:  # noqa: PLR2004
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _show_live(progress: Progress, ended: threading.Event) -> None:
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    spinner = Spinner("dots")
    with Live(spinner, console=stderr_console(), transient=True, refresh_per_second=8):
        while not ended.wait(_LIVE_S):
            spinner.update(text=Text(shown(describe(progress))))


def _show_plain(progress: Progress, ended: threading.Event) -> None:
    last, told_at = "", monotonic() - _PLAIN_S
    phase = ""
    while not ended.wait(_LIVE_S):
        line = describe(progress)
        due = monotonic() - told_at >= _PLAIN_S or progress.phase != phase
        if due and line != last:
            sys.stderr.write(f"{shown(line)}\n")
            sys.stderr.flush()
            last, told_at, phase = line, monotonic(), progress.phase
