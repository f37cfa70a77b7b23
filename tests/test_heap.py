"""Freed memory goes back to the system."""

import subprocess
import sys

import pytest

HOLES = """
import ctypes, psutil
from pipeline.engine.heap import trim_heap

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
