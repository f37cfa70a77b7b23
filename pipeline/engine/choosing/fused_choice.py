"""The choice of greedy tokens as one kernel on an NVIDIA GPU, instead of a dozen.

In: logits and constraints. Out: at each position the best token after mask and penalty, the very
one that MLX's own operations give (`sampling.shape_logits`), ties to the lowest.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pipeline.engine.choosing.constraints import Constraints
from pipeline.engine.cuda.fused_kernels import DONE, device_blocks, launch, make_kernel
from pipeline.engine.cuda.mailbox import GrowingMailbox

WORD = 32
NOT_YET = -1
LOOKING_S = 0.02
"""A step of a model that runs as one kernel takes a few milliseconds."""
UNSEEN_S = 0.0005
NO_MASK = np.zeros(1, np.int32)


def can_choose_at_once(logits: mx.array) -> bool:
    """Whether there is such a kernel for these logits."""
    return logits.dtype == mx.bfloat16 and logits.shape[-1] % WORD == 0 and device_blocks() > 0


def choose_at_once(
    logits: mx.array, constraints: Constraints, lines: Sequence[int] | None = None
) -> "Chosen":
    """As `sampling.begin_choice`, without draws and shifts."""
    masks = constraints.masks if constraints.masked else NO_MASK
    plan, shape = plan_of(constraints, lines), constraints.mask_of.shape
    return _choice(logits.shape[-1]).begin(logits, plan, masks, shape)


def likeliest_at_once(logits: mx.array) -> NDArray[np.int32]:
    """The best token at each position [B, T]."""
    rows, width, vocabulary = logits.shape
    count = rows * width
    free = np.full(count, -1, np.int32), np.ones(count, np.float32).view(np.int32)
    lines, unseen = np.arange(count, dtype=np.int32), np.zeros(count, np.int32)
    plan = [np.array([width, 0], np.int32), *free, lines, unseen]
    return _choice(vocabulary).begin(logits, plan, NO_MASK, (rows, width)).wait()


def plan_of(
    constraints: Constraints, lines: Sequence[int] | None = None
) -> list[NDArray[np.int32]]:
    """What `Choice` in `cuda/choice.cuh` is made of."""
    rows, width = constraints.mask_of.shape
    return [
        np.array([width, constraints.recent.shape[1] - width + 1], np.int32),
        constraints.mask_of,
        constraints.penalties.view(np.int32),
        np.array(range(rows * width) if lines is None else lines, np.int32),
        np.array(constraints.windows, np.int32),
        constraints.recent,
    ]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Tokens that are being chosen.

    Attributes:
        array: Where they are left, the first of it.
    """

    array: mx.array
    _tokens: NDArray[np.int32]
    _arrive: Callable[[], None]

    def wait(self) -> NDArray[np.int32]:
        """They, once they are there."""
        self._arrive()
        return self._tokens.copy()


class Chooser:
    """Runs kernels that leave tokens where the host reads them.

    The host looks until they are there: MLX waits for an event of the driver's (`mlx/backend/cuda/
    event.cu`: cudaEventBlockingSync), which wakes a sleeping thread by an interrupt, tens of
    microseconds late.
    """

    def __init__(self) -> None:
        self._boxes = (GrowingMailbox(), GrowingMailbox())
        self._turn = 0
        self._looks = True

    def begin(
        self,
        kernel: Callable[..., Any],
        inputs: list[mx.array],
        shape: tuple[int, int],
        blocks: int,
    ) -> "Chosen":
        """Has tokens of this shape chosen. Once they are there all mailboxes are free again.

        A forward may take them from where they are left: that is not written to before the choice
        after the next.
        """
        self._turn = 1 - self._turn
        box, count = self._boxes[self._turn].room(shape[0] * shape[1]), shape[0] * shape[1]
        tokens = box.view[:count]
        tokens.fill(NOT_YET)
        done = launch(kernel, [*inputs, box.array], [DONE], blocks)
        mx.async_eval(done)
        return Chosen(box.array, tokens.reshape(shape), partial(self._wait, tokens, done))

    def _wait(self, tokens: NDArray[np.int32], done: list[mx.array]) -> None:
        if self._looks and self._see(tokens):
            return
        began_s = time.perf_counter()
        mx.eval(done)
        # Where they were there before and nobody saw it, looking is of no use.
        self._looks &= time.perf_counter() - began_s > UNSEEN_S

    def _see(self, tokens: NDArray[np.int32]) -> bool:
        """Looks until all tokens are there, and lets other threads run; False if it takes long."""
        until_s = time.perf_counter() + LOOKING_S
        while tokens.min() == NOT_YET:
            if time.perf_counter() > until_s:
                return False
            time.sleep(0)
        return True


class _Choice:
    """The kernel for a vocabulary, and what it shares with the host."""

    def __init__(self, vocabulary: int) -> None:
        self._kernel = _choice_kernel(vocabulary)
        self._plan, self._masks, self._chooser = GrowingMailbox(), GrowingMailbox(), Chooser()

    def begin(
        self,
        logits: mx.array,
        plan: list[NDArray[np.int32]],
        masks: NDArray[np.int32],
        shape: tuple[int, int],
    ) -> Chosen:
        """Has tokens [B, T] of this shape chosen."""
        rows, width = shape
        inputs = [logits, self._plan.put(*plan), self._masks.put(masks)]
        return self._chooser.begin(self._kernel, inputs, (rows, width), rows * width)


_choice = cache(_Choice)


def _choice_kernel(vocabulary: int) -> Callable[..., Any]:
    source = f"""
  extern __shared__ float shared[];
  const int token = choose_token<{vocabulary}>(logits, plan, masks, shared);
  if (threadIdx.x == 0) const_cast<int*>(chosen)[blockIdx.x] = token;
"""
    inputs, shared_bytes = ["logits", "plan", "masks", "chosen"], vocabulary // 8 + 256
    return make_kernel("choice", inputs, ["done"], source, ("choice.cuh",), shared_bytes)
