"""How far the promises of plans with drafts are kept: a correction learnt from whole steps.

In: after a step what its plan promised and what came, in tokens and milliseconds. Out: a factor on
the plan's rate, by the number of rows, without and with the drafter.

The parts of a promise (the cost of a verify, the acceptance of each row) are learnt one by one
elsewhere, and each may be a little too good in the same direction, since the plan with the best
promise is the one that is run. The factor closes the loop: it is the mean of what came over what
was promised. Where nothing is run it slowly returns to 1, so that what has changed is seen. With
many rows the host's part of a step is larger, so what was learnt there says little of few rows.
"""

from math import log2

STEPS = 192
"""A mean's memory in steps that ran drafts."""
FORGOTTEN = 2000
"""In so many plans an arm that is not run returns to its promise."""
WORST_MS = 1.5
"""A step that took more times its promise counts as this: something else ran, or was compiled, or
the machine has become busier, which the cost tables soon know."""


class Trust:
    """The factors of plans, by rows (about twice as many in each class) and drafter or not."""

    def __init__(self) -> None:
        self._means: dict[tuple[int, bool], tuple[float, float]] = {}  # of tokens, and of times

    def factor(self, rows: int, *, drafter: bool) -> float:
        """What the rate of such a plan is worth."""
        tokens, ms = self._means.get((_class_of(rows), drafter), (1.0, 1.0))
        return tokens / ms

    def note(self, rows: int, *, drafter: bool, tokens: float, ms: float) -> None:
        """Takes what came of a step, each over what was promised."""
        self._move(rows, drafter, tokens, min(ms, WORST_MS), STEPS)

    def plan(self, rows: int) -> None:
        """Counts a plan: the promises for so many rows get a little of their credit back."""
        for drafter in (False, True):
            self._move(rows, drafter, 1.0, 1.0, FORGOTTEN)

    def _move(self, rows: int, drafter: bool, tokens: float, ms: float, steps: int) -> None:  # noqa: FBT001
        key = _class_of(rows), drafter
        old_tokens, old_ms = self._means.get(key, (1.0, 1.0))
        self._means[key] = (
            old_tokens + (tokens - old_tokens) / steps,
            old_ms + (ms - old_ms) / steps,
        )


def _class_of(rows: int) -> int:
    return round(log2(max(1, rows)))
