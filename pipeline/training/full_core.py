"""A core for many questions at once, none of which anybody waits for: its batch is always full.

The engine's own core reads prompts one after the other and keeps prefixes for later questions.
Here prompts are read together as soon as enough slots are free, a new row takes the place of one
that has ended where it stands, and no prefix is kept: every prompt comes once.
"""

import time
from collections.abc import Callable, Iterator, Sequence

import mlx.core as mx

from pipeline.engine.core import Core
from pipeline.engine.interface import CoreOptions, ModelInfo
from pipeline.engine.memory.window import ScatteredWindow, Window, window_of_rows
from pipeline.engine.row import Row

TOGETHER = 32
"""Prompts of a forward, at most, where each new shape costs."""
FORWARD_TOKENS = 800
"""A forward of many tokens takes as long for so many of them as for anything else (H200: 1.6 ms and
2 us a token), so no more are added to fill up shorter prompts."""
MOST_TOKENS = 16384
"""Of a forward, at most: more gain nothing, and take memory."""


class FullCore(Core):
    """Such a core; its answers are those of any other.

    A row that has ended keeps its slot until some are free, or nothing else runs: so few
    forwards read prompts; where every new shape costs, all of them the same number of rows.

    Args:
        model: The model folder.
        options: Bounds; drafts are off.
        progress: As for `Core`.
    """

    def __init__(
        self,
        model: ModelInfo,
        options: CoreOptions,
        progress: Callable[[str, float], None] = lambda _doing, _done: None,
    ) -> None:
        super().__init__(model, options, progress)
        on_cpu = mx.default_device() == mx.Device(mx.cpu)  # gains nothing by it
        self.reads_together = not on_cpu and self._target.cache.states is None

    @property
    def _together(self) -> int:
        return max(1, min(TOGETHER, self._most_rows // 8))

    def _round(self) -> bool:
        if self.reads_together:
            self._welcome()
            if not self._verifier.begun:
                self._take_in()
            for row in self._running:
                if row.finish_reason:
                    self._target.cache.lengths[row.slot] = 0  # it runs on, unheeded
            busy = super()._round()
            if not (self._verifier.begun or self._alive):
                self._running = []
            return busy
        while True:
            if self._prefilling is None:
                self._admit()
            if self._prefilling is None:
                return super()._round()
            self._prefill(self._prefilling)

    def _admit(self) -> None:
        if not self.reads_together:
            super()._admit()

    def _take_in(self) -> None:
        """Gives free slots to waiting rows and reads their prompts, if they are enough."""
        ended = [row for row in self._running if row.finish_reason]
        alive = len(self._running) - len(ended)
        free = self._most_rows - alive
        if not self._waiting or (alive and free < self._together):
            return
        fresh: list[Row] = []
        while self._waiting and free > len(fresh):
            slot = ended.pop().slot if ended else len(self._running)
            if not self._fits(self._waiting[0], grows=slot == len(self._running)):
                break
            fresh.append(self._begin(self._waiting.popleft(), slot))
        fresh.sort(key=lambda row: len(row.tokens))
        for group in self._groups(fresh):
            self._read(group)

    def _groups(self, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        """Rows whose prompts are read together, as they come from the shortest to the longest."""
        if self._target.cache.shapes.few:
            for start in range(0, len(rows), self._together):
                yield rows[start : start + self._together]
            return
        group: list[Row] = []
        for row in rows:
            longest = len(row.tokens)
            if group and (
                len(group) * (longest - len(group[-1].tokens)) > FORWARD_TOKENS
                or (len(group) + 1) * longest > MOST_TOKENS
            ):
                yield group
                group = []
            group.append(row)
        if group:
            yield group

    def _fits(self, row: Row, *, grows: bool) -> bool:
        cache = self._target.cache
        if not grows and row.longest + cache.block_columns <= cache.columns:
            return True
        return self._room.make_room(self._running, row)

    def _begin(self, row: Row, slot: int) -> Row:
        self._running[slot:] = [row, *self._running[slot + 1 :]]
        self._target.cache.lengths[slot] = 0
        row.slot, row.admitted_s = slot, time.monotonic()
        return row

    def _read(self, rows: Sequence[Row]) -> None:
        """Runs the prompts of some rows, all but their last tokens."""
        cache, target, left = self._target.cache, self._target, rows
        started = time.perf_counter()
        while left := [row for row in left if cache.lengths[row.slot] < len(row.tokens) - 1]:
            full = self._filled_up(left)
            starts = tuple(cache.lengths[row.slot] for row in full)
            free = cache.columns - max(starts)
            pieces = [
                row.tokens[start:-1][: min(self._piece, free)]
                for row, start in zip(full, starts, strict=True)
            ]
            width = cache.shapes.prompt_width(max(map(len, pieces)), free)
            cache.window = self._look_at(full, starts, width)
            cache._masks.clear()  # noqa: SLF001  as the cache's own looks do
            target.read([piece + [0] * (width - len(piece)) for piece in pieces], self._tell)
            for row, piece in zip(left, pieces, strict=False):
                cache.lengths[row.slot] += len(piece)
        for row in rows:
            row.decoding_s = row.decoding_s or time.monotonic()
        self._counts.add(prefill_s=time.perf_counter() - started)

    def _filled_up(self, rows: Sequence[Row]) -> Sequence[Row]:
        """As many rows as every forward has, where each new shape costs.

        The first fills up what is missing; it writes the same to the same place.
        """
        missing = self._together - len(rows) if self._target.cache.shapes.few else 0
        return [*rows, *[rows[0]] * missing]

    def _look_at(self, rows: Sequence[Row], starts: tuple[int, ...], width: int) -> Window:
        cache = self._target.cache
        plain = window_of_rows(starts, width, cache.columns, cache.shapes)
        slots = tuple(row.slot for row in rows)
        return ScatteredWindow(
            first=0,
            starts=starts,
            width=width,
            columns=plain.columns,
            mask_dtype=plain.mask_dtype,
            slots=slots,
        )

    def _leave(self, row: Row) -> None:
        if not self.reads_together:
            self._remove(row)

    def _shrink(self) -> None:
        self._running = [row for row in self._running if not row.finish_reason]
        super()._shrink()
