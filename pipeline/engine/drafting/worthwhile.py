"""Which rows are drafted for at all, and which of them the drafter looks at.

In: the running rows, step by step, and what became of each step. Out: whether to plan drafts
(`planning.worth`), and for new rows whether the drafter is to have their context (`planning.naps`).
"""

from collections.abc import Callable, Sequence

from pipeline.engine.planning.candidates import NEEDS_DRAFTER
from pipeline.engine.planning.naps import LEFT_OUT, Naps
from pipeline.engine.planning.plan import Plan
from pipeline.engine.planning.worth import Worth
from pipeline.engine.row import Row


class Worthwhile:
    """What is worth while for the running rows.

    Args:
        drafter: Whether there is one.
        always: Whether drafts are wanted whatever they cost.
        hurry: Has the drafter tried soon.
    """

    def __init__(self, *, drafter: bool, always: bool, hurry: Callable[[], None]) -> None:
        self._drafter, self._always, self._hurry = drafter, always, hurry
        self._naps, self._worth = Naps(), Worth()
        self._unplanned = 0  # steps since the last plan, or since they were noted
        self.drafts = True  # of the rows that were met last

    def meet(self, rows: Sequence[Row]) -> bool:
        """Sees the rows of a step; `drafts` then tells whether to think of drafts for them.

        Returns:
            Whether that begins with this step.
        """
        did = self.drafts
        if rows and not self._always:
            tapped = any(row.tapped for row in rows)
            self.drafts = self._worth.meet([row.task for row in rows], len(rows), tapped=tapped)
        if did or not self.drafts:
            return False
        for row in rows:  # the drafter may be what pays now
            self._naps.used(row.task)
        self._hurry()
        return True

    def took(self, gained: Sequence[Sequence[int]], ms: float) -> None:
        """Takes what the step gave, and all that it took."""
        if gained:
            self._worth.took(sum(map(len, gained)), ms)

    def looks_at(self, row: Row) -> bool:
        """Whether the drafter is to have the context of a new row."""
        awake = self._naps.awake(row.task) if self.drafts else self._worth.soon
        return self._drafter and awake

    def skipped(self, rows: Sequence[Row]) -> None:
        """Notes a step without a plan."""
        self._unplanned += 1
        if self._unplanned >= LEFT_OUT:
            self._leave_out(rows, self._unplanned)
            self._unplanned = 0

    def planned(self, rows: Sequence[Row], plan: Plan) -> None:
        """Notes a step with a plan."""
        used = plan.uses_drafter and plan.retry is None
        drafted = {
            row.task
            for row, offer in zip(rows, plan.offers, strict=True)
            if used and offer is not None and offer.source in NEEDS_DRAFTER
        }
        for task in drafted:
            self._naps.used(task)
        self._leave_out([row for row in rows if row.task not in drafted], 1 + self._unplanned)
        self._unplanned = 0

    def _leave_out(self, rows: Sequence[Row], steps: int) -> None:
        """Notes that rows went without the drafter; if that is long it looks at them no more."""
        if not self._drafter:
            return
        if not self.drafts:
            for row in rows:
                row.tapped &= self._worth.soon
            return
        tapped = {row.task for row in rows if row.tapped}
        for task in {row.task for row in rows}:
            if self._naps.left_out(task, len(rows), steps, tapped=task in tapped):
                self._hurry()
        for row in rows:
            row.tapped &= self._naps.awake(row.task)
