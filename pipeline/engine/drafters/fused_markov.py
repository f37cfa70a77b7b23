"""The Markov head's chain of choices as one kernel on an NVIDIA GPU, instead of ten for each slot.

Its trees are grown by another. In: as `markov.Chain`, for ranks of a multiple of 8. Out: the same
tokens, but for ties.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pipeline.engine.choosing.fused_choice import Chooser
from pipeline.engine.cuda.fused_kernels import Rooms, device_blocks, make_kernel, new_counters
from pipeline.engine.cuda.mailbox import GrowingMailbox
from pipeline.engine.drafters.growing import Beginning
from pipeline.engine.drafters.markov import CLASSES, Chain, Markov, Product, plan_of
from pipeline.engine.tree import NONE

MOST_TOLD = 256
"""Numbers that a row is told, at most: how it begins, and its block."""
MOST_GROWN, NO_TOKEN = 16, -2
"""Tokens of a tree, and what the kernel says where it has fewer; see `cuda/markov.cuh`."""
GROWING = 72 + 4 * 4 * MOST_GROWN + MOST_TOLD
"""Numbers that a block keeps while it grows a tree: LISTS, a frontier and what a row is told."""


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
        rows, width, vocabulary = logits.shape
        kernel = _chain_kernel(vocabulary, gates.shape[-1])
        return self._run(kernel, logits, gates, plan_of(anchors, known, width), (rows, width))

    def grow(
        self,
        logits: mx.array,
        gates: mx.array,
        anchors: Sequence[int],
        known: Sequence[Beginning],
        count: int,
    ) -> NDArray[np.int32]:
        """See `Chain.grow`; `MOST_BANNED` tokens of a row are looked at.

        Raises:
            ValueError: The kernel has no room for so large a tree.
        """
        if count > MOST_GROWN:
            raise ValueError(f"{count=} is more than {MOST_GROWN}")
        rows, width, vocabulary = logits.shape
        kernel = _tree_kernel(vocabulary, gates.shape[-1])
        plan = np.append(plan_of(anchors, known, width), np.int32(count))
        grown = self._run(kernel, logits, gates, plan, (rows, 2 * count))
        return np.where(grown == NO_TOKEN, NONE, grown).reshape(rows, 2, count)

    def _run(
        self,
        kernel: Callable[..., Any],
        logits: mx.array,
        gates: mx.array,
        plan: NDArray[np.int32],
        shape: tuple[int, int],
    ) -> NDArray[np.int32]:
        rows, width, _ = logits.shape
        told = self._plan.put(np.array([width, rows], np.int32), plan)
        inputs = [logits, gates, self.before, self.after, told, self._arrived]
        inputs += self._candidates.of(rows * width)
        blocks = min(rows * width, device_blocks())
        return self._chooser.begin(kernel, inputs, shape, blocks).wait()


@cache
def _chain_kernel(vocabulary: int, rank: int) -> Callable[..., Any]:
    return _make("chain", f"choose_blocks<{vocabulary}, {rank}>", rank + 32 + MOST_TOLD)


@cache
def _tree_kernel(vocabulary: int, rank: int) -> Callable[..., Any]:
    return _make("tree", f"grow_blocks<{vocabulary}, {rank}>", rank + GROWING)


def _make(kind: str, function: str, shared_floats: int) -> Callable[..., Any]:
    source = f"""
  extern __shared__ float shared[];
  {function}(
      logits, gates, before, after, plan,
      reinterpret_cast<float2*>(const_cast<bf16*>(candidates_room)), const_cast<int*>(chosen),
      const_cast<unsigned*>(arrived), shared);
"""
    inputs = ["logits", "gates", "before", "after", "plan", "arrived", "candidates_room", "chosen"]
    headers = ("choice.cuh", "markov.cuh")
    return make_kernel(kind, inputs, ["done"], source, headers, 4 * shared_floats)
