"""Which tasks' rows the drafter looks at.

To keep a drafter's context takes time, with every prompt and every token, whether it drafts or not.
Where plans have left it out for a while, a task's rows go without: then they cost what they cost
without a drafter. New rows of the task are looked at again later, each time twice as late; and at
once where half as many rows run, as drafts pay best there.

In: what plans used, step by step. Out: whether a row of a task is to have a context.
"""

from collections import OrderedDict
from dataclasses import dataclass

from pipeline.engine.planning.acceptance import MOST_TASKS

LEFT_OUT = 96
"""After so many steps without the drafter a task's rows go without."""
SHORTEST, LONGEST = 1024, 8192
"""Steps until it is tried again, the first time and at most. A context takes up to 6 % of what its
rows take (measured on an H200: 8 rows, questions about long prompts): so 0.6 % of the time at most.
"""


@dataclass(slots=True)
class _Task:
    """A task's state.

    Attributes:
        left_out: Steps without the drafter, of rows that it looked at.
        left: Steps until it looks again; 0 while it does.
        nap: How long that takes the next time.
        rows: So many ran when it was left out.
    """

    left_out: int = 0
    left: int = 0
    nap: int = SHORTEST
    rows: int = 0


class Naps:
    """The state of the tasks seen last."""

    def __init__(self) -> None:
        self._tasks: OrderedDict[str, _Task] = OrderedDict()

    def awake(self, task: str) -> bool:
        """Whether the drafter looks at new rows of a task."""
        state = self._tasks.get(task)
        return state is None or not state.left

    def used(self, task: str) -> None:
        """Notes a step with the drafter."""
        self._tasks.pop(task, None)

    def left_out(self, task: str, rows: int, steps: int, *, tapped: bool) -> bool:
        """Notes steps without it.

        Args:
            task: Of one of the rows, at least.
            rows: That run.
            steps: How many.
            tapped: Whether the drafter looks at most of the task's.

        Returns:
            Whether it looks at new ones from now on, and did not before.
        """
        state = self._tasks.setdefault(task, _Task())
        self._tasks.move_to_end(task)
        if len(self._tasks) > MOST_TASKS:
            self._tasks.popitem(last=False)
        if state.left:
            fewer = 2 * rows <= state.rows
            state.left = 0 if fewer else max(0, state.left - steps)
            state.nap = SHORTEST if fewer else state.nap
            return not state.left
        state.left_out += steps if tapped else 0
        if state.left_out >= LEFT_OUT:
            self._tasks[task] = _Task(0, state.nap, min(2 * state.nap, LONGEST), rows)
        return False
