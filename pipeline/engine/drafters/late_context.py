"""A drafter's context, late: what plain steps add to it is put there when somebody looks.

In: the target's hidden states, forward by forward. Out: the drafter's keys and values, at once for
wide steps and prompts; those of plain steps wait, and go in together before the next draft, or when
they are many. Where drafts don't pay, a plain step so costs what it costs without a drafter. What
waits for a row moves with it, and goes when it does.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import mlx.core as mx

from pipeline.engine.memory.cache import RaggedCache
from pipeline.engine.memory.layer import LayerCache
from pipeline.engine.memory.moves import Late
from pipeline.engine.memory.window import ScatteredWindow

TOGETHER = 256
"""Tokens that go in at once: a kernel takes the places of so many along."""
MOST_BYTES = 64 << 20
"""Of hidden states that wait, at most: those of a row that ends without a draft never go in."""
GONE = -1

_Step = tuple[int, list[mx.array]]
"""A step's rows, and its hidden states."""


@dataclass(slots=True)
class _Run:
    """Tokens of a row that wait: one of each of some steps, in columns that follow one another.

    Attributes:
        begin, end: Those steps; None while it goes on.
        place: Where they stand among a step's rows.
        column: Of the first.
    """

    begin: int
    place: int
    column: int
    end: int | None = None


class LateContext(Late):
    """Holds back the hidden states of plain steps.

    Args:
        cache: The target's, which tells where a forward writes.
        layers: The drafter's own buffers in it.
        extend: Puts hidden states [B, T, D], one per tapped layer, where the cache looks at;
            returns arrays to compute.
        fill_in: Makes the layers' buffers where there are none yet; likewise.
    """

    def __init__(
        self,
        cache: RaggedCache,
        layers: Sequence[LayerCache],
        extend: Callable[[Sequence[mx.array]], list[mx.array]],
        fill_in: Callable[[], list[mx.array]],
    ) -> None:
        self._cache = cache
        self._layers = layers
        self._extend, self._fill_in = extend, fill_in
        self._steps: list[_Step] = []
        self._held = 0  # tokens in them, of rows that are gone, too
        self._waiting: dict[int, list[_Run]] = {}  # by slot
        self._going_on = 0  # so many rows' last runs go on, for sure
        cache.late = self

    def take(self, taps: Sequence[mx.array] | None) -> list[mx.array]:
        """Takes a forward's hidden states while it is laid out.

        Args:
            taps: Per tapped layer its output [B, T, D], at the columns the cache looks at; or
                those of all L layers in one [L B, T, D]. None if no row needs a context.

        Returns:
            Arrays to compute along with the forward.
        """
        if taps is None:
            if not self._cache.window.first:  # else it is one row's prompt
                self._forget()
            return self._fill_in()
        window, rows = self._cache.window, len(self._cache.window.starts)
        if window.first:
            self.drop(window.first)  # a prompt: what waits there was of another row
        plain = taps[0].shape[1] == 1 and not window.first
        if not plain or rows > TOGETHER or self._cache.shapes.few:  # few: other widths cost more
            self._interrupt()
            return self._extend(taps)
        if (self._held + rows) * sum(tap.nbytes for tap in taps) > MOST_BYTES * rows:
            self.catch_up()
        if rows != self._going_on:  # else a step costs the same for many rows as for few
            self._begin_runs(window.starts)
        self._steps.append((rows, list(taps)))
        self._held += rows
        return list(taps)

    def _forget(self) -> None:
        """Forgets what waits: nobody is going to look."""
        self._steps, self._waiting, self._held, self._going_on = [], {}, 0, 0

    def _begin_runs(self, columns: Sequence[int]) -> None:
        for slot, column in enumerate(columns):
            runs = self._waiting.setdefault(slot, [])
            if not runs or runs[-1].end is not None:
                runs.append(_Run(len(self._steps), slot, column))
        self._interrupt([slot for slot in self._waiting if slot >= len(columns)])
        self._going_on = len(columns)

    def _interrupt(self, slots: Iterable[int] | None = None) -> None:
        """Ends what goes on in some slots, or in all."""
        for slot in list(self._waiting) if slots is None else slots:
            runs = self._waiting.get(slot)
            if runs and runs[-1].end is None:
                runs[-1].end = len(self._steps)
        self._going_on = 0

    def catch_up(self) -> None:
        """Puts into the context what waits."""
        self._interrupt()
        begins = [0, *accumulate(rows for rows, _ in self._steps)]
        slots, columns = [GONE] * self._held, [0] * self._held
        for slot, runs in self._waiting.items():
            for run in runs:
                for step in range(run.begin, run.end or 0):
                    place = begins[step] + run.place
                    slots[place], columns[place] = slot, run.column + step - run.begin
        steps = self._steps
        self._forget()
        while steps:
            count, some = 0, 0
            while some < len(steps) and count + steps[some][0] <= TOGETHER:
                count, some = count + steps[some][0], some + 1
            self._put_in(steps[:some], slots[:count], columns[:count])
            steps, slots, columns = steps[some:], slots[count:], columns[count:]

    def _put_in(self, steps: Sequence[_Step], slots: list[int], columns: list[int]) -> None:
        """Puts in what some steps left: tokens of those slots, at those columns."""
        left = [i for i, slot in enumerate(slots) if slot != GONE]
        if not left or self._layers[0].keys is None:  # None: the rows' memory was given back
            return
        cache, window = self._cache, self._cache.window
        cache.window = ScatteredWindow(
            first=0,
            starts=tuple(columns[i] for i in left),
            width=1,
            columns=cache.columns,
            slots=tuple(slots[i] for i in left),
        )
        chosen = None if len(left) == len(slots) else mx.array(left)
        taps = [_joined(steps, tap, chosen) for tap in range(len(steps[0][1]))]
        mx.async_eval(self._extend(taps))
        cache.window = window

    def ready(self, slot: int, length: int) -> int:
        """See `Late`."""
        runs = self._waiting.get(slot)
        return min(length, runs[0].column) if runs else length

    def unsay(self, slots: Sequence[int]) -> None:
        """See `Late`."""
        if not self._going_on:  # it was not held back
            return
        self._interrupt()
        for slot in slots:
            self._waiting[slot][-1].end = len(self._steps) - 1

    def drop(self, slot: int) -> None:
        """See `Late`."""
        self._waiting.pop(slot, None)
        self._going_on = 0

    def move(self, source: int, target: int) -> None:
        """See `Late`."""
        self._interrupt([source])
        self.drop(target)
        if source in self._waiting:
            self._waiting[target] = self._waiting.pop(source)


def _joined(steps: Sequence[_Step], tap: int, chosen: mx.array | None) -> mx.array:
    """What a tap has of the chosen tokens of some steps, as one of so many rows."""
    states = [taps[tap].reshape(-1, rows, taps[tap].shape[-1]) for rows, taps in steps]
    joined = mx.concatenate(states, axis=1)  # [L or 1, tokens, D]
    if chosen is not None:
        joined = joined[:, chosen]
    return joined.reshape(-1, 1, joined.shape[-1])
