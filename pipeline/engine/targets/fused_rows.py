"""A row's tokens moved by one kernel on an NVIDIA GPU, instead of six operations for each layer.

In: as `Moves`, for layers in bfloat16 with heads of 64, which all of a fused target's cache are.
Out: likewise; what is copied out of a row is one array [N, L, 64], the heads of all keys and then
those of all values.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any

import mlx.core as mx

from pipeline.engine.cuda.fused_kernels import DONE, HEAD, Inbox, cache_names, launch, make_kernel
from pipeline.engine.memory.moves import Column, Layer, Moves, buffers_of, written

ROW, OTHER_ROW = "row_of(own, move, move.slot)", "row_of(own, move, move.other)"
PREFIX = "prefix_of(own, move, const_cast<bf16*>(prefix))"
FROM_TO = {"row": (ROW, OTHER_ROW), "prefix_out": (ROW, PREFIX), "prefix_in": (PREFIX, ROW)}
"""The kernels, and what each copies from and to."""
TOKENS_OF_BLOCK, MOST_PARTS = 32, 8
"""A buffer is shared by more blocks the more tokens of a head there are; each reads the plan."""
MOST_MOVED = 256
"""Single tokens that a launch moves: its blocks keep where they are from and to."""


class FusedMoves(Moves):
    """Moves in one launch each.

    They write into buffers that MLX takes for unchanged inputs; within an evaluation it orders
    kernels by inputs and outputs alone, and may run two at once. So each launch is an evaluation
    of its own, which whatever comes next in the stream waits for.
    """

    def __init__(self) -> None:
        self._told = {kind: Inbox() for kind in (*FROM_TO, "columns")}
        self._heads: tuple[int, ...] = ()  # of each layer, when a row was copied out last

    def copy_row(self, layers: Sequence[Layer], source: int, target: int, length: int) -> None:
        """See `Moves.copy_row`."""
        if buffers := buffers_of(layers):
            self._launch("row", buffers, [length, source, target], [], [])

    def copy_out(self, layers: Sequence[Layer], slot: int, length: int) -> tuple[mx.array, ...]:
        """See `Moves.copy_out`."""
        self._heads = tuple(written(layer, slot)[0].shape[1] for layer in layers)
        shape = (2 * sum(self._heads), length, HEAD)
        return tuple(
            self._launch("prefix_out", buffers_of(layers), [length, slot, length], [], [shape])
        )

    def copy_in(
        self, layers: Sequence[Layer], kept: Sequence[mx.array], slot: int, length: int
    ) -> None:
        """See `Moves.copy_in`."""
        for layer, heads in zip(layers, self._heads, strict=True):
            layer.buffers(heads, (HEAD, HEAD), mx.bfloat16)
        plan = [length, slot, kept[0].shape[1]]
        self._launch("prefix_in", buffers_of(layers), plan, list(kept), [])

    def copy_columns(self, layers: Sequence[Layer], moves: Sequence[Column]) -> None:
        """See `Moves.copy_columns`."""
        buffers = buffers_of(layers)
        for begin in range(0, len(moves) if buffers else 0, MOST_MOVED):
            plan = _plan_of(moves[begin : begin + MOST_MOVED])
            self._launch("columns", buffers, plan, [], [])

    def _launch(
        self,
        kind: str,
        buffers: list[mx.array],
        plan: list[int],
        inputs: list[mx.array],
        shapes: list[tuple[int, ...]],
    ) -> list[mx.array]:
        """Runs a kernel; gives its outputs of these shapes, being computed."""
        heads = tuple(buffer.shape[1] for buffer in buffers[: len(buffers) // 2])
        told, columns, length = self._told[kind], buffers[0].shape[2], plan[0]
        parts = min(MOST_PARTS, max(1, -(-length // TOKENS_OF_BLOCK)))
        placed = told.put([columns, *plan])
        inputs = [placed, *inputs, *buffers]
        outputs = launch(_kernel(kind, heads), inputs, [*shapes, DONE], len(buffers) * parts)
        mx.async_eval(outputs)
        told.used_by(outputs[-1])
        return outputs[:-1]


def _plan_of(moves: Sequence[Column]) -> list[int]:
    """What `ColumnMoves` in `cuda/rows.cuh` is told, but for the number of columns."""
    rows, ends, end = list[int](), list[int](), 0
    for slot, own in groupby(sorted(moves, key=itemgetter(0)), itemgetter(0)):
        columns = [column for _, *both in own for column in both]
        rows += [slot, end, end := end + len(columns) // 2]
        ends += columns
    return [len(rows) // 3, end, *rows, *ends]


@cache
def _kernel(kind: str, heads: tuple[int, ...]) -> Callable[..., Any]:
    inputs = ["plan", *(["prefix"] if kind == "prefix_in" else []), *cache_names(len(heads))]
    outputs = [*(["prefix"] if kind == "prefix_out" else []), "done"]
    shared_bytes = 4 * 5 * MOST_MOVED if kind == "columns" else 0
    return make_kernel(kind, inputs, outputs, move_source(kind, heads), ("rows.cuh",), shared_bytes)


def move_source(kind: str, heads: tuple[int, ...]) -> str:
    """The body of a kernel for layers with so many heads; some blocks for each buffer."""
    names, each = cache_names(len(heads)), heads + heads
    ends = accumulate(each)
    cases = "".join(
        f"    case {i}: own = {{const_cast<bf16*>({name}), {own}, {end - own}}}; break;\n"
        for i, (name, own, end) in enumerate(zip(names, each, ends, strict=True))
    )
    part = f"blockIdx.x / {len(names)}, gridDim.x / {len(names)}"
    if kind == "columns":
        begin = "  extern __shared__ float shared[];\n  const ColumnMoves moves(plan, shared);"
        copied = f"copy_columns(own, moves, {part})"
    else:
        source, target = FROM_TO[kind]
        begin = "  const Move move(plan);"
        copied = f"copy_heads({source}, {target}, own.heads, move.length, {part})"
    return f"""
{begin}
  Buffer own{{}};
  switch (blockIdx.x % {len(names)}) {{
{cases}  }}
  {copied};
"""
