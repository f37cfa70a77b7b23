"""The ragged KV cache: keys and values of all rows, each row with its own length.

Every layer holds one buffer [R, H, K, D]; row `slot` belongs to one request and is filled from
column 0, so a token's column is its position and a rejected token is forgotten by not counting it.
Running rows are slots 0..B-1; a row being prefilled takes the next slot.

mlx-lm's models see a `LayerCache` per layer. Recurrent layers of hybrid models keep their states in
`recurrent.py`, by the same slots.
"""

from collections.abc import Mapping, Sequence

import mlx.core as mx
from mlx import nn

from pipeline.engine.machine.heap import trim_heap
from pipeline.engine.memory.layer import LayerCache
from pipeline.engine.memory.moves import Late, Moves, buffers_of
from pipeline.engine.memory.prefix import Prefix
from pipeline.engine.memory.recurrent import RecurrentStates, StateCache
from pipeline.engine.memory.window import (
    Shapes,
    Window,
    round_up,
    window_of_cache,
    window_of_row,
    window_of_rows,
)

GROWTH_COLUMNS = 256
BLOCK_COLUMNS = 16


class RaggedCache:
    """All layers' buffers and the rows' lengths.

    Args:
        layers: Number of layers.
        shapes: Those that the device likes.
        mixers: By their layer's number, the modules of recurrent layers.

    Attributes:
        block_columns: How many must be free behind a row's last token: a verify may run, and a
            drafter fill, a whole block there.
    """

    def __init__(
        self,
        layers: int,
        shapes: Shapes | None = None,
        mixers: Mapping[int, nn.Module] | None = None,
    ) -> None:
        self.states = RecurrentStates(list(mixers.values())) if mixers else None
        self.attention = [LayerCache(self) for i in range(layers) if i not in (mixers or ())]
        recurrent = iter(self.states.layers if self.states else ())
        attention = iter(self.attention)
        self.layers: list[LayerCache | StateCache] = [
            next(recurrent) if i in (mixers or ()) else next(attention) for i in range(layers)
        ]
        self.lengths: list[int] = []
        self.block_columns = BLOCK_COLUMNS
        self.shapes = shapes or Shapes()
        self.moves = Moves()
        self._rows = 0
        self._columns = 0
        self._masks: dict[tuple[int, int | None, bool], mx.array | str | None] = {}
        self.window = Window(0, (), 0, 0)
        self.late = Late()

    @property
    def size_bytes(self) -> int:
        """Memory held by the buffers."""
        return self.state_bytes + sum(array.nbytes for array in buffers_of(self.attention))

    @property
    def state_bytes(self) -> int:
        """Memory held by the states of recurrent layers."""
        return self.states.size_bytes if self.states else 0

    @property
    def rows(self) -> int:
        """Rows the buffers have room for."""
        return self._rows

    @property
    def columns(self) -> int:
        """Columns (tokens of a row) the buffers have room for."""
        return self._columns

    def resize(self, rows: int, columns: int) -> None:
        """Sets the room to `rows` rows of at least `columns` tokens; keeps what fits.

        Slots below the smaller of the old and the new number of rows keep their first `columns`
        tokens: the caller sees to it that no running row loses any.
        """
        self.settle()
        columns = round_up(columns, GROWTH_COLUMNS)
        if (rows, columns) == (self._rows, self._columns):
            return
        self.late.catch_up()
        if self.states:
            self.states.resize(rows)
        for layer in self.attention:
            if layer.keys is not None and layer.values is not None:
                layer.keys = self._resized(layer.keys, rows, columns)
                layer.values = self._resized(layer.values, rows, columns)
                mx.eval(layer.keys, layer.values)  # one layer at a time: the old one is freed
        trim_heap()  # of the old ones; they lie between others that stay
        self.lengths = (self.lengths + [0] * rows)[:rows]
        self._rows, self._columns = rows, columns

    def _resized(self, buffer: mx.array, rows: int, columns: int) -> mx.array:
        resized = mx.zeros((rows, buffer.shape[1], columns, buffer.shape[3]), buffer.dtype)
        kept_rows, kept_columns = min(rows, self._rows), min(columns, self._columns)
        resized[:kept_rows, :, :kept_columns] = buffer[:kept_rows, :, :kept_columns]
        return resized

    def release(self) -> None:
        """Gives the memory back; there must be no rows."""
        for layer in self.attention:
            layer.keys = layer.values = None
        if self.states:
            self.states.release()
        self._rows = self._columns = 0
        self.lengths = []

    def settle(self) -> None:
        """Takes over what was counted since the last forward; called by whatever comes next."""
        if self.states:
            self.states.settle(self.lengths)

    def pretend(self, length: int) -> None:
        """Counts every row as `length` tokens long, whatever it holds: to time a forward."""
        self.lengths = [length] * self._rows
        if self.states:
            self.states.pretend(length)

    def piece(self, slot: int, width: int) -> int:
        """How many of the next `width` prompt tokens to run at once."""
        if not self.states:
            return width
        self.settle()
        start = self.lengths[slot]
        return self.states.next_stop(slot, start, start + width) - start

    def keep_at(self, slot: int, length: int) -> None:
        """Has a recurrent model keep a state after the row's first `length` prompt tokens."""
        self.settle()
        if self.states:
            self.states.keep_at(slot, length)

    def look_at_row(self, slot: int, width: int, *, whole: bool = False) -> None:
        """The next forward has one row, `slot`, and `width` new tokens.

        Args:
            slot: The row.
            width: T.
            whole: All of them are known to stay.
        """
        start = self.lengths[slot]
        self._masks.clear()
        if self.states:
            self.states.settle(self.lengths)
            self.states.look_at(slot, (start,), width, whole=whole)
        self.window = window_of_row(slot, start, width, self._columns, self.shapes)

    def look_at_rows(self, count: int, width: int, ahead: Sequence[int] = ()) -> int:
        """The next forward has rows 0..count-1 with `width` new tokens each.

        So many tokens of each row, `ahead`, are not counted yet; none in a recurrent model.

        Returns:
            How many rows to run: `count`, or more where the device likes few shapes.
        """
        if self.states:
            self.states.settle(self.lengths)
            self.states.look_at(0, tuple(self.lengths[:count]), width, whole=False)
        return self.look_at_block(count, width, ahead)

    def look_at_block(self, count: int, width: int, ahead: Sequence[int] = ()) -> int:
        """As `look_at_rows`; the forward is the drafter's: none of its columns stays."""
        more = ahead or [0] * count
        starts = tuple(n + m for n, m in zip(self.lengths[:count], more, strict=True))
        shapes, room = self.shapes, self._columns
        self._masks.clear()
        if shapes.few and not self.states:
            self.window = window_of_cache(starts, self._rows, width, room, shapes)
        elif count == 1 and shapes.column_step == 1:
            self.window = window_of_row(0, starts[0], width, room, shapes)
        else:
            self.window = window_of_rows(starts, width, room, shapes)
        return len(self.window.starts)

    def add_layers(self, count: int) -> list[LayerCache]:
        """Buffers that are none of the model's own; they share the rows' lengths and moves."""
        layers = [LayerCache(self) for _ in range(count)]
        self.attention.extend(layers)
        return layers

    def mask(self, width: int, window_size: int | None, *, as_array: bool) -> mx.array | str | None:
        """See `LayerCache.make_mask`; made once per forward and kind of layer."""
        key = (width, window_size, as_array)
        if key not in self._masks:
            self._masks[key] = self.window.mask(width, window_size, as_array=as_array)
        return self._masks[key]

    def copy_prefix(self, slot: int, length: int, *, tapped: bool = False) -> Prefix:
        """Copies a row's first tokens out, to outlive the row; see `Prefix`."""
        self.settle()
        self._make_ready(slot, length)
        kept = self.moves.copy_out(self.attention, slot, length)
        states = self.states.save(slot, length) if self.states else None
        return Prefix(kept, length, states, tapped)

    def load_prefix(self, slot: int, prefix: Prefix, length: int) -> int:
        """Gives a row the first tokens of a prefix, and that length.

        Returns:
            How many: `length`, or as much less as a recurrent model needs, see `Prefix.usable`.
        """
        self.settle()
        if self.states:
            length = self.states.load(slot, prefix.states or (), length)
        self.late.drop(slot)
        self.moves.copy_in(self.attention, prefix.kept, slot, length)
        self.lengths[slot] = length
        return length

    def usable(self, slot: int, wanted: int) -> int:
        """How many of a row's first `wanted` tokens `copy_row` can give another."""
        self.settle()
        return self.states.usable(slot, wanted) if self.states else wanted

    def copy_row(self, source: int, target: int, length: int) -> int:
        """Gives one row the first tokens of another, and that length.

        Returns:
            How many: `length`, or as much less as a recurrent model needs, see `usable`.
        """
        self._make_ready(source, length)
        self.late.drop(target)
        return self._copy_row(source, target, length)

    def move_row(self, source: int, target: int) -> None:
        """Gives a row the slot of one that has left."""
        self.late.move(source, target)
        self._copy_row(source, target, self.lengths[source])

    def _copy_row(self, source: int, target: int, length: int) -> int:
        self.settle()
        if self.states:
            length = self.states.copy(source, target, length)
        self.moves.copy_row(self.attention, source, target, length)
        self.lengths[target] = length
        return length

    def _make_ready(self, slot: int, length: int) -> None:
        if self.late.ready(slot, length) < length:
            self.late.catch_up()

    def state(self) -> Sequence[mx.array]:
        """All buffers, to evaluate them."""
        return [*(self.states.arrays() if self.states else []), *buffers_of(self.attention)]
