"""A core for many questions at once, none of which anybody waits for: its batch is always full.

The engine's own core reads one prompt between two steps and keeps prefixes for later questions.
Here the prompts of all free rows are read together before the next step, a new row takes the place
of one that ends where it stands, and no prefix is kept: every prompt comes once.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx

from pipeline.engine.core import Core
from pipeline.engine.interface import CoreOptions, ModelInfo
from pipeline.engine.kv_room import BLOCK_COLUMNS
from pipeline.engine.row import Row
from pipeline.engine.window import Window, window_of_rows

TOGETHER = 16
"""Prompts of a forward; they are sorted by length."""


@dataclass(frozen=True, slots=True)
class ScatteredWindow(Window):
    """A window of any slots, in the place of some that follow each other."""

    slots: tuple[int, ...] = ()

    @property
    def rows(self) -> mx.array:  # type: ignore[override]
        """The rows' slots."""
        return mx.array(self.slots)


class FullCore(Core):
    """Such a core; its answers are those of any other.

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
        self._unread: list[Row] = []

    def _round(self) -> bool:
        if self.reads_together:
            while self._take_in():
                continue
            unread = sorted(self._unread, key=lambda row: len(row.tokens))
            self._unread = []
            for start in range(0, len(unread), TOGETHER):
                self._read(unread[start : start + TOGETHER])
            return super()._round()
        while True:
            if self._prefilling is None:
                self._admit()
            if self._prefilling is None:
                return super()._round()
            self._prefill(self._prefilling)

    def _take_in(self) -> bool:
        """Gives the next waiting row a slot; its prompt is not read yet."""
        if not self._waiting or len(self._running) >= self._most_rows:
            return False
        if not self._room.make_room(self._running, self._waiting[0]):
            return False
        self._begin(self._waiting.popleft(), len(self._running))
        return True

    def _begin(self, row: Row, slot: int) -> None:
        self._running[slot:] = [row, *self._running[slot + 1 :]]
        self._target.cache.lengths[slot] = 0
        row.slot, row.admitted_s = slot, time.monotonic()
        self._unread.append(row)

    def _read(self, rows: Sequence[Row]) -> None:
        """Runs the prompts of some rows, all but their last tokens."""
        cache, target = self._target.cache, self._target
        started = time.perf_counter()
        while True:
            starts = tuple(cache.lengths[row.slot] for row in rows)
            most = min(self._options.prefill_tokens, cache.columns - max(starts))
            pieces = [row.tokens[start:-1][:most] for row, start in zip(rows, starts, strict=True)]
            longest = max(len(piece) for piece in pieces)
            if not longest:
                break
            width = cache.shapes.prompt_width(longest, cache.columns - max(starts))
            cache.window = self._look_at(rows, starts, width)
            cache._masks.clear()  # noqa: SLF001  as the cache's own looks do
            padded = [piece + [0] * (width - len(piece)) for piece in pieces]
            target._run(padded)  # noqa: SLF001
            mx.eval(cache.state())
            for row, piece in zip(rows, pieces, strict=True):
                cache.lengths[row.slot] += len(piece)
        for row in rows:
            row.decoding_s = row.decoding_s or time.monotonic()
        self._count(prefill_s=time.perf_counter() - started)

    def _look_at(self, rows: Sequence[Row], starts: tuple[int, ...], width: int) -> Window:
        cache = self._target.cache
        plain = window_of_rows(starts, width, cache.columns, cache.shapes)
        slots = tuple(row.slot for row in rows)
        return ScatteredWindow(
            first=0,
            starts=starts,
            width=width,
            columns=plain.columns,
            offset=plain.offset,
            write_rows=mx.array(slots)[:, None],
            write_columns=plain.write_columns,
            mask_dtype=plain.mask_dtype,
            slots=slots,
        )

    def _leave(self, row: Row) -> None:
        """Gives the row's place to the next one, if it fits as it is."""
        following = self._waiting[0] if self._waiting and self.reads_together else None
        if following and following.longest + BLOCK_COLUMNS <= self._target.cache.columns:
            self._begin(self._waiting.popleft(), row.slot)
        else:
            self._remove(row)

    def _shrink(self) -> None:
        self._unread = []  # they wait again, with the others
        super()._shrink()
