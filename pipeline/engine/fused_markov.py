"""The Markov head's chain of choices as one kernel on an NVIDIA GPU, instead of ten for each slot.

In: as `markov.Chain`. Out: the same tokens, but for ties.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pipeline.engine.fused_kernels import THREADS, device_blocks, kernel_header
from pipeline.engine.mailbox import GrowingMailbox
from pipeline.engine.markov import CLASSES, Beginning, Chain, Markov, Product, plan_of


class FusedChain(Chain):
    """Chooses the tokens of blocks; see `Chain`."""

    def __init__(self, head: Markov, embed: Product, project: Product, vocabulary: int) -> None:
        super().__init__(head, embed, project, vocabulary)
        self._plan, self._chosen = GrowingMailbox(), GrowingMailbox()

    def choose(
        self, logits: mx.array, gates: mx.array, anchors: Sequence[int], known: Sequence[Beginning]
    ) -> NDArray[np.int32]:
        """See `Chain.choose`; waits for it, so the mailboxes are free again."""
        (rows, width, vocabulary), rank = logits.shape, gates.shape[-1]
        if rank % 8 or rank > CLASSES or device_blocks() == 0:
            return super().choose(logits, gates, anchors, known)
        chosen = self._chosen.room(rows * width)
        told = self._plan.put(np.array([width], np.int32), plan_of(anchors, known, width))
        done = _chain_kernel(vocabulary, rank)(
            inputs=[logits, gates, self.before, self.after, told, chosen.array],
            template=[],
            grid=(rows * THREADS, 1, 1),
            threadgroup=(THREADS, 1, 1),
            output_shapes=[(rows,)],
            output_dtypes=[mx.int32],
        )
        mx.eval(done)
        return chosen.view[: rows * width].reshape(rows, width).copy()


@cache
def _chain_kernel(vocabulary: int, rank: int) -> Callable[..., Any]:
    made: Any = mx.fast.cuda_kernel(
        name=f"docflash_chain_{vocabulary}_{rank}",
        input_names=["logits", "gates", "before", "after", "plan", "chosen"],
        output_names=["done"],
        header=kernel_header("choice.cuh", "markov.cuh"),
        source=f"""
  extern __shared__ float shared[];
  choose_block<{vocabulary}, {rank}>(logits, gates, before, after, plan,
                                     const_cast<int*>(chosen), shared);
  if (threadIdx.x == 0) done[blockIdx.x] = 1;
""",
        shared_memory=4 * (rank + 32),
    )
    return made
