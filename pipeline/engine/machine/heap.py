"""What a long-lived process does about its heap: Python's and the C library's.

What the C library (glibc, malloc_trim(3)) keeps of freed memory goes back to the system. And a
loaded model's hundred thousand Python objects are left out of garbage collections, each of which
would hold up all rows for 50 to 100 ms.
"""

import ctypes
import gc
import sys
from collections.abc import Callable
from functools import cache


def keep_for_good() -> None:
    """Collects garbage, and leaves what then lives out of later collections (gc.freeze)."""
    gc.collect()
    gc.freeze()


def trim_heap() -> None:
    """Gives free pages back, wherever in the heap they lie; nothing where it is not glibc's."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
