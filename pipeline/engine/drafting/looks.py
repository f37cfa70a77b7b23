"""When rows at rest are looked at: often enough to see what could be copied, and seldom enough.

While no plans are made, plain decoding goes on; a look sees which rows have a likely draft, and,
where more of them have than before, whether a plan would pay. Beside a small model on a fast GPU
the host has no time to spare, so looks take a small part of it; a slow device has time for all.

In: the time of plain steps. Out: whether it is time to look, and whether a plan is wanted.
"""

from collections.abc import Sequence

from pipeline.engine.drafting.offering import has_likely
from pipeline.engine.row import Row

LOOKING, LOOK_MS, MOST_LOOKED = 0.006, 0.01, 8
"""The part of plain decoding's time that may go into looks at rows, what one of them takes, and how
many there are in a step at most."""
EARLY = 0.02
"""The part of it for plans before a rest is over, where more rows have likely drafts."""
MOST_LOOKS = 16
"""After so many looks that found no plan worth making one is made: it also tries what is left out.
A look learns as much, and no forward waits for it."""


class Looks:
    """What was seen since the last plan.

    Attributes:
        wanted: Whether a plan should be made before the rest is over.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._likely = self._seen = 0  # rows with a likely draft: at the last plan, and now
        self._row = 0  # which is looked at next
        self._count = 0  # looks for a plan
        self._rows_ms = 0.0  # that may go into looks at rows
        self._took_ms = self._early_ms = 0.0  # what one for a plan takes, and what early ones may

    def plan(self, rows: Sequence[Row]) -> None:
        """Notes that a plan was made, and that it is plain decoding."""
        self._likely = sum(row.likely for row in rows)
        self._count, self.wanted = 0, False

    def earn(self, ms: float) -> None:
        """Takes the time of a plain step."""
        self._rows_ms = min(self._rows_ms + LOOKING * ms, MOST_LOOKED * LOOK_MS)
        self._early_ms = min(self._early_ms + EARLY * ms, 4 * self._took_ms)

    def due(self, rows: Sequence[Row], *, early: bool) -> bool:
        """Looks at some rows; tells whether it should be seen if a plan pays.

        Args:
            rows: The running rows.
            early: Whether the rest goes on, unless a plan would pay.
        """
        if early and self._rows_ms < LOOK_MS:  # as in most steps
            return False
        self._seen = self._count_likely(rows)
        more = self._seen > self._likely
        if early and (not more or self._early_ms < self._took_ms):
            return False
        if self._count == MOST_LOOKS:
            self.wanted = more
            return False
        self._count += 1
        return True

    def found(self, ms: float, *, early: bool, pays: bool) -> None:
        """Notes what a look for a plan took, and whether one would pay."""
        self.wanted = pays
        self._likely = self._likely if pays else self._seen
        self._took_ms = ms
        self._early_ms -= ms if early else 0.0

    def _count_likely(self, rows: Sequence[Row]) -> int:
        """How many rows have a likely draft, by a look at a few of them, in turns."""
        first, count = self._row, min(int(self._rows_ms / LOOK_MS), len(rows))
        self._rows_ms -= count * LOOK_MS
        self._row += count
        for i in range(first, first + count):
            row = rows[i % len(rows)]
            row.likely = has_likely(row)
        return sum(row.likely for row in rows)
