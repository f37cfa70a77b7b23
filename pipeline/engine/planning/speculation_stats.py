"""The figures on speculation in /metrics and `engine status`; light, as every client reads them."""

from dataclasses import dataclass
from typing import Any

from pipeline.engine.planning.acceptance import Source


@dataclass(frozen=True, slots=True)
class SourceStats:
    """The drafts of one source.

    Attributes:
        source: "dflash", "tree", "copy", "forced" or "spliced".
        drafts: How many were run.
        drafted: Their tokens; `accepted` of them were the target's choice.
    """

    source: Source
    drafts: int
    drafted: int
    accepted: int


@dataclass(frozen=True, slots=True)
class SpeculationStats:
    """Totals since the engine loaded the model.

    Attributes:
        steps_by_width: (width, steps) for each width, 1 being plain decoding.
        sources: Drafts by source.
        drafter_steps: Steps that ran the drafter.
        retries: Steps that looked at what the best plan left out.
        tokens: Tokens gained.
        step_ms: Time of the steps.
        plain_ms: What plain decoding of the same tokens would have taken by the cost table.
    """

    steps_by_width: tuple[tuple[int, int], ...]
    sources: tuple[SourceStats, ...]
    drafter_steps: int
    retries: int
    tokens: int
    step_ms: float
    plain_ms: float

    @property
    def gain(self) -> float:
        """How many times sooner than by plain decoding, estimated; 1.0 before the first step."""
        return self.plain_ms / self.step_ms if self.step_ms else 1.0


def parse_speculation(values: dict[str, Any]) -> SpeculationStats:
    """The figures out of their `asdict` form as JSON gives it back."""
    whole: dict[str, Any] = values | {
        "steps_by_width": tuple((width, steps) for width, steps in values["steps_by_width"]),
        "sources": tuple(SourceStats(**source) for source in values["sources"]),
    }
    return SpeculationStats(**whole)
