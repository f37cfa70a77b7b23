"""Freed memory goes back to the system, and what stays is not looked through again and again."""

import gc
import subprocess
import sys

import mlx.core as mx
import pytest

from pipeline.engine.interface import CoreOptions
from pipeline.engine.loader import CACHE_BYTES, MlxLoader, bound_cache
from pipeline.engine.machine.heap import keep_for_good

HOLES = """
import ctypes, psutil
from pipeline.engine.machine.heap import trim_heap

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
size = 100_000  # small enough for the heap
held = [libc.malloc(size) for _ in range(1000)]
for place in held:
    ctypes.memset(place, 1, size)
for place in held[:-1]:  # the last one keeps the heap from shrinking
    libc.free(place)
before = psutil.Process().memory_info().rss
trim_heap()
print(before - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_holes_in_the_heap_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 50_000_000


def test_mlx_keeps_no_more_freed_memory_than_the_engine_lets_it() -> None:
    before = mx.set_cache_limit(8 * CACHE_BYTES)
    try:
        bound_cache()
        assert mx.set_cache_limit(1 << 20) == CACHE_BYTES
        bound_cache()
        assert mx.set_cache_limit(1 << 20) == 1 << 20  # less, as MLX has it on a CPU, stays
    finally:
        mx.set_cache_limit(before)


def test_a_loaded_model_is_no_matter_of_garbage_collections_until_it_is_dropped() -> None:
    keep_for_good()
    assert gc.get_freeze_count() > 0
    MlxLoader(CoreOptions()).free()
    assert gc.get_freeze_count() == 0
