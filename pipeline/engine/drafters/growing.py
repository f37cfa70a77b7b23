"""Trees grown out of a drafter's blocks: which tokens may follow, and how likely each is.

In: a block's best candidates [B, T, C] for each slot, and what a Markov head adds to them. Out: the
tokens of trees, see `tree.grow`. This is the way of MLX's own operations and numpy; `fused_markov`
has that of one kernel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pipeline.engine.tree import CHILDREN, NONE, Children, grow

Floats = NDArray[np.float32]
Shift = Callable[[mx.array], Sequence[Callable[[int, int], Floats]]]
"""Given ids [B, T, C], per row what a token adds to the scores [C] of a slot that it comes before.
"""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What is known of a row's block before it is drafted.

    Attributes:
        tokens: It begins with these.
        banned: None of these follows them.
    """

    tokens: Sequence[int] = ()
    banned: Sequence[int] = ()

    def last(self, anchor: int) -> int:
        """The last token that is known, if the block comes behind this one."""
        return self.tokens[-1] if self.tokens else anchor


def grow_trees(
    values: mx.array,
    ids: mx.array,
    anchors: Sequence[int],
    known: Sequence[Beginning],
    count: int,
    shift: Shift | None = None,
) -> NDArray[np.int32]:
    """The likeliest trees of blocks.

    Args:
        values: [B, T, C] logits of the slots' candidates.
        ids: Their tokens.
        anchors: [B] the tokens before the blocks.
        known: [B] what they begin with: the trees stand behind it.
        count: Of a tree's tokens.
        shift: Of a Markov head.

    Returns:
        [B, 2, count] tokens and the numbers of their parents, in the order in which they were
        picked; `NONE` where there are fewer.
    """
    shifts = shift(ids) if shift else None
    mx.eval(values, ids)
    scores, tokens = np.array(values.astype(mx.float32)), np.array(ids)
    grown = np.full((len(anchors), 2, count), NONE, np.int32)
    for b, (anchor, begin) in enumerate(zip(anchors, known, strict=True)):
        follows = _children(scores[b], tokens[b], begin, shifts[b] if shifts else None)
        depth = len(tokens[b]) - len(begin.tokens)
        picked = grow(begin.last(anchor), count, depth, follows)
        for line, numbers in zip(grown[b], picked, strict=True):
            line[: len(numbers)] = numbers
    return grown


def _children(
    values: Floats,
    ids: NDArray[np.int32],
    known: Beginning,
    shift: Callable[[int, int], Floats] | None,
) -> Children:
    most, first = min(CHILDREN, ids.shape[1]), len(known.tokens)

    def follows(depth: int, before: int) -> list[tuple[int, float]]:
        slot = first + depth
        scores = values[slot] + (shift(slot, before) if shift else 0)
        if not depth and known.banned:
            scores = np.where(np.isin(ids[slot], known.banned), -np.inf, scores)
        best = np.argpartition(-scores, most - 1)[:most]
        best = best[np.lexsort((ids[slot][best], -scores[best]))]
        top = scores[best[0]]
        whole = top + np.log(np.exp(scores - top).sum())
        return [(int(ids[slot][i]), float(scores[i] - whole)) for i in best if scores[i] > -np.inf]

    return follows
