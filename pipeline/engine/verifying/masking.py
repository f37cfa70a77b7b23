"""Which rows of a plain step have their grammars' masks made, and which are checked afterwards.

A mask takes tens of microseconds, and a plain step needs one for each row under a grammar before
its tokens are chosen. While a large model computes there is time for all of them. Beside a small
one on a fast GPU the host would be what everybody waits for; there rows go without as far as time
is short: the likeliest of all tokens, if the grammar allows it, is the likeliest of those that it
allows. What turns out wrong costs its row two steps, so a row goes without where that is unlikely
(`Matcher.risk`), and nothing is forced.

In: rows, and how long masks and steps took. Out: whether each row goes without.
"""

import time
from collections.abc import Sequence

from pipeline.engine.row import Row

AT_EASE_S = 60e-6
"""A host that waits for tokens no longer than this is the slower side: to be told of them takes
as long."""
PAUSE_S = 0.1
"""What took longer was no step, or one that leaves time for all masks."""
LOST_STEPS = 2
NEVER = 1.0
"""The risk of a row that can't do without its mask, or has none."""
LEARNING = 0.1


class Masking:
    """Decides for plain steps, by the time that the host has to spare."""

    def __init__(self) -> None:
        self._made_s = 0.0  # in the last step
        self._mask_s = self._step_s = 0.0  # what one takes
        self._spare_s: float | None = None  # what all may take
        self._last_s = 0.0  # when tokens were there last

    def without(self, rows: Sequence[Row]) -> list[bool]:
        """Whether each row goes without a mask [B]; those that have no grammar do not."""
        bare = [False] * len(rows)
        if self._spare_s is None or not self._mask_s or not self._step_s:
            return bare
        worth = self._mask_s / (self._mask_s + LOST_STEPS * self._step_s / len(rows))
        risks = [_risk(row) for row in rows]
        spare = self._spare_s / self._mask_s
        for b in sorted(range(len(rows)), key=risks.__getitem__, reverse=True):
            bare[b] = risks[b] < worth and spare < 1
            spare -= rows[b].matcher is not None
            if worth <= risks[b] < NEVER:
                _forget_risk(rows[b])
        return bare

    def made(self, masks: int, seconds: float) -> None:
        """Notes how long a step's masks took."""
        self._made_s = seconds
        if masks:
            self._mask_s = _nearer(self._mask_s, seconds / masks)

    def waited(self, seconds: float) -> None:
        """Notes how long the host waited for the tokens of a step whose successor had begun."""
        spare = self._made_s + seconds - AT_EASE_S
        self._spare_s = spare if self._spare_s is None else _nearer(self._spare_s, spare)
        last_s, self._last_s = self._last_s, time.perf_counter()
        step_s = self._last_s - last_s
        if last_s and step_s < PAUSE_S:
            self._step_s = _nearer(self._step_s, step_s)


def _risk(row: Row) -> float:
    """How likely the row's choice without a mask would be wrong."""
    tokens, matcher = row.history.tokens, row.matcher
    if matcher is None or not row.branches or row.wary or not tokens or matcher.quotes:
        return NEVER
    return NEVER if matcher.forces else matcher.risk(tokens[-1])


def _forget_risk(row: Row) -> None:
    """What is masked for its risk is not seen; it is tried again after a while."""
    if row.matcher is not None:
        row.matcher.saw(row.pending, right=None)


def _nearer(mean: float, value: float) -> float:
    return mean + LEARNING * (value - mean) if mean else value
