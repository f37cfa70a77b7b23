"""The gate's records: what to check, what was found, and the verdict. `docflash model check`.

The target alone, one request after the other, is the measure; it is held against the same requests
in a batch, and against the batch with drafts. A different token is excused only where the two
candidates' scores, computed anew in the measure's own way, are closer than the numeric noise: what
the same position's logits differ by, on this machine, when it is computed in steps of other widths
and batches. That noise must itself be no larger than rounding explains, or a fault in a wide
forward would excuse itself.

Plain data without mlx; `check_run` does the work, in a process of its own.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from pipeline.engine.machine.child import run_child

Way = Literal["serial", "batched", "speculative"]
WAYS: tuple[Way, ...] = ("serial", "batched", "speculative")
LOST = (
    "the check ended without a verdict (exit={code}); the machine may lack memory; with --resume "
    "FILE what was finished is kept, so run it again"
)


@dataclass(frozen=True, slots=True)
class CheckJob:
    """What to check.

    Attributes:
        model: "embedded" or a folder.
        drafter: Folder of a DFlash drafter; "" checks forced tokens and copies.
        texts: What the questions are about; empty takes the built-in ones.
        generations: How many answers, before they are shared out.
        shard: (i, n): the i-th of n parts, from 1.
        resume: File of finished answers, JSON lines; "" keeps none.
        rows: Rows of a batch.
        max_tokens: The most tokens of an answer.
    """

    model: str
    drafter: str = ""
    texts: tuple[str, ...] = ()
    generations: int = 30
    shard: tuple[int, int] = (1, 1)
    resume: str = ""
    rows: int = 8
    max_tokens: int = 64


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where an answer leaves the measure.

    Attributes:
        generation: The request's id, "g7 schema": number and kind.
        way: How it was decoded.
        position: The first token that differs, from 0.
        expected, found: The two tokens' texts; "<end>" where the answer ended.
        margin: Difference of their logits, penalties and draw included.
        explained: Whether that is within the noise.
    """

    generation: str
    way: Way
    position: int
    expected: str
    found: str
    margin: float
    explained: bool = False

    def judged(self, noise: float) -> "Divergence":
        """Itself, with the verdict under this noise."""
        return replace(self, explained=self.margin < noise)


@dataclass(frozen=True, slots=True)
class Noise:
    """What the same position's logits differ by between widths and batches.

    Attributes:
        largest: The largest difference measured.
        plausible: The most that rounding explains, by the precision and size of the logits.
        positions: Positions that it was measured at.
    """

    largest: float
    plausible: float
    positions: int


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found.

    Attributes:
        model, fingerprint, drafter, device: What was checked, and where.
        generations: Answers of each way.
        tokens: (way, tokens) that were compared with the measure, up to a divergence.
        resumed: Answers that were found in the resume file.
        drafts: (source, drafted, accepted) tokens of the speculative way in this run.
        divergences: All of them, explained or not.
        noise: Measured on this model here.
    """

    model: str
    fingerprint: str
    drafter: str
    device: str
    generations: int
    tokens: tuple[tuple[str, int], ...]
    resumed: int
    drafts: tuple[tuple[str, int, int], ...]
    divergences: tuple[Divergence, ...]
    noise: Noise
    lossless: bool = field(init=False)

    def __post_init__(self) -> None:
        explained = all(divergence.explained for divergence in self.divergences)
        sound = self.noise.largest <= self.noise.plausible
        object.__setattr__(self, "lossless", explained and sound and self.generations > 0)


def start_check(job: CheckJob, progress: Callable[[str, float], None]) -> CheckReport:
    """Runs the check in a process with the engine's environment.

    Args:
        job: What to check.
        progress: Told what is being done, and the part of it that is done, 0 to 1.

    Raises:
        InputError: The model, the drafter or a file can't be used.
        EngineError: The process ended without a verdict.
    """
    return parse_report(
        run_child("pipeline.engine.checking.check_run", asdict(job), progress, LOST)
    )


def parse_report(values: dict[str, Any]) -> CheckReport:
    """A report out of its `asdict` form as JSON gives it back."""
    whole = {name: value for name, value in values.items() if name != "lossless"}
    whole["tokens"] = tuple((way, count) for way, count in values["tokens"])
    whole["drafts"] = tuple((name, a, b) for name, a, b in values["drafts"])
    whole["divergences"] = tuple(Divergence(**entry) for entry in values["divergences"])
    whole["noise"] = Noise(**values["noise"])
    return CheckReport(**whole)
