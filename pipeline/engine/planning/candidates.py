"""The plans that a step can choose between: a width, with the drafter or without.

In: the tokens that the batch may expect by width, and what a step costs. Out: `Candidate`s, of
which `Speculation` takes one.
"""

from typing import NamedTuple

from pipeline.engine.planning.acceptance import Source
from pipeline.engine.planning.retries import Arm
from pipeline.engine.planning.widths import CHAIN_WIDTHS

NEEDS_DRAFTER: frozenset[Source] = frozenset({"dflash", "tree", "spliced"})
WORTH = 1.03
"""How much better than plain decoding speculation must look: the best of many noisy estimates is
better than what it becomes, and what is a draw costs the planning."""
Yields = tuple[list[float], list[float], list[float]]
"""Expected tokens by width: without the drafter, with its chains, with its trees, too."""
Costs = tuple[list[float], list[float] | None, list[float] | None]
"""Milliseconds likewise, of the widths that can be run; None where no row could use that."""
WAYS = ((False, False), (True, False), (True, True))
"""Those: with the drafter or not, with trees or not."""


WAY_OF: dict[Source, int] = {"forced": 0, "copy": 0, "dflash": 1, "spliced": 1, "tree": 2}
"""The first of them that has such drafts."""


class Candidate(NamedTuple):
    """A plan: `width` is an index in `WIDTHS`; what it should give, and take."""

    width: int
    drafter: bool
    trees: bool
    tokens: float
    ms: float


def candidates_of(yields: Yields, costs: Costs) -> list[Candidate]:
    """Every width without the drafter, then with it; the first is plain decoding.

    Those that are for large trees are left out where no row's best draft is one.
    """
    found = [
        Candidate(i, *way, tokens[i], ms[i])
        for way, tokens, ms in zip(WAYS, yields, costs, strict=True)
        if ms is not None
        for i in range(len(ms))
        if i < len(CHAIN_WIDTHS) or tokens[i] > tokens[i - 1]
    ]
    return [c for c in found if c.width or not c.drafter]


def is_worth(candidate: Candidate, plain: Candidate) -> bool:
    """Whether a candidate is better enough than plain decoding."""
    enough = plain.tokens / plain.ms * WORTH
    return candidate.tokens > plain.tokens and candidate.tokens / candidate.ms > enough


def holds(best: Candidate, hoped: Candidate, arm: Arm) -> bool:
    """Whether the best plan tells as much of an arm as trying it would."""
    if arm == "plain":
        return best.width == 0
    # Copies are checked against what any draft gains, so the drafter's steps teach them, too.
    return best.width >= hoped.width and (best.drafter or arm == "free")
