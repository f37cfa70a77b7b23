"""Small arrays that the host and an NVIDIA GPU share, without copies.

MLX has numbers from the host in managed memory, whose pages move to the GPU when a kernel looks at
them, and back; and it may take a buffer of the GPU's own memory for them, which then is moved
first. Either takes tens of microseconds and more, some times in every step. A mailbox's memory is
made once, stays with the host, and the GPU reads and writes it over the bus.
(CUDA C programming guide, "Unified memory: performance hints".)
"""

import ctypes
from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

STAYS_AT, SEEN_BY = 3, 5
"""CU_MEM_ADVISE_SET_PREFERRED_LOCATION and CU_MEM_ADVISE_SET_ACCESSED_BY, see cuda.h."""
HOST, GPU = -1, 0
PAGE = 4096
_KEPT: list[mx.array] = []
"""All memory that stays with the host. Given back, MLX would keep it for something else: a step
whose counters lay there took 59 ms instead of 1.2 (H200)."""


class Mailbox:
    """Whole numbers of 32 bits. Whoever writes sees to it that no kernel still reads.

    Args:
        shape: Of the array.

    Attributes:
        array: What kernels are given.
        view: The same memory, for the host.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        count = int(np.prod(shape))
        pages = mx.array(np.zeros(-(-4 * count // PAGE) * PAGE // 4, np.int32))
        self.array = pages[:count].reshape(shape)
        mx.eval(pages, self.array)
        _KEPT.append(pages)
        self.view: NDArray[np.int32] = np.array(self.array, copy=False)
        _leave_with_host(np.array(pages, copy=False))


class GrowingMailbox:
    """A flat mailbox that is made anew, larger, where it is too small."""

    def __init__(self) -> None:
        self._box = Mailbox((PAGE // 4,))

    def room(self, count: int) -> Mailbox:
        """A mailbox for at least so many numbers."""
        if self._box.view.size < count:
            self._box = Mailbox((1 << (count - 1).bit_length(),))
        return self._box

    def put(self, *parts: NDArray[np.int32]) -> mx.array:
        """Writes numbers one after the other, and gives what kernels are given."""
        box, begin = self.room(sum(part.size for part in parts)), 0
        for part in parts:
            box.view[begin : begin + part.size] = part.ravel()
            begin += part.size
        return box.array


@cache
def _driver() -> Any:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def _leave_with_host(memory: NDArray[np.int32]) -> None:
    """Tells the driver; where it does not listen, pages move as before."""
    driver = _driver()
    if driver is not None:
        where = ctypes.c_uint64(memory.ctypes.data), ctypes.c_size_t(memory.nbytes)
        driver.cuMemAdvise(*where, STAYS_AT, HOST)
        driver.cuMemAdvise(*where, SEEN_BY, GPU)
