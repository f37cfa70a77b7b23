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
        self._unplanned = 0  # steps since what was done about the last ones

    def wants(self, row: Row) -> bool:
        """Whether a new row is to have a context."""
        return self._always or self._naps.awake(row.task)

    def note(self, rows: Sequence[Row], plan: Plan | None = None) -> None:
        """Notes a step, and its plan if it had one."""
        self._unplanned += 1
        if self._always or (plan is None and self._unplanned < LEFT_OUT):
            return
        drafted = set[str]() if plan is None else _drafted(rows, plan)
        for task in drafted:
            self._naps.used(task)
        self._leave_out([row for row in rows if row.task not in drafted], self._unplanned)
        self._unplanned = 0

    def _leave_out(self, rows: Sequence[Row], steps: int) -> None:
        """Notes that rows went without the drafter; after long it looks at them no more."""
        for task in {row.task for row in rows}:
            own = [row for row in rows if row.task == task]
            tapped = 2 * sum(row.tapped for row in own) > len(own)
            if self._naps.left_out(task, len(rows), steps, tapped=tapped):
                self._hurry()
            for row in own:
                row.tapped &= self._naps.awake(task)


def _drafted(rows: Sequence[Row], plan: Plan) -> set[str]:
    """Tasks of which a row has the drafter's tokens because they are best, not to try them."""
    if not plan.uses_drafter or plan.retry is not None:
        return set()
    pairs = zip(rows, plan.offers, strict=True)
    return {row.task for row, offer in pairs if offer and offer.source in NEEDS_DRAFTER}
