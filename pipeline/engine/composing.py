"""Drafts with the drafter's tokens in them, kept to the rows' grammars.

In: blocks that the drafter has begun, and what is known of each row's draft. Out: the drafts.
"""

from collections.abc import Sequence
from functools import partial

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pipeline.engine.acceptance import Offer
from pipeline.engine.candidates import NEEDS_DRAFTER
from pipeline.engine.drafter import Blocks, Drafter
from pipeline.engine.growing import Beginning
from pipeline.engine.matcher import Guide, Matcher, run_guides
from pipeline.engine.mending import mend_tree
from pipeline.engine.offering import Known, copy_of, start_of
from pipeline.engine.row import Row
from pipeline.engine.sampling import choose_allowed
from pipeline.engine.tree import LARGEST, Tree, behind, cut_tree, graft, picked_of


def compose(
    drafter: Drafter,
    blocks: Blocks,
    rows: Sequence[Row],
    offers: Sequence[Offer | None],
    known: Sequence[Known],
) -> list[Sequence[int]]:
    """The tokens of the chosen drafts, as far as the rows' grammars let them be.

    Args:
        drafter: The drafter.
        blocks: What it has begun for these rows.
        rows: They.
        offers: The draft that each of them runs.
        known: What each of them could draft without the drafter.
    """
    drafts: list[Sequence[int]] = list(map(start_of, offers, known))
    begun = list(map(_beginning, rows, drafts))
    made = {b: offer for b, offer in enumerate(offers) if offer and offer.source in NEEDS_DRAFTER}
    sizes = {b: offer.length for b, offer in made.items() if offer.source == "tree"}
    if sizes:
        grown = drafter.grow(blocks, begun, LARGEST)
        for b, size in sizes.items():
            copy = copy_of(known[b])
            drafts[b] = make_draft_tree(begun[b], grown[b], copy, rows[b].matcher, size)
    if len(sizes) == len(made):
        return drafts
    tokens = drafter.finish(blocks, begun).tolist()
    guides: dict[int, Guide] = {}
    for b, offer in made.items():
        if offer.source != "tree":
            begin, matcher = drafts[b], rows[b].matcher
            drafts[b] = [*begin, *tokens[b][len(begin) :]][: offer.length]
            if matcher is not None:
                guides[b] = matcher.guide(drafts[b])
    for b, guided in run_guides(guides, partial(_repick, blocks.logits)).items():
        drafts[b] = guided
    return drafts


def make_draft_tree(
    begin: Beginning,
    grown: NDArray[np.int32],
    copy: Sequence[int],
    matcher: Matcher | None,
    size: int,
) -> Tree:
    """A tree out of what the drafter has grown, a copy, and what a grammar says to both.

    Args:
        begin: What it begins with.
        grown: [2, count] what was grown behind that, see `growing.grow_trees`.
        copy: Tokens that may come, from the tree's beginning on.
        matcher: The row's grammar, which may know better.
        size: Its tokens, at most.
    """
    picks = graft(*behind(begin.tokens, *picked_of(grown)), copy, LARGEST)
    if matcher is not None:
        picks = mend_tree(matcher, *picks, LARGEST)
    return cut_tree(*picks, size)


def _beginning(row: Row, begin: Sequence[int]) -> Beginning:
    return Beginning(begin, () if begin or row.matcher else row.history.banned())


def _repick(
    logits: mx.array, asked: dict[int, tuple[int, NDArray[np.int32]]]
) -> dict[int, int | None]:
    """The drafter's likeliest tokens among those that the grammars allow there."""
    picked: dict[int, int | None] = dict.fromkeys(asked)
    inside = [b for b, (place, _) in asked.items() if place < logits.shape[1]]
    if inside:
        lines = [b * logits.shape[1] + asked[b][0] for b in inside]
        best = choose_allowed(logits, lines, np.stack([asked[b][1] for b in inside]))
        picked |= dict(zip(inside, best.tolist(), strict=True))
    return picked
