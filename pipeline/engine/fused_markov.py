"""The Markov head's chain of choices as one kernel on an NVIDIA GPU, instead of ten for each slot.

In: as `markov.Chain`, for ranks of a multiple of 8. Out: the same tokens, but for ties.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pipeline.engine.fused_choice import Chooser
from pipeline.engine.fused_kernels import Rooms, device_blocks, make_kernel, new_counters
from pipeline.engine.mailbox import GrowingMailbox
from pipeline.engine.markov import CLASSES, Beginning, Chain, Markov, Product, plan_of

MOST_TOLD = 256
"""Numbers that a row is told, at most: how it begins, and its block."""


class FusedChain(Chain):
    """Chooses the tokens of blocks; see `Chain`."""

    def __init__(self, head: Markov, embed: Product, project: Product, vocabulary: int) -> None:
        super().__init__(head, embed, project, vocabulary)
        self._plan, self._chooser = GrowingMailbox(), Chooser()
        self._arrived, self._candidates = new_counters(), Rooms(CLASSES * 4)  # two floats each
        mx.eval(self._arrived)

    def choose(
        self, logits: mx.array, gates: mx.array, anchors: Sequence[int], known: Sequence[Beginning]
    ) -> NDArray[np.int32]:
        """See `Chain.choose`."""
        (rows, width, vocabulary), rank = logits.shape, gates.shape[-1]
        told = self._plan.put(np.array([width, rows], np.int32), plan_of(anchors, known, width))
        inputs = [logits, gates, self.before, self.after, told, self._arrived]
        inputs += self._candidates.of(rows * width)
        kernel, blocks = _chain_kernel(vocabulary, rank), min(rows * width, device_blocks())
        return self._chooser.begin(kernel, inputs, (rows, width), blocks).wait()


@cache
def _chain_kernel(vocabulary: int, rank: int) -> Callable[..., Any]:
    source = f"""
  extern __shared__ float shared[];
  choose_blocks<{vocabulary}, {rank}>(
      logits, gates, before, after, plan,
      reinterpret_cast<float2*>(const_cast<bf16*>(candidates_room)), const_cast<int*>(chosen),
      const_cast<unsigned*>(arrived), shared);
"""
    inputs = ["logits", "gates", "before", "after", "plan", "arrived", "candidates_room", "chosen"]
    headers, shared_bytes = ("choice.cuh", "markov.cuh"), 4 * (rank + 32 + MOST_TOLD)
    return make_kernel("chain", inputs, ["done"], source, headers, shared_bytes)
