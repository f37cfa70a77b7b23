"""Gives what the C library keeps of freed memory back to the system (glibc, malloc_trim(3))."""

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def trim_heap() -> None:
    """Gives free pages back, wherever in the heap they lie; nothing where it is not glibc's."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
