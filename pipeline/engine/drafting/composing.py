"""Drafts with the drafter's tokens in them, kept to the rows' grammars.

In: blocks that the drafter has begun, and what is known of each row's draft. Out: the drafts.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.engine.drafters.drafter import Blocks, Drafter
from pipeline.engine.drafters.growing import Beginning
from pipeline.engine.drafting.mending import mend_tree
from pipeline.engine.drafting.offering import Known, copy_of, start_of
from pipeline.engine.grammars.matcher import Matcher
from pipeline.engine.planning.acceptance import Offer
from pipeline.engine.planning.candidates import NEEDS_DRAFTER
from pipeline.engine.row import Row
from pipeline.engine.tree import USUAL, Tree, behind, cut_tree, graft, main_path, picked_of


def compose(
    drafter: Drafter,
    blocks: Blocks,
    rows: Sequence[Row],
    offers: Sequence[Offer | None],
    known: Sequence[Known],
    largest: int,
) -> list[Sequence[int]]:
    """The tokens of the chosen drafts, as far as the rows' grammars let them be.

    Args:
        drafter: The drafter.
        blocks: What it has begun for these rows.
        rows: They.
        offers: The draft that each of them runs.
        known: What each of them could draft without the drafter.
        largest: The most tokens of a tree, in this step.
    """
    drafts: list[Sequence[int]] = list(map(start_of, offers, known))
    begun = list(map(_beginning, rows, drafts))
    made = {b: offer for b, offer in enumerate(offers) if offer and offer.source in NEEDS_DRAFTER}
    # A grammar picks among what a tree offers, also where a chain is wanted.
    trees = {b for b, offer in made.items() if offer.source == "tree" or rows[b].matcher}
    if trees:
        branched = any(made[b].source == "tree" for b in trees)
        grown = drafter.grow(blocks, begun, largest if branched else USUAL)
        for b in trees:
            drafts[b] = _grown(rows[b], made[b], begun[b], grown[b], known[b])
    if len(trees) < len(made):
        tokens = drafter.finish(blocks, begun).tolist()
        for b in made.keys() - trees:
            begin = drafts[b]
            drafts[b] = [*begin, *tokens[b][len(begin) :]][: made[b].length]
    return drafts


def _beginning(row: Row, begin: Sequence[int]) -> Beginning:
    return Beginning(begin, () if begin or row.matcher else row.history.banned())


def _grown(
    row: Row, offer: Offer, begin: Beginning, grown: NDArray[np.int32], known: Known
) -> Sequence[int]:
    if offer.source == "tree":
        return make_draft_tree(begin, grown, copy_of(known), row.matcher, offer.length)
    return main_path(make_draft_tree(begin, grown, (), row.matcher, USUAL))[: offer.length]


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
        grown: [2, count] what was grown behind that, see `growing.grow_trees`; the whole tree
            has no more tokens.
        copy: Tokens that may come, from the tree's beginning on.
        matcher: The row's grammar, which may know better.
        size: Its tokens, at most.
    """
    most = grown.shape[1]
    picks = graft(*behind(begin.tokens, *picked_of(grown)), copy, most)
    if matcher is not None:
        picks = mend_tree(matcher, *picks, most)
    return cut_tree(*picks, size)
