"""Counts what speculation chose and what it gained."""

from pipeline.engine.planning.acceptance import Source
from pipeline.engine.planning.plan import Plan
from pipeline.engine.planning.speculation_stats import SourceStats, SpeculationStats
from pipeline.engine.planning.widths import WIDTHS


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

    def rest(self, steps: int, tokens: int, ms: float) -> None:
        """Counts plain steps that were not planned."""
        self._widths[1] += steps
        self._tokens += tokens
        self._step_ms += ms
        self._plain_ms += ms

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
