"""A process of many threads has few heaps."""

import subprocess
import sys

import pytest

from pipeline.few_heaps import HEAPS

THREADS = """
import ctypes, sys, threading
from pipeline.few_heaps import use_few_heaps

if sys.argv[1] == "few":
    use_few_heaps()
together = threading.Barrier(12)

def hold() -> None:
    held = [bytes(2000) for _ in range(1000)]
    together.wait()

threads = [threading.Thread(target=hold) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
ctypes.CDLL(None).malloc_stats()
"""


def _heaps(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", THREADS, how], capture_output=True, text=True, check=True
    )
    return done.stderr.count("Arena ")


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_threads_share_few_heaps() -> None:
    assert _heaps("few") <= HEAPS < _heaps("many")
