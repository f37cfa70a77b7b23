"""Rows that a kernel moves end up as by MLX's own operations, and nothing else is touched.

The kernel runs on the CPU, see `emulated_gpu`; its launch is the engine's own.
"""

from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from pipeline.engine.memory.cache import RaggedCache
from pipeline.engine.targets import fused_rows
from pipeline.engine.targets.fused_rows import FusedMoves
from tests import emulated_gpu
from tests.emulated import needs_compiler

pytestmark = needs_compiler
ROWS, HEADS = 4, (3, 3, 1)  # two layers of the target, one of a drafter


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


@pytest.fixture
def moves(compiled: Path) -> Iterator[FusedMoves]:
    with emulated_gpu.played(compiled):
        yield FusedMoves()


def filled(columns: int) -> RaggedCache:
    """A cache whose buffers are full of numbers, always the same."""
    rng = np.random.default_rng(columns)
    cache = RaggedCache(2)
    cache.add_layers(1)
    cache.resize(ROWS, columns)
    for layer, heads in zip(cache.attention, HEADS, strict=True):
        for buffer in layer.buffers(heads, (64, 64), mx.bfloat16):
            buffer[:] = mx.array(rng.standard_normal(buffer.shape).astype(np.float32))
    mx.eval(cache.state())
    return cache


def bits(cache: RaggedCache) -> list[bytes]:
    return [np.array(array.view(mx.uint16)).tobytes() for array in cache.state()]


@pytest.mark.parametrize("length", [1, 7, 128])
@pytest.mark.parametrize("columns", [256, 512])
def test_a_row_moves_as_by_mlx_s_own_operations(
    moves: FusedMoves, length: int, columns: int
) -> None:
    cache, plain = filled(columns), filled(columns)
    cache.moves = moves
    for source, target in ((3, 0), (1, 2)):
        for one in (cache, plain):
            assert one.copy_row(source, target, length) == length
    assert bits(cache) == bits(plain) != bits(filled(columns))
    assert cache.lengths == plain.lengths == [length, 0, length, 0]


@pytest.mark.parametrize("length", [1, 7, 128])
def test_a_prefix_moves_as_by_mlx_s_own_operations(moves: FusedMoves, length: int) -> None:
    cache, plain = filled(512), filled(512)
    cache.moves = moves
    kept, wanted = (one.copy_prefix(2, length) for one in (cache, plain))
    assert kept.size_bytes == wanted.size_bytes == 2 * sum(HEADS) * length * 64 * 2
    assert bits(cache) == bits(plain)
    for one, prefix in ((cache, kept), (plain, wanted)):
        one.load_prefix(0, prefix, length)
        one.load_prefix(3, prefix, -(-length // 2))
    assert bits(cache) == bits(plain) != bits(filled(512))
    for one, prefix in ((cache, kept), (plain, wanted)):
        one.release()
        one.resize(2, 256)
        assert one.load_prefix(1, prefix, length) == length
    assert bits(cache) == bits(plain)
    assert any(bits(cache)[0])


def test_a_layer_that_nobody_wrote_to_stays_so(moves: FusedMoves) -> None:
    cache = RaggedCache(2)
    cache.moves = moves
    cache.resize(2, 256)
    cache.copy_row(1, 0, 5)
    assert not cache.state()
    with pytest.raises(ValueError, match="slot=1 holds nothing yet"):
        cache.copy_prefix(1, 5)
    cache.attention[0].buffers(3, (64, 64), mx.bfloat16)
    cache.copy_row(1, 0, 5)
    assert len(cache.state()) == 2


def test_a_buffer_is_written_to_where_it_lies(moves: FusedMoves) -> None:
    cache = filled(256)
    cache.moves = moves
    before = [emulated_gpu.memory(array).ctypes.data for array in cache.state()]
    cache.copy_row(3, 0, 9)
    assert [emulated_gpu.memory(array).ctypes.data for array in cache.state()] == before


@pytest.mark.parametrize("seed", range(4))
def test_tokens_move_within_their_rows(
    moves: FusedMoves, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, cache = np.random.default_rng(seed), filled(256)
    wanted = [np.array(array.view(mx.uint16)) for array in cache.state()]
    planned: list[tuple[int, int, int]] = []
    for slot in rng.permutation(ROWS)[: 1 + seed]:
        start, count = int(rng.integers(0, 200)), int(rng.integers(1, 9))
        sources = np.sort(rng.choice(np.arange(1, 16), count, replace=False))
        first = int(rng.integers(0, sources[0]))
        planned += [(int(slot), start + int(source), start + first + i)
                    for i, source in enumerate(sources) if source > first + i]  # fmt: skip
    if seed % 2:  # rows' moves in turns; more than a launch has room for
        planned.sort(key=lambda move: move[1:])
        monkeypatch.setattr(fused_rows, "MOST_MOVED", 5)
    for slot, source, target in planned:
        for array in wanted:
            array[slot, :, target] = array[slot, :, source]
    moves.copy_columns(cache.attention, planned)
    assert bits(cache) == [array.tobytes() for array in wanted] != bits(filled(256))
    moves.copy_columns(cache.attention, [])
    moves.copy_columns(RaggedCache(2).attention, planned)
