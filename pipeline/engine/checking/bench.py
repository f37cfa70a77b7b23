"""How fast this machine answers: the records of `docflash doctor --bench`, and its child process.

Plain data without mlx; `bench_run` does the work, in a process of its own.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from pipeline.engine.machine.child import run_child

ROWS = (1, 4, 8)
MAX_TOKENS = 48
LOST = (
    "the timing ended without a report (exit={code}); the machine may lack memory; close other "
    "programs and try again"
)


@dataclass(frozen=True, slots=True)
class BenchJob:
    """What to time.

    Attributes:
        model: "embedded" or a folder.
        drafter: Folder of a DFlash drafter; "" drafts forced tokens and copies.
        rows: Answers that are written at the same time.
        max_tokens: The most tokens of an answer.
        most_s: No further numbers of rows are begun after so many seconds.
    """

    model: str
    drafter: str = ""
    rows: tuple[int, ...] = ROWS
    max_tokens: int = MAX_TOKENS
    most_s: float = 90.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast answers were written.

    Attributes:
        rows: At the same time.
        plain, drafted: Tokens per second, prompts not counted, without drafts and with them.
        accepted: Tokens gained by a row in a step with drafts.
    """

    rows: int
    plain: float
    drafted: float
    accepted: float


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What was found.

    Attributes:
        model, drafter, device: What ran, and where.
        read: Tokens of a prompt read per second.
        paces: By the number of rows.
        seconds: That all of it took.
    """

    model: str
    drafter: str
    device: str
    read: float
    paces: tuple[Pace, ...]
    seconds: float


def start_bench(job: BenchJob, progress: Callable[[str, float], None]) -> BenchReport:
    """Times answers in a process with the engine's environment.

    Args:
        job: What to time.
        progress: Told what is being done, and the part of it that is done, 0 to 1.

    Raises:
        InputError: The model or the drafter can't be used.
        EngineError: The process ended without a report.
    """
    found = run_child("pipeline.engine.checking.bench_run", asdict(job), progress, LOST)
    found["paces"] = tuple(Pace(**pace) for pace in found["paces"])
    return BenchReport(**found)
