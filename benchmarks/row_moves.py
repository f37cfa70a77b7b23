"""How long a row takes to move in the cache on an NVIDIA GPU: by one kernel, by MLX's operations.

    python benchmarks/row_moves.py [--out FILE]

A row moves when another one leaves the batch; its tokens are copied out of the cache to be reused,
and in again. The sizes are the embedded model's with its drafter. What both ways leave is held
against each other, bit by bit; it ends with 1 if they differ.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from machine import describe_surroundings, say
from numpy.typing import NDArray

from pipeline.engine.cuda.fused_kernels import HEAD, device_blocks
from pipeline.engine.memory.cache import RaggedCache
from pipeline.engine.memory.prefix import Prefix
from pipeline.engine.targets.fused_rows import FusedMoves

LAYERS, HEADS, ROWS, COLUMNS = 30 + 3, 3, 8, 1024
LENGTHS = (1, 7, 128, 300, 1000)
REPEATS, WARM_UP = 50, 5


def filled_cache(seed: int) -> RaggedCache:
    """A cache of random numbers, the same for the same seed."""
    cache, key = RaggedCache(LAYERS), mx.random.key(seed)
    cache.resize(ROWS, COLUMNS)
    for layer in cache.attention:
        key, *own = mx.random.split(key, 3)
        layer.keys, layer.values = (
            mx.random.normal((ROWS, HEADS, COLUMNS, HEAD), key=one).astype(mx.bfloat16)
            for one in own
        )
    mx.eval(cache.state())
    return cache


def differing(a: RaggedCache, b: RaggedCache) -> int:
    """Numbers of the buffers that differ."""
    pairs = zip(a.state(), b.state(), strict=True)
    return int(sum(np.count_nonzero(_words(x) != _words(y)) for x, y in pairs))


def _words(buffer: mx.array) -> NDArray[np.uint16]:
    return np.array(buffer.view(mx.uint16))


def moves_of(cache: RaggedCache, prefix: Prefix, length: int) -> dict[str, Callable[[], Any]]:
    """The moves of so many tokens."""
    return {
        "onto another row": lambda: cache.copy_row(7, 0, length),
        "out of the cache": lambda: cache.copy_prefix(3, length),
        "into the cache": lambda: cache.load_prefix(5, prefix, length),
    }


def clock(cache: RaggedCache, run: Callable[[], Any]) -> float:
    """The mean time of a move in ms, with the GPU idle before and after."""
    total = 0.0
    for turn in range(WARM_UP + REPEATS):
        mx.synchronize()
        began = time.perf_counter()
        run()
        mx.eval(cache.state())
        mx.synchronize()
        total += time.perf_counter() - began if turn >= WARM_UP else 0.0
    return round(1e3 * total / REPEATS, 3)


def main() -> int:
    """Compares, measures, prints and writes the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    if not device_blocks():
        say("no NVIDIA GPU is here that the kernel runs on")
        return 2
    ways = {"kernel": filled_cache(1), "mlx": filled_cache(1)}
    ways["kernel"].moves = FusedMoves()
    report: dict[str, Any] = describe_surroundings("mlx") | {"ms": {}, "differ": 0}
    for length in LENGTHS:
        for way, cache in ways.items():
            for kind, move in moves_of(cache, cache.copy_prefix(3, length), length).items():
                cell = report["ms"].setdefault(kind, {}).setdefault(str(length), {})
                cell[way] = clock(cache, move)
        report["differ"] += differing(ways["kernel"], ways["mlx"])
        told = {kind: cells[str(length)] for kind, cells in report["ms"].items()}
        say(f"{length} tokens: {told}")
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if report["differ"] else 0


if __name__ == "__main__":
    sys.exit(main())
