"""A drafter's context, late: what plain steps add to it is put there when somebody looks.

In: the target's hidden states, forward by forward. Out: the drafter's keys and values, at once for
wide steps and prompts; those of plain steps wait, and go in together before the next draft, or
before they are moved. Where drafts don't pay, a plain step so costs what it costs without a
drafter.
"""

from collections.abc import Callable, Sequence

import mlx.core as mx

from pipeline.engine.cache import LayerCache, RaggedCache
from pipeline.engine.window import window_of_rows

MOST_STEPS = 64
"""Steps that wait, at most."""


class LateContext:
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
        self._steps: list[list[mx.array]] = []
        self._starts: tuple[int, ...] = ()  # where the first of them began, by row
        cache.before_moves = self._before_moves

    def take(self, taps: Sequence[mx.array]) -> list[mx.array]:
        """Takes a forward's hidden states while it is laid out.

        Args:
            taps: Per tapped layer its output [B, T, D], at the columns the cache looks at; or
                those of all layers in one.

        Returns:
            Arrays to compute along with the forward.
        """
        window, plain = self._cache.window, taps[0].shape[1] == 1
        if window.first and window.first >= len(self._starts):
            return self._extend(taps)  # a prompt, of a row of which nothing waits
        if not plain or window.first or self._cache.shapes.few:  # few: another width costs more
            self.catch_up()
            return self._extend(taps)
        waiting = len(self._steps)
        if waiting == MOST_STEPS or window.starts != tuple(s + waiting for s in self._starts):
            self.catch_up()
        if not self._steps:
            self._starts = window.starts
        self._steps.append(list(taps))
        return list(taps)

    def catch_up(self) -> None:
        """Puts into the context what waits."""
        steps, self._steps = self._steps, []
        if not steps or self._layers[0].keys is None:  # None: the rows' memory was given back
            return
        cache, window = self._cache, self._cache.window
        cache.window = window_of_rows(self._starts, len(steps), cache.columns, cache.shapes)
        taps = [mx.concatenate(list(states), axis=1) for states in zip(*steps, strict=True)]
        mx.async_eval(self._extend(taps))
        cache.window = window

    def _before_moves(self, slot: int, columns: int) -> None:
        waits = self._steps and slot < len(self._starts)
        if waits and self._starts[slot] < columns:
            self.catch_up()
