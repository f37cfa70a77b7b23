"""Rows that a kernel moves end up as by MLX's own operations, and nothing else is touched.

The kernel runs on the CPU, see `emulated`; its launch is the engine's own.
"""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.engine import fused_rows
from pipeline.engine.cache import RaggedCache
from pipeline.engine.fused_kernels import THREADS
from pipeline.engine.fused_rows import FusedMoves
from tests.emulated import KERNELS, SOURCES, compile_source, needs_compiler

pytestmark = needs_compiler
ROWS, HEADS = 4, (3, 3, 1)  # two layers of the target, one of a drafter


def shared_view(array: mx.array) -> NDArray[Any]:
    """An array's own memory."""
    whole = array if array.dtype == mx.int32 else array.view(mx.uint16)
    mx.eval(array, whole)
    return np.array(whole, copy=False)


class EmulatedKernel:
    """A kernel as MLX would call it."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def __call__(
        self,
        *,
        inputs: list[mx.array],
        template: list[Any],
        grid: tuple[int, int, int],
        threadgroup: tuple[int, int, int],
        output_shapes: list[tuple[int, ...]],
        output_dtypes: list[mx.Dtype],
    ) -> list[mx.array]:
        assert not template
        assert threadgroup == (THREADS, 1, 1)
        outputs = [
            mx.zeros(shape, dtype)
            for shape, dtype in zip(output_shapes, output_dtypes, strict=True)
        ]
        views = [shared_view(array) for array in (*inputs, *outputs)]
        pointers = (ctypes.c_void_p * len(views))(*[view.ctypes.data for view in views])
        self._run(grid[0] // THREADS, pointers)
        return outputs


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., EmulatedKernel]:
    folder = tmp_path_factory.mktemp("rows")
    found: dict[str, EmulatedKernel] = {}

    def make_kernel(
        kind: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        source: str,
        headers: tuple[str, ...],
        shared_bytes: int,
    ) -> EmulatedKernel:
        assert not shared_bytes
        if source not in found:
            path = folder / f"{kind}{len(found)}.cpp"
            path.write_text(program(inputs, outputs, source, headers), encoding="utf-8")
            found[source] = EmulatedKernel(compile_source(path, path.with_suffix(".so")).run)
        return found[source]

    return make_kernel


def program(
    inputs: Sequence[str], outputs: Sequence[str], source: str, headers: Sequence[str]
) -> str:
    included = [SOURCES / "primitives.h", *(KERNELS / name for name in headers)]
    arrays = [(name, "const int*" if name == "plan" else "const bf16*") for name in inputs]
    arrays += [(name, "bf16*") for name in outputs]
    return "\n".join([
        *(f'#include "{path}"' for path in included),
        'extern "C" void run(int blocks, void** pointers) {',
        *(f"{kind} {name} = ({kind})pointers[{i}];" for i, (name, kind) in enumerate(arrays)),
        "launch(blocks, MOVERS, [&] {",
        source,
        "});\n}",
    ])  # fmt: skip


@pytest.fixture
def moves(
    compiled: Callable[..., EmulatedKernel], monkeypatch: pytest.MonkeyPatch
) -> Iterator[FusedMoves]:
    monkeypatch.setattr(fused_rows, "make_kernel", compiled)
    fused_rows._kernel.cache_clear()
    yield FusedMoves()
    fused_rows._kernel.cache_clear()


def filled(columns: int) -> RaggedCache:
    """A cache whose buffers are full of numbers, always the same."""
    rng = np.random.default_rng(columns)
    cache = RaggedCache(2)
    cache.add_layers(1)
    cache.resize(ROWS, columns)
    for layer, heads in zip(cache.attention, HEADS, strict=True):
        for buffer in layer.buffers(heads, 64, mx.bfloat16):
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
    cache.attention[0].buffers(3, 64, mx.bfloat16)
    cache.copy_row(1, 0, 5)
    assert len(cache.state()) == 2


def test_a_buffer_is_written_to_where_it_lies(moves: FusedMoves) -> None:
    cache = filled(256)
    cache.moves = moves
    before = [shared_view(array).ctypes.data for array in cache.state()]
    cache.copy_row(3, 0, 9)
    assert [shared_view(array).ctypes.data for array in cache.state()] == before
