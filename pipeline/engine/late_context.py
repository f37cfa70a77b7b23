"""A drafter's context, late: what plain steps add to it is put there when somebody looks.

In: the target's hidden states, forward by forward. Out: the drafter's keys and values, at once for
wide steps and prompts; those of plain steps wait, and go in together before the next draft, or when
they are many. Where drafts don't pay, a plain step so costs what it costs without a drafter. What
waits for a row moves with it, and goes when it does.
"""

from collections.abc import Callable, Sequence

import mlx.core as mx

from pipeline.engine.cache import LayerCache, RaggedCache
from pipeline.engine.moves import Late
from pipeline.engine.window import ScatteredWindow

TOGETHER = 256
"""Tokens that go in at once: a kernel takes the places of so many along."""
MOST_TOKENS = 2048
"""Tokens that wait, at most: those of a row that ends without a draft never go in."""
GONE = -1


class LateContext(Late):
    """Holds back the hidden states of plain steps.

    Args:
        cache: The target's, which tells where a forward writes.
        layers: The drafter's own buffers in it.
        extend: Puts hidden states [B, T, D], one per tapped layer, where the cache looks at;
            returns arrays to compute.
    """

    def __init__(
        self,
        cache: RaggedCache,
        layers: Sequence[LayerCache],
        extend: Callable[[Sequence[mx.array]], list[mx.array]],
    ) -> None:
        self._cache = cache
        self._layers = layers
        self._extend = extend
        self._steps: list[tuple[int, list[mx.array]]] = []  # each with its rows
        self._slots: list[int] = []  # of their tokens, one after the other; `GONE` if the row is
        self._columns: list[int] = []
        cache.late = self

    def take(self, taps: Sequence[mx.array]) -> list[mx.array]:
        """Takes a forward's hidden states while it is laid out.

        Args:
            taps: Per tapped layer its output [B, T, D], at the columns the cache looks at; or
                those of all L layers in one [L B, T, D].

        Returns:
            Arrays to compute along with the forward.
        """
        window, rows = self._cache.window, len(self._cache.window.starts)
        if window.first:
            self.drop(window.first)  # a prompt: what waits there was of another row
        plain = taps[0].shape[1] == 1 and not window.first
        if not plain or rows > TOGETHER or self._cache.shapes.few:  # few: other widths cost more
            return self._extend(taps)
        if len(self._slots) + rows > MOST_TOKENS:
            self.catch_up()
        self._steps.append((rows, list(taps)))
        self._slots += range(rows)
        self._columns += window.starts
        return list(taps)

    def catch_up(self) -> None:
        """Puts into the context what waits."""
        while self._steps:
            count, some = 0, 0
            while some < len(self._steps) and count + self._steps[some][0] <= TOGETHER:
                count, some = count + self._steps[some][0], some + 1
            self._put_in(some, count)

    def _put_in(self, some: int, count: int) -> None:
        """Puts in what the first steps left, which have so many tokens."""
        steps, self._steps = self._steps[:some], self._steps[some:]
        slots, self._slots = self._slots[:count], self._slots[count:]
        columns, self._columns = self._columns[:count], self._columns[count:]
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
        waiting = [c for s, c in zip(self._slots, self._columns, strict=True) if s == slot]
        return min([length, *waiting])

    def drop(self, slot: int) -> None:
        """See `Late`."""
        self._slots = [GONE if s == slot else s for s in self._slots]

    def move(self, source: int, target: int) -> None:
        """See `Late`."""
        self.drop(target)
        self._slots = [target if s == source else s for s in self._slots]


def _joined(
    steps: Sequence[tuple[int, Sequence[mx.array]]], tap: int, chosen: mx.array | None
) -> mx.array:
    """What a tap has of the chosen tokens of some steps, as one of so many rows."""
    states = [taps[tap].reshape(-1, rows, taps[tap].shape[-1]) for rows, taps in steps]
    joined = mx.concatenate(states, axis=1)  # [L or 1, tokens, D]
    if chosen is not None:
        joined = joined[:, chosen]
    return joined.reshape(-1, 1, joined.shape[-1])
