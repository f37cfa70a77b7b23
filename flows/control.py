"""What a flow run shares with the command line that called it in the same process.

Prefect's parameters and results are plain values in its database; a display and the wish to stop
are neither, so they are handed over here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.progress import Progress
from pipeline.records import Failure, RunSummary


def _tell_nobody(_: str) -> None:
    """Nobody watches a run by a worker."""


@dataclass(slots=True)
class Control:
    """One run, as its caller sees it.

    Attributes:
        progress: How far it is; stops it, too.
        is_watched: Whether a command line waits for it.
        tell: Takes what is to be said to whoever watches.
        summary: Its row of the table `runs`, once it has ended.
        failures: What of its folder is published as failed.
        passed_over: What of its folder was left out, in words; empty if nothing was.
    """

    progress: Progress = field(default_factory=Progress)
    is_watched: bool = False
    tell: Callable[[str], None] = _tell_nobody
    summary: RunSummary | None = None
    failures: list[Failure] = field(default_factory=list[Failure])
    passed_over: str = ""

    @property
    def stopped(self) -> str:
        """Why the run ended before all was done; empty if it was done, whatever came after."""
        is_done = self.summary is not None and self.summary.state == "done"
        return "" if is_done else self.progress.stop_reason


_next: list[Control] = []


def offer_control(control: Control) -> None:
    """The next flow run in this process takes this control."""
    _next[:] = [control]


def take_control() -> Control:
    """What was offered, or a control that nobody watches (a run by a worker)."""
    return _next.pop() if _next else Control()
