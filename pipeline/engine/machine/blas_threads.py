"""Keeps OpenBLAS's threads off cores that other processes are using.

OpenBLAS's threads wait for each other in every product. With one core taken by another process, two
threads on two cores need 12-20 ms where one needs 0.2, a step 830 ms instead of 85. So, several
times a second, the engine counts the cores that are free and uses no more threads than that. The
products are the same, bit for bit.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

import psutil

TAKEN = 0.35
"""A core that others use for more than this part of the time counts as theirs."""
CALM_ROUNDS = 2
"""A freed core is taken back only after so many looks in a row."""


@dataclass(frozen=True, slots=True)
class CpuSeconds:
    """Processor time, as counters that only grow.

    Attributes:
        all_busy_s: Of all processes on the cores that this one may use, those at low priority
            left out: they give way by themselves.
        own_s: Of this process.
        wall_s: Time itself.
    """

    all_busy_s: float
    own_s: float
    wall_s: float


class BlasThreads:
    """The number of OpenBLAS's threads, kept in step with the free cores.

    Args:
        most: The most threads to use.
        set_threads: Tells OpenBLAS.
        read: Reads the counters.
    """

    def __init__(
        self, most: int, set_threads: Callable[[int], None], read: Callable[[], CpuSeconds]
    ) -> None:
        self._most = self.threads = most
        self._set_threads = set_threads
        self._read = read
        self._last = read()
        self._calm = 0

    def adjust(self) -> None:
        """Looks at the time since the last call, and changes the number if it should."""
        now, last = self._read(), self._last
        wall_s = now.wall_s - last.wall_s
        if wall_s <= 0:
            return
        self._last = now
        others = (now.all_busy_s - last.all_busy_s - (now.own_s - last.own_s)) / wall_s
        wanted = max(1, min(self._most, self._most - int(others + 1 - TAKEN)))
        self._calm = self._calm + 1 if wanted > self.threads else 0
        if wanted < self.threads or self._calm >= CALM_ROUNDS:
            self.threads, self._calm = wanted, 0
            self._set_threads(wanted)


def blas_threads() -> BlasThreads | None:
    """For the OpenBLAS that is loaded in this process; None without one, or with one thread."""
    if sys.platform != "linux":
        return None
    program = ctypes.CDLL(None)
    try:
        most = int(program.openblas_get_num_threads())
        set_threads: Callable[[int], None] = program.openblas_set_num_threads
    except AttributeError:
        return None
    return BlasThreads(most, set_threads, read_cpu_seconds) if most > 1 else None


def read_cpu_seconds() -> CpuSeconds:
    """The counters of this machine, on the cores that this process may use."""
    allowed = os.sched_getaffinity(0) if sys.platform == "linux" else set[int]()
    busy_s = idle_s = 0.0
    for core, times in enumerate(psutil.cpu_times(percpu=True)):
        if core in allowed:
            waiting_s = times.idle + getattr(times, "iowait", 0.0)
            guest_s = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
            busy_s += sum(times) - guest_s - waiting_s - times.nice
            idle_s += waiting_s + times.nice
    own = psutil.Process().cpu_times()
    wall_s = (busy_s + idle_s) / max(1, len(allowed))
    return CpuSeconds(busy_s, own.user + own.system, wall_s)
