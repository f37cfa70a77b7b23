"""When what a plan leaves out is tried again, so that a change for the better is noticed.

The rule. There are three arms: plain decoding, drafts that cost nothing to make, and the drafter.
One that the best plans leave out for its interval of steps is tried for a step, if the account pays
for it. `SHARE` of all time goes into the account (less of steps without a plan, as most are where
drafts don't pay); a retry takes out what it lost against the best plan, so retries cost 1 % of the
time at most. After a retry that lost, the arm's interval doubles (32 to 256 steps); after one that
won, the next step tries again, and if that goes on the estimates rise until the arm is chosen for
its own sake. The drafter is tried twice, as its first step also puts into its context what it has
missed. It is due at once when a task is new, of which the others tell nothing.
"""

from typing import Literal

Arm = Literal["plain", "free", "drafter"]
ARMS: tuple[Arm, ...] = ("plain", "free", "drafter")

SHARE = 0.01
SHARE_AT_REST = 0.005
"""Of steps without a plan: planning takes its part of them, too."""
SHORTEST = 32
LONGEST = 256
PATIENCE = 8
"""Steps until an arm that could not be tried asks again."""
TRIES: dict[Arm, int] = {"plain": 1, "free": 1, "drafter": 2}
"""Steps of a retry before it is judged."""
MOST_PLAIN_STEPS = 10.0
"""The account never holds more than this many plain steps: savings are not for a spree."""


class Retries:
    """The account and the arms' intervals."""

    def __init__(self) -> None:
        self._step = 0
        self._account_ms = 0.0
        self._interval = dict.fromkeys(ARMS, SHORTEST)
        self._next = dict.fromkeys(ARMS, SHORTEST)  # the step at which it is due
        self._tried = dict.fromkeys(ARMS, 0)  # steps of the retry that is going on

    def due(self, ahead: int = 0) -> list[Arm]:
        """Arms whose time has come so many steps from now, the longest waiting first."""
        over: list[Arm] = [arm for arm in ARMS if self._step + ahead >= self._next[arm]]
        return sorted(over, key=lambda arm: self._next[arm])

    def in_use(self, arm: Arm) -> None:
        """Notes that the best plan has the arm in it."""
        self._interval[arm] = SHORTEST
        self._next[arm] = self._step + SHORTEST

    def hurry(self, arm: Arm) -> None:
        """Notes that what made the arm lose may not hold for what runs now: it is due."""
        self._interval[arm], self._next[arm] = SHORTEST, self._step

    def postpone(self, arm: Arm) -> None:
        """Notes that the arm can't be tried now."""
        self._next[arm] = self._step + PATIENCE

    def hopeless(self, arm: Arm) -> bool:
        """Puts off an arm that by the cost table can't win, whatever its acceptance.

        Returns:
            False once it was put off for the longest interval, as the table may be wrong; and while
            it is being tried, or has just won.
        """
        if self._interval[arm] in {1, LONGEST} or self._tried[arm]:
            return False
        self._interval[arm] = min(2 * self._interval[arm], LONGEST)
        self._next[arm] = self._step + self._interval[arm]
        return True

    def affords(self, arm: Arm, loss_ms: float, plain_ms: float) -> bool:
        """Whether the account covers the loss if nothing is accepted; else the arm waits a bit."""
        self._account_ms = min(self._account_ms, MOST_PLAIN_STEPS * plain_ms)
        if loss_ms > self._account_ms:
            self.postpone(arm)
            return False
        return True

    def rested(self, steps: int, ms: float) -> None:
        """Counts steps that were plain without a plan: time goes on, and is saved."""
        self._step += steps
        self._account_ms += SHARE_AT_REST * ms

    def settle(self, ms: float, worth_ms: float, arm: Arm | None) -> None:
        """Closes a step.

        Args:
            ms: What it took.
            worth_ms: What the best plan would have taken for the same tokens.
            arm: What it tried again, if it did.
        """
        self._step += 1
        self._account_ms += SHARE * ms
        if arm is None:
            return
        self._account_ms -= ms - worth_ms
        self._tried[arm] += 1
        if ms >= worth_ms and self._tried[arm] < TRIES[arm]:
            self._next[arm] = self._step
            return
        self._tried[arm] = 0
        longer = max(SHORTEST, min(2 * self._interval[arm], LONGEST))
        self._interval[arm] = longer if ms >= worth_ms else 1
        self._next[arm] = self._step + self._interval[arm] - 1
