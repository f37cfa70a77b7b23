"""How far the promises of plans with drafts are kept: a correction learnt from whole steps.

In: after a step what its plan promised and what came, in tokens and milliseconds. Out: a factor on
the plan's rate, without and with the drafter.

The parts of a promise (the cost of a verify, the acceptance of each row) are learnt one by one
elsewhere, and each may be a little too good in the same direction, since the plan with the best
promise is the one that is run. The factor closes the loop: it is the mean of what came over what
was promised. Where nothing is run it slowly returns to 1, so that what has changed is seen.
"""

STEPS = 192
"""A mean's memory in steps that ran drafts."""
FORGOTTEN = 2000
"""In so many plans an arm that is not run returns to its promise."""
WORST_MS = 1.5
"""A step that took more times its promise counts as this: something else ran, or was compiled, or
the machine has become busier, which the cost tables soon know."""


class Trust:
    """The factors of plans without the drafter (False) and with it (True)."""

    def __init__(self) -> None:
        self._tokens = {False: 1.0, True: 1.0}
        self._ms = {False: 1.0, True: 1.0}

    def factor(self, *, drafter: bool) -> float:
        """What the rate of such a plan is worth."""
        return self._tokens[drafter] / self._ms[drafter]

    def note(self, *, drafter: bool, tokens: float, ms: float) -> None:
        """Takes what came of a step, each over what was promised."""
        self._tokens[drafter] += (tokens - self._tokens[drafter]) / STEPS
        self._ms[drafter] += (min(ms, WORST_MS) - self._ms[drafter]) / STEPS

    def plan(self) -> None:
        """Counts a plan: every promise gets a little of its credit back."""
        for means in (self._tokens, self._ms):
            for drafter in means:
                means[drafter] += (1 - means[drafter]) / FORGOTTEN
