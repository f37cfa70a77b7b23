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


def compose(
    drafter: Drafter,
    blocks: Blocks,
    rows: Sequence[Row],
    offers: Sequence[Offer | None],
    begun: Sequence[list[int]],
) -> list[list[int]]:
    """The tokens of the chosen drafts, as far as the rows' grammars let them be.

    Args:
        drafter: The drafter.
        blocks: What it has begun for these rows.
        rows: They.
        offers: The draft that each of them runs.
        begun: What those begin with, whatever the drafter says.
    """
    known = [
        Beginning(begin, () if begin or row.matcher else row.history.banned())
        for row, begin in zip(rows, begun, strict=True)
    ]
    tokens = drafter.finish(blocks, known).tolist()
    drafts: list[list[int]] = []
    guides: dict[int, Guide] = {}
    for b, (row, offer, begin) in enumerate(zip(rows, offers, begun, strict=True)):
        drafts.append(begin)
        if offer is not None and offer.source in NEEDS_DRAFTER:
            drafts[b] = (begin + tokens[b][len(begin) :])[: offer.length]
            if row.matcher is not None:
                guides[b] = row.matcher.guide(drafts[b])
    for b, guided in run_guides(guides, partial(_repick, blocks.logits)).items():
        drafts[b] = guided
    return drafts


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
