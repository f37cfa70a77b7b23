"""Which rows the drafter looks at: of those it keeps a context, which takes time with every token.

In: the running rows and what their plans used. Out: whether new rows get a context (see
`planning.naps`); rows of tasks that it is of no use for lose theirs.
"""

from collections.abc import Callable, Sequence

from pipeline.engine.planning.candidates import NEEDS_DRAFTER
from pipeline.engine.planning.naps import LEFT_OUT, Naps
from pipeline.engine.planning.plan import Plan
from pipeline.engine.row import Row


class Attention:
    """The drafter's, to the tasks of rows.

    Args:
        always: Whether it looks at all rows.
        hurry: Has it tried soon.
    """

    def __init__(self, *, always: bool, hurry: Callable[[], None]) -> None:
        self._always, self._hurry = always, hurry
        self._naps = Naps()
        self._unplanned = 0  # steps since the last plan, or since they were noted

    def wants(self, row: Row) -> bool:
        """Whether a new row is to have a context."""
        return self._always or self._naps.awake(row.task)

    def rested(self, rows: Sequence[Row]) -> None:
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
        """Notes that rows went without the drafter; after long it looks at them no more."""
        for task in () if self._always else {row.task for row in rows}:
            own = [row for row in rows if row.task == task]
            tapped = 2 * sum(row.tapped for row in own) > len(own)
            if self._naps.left_out(task, len(rows), steps, tapped=tapped):
                self._hurry()
            for row in own:
                row.tapped &= self._naps.awake(task)
