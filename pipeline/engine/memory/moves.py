"""How a row's tokens move in the cache: onto another row, out of it to be kept, and in again.

In: the buffers of all layers with attention, [R, H, K, D] each. Out: the same, changed. This is the
way of MLX's own operations; `fused_rows` has that of one kernel.
"""

from collections.abc import Sequence
from typing import Protocol

import mlx.core as mx

Column = tuple[int, int, int]
"""A token that is moved: its row's slot, its column, and the one that it gets."""


class Layer(Protocol):
    """A layer's keys and values in the cache; None until somebody writes to them."""

    keys: mx.array | None
    values: mx.array | None

    def buffers(
        self, heads: int, sizes: tuple[int, int], dtype: mx.Dtype
    ) -> tuple[mx.array, mx.array]:
        """Keys and values of these sizes D, made if there are none yet."""
        ...


class Late:
    """Whoever fills some layers late: asked and told before a row's tokens are moved.

    This one is never late.
    """

    def catch_up(self) -> None:
        """Fills in what waits."""

    def ready(self, slot: int, length: int) -> int:  # noqa: ARG002
        """How many of a row's first `length` tokens are filled in."""
        return length

    def unsay(self, slots: Sequence[int]) -> None:
        """Notes that rows have not the token that the last forward ran of them."""

    def drop(self, slot: int) -> None:
        """Forgets what waits for a slot: its row has left, another takes its place."""

    def move(self, source: int, target: int) -> None:
        """Notes that a row moves to the slot of one that has left."""


def buffers_of(layers: Sequence[Layer]) -> list[mx.array]:
    """All keys, then all values; of layers that have some."""
    found = [layer.keys for layer in layers] + [layer.values for layer in layers]
    return [buffer for buffer in found if buffer is not None]


class Moves:
    """Moves by MLX's own operations, a few for each layer."""

    def copy_row(self, layers: Sequence[Layer], source: int, target: int, length: int) -> None:
        """Copies the first `length` tokens of slot `source` onto those of slot `target`."""
        buffers = buffers_of(layers)
        copies = [mx.contiguous(buffer[source, :, :length]) for buffer in buffers]
        mx.eval(copies)  # else MLX keeps the buffers to read and copies all of them
        for buffer, tokens in zip(buffers, copies, strict=True):
            buffer[target, :, :length] = tokens

    def copy_columns(self, layers: Sequence[Layer], moves: Sequence[Column]) -> None:
        """Copies single tokens within their rows, one after the other.

        Args:
            layers: All that hold something.
            moves: Of a row by their targets, which rise, as the sources do; each source lies
                behind its target.
        """
        buffers = buffers_of(layers)
        runs = _runs(moves)
        copies = [
            mx.contiguous(buffer[slot, :, source : source + count])
            for buffer in buffers
            for slot, source, _, count in runs
        ]
        mx.eval(copies)
        parts = iter(copies)
        for buffer in buffers:
            for slot, _, target, count in runs:
                buffer[slot, :, target : target + count] = next(parts)

    def copy_out(self, layers: Sequence[Layer], slot: int, length: int) -> tuple[mx.array, ...]:
        """Copies a row's first `length` tokens out, to outlive the row.

        Returns:
            What `copy_in` takes; here per layer its keys and its values, [1, H, L, D].

        Raises:
            ValueError: A layer holds nothing yet.
        """
        copies = [
            mx.contiguous(buffer[slot : slot + 1, :, :length])
            for layer in layers
            for buffer in written(layer, slot)
        ]
        mx.eval(copies)
        return tuple(copies)

    def copy_in(
        self, layers: Sequence[Layer], kept: Sequence[mx.array], slot: int, length: int
    ) -> None:
        """Gives a row the first `length` tokens of those that were copied out."""
        for layer, keys, values in zip(layers, kept[::2], kept[1::2], strict=True):
            sizes = keys.shape[3], values.shape[3]
            own = layer.buffers(keys.shape[1], sizes, keys.dtype)
            for buffer, tokens in zip(own, (keys, values), strict=True):
                buffer[slot : slot + 1, :, :length] = tokens[:, :, :length]


def _runs(moves: Sequence[Column]) -> list[tuple[int, int, int, int]]:
    """Slots, sources, targets and counts of moves, those of neighbours together."""
    runs: list[tuple[int, int, int, int]] = []
    for slot, source, target in moves:
        if runs:
            own, begin, to, count = runs[-1]
            if (own, begin + count, to + count) == (slot, source, target):
                runs[-1] = own, begin, to, count + 1
                continue
        runs.append((slot, source, target, 1))
    return runs


def written(layer: Layer, slot: int) -> tuple[mx.array, mx.array]:
    """A layer's keys and values, for a row to be copied out.

    Raises:
        ValueError: Nobody has written to them yet.
    """
    if layer.keys is None or layer.values is None:
        raise ValueError(f"slot={slot!r} holds nothing yet")
    return layer.keys, layer.values
