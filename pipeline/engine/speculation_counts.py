"""What speculation chose and what it gained, for /metrics and `engine status`."""

from dataclasses import dataclass
from typing import Any

from pipeline.engine.acceptance import Source
from pipeline.engine.cost import WIDTHS
from pipeline.engine.plan import Plan


@dataclass(frozen=True, slots=True)
class SourceStats:
    """The drafts of one source.

    Attributes:
        source: "dflash", "copy", "forced" or "spliced".
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


class SpeculationCounts:
    """Adds the steps up."""

    def __init__(self) -> None:
        self._widths: dict[int, int] = dict.fromkeys(WIDTHS, 0)
        self._sources: dict[Source, tuple[int, int, int]] = {}
        self._drafter_steps = 0
        self._retries = 0
        self._tokens = 0
        self._step_ms = 0.0
        self._plain_ms = 0.0
        self._plain_ms_per_token = 0.0

    def plan(self, plan: Plan, plain_ms: float) -> None:
        """Counts a plan; `plain_ms` is what a plain step would take instead."""
        self._widths[plan.shape.width] += 1
        self._drafter_steps += plan.uses_drafter
        self._retries += plan.retry is not None
        self._plain_ms_per_token = plain_ms / plan.shape.rows

    def draft(self, source: Source, drafted: int, accepted: int) -> None:
        """Counts a draft that was run."""
        drafts, all_drafted, all_accepted = self._sources.get(source, (0, 0, 0))
        self._sources[source] = (drafts + 1, all_drafted + drafted, all_accepted + accepted)

    def settle(self, tokens: int, ms: float) -> None:
        """Counts what the plan's step gave and took."""
        self._tokens += tokens
        self._step_ms += ms
        self._plain_ms += tokens * self._plain_ms_per_token

    def stats(self) -> SpeculationStats:
        """The totals."""
        return SpeculationStats(
            steps_by_width=tuple(self._widths.items()),
            sources=tuple(SourceStats(name, *n) for name, n in sorted(self._sources.items())),
            drafter_steps=self._drafter_steps,
            retries=self._retries,
            tokens=self._tokens,
            step_ms=self._step_ms,
            plain_ms=self._plain_ms,
        )


def parse_speculation(values: dict[str, Any]) -> SpeculationStats:
    """The figures out of their `asdict` form as JSON gives it back."""
    whole: dict[str, Any] = values | {
        "steps_by_width": tuple((width, steps) for width, steps in values["steps_by_width"]),
        "sources": tuple(SourceStats(**source) for source in values["sources"]),
    }
    return SpeculationStats(**whole)
