"""The window of a forward: which rows of the cache it writes, and which columns each may see."""

from dataclasses import dataclass

import mlx.core as mx


def round_up(number: int, step: int) -> int:
    """The smallest multiple of `step` that is at least `number`."""
    return -(-number // step) * step


@dataclass(frozen=True, slots=True)
class Window:
    """Where the next forward writes, and what it sees: shared by all layers.

    Row i of the window is slot `first + i` of the cache.

    Attributes:
        first: Slot of the first row.
        starts: [B] columns where each row's new tokens begin.
        width: T, new tokens per row.
        columns: K; columns `[0, K)` are read.
        offset: `starts` as the models want it: an array, or a number if there is one row.
        write_rows: [B, 1] row indices to write at; None if one row's columns are one stretch.
        write_columns: [B, T] columns to write at; likewise.
    """

    first: int
    starts: tuple[int, ...]
    width: int
    columns: int
    offset: mx.array | int
    write_rows: mx.array | None
    write_columns: mx.array | None

    @property
    def rows(self) -> slice:
        """The rows' slots."""
        return slice(self.first, self.first + len(self.starts))

    def write(self, buffer: mx.array, new: mx.array) -> mx.array:
        """Puts new keys or values [B, H, T, D] into a layer's buffer [R, H, K, D]."""
        if self.write_rows is None:  # one row: its columns are one stretch
            start = self.starts[0]
            buffer[self.rows, :, start : start + self.width] = new
        else:
            buffer[self.write_rows, :, self.write_columns] = new.transpose(0, 2, 1, 3)
        return buffer

    def mask(self, width: int, window_size: int | None, *, as_array: bool) -> mx.array | str | None:
        """The attention mask, see `LayerCache.make_mask`."""
        one_row = self.write_rows is None
        if one_row and not as_array and (not window_size or self.columns <= window_size):
            return None if width == 1 else "causal"
        seen = mx.arange(self.columns)[None, None, :]  # [1, 1, K]
        starts = mx.array(self.starts)
        here = (starts[:, None] + mx.arange(width)[None, :])[:, :, None]  # [B, T, 1]
        mask = seen <= here
        if window_size:
            mask = mask & (here < seen + window_size)
        return mask[:, None]

    def block_mask(self, window_size: int | None) -> mx.array | None:
        """The attention mask of a block whose positions see each other and all before them.

        Args:
            window_size: Sliding window, in tokens, to both sides.

        Returns:
            [B, 1, 1 or T, K] booleans, or None if every column is seen.
        """
        if self.write_rows is None and not window_size:
            return None
        seen = mx.arange(self.columns)[None, None, :]  # [1, 1, K]
        starts = mx.array(self.starts)[:, None, None]
        mask = seen < starts + self.width
        if window_size:
            here = starts + mx.arange(self.width)[None, :, None]  # [B, T, 1]
            mask = mask & (mx.abs(here - seen) < window_size)
        return mask[:, None]


def window_of_row(slot: int, start: int, width: int, room: int) -> Window:
    """One row with `width` new tokens after its first `start`; else like `window_of_rows`."""
    _check_room(start + width, room)
    return Window(slot, (start,), width, start + width, start, None, None)


def window_of_rows(starts: tuple[int, ...], width: int, step: int, room: int) -> Window:
    """Rows 0..B-1 with `width` new tokens each.

    Args:
        starts: [B] tokens that each row has.
        width: T.
        step: K is rounded up to a multiple of this.
        room: Columns of the buffers.

    Raises:
        ValueError: The buffers have no room for the new tokens of a row.
    """
    columns = max(starts) + width
    _check_room(columns, room)
    offset = mx.array(starts)
    return Window(
        first=0,
        starts=starts,
        width=width,
        columns=min(round_up(columns, step), room),
        offset=offset,
        write_rows=mx.arange(len(starts))[:, None],
        write_columns=offset[:, None] + mx.arange(width)[None, :],
    )


def _check_room(columns: int, room: int) -> None:
    if columns > room:
        raise ValueError(f"columns={room!r} are too few for {columns!r} tokens")
