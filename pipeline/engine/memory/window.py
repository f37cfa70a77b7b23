"""The window of a forward: which rows of the cache it writes, and which columns each may see.

In: the rows' lengths, and which shapes the device likes. Out: a `Window`, shared by all layers.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pipeline.engine.tree import Branches

FEW_WIDTHS = (2, 16)
FEW_PROMPT_WIDTHS = (32, 128, 256, 512)
FEW_ROWS = (1, 4, 16, 64)
FEWEST_COLUMNS = 512


def round_up(number: int, step: int) -> int:
    """The smallest multiple of `step` that is at least `number`."""
    return -(-number // step) * step


@dataclass(frozen=True, slots=True)
class Shapes:
    """Which shapes of a forward a device is given.

    On CUDA a step of a small model costs by the number of its operations, whatever their size
    (H100: 9 us each, 29 a product, 59 a scatter), and the first of every new shape 100 ms for
    cuDNN's plan alone: there the shapes are few.

    Attributes:
        column_step: The number of columns read is rounded up to a multiple of this.
        mask_dtype: Masks are numbers of this type that are added to the scores, which spares CUDA's
            attention a conversion in every layer; None for booleans.
        few: The cache has few numbers of rows, and a step runs them all; steps are 2 or 16 tokens
            wide (attention of one token under a mask is not fused there); prompts have few widths;
            columns are powers of two.
        early: A layer is computed while the next ones are laid out: on a CPU a tenth of the time
            of a step of one row. (A GPU would wait for each of them.)
    """

    column_step: int = 1
    few: bool = False
    mask_dtype: mx.Dtype | None = None
    early: bool = False

    def columns(self, needed: int, room: int) -> int:
        """How many columns to read where `needed` are in use, of `room`."""
        if self.few:
            return min(self.room(needed), room)
        return min(round_up(needed, self.column_step), room)

    def room(self, columns: int) -> int:
        """How many columns a cache should have that needs `columns`."""
        return max(FEWEST_COLUMNS, 1 << (columns - 1).bit_length()) if self.few else columns

    def rows(self, needed: int, held: int, most: int) -> int:
        """How many rows a cache should have that needs `needed` and has `held`."""
        if needed <= held:
            return held
        return min(_wide_enough(FEW_ROWS, needed, most) if self.few else 2 * needed, most)

    def width(self, width: int) -> int:
        """How many tokens a row to run in a step of `width`."""
        return _wide_enough(FEW_WIDTHS, width, width) if self.few else width

    def prompt_width(self, width: int, free: int) -> int:
        """How many tokens to run for `width` of a prompt; `free` columns follow those it has."""
        wide = _wide_enough(FEW_PROMPT_WIDTHS, width, width) if self.few else width
        return wide if wide <= free else width


def _wide_enough(sizes: tuple[int, ...], needed: int, otherwise: int) -> int:
    return next((size for size in sizes if size >= needed), otherwise)


def device_shapes() -> Shapes:
    """Those for the device that this process computes on."""
    if mx.default_device() == mx.Device(mx.cpu):
        return Shapes(early=True)
    return Shapes(few=True) if mx.cuda.is_available() else Shapes(column_step=128)


@dataclass(frozen=True)
class Window:
    """Where the next forward writes, and what it sees: shared by all layers.

    Row i of the window is slot `first + i` of the cache. What only MLX's own operations need is
    made when they ask: a forward of one kernel does without, and it takes as long as ten kernels.

    Attributes:
        first: Slot of the first row.
        starts: [B] columns where each row's new tokens begin.
        width: T, new tokens per row.
        columns: K; columns `[0, K)` are read.
        single: One row, whose columns are one stretch.
        whole: The rows are all that the cache has.
        exact: No column is read that the last token of all does not see.
        mask_dtype: See `Shapes`.
        branches: How the new tokens follow each other, if not each the one before it.
    """

    first: int
    starts: tuple[int, ...]
    width: int
    columns: int
    single: bool = False
    whole: bool = False
    exact: bool = False
    mask_dtype: mx.Dtype | None = None
    branches: Branches | None = None

    @cached_property
    def offset(self) -> mx.array | int:
        """`starts` as the models want it: an array, or a number if there is one row."""
        return self.starts[0] if self.single else mx.array(self.starts)

    @cached_property
    def positions(self) -> mx.array | None:
        """[B T] positions of the new tokens, where some have others than their columns."""
        if self.branches is None:
            return None
        return mx.array((self._starts[:, None] + self.branches.depths).reshape(-1))

    @property
    def _starts(self) -> NDArray[np.int32]:
        return np.array(self.starts, np.int32)

    @cached_property
    def write_rows(self) -> mx.array:
        """[B, 1] row indices to write at."""
        return mx.arange(self.first, self.first + len(self.starts))[:, None]

    @cached_property
    def write_columns(self) -> mx.array:
        """[B, T] columns to write at."""
        return mx.array(self.starts)[:, None] + mx.arange(self.width)[None, :]

    @property
    def rows(self) -> slice:
        """The rows' slots."""
        return slice(self.first, self.first + len(self.starts))

    @property
    def places(self) -> list[tuple[int, int]]:
        """For each row its slot, and the column where its new tokens begin."""
        return [(self.first + i, start) for i, start in enumerate(self.starts)]

    def write(self, buffer: mx.array, new: mx.array) -> mx.array:
        """Puts new keys or values [B, H, T, D] into a layer's buffer [R, H, K, D]."""
        if self.single:
            start = self.starts[0]
            buffer[self.rows, :, start : start + self.width] = new
        elif self.whole:  # far cheaper than a scatter on CUDA
            places = mx.broadcast_to(self.write_columns[:, None, :, None], new.shape)
            return mx.put_along_axis(buffer, places, new, axis=2)
        else:
            buffer[self.write_rows, :, self.write_columns] = new.transpose(0, 2, 1, 3)
        return buffer

    def mask(self, width: int, window_size: int | None, *, as_array: bool) -> mx.array | str | None:
        """The attention mask, see `LayerCache.make_mask`."""
        if self.branches is not None:
            return self._branched_mask(self.branches, window_size)
        if self.exact and not as_array and (not window_size or self.columns <= window_size):
            return None if width == 1 else "causal"
        seen = mx.arange(self.columns)[None, None, :]  # [1, 1, K]
        starts = mx.array(self.starts)
        here = (starts[:, None] + mx.arange(width)[None, :])[:, :, None]  # [B, T, 1]
        mask = seen <= here
        if window_size:
            mask = mask & (here < seen + window_size)
        return self._typed(mask[:, None])

    def _branched_mask(self, branches: Branches, window_size: int | None) -> mx.array:
        """What tokens of trees see: all that was there before, and their own paths."""
        rows, width = branches.depths.shape
        mask = np.zeros((rows, width, self.columns), np.bool_)
        reach = window_size or self.columns + width
        for b, start in enumerate(self.starts):
            depths = branches.depths[b]
            near = depths[:, None] - depths[None, :] < reach
            mask[b, :, :start] = start + depths[:, None] - np.arange(start) < reach
            mask[b, :, start : start + width] = branches.seen[b] & near
        return self._typed(mx.array(mask.view(np.uint8)).astype(mx.bool_)[:, None])

    def block_mask(self, window_size: int | None) -> mx.array | None:
        """The attention mask of a block whose positions see each other and all before them.

        Args:
            window_size: Sliding window, in tokens, to both sides.

        Returns:
            [B, 1, 1 or T, K] booleans, or None if every column is seen.
        """
        if self.exact and not window_size:
            return None
        seen = mx.arange(self.columns)[None, None, :]  # [1, 1, K]
        starts = mx.array(self.starts)[:, None, None]
        mask = seen < starts + self.width
        if window_size:
            here = starts + mx.arange(self.width)[None, :, None]  # [B, T, 1]
            mask = mask & (mx.abs(here - seen) < window_size)
        return self._typed(mask[:, None])

    def _typed(self, mask: mx.array) -> mx.array:
        return (
            mask if self.mask_dtype is None else mx.where(mask, 0, -mx.inf).astype(self.mask_dtype)
        )


@dataclass(frozen=True)
class ScatteredWindow(Window):
    """A window of any slots, in the place of some that follow each other."""

    slots: tuple[int, ...] = ()

    @cached_property
    def write_rows(self) -> mx.array:
        """[B, 1] row indices to write at."""
        return mx.array(self.slots)[:, None]

    @property
    def rows(self) -> mx.array:  # type: ignore[override]
        """The rows' slots."""
        return mx.array(self.slots)

    @property
    def places(self) -> list[tuple[int, int]]:
        """For each row its slot, and the column where its new tokens begin."""
        return list(zip(self.slots, self.starts, strict=True))


def window_of_row(slot: int, start: int, width: int, room: int, shapes: Shapes) -> Window:
    """One row with `width` new tokens after its first `start`; else like `window_of_rows`."""
    _check_room(start + width, room)
    exact = not shapes.few
    columns = start + width if exact else shapes.columns(start + width, room)
    dtype = shapes.mask_dtype
    return Window(slot, (start,), width, columns, single=True, exact=exact, mask_dtype=dtype)


def window_of_rows(starts: tuple[int, ...], width: int, room: int, shapes: Shapes) -> Window:
    """Rows 0..B-1 with `width` new tokens each.

    Args:
        starts: [B] tokens that each row has.
        width: T.
        room: Columns of the buffers.
        shapes: What the device likes.

    Raises:
        ValueError: The buffers have no room for the new tokens of a row.
    """
    columns = max(starts) + width
    _check_room(columns, room)
    return Window(
        first=0,
        starts=starts,
        width=width,
        columns=shapes.columns(columns, room),
        mask_dtype=shapes.mask_dtype,
    )


def window_of_cache(
    starts: tuple[int, ...], rows: int, width: int, room: int, shapes: Shapes
) -> Window:
    """All rows of the cache; only the first, which have `starts`, count.

    The others write into the last columns, which a cache has beyond what any row comes to hold.
    """
    window = window_of_rows(starts, width, room, shapes)
    padded = (*starts, *[room - width] * (rows - len(starts)))
    return replace(window, starts=padded, whole=True)


def _check_room(columns: int, room: int) -> None:
    if columns > room:
        raise ValueError(f"columns={room!r} are too few for {columns!r} tokens")
