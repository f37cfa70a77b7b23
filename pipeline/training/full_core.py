"""A core for many questions at once, none of which anybody waits for: its batch is always full.

The engine's own core reads prompts one after the other and keeps prefixes for later questions.
Here prompts are read together as soon as enough slots are free, a new row takes the place of one
that has ended where it stands, and no prefix is kept: every prompt comes once.
"""

import time
from collections.abc import Callable, Sequence

import mlx.core as mx

from pipeline.engine.core import Core
from pipeline.engine.interface import CoreOptions, ModelInfo
from pipeline.engine.kv_room import BLOCK_COLUMNS
from pipeline.engine.row import Row
from pipeline.engine.target import PIECE
from pipeline.engine.window import ScatteredWindow, Window, window_of_rows

TOGETHER = 32
"""Prompts of a forward, at most; they are sorted by length."""


class FullCore(Core):
    """Such a core; its answers are those of any other.

    A row that has ended keeps its slot until some are free, or nothing else runs: so few
    forwards read prompts, and all of them the same number of rows, as every new shape costs.

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
            self._take_in()
            for row in self._running:
                if row.finish_reason:
                    self._target.cache.lengths[row.slot] = 0  # it runs on, unheeded
            busy = super()._round()
            if all(row.finish_reason for row in self._running):
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
        for start in range(0, len(fresh), self._together):
            self._read(fresh[start : start + self._together])

    def _fits(self, row: Row, *, grows: bool) -> bool:
        if not grows and row.longest + BLOCK_COLUMNS <= self._target.cache.columns:
            return True
        return self._room.make_room(self._running, row)

    def _begin(self, row: Row, slot: int) -> Row:
        self._running[slot:] = [row, *self._running[slot + 1 :]]
        self._target.cache.lengths[slot] = 0
        row.slot, row.admitted_s = slot, time.monotonic()
        return row

    def _read(self, rows: Sequence[Row]) -> None:
        """Runs the prompts of some rows, all but their last tokens."""
        cache, target = self._target.cache, self._target
        started = time.perf_counter()
        # The first row fills up what is missing; it writes the same to the same place.
        full = [*rows, *[rows[0]] * (self._together - len(rows))]
        while True:
            starts = tuple(cache.lengths[row.slot] for row in full)
            most = min(self._options.prefill_tokens or PIECE, cache.columns - max(starts))
            pieces = [row.tokens[start:-1][:most] for row, start in zip(full, starts, strict=True)]
            longest = max(len(piece) for piece in pieces)
            if not longest:
                break
            width = target.reading_shapes.prompt_width(longest, cache.columns - max(starts))
            cache.window = self._look_at(full, starts, width)
            cache._masks.clear()  # noqa: SLF001  as the cache's own looks do
            padded = [piece + [0] * (width - len(piece)) for piece in pieces]
            target.read(padded, many=True)
            for row, piece in zip(rows, pieces, strict=False):
                cache.lengths[row.slot] += len(piece)
        for row in rows:
            row.decoding_s = row.decoding_s or time.monotonic()
        self._count(prefill_s=time.perf_counter() - started)

    def _look_at(self, rows: Sequence[Row], starts: tuple[int, ...], width: int) -> Window:
        cache = self._target.cache
        plain = window_of_rows(starts, width, cache.columns, self._target.reading_shapes)
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
