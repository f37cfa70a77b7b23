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
from pipeline.engine.markov import Beginning
from pipeline.engine.matcher import Guide, run_guides
from pipeline.engine.row import Row
from pipeline.engine.sampling import choose_allowed
from pipeline.engine.tree import LARGEST, cut_tree, graft, picked_of


def compose(
    drafter: Drafter,
    blocks: Blocks,
    rows: Sequence[Row],
    offers: Sequence[Offer | None],
    begun: Sequence[Sequence[int]],
) -> list[Sequence[int]]:
    """The tokens of the chosen drafts, as far as the rows' grammars let them be.

    Args:
        drafter: The drafter.
        blocks: What it has begun for these rows.
        rows: They.
        offers: The draft that each of them runs.
        begun: What those begin with, whatever the drafter says; of a tree, what is grafted on it.
    """
    known = [
        _beginning(row, [] if offer and offer.source == "tree" else begin)
        for row, offer, begin in zip(rows, offers, begun, strict=True)
    ]
    made = {b: offer for b, offer in enumerate(offers) if offer and offer.source in NEEDS_DRAFTER}
    sizes = {b: offer.length for b, offer in made.items() if offer.source == "tree"}
    drafts = list(begun)
    if sizes:
        grown = drafter.grow(blocks, [one.banned for one in known], LARGEST)
        for b, size in sizes.items():
            joined = graft(*picked_of(grown[b]), begun[b], LARGEST)
            drafts[b] = cut_tree(*joined, size)
    if len(sizes) == len(made):
        return drafts
    tokens = drafter.finish(blocks, known).tolist()
    guides: dict[int, Guide] = {}
    for b, offer in made.items():
        if offer.source != "tree":
            begin, matcher = begun[b], rows[b].matcher
            drafts[b] = [*begin, *tokens[b][len(begin) :]][: offer.length]
            if matcher is not None:
                guides[b] = matcher.guide(drafts[b])
    for b, guided in run_guides(guides, partial(_repick, blocks.logits)).items():
        drafts[b] = guided
    return drafts


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
