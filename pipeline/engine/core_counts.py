"""What a core has done since it was made, added up: a part of `EngineStats`."""

from typing import Any

from pipeline.engine.row import Row

SECONDS = ("prefill_s", "decode_s")
COUNTED = (
    *("finished", "failed", "prompt_tokens", "cached_tokens", "completion_tokens", "steps"),
    *SECONDS,
)
"""What of `EngineStats` is added up."""
RECENT = 0.9  # weight of the past in the running mean of a step's time


class CoreCounts:
    """The sums."""

    def __init__(self) -> None:
        self._sums = dict.fromkeys(COUNTED, 0.0)
        self._step_ms = 0.0

    def add(self, **more: float) -> None:
        """Adds to some of `COUNTED`."""
        for name, value in more.items():
            self._sums[name] += value

    def step(self, spent_s: float, waited_s: float) -> None:
        """Counts a decode step, of which some seconds were waited for a prompt."""
        spent_s -= waited_s
        mean = self._step_ms or spent_s * 1e3
        self._step_ms = RECENT * mean + (1 - RECENT) * spent_s * 1e3
        self.add(decode_s=spent_s, prefill_s=waited_s, steps=1)

    def finish(self, row: Row) -> None:
        """Counts an answer that is complete."""
        self.add(
            finished=1,
            prompt_tokens=len(row.prompt),
            cached_tokens=row.cached,
            completion_tokens=len(row.history.tokens),
        )

    def stats(self) -> dict[str, Any]:
        """Those of the fields of `EngineStats` that are known here."""
        sums = {
            name: value if name in SECONDS else int(value) for name, value in self._sums.items()
        }
        return {**sums, "step_ms": self._step_ms}
