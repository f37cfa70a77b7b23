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
from pipeline.engine.fused_kernels import make_kernel
from pipeline.engine.mailbox import GrowingMailbox
from pipeline.engine.markov import Beginning, Chain, Markov, Product, plan_of


class FusedChain(Chain):
    """Chooses the tokens of blocks; see `Chain`."""

    def __init__(self, head: Markov, embed: Product, project: Product, vocabulary: int) -> None:
        super().__init__(head, embed, project, vocabulary)
        self._plan, self._chooser = GrowingMailbox(), Chooser()

    def choose(
        self, logits: mx.array, gates: mx.array, anchors: Sequence[int], known: Sequence[Beginning]
    ) -> NDArray[np.int32]:
        """See `Chain.choose`."""
        (rows, width, vocabulary), rank = logits.shape, gates.shape[-1]
        told = self._plan.put(np.array([width], np.int32), plan_of(anchors, known, width))
        inputs = [logits, gates, self.before, self.after, told]
        kernel = _chain_kernel(vocabulary, rank)
        return self._chooser.choose(kernel, inputs, (rows, width), rows)


@cache
def _chain_kernel(vocabulary: int, rank: int) -> Callable[..., Any]:
    source = f"""
  extern __shared__ float shared[];
  choose_block<{vocabulary}, {rank}>(logits, gates, before, after, plan,
                                     const_cast<int*>(chosen), shared);
"""
    inputs = ["logits", "gates", "before", "after", "plan", "chosen"]
    headers, shared_bytes = ("choice.cuh", "markov.cuh"), 4 * (rank + 32)
    return make_kernel("chain", inputs, ["done"], source, headers, shared_bytes)
