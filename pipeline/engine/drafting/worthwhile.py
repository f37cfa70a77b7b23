"""Which rows are drafted for, and which of them the drafter looks at.

In: the running rows, step by step, and what became of each step. Out: which drafts to plan (see
`planning.worth`), and whether the drafter is to have the context of new rows.
"""

from collections.abc import Callable, Sequence

from pipeline.engine.planning.worth import Way, Worth
from pipeline.engine.row import Row

SKIPPED = 16
"""So many plain steps nobody takes part in, one after the other, where no drafts are thought of."""
PATIENCE = 16
"""After so many steps the drafter drops the context of rows that it is not to look at."""


class Worthwhile:
    """What is worth while for the running rows.

    Args:
        drafter: Whether there is one.
        always: Whether drafts are wanted whatever they cost.
        hurry: Has the drafter tried soon.

    Attributes:
        skips: Whether nobody takes part in this step, see `skip`.
    """

    def __init__(self, *, drafter: bool, always: bool, hurry: Callable[[], None]) -> None:
        self._has_drafter, self._always, self._hurry = drafter, always, hurry
        self._worth = Worth(drafter=drafter)
        self._way = Way.ALL  # of the rows that were met last
        self._blind = 0  # steps in which nobody was to be looked at
        self._rows = self._to_skip = self._skipped = 0
        self.skips = False

    @property
    def drafts(self) -> bool:
        """Whether any drafts are to be planned."""
        return self._way > Way.PLAIN

    @property
    def drafter(self) -> bool:
        """Whether those that the drafter makes are."""
        return self._has_drafter and self._way == Way.ALL

    def meet(self, rows: Sequence[Row]) -> bool:
        """Sees the rows of a step.

        Returns:
            Whether more drafts are to be planned for them than for those before.
        """
        before = self._way
        if rows and not self._always:
            tapped = sum(row.tapped for row in rows)
            self._way = self._worth.meet([row.task for row in rows], len(rows), tapped)
            self._blind = 0 if self._worth.looks else self._blind + 1
            if self._blind > PATIENCE:
                for row in rows:
                    row.tapped = False
        if self._way <= before:
            return False
        self._hurry()
        return True

    def took(self, gained: Sequence[Sequence[int]], ms: float, plain_ms: float) -> None:
        """Takes what the step gave, all that it took, and what a plain one should take."""
        if not gained or self._always:
            return
        self._worth.took(sum(map(len, gained)), ms, plain_ms)
        self._rows = len(gained)
        self._to_skip = SKIPPED * (self._blind > PATIENCE and self._worth.settled)

    def skip(self, rows: int) -> bool:
        """Whether the next step, of so many rows, is plain and nobody takes part in it."""
        self.skips = self._to_skip > 0 and rows == self._rows
        self._to_skip -= self.skips
        self._skipped += self.skips
        return self.skips

    def come_back(self) -> int:
        """How many steps were skipped since."""
        steps, self._to_skip, self._skipped = self._skipped, 0, 0
        self._worth.passed(steps * self._rows)
        return steps

    @property
    def looks(self) -> bool:
        """Whether the drafter is to have the context of new rows."""
        return self._has_drafter and (self._always or self._worth.looks)
