"""Keeps a process of many threads from keeping a heap for each of them (glibc, mallopt(3))."""

import ctypes
import sys

HEAPS = 2
ENVIRONMENT = {"MALLOC_ARENA_MAX": str(HEAPS)}
"""The same for a process that is started."""

_ARENA_MAX = -8


def use_few_heaps() -> None:
    """Has this process use few heaps from now on; nothing where the C library is not glibc."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, HEAPS)
