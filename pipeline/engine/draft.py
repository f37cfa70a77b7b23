"""Where drafts come from. The seam of speculation: draft -> verify -> accept.

In: the running rows. Out: for each a proposal of its next tokens: what its grammar forces, a
verbatim copy of its prompt or answer, the drafter's block, or two of them joined, as the plan of
`Speculation` says. One forward of the target verifies them, and what it would not have chosen
itself is dropped, so a draft changes the speed and never the answer.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pipeline.engine.acceptance import POSITIONS, Offer, checked
from pipeline.engine.drafter import Drafter
from pipeline.engine.grammar import Guide, run_guides
from pipeline.engine.markov import Beginning
from pipeline.engine.plan import Outcome, Plan, RowView
from pipeline.engine.row import Row
from pipeline.engine.sampling import choose_allowed
from pipeline.engine.speculation import NEEDS_DRAFTER, Speculation
from pipeline.engine.speculation_stats import SpeculationStats

SURE = 9
"""A forced beginning counts as a copy with so long a match: it is hardly ever wrong."""
MOST_LOOKS = 4
"""After so many looks that found no plan worth making one is made: it also learns and tries."""
Known = Sequence[tuple[Offer, list[int]]]
"""A row's drafts that cost nothing."""
LIKELY = 5
"""A copy with so long a match is worth a look while no plans are made."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a row could draft without the drafter, and which of its drafts was chosen."""

    view: RowView
    known: Known
    tokens: list[int]
    used: Offer | None


class Drafts:
    """Proposes the next tokens of each row, and learns from what became of them.

    Args:
        speculation: Chooses the sources and the width.
        drafter: None leaves forced tokens and copies.
    """

    def __init__(self, speculation: Speculation, drafter: Drafter | None) -> None:
        self._speculation = speculation
        self._drafter = drafter
        self._began_s = 0.0
        self._planned_ms = 0.0
        self._rest = self._rested = 0  # plain steps to come, and at the last plan
        self._looks = 0  # since then
        self._likely = 0  # rows with a likely draft at the last plan
        self._seen = 0  # those when somebody last looked
        self._plan: Plan | None = None
        self._proposals: list[Proposal] = []

    def propose(self, rows: Sequence[Row]) -> tuple[list[list[int]], int]:
        """One proposal per row, empty for plain decoding.

        Args:
            rows: The running rows, in slot order.

        Returns:
            The proposals, and the width of the verify: 1 + the longest, rounded up to few sizes.
        """
        self._began_s = time.perf_counter()
        if self._rest and self._seen <= self._likely:
            self._rest -= 1
            self._plan = None
            return [[] for _ in rows], 1
        known, views = self._views(rows)
        plan = self._plan = self._speculation.choose(views)
        self._planned_ms = _ms_since(self._began_s)
        drafter = self._drafter if plan.uses_drafter else None
        begun = [_begin(offer, drafts) for offer, drafts in zip(plan.offers, known, strict=True)]
        blocks = drafter and _draft_blocks(drafter, rows, begun, plan.shape.width - 1)
        drafts = begun if blocks is None else _compose(rows, plan.offers, begun, blocks)
        self._proposals = []
        for view, mine, tokens, offer in zip(views, known, drafts, plan.offers, strict=True):
            used = offer and Offer(offer.source, len(tokens), offer.match_length)
            self._proposals.append(Proposal(view, mine, tokens, used if tokens else None))
        return [proposal.tokens for proposal in self._proposals], plan.shape.width

    def look(self, rows: Sequence[Row]) -> None:
        """Sees whether a plan would be worth making, while the forward of a plain step runs."""
        if self._plan is not None and self._plan.shape.width > 1:
            return
        self._seen = sum(map(_has_likely, rows))
        if self._plan is not None:
            self._likely, self._looks = self._seen, 0
        elif (not self._rest or self._seen > self._likely) and self._looks < MOST_LOOKS:
            self._looks += 1
            if not self._speculation.pays(self._views(rows)[1]):
                self._rest, self._likely = self._rested, self._seen

    def learn(self, gained: Sequence[Sequence[int]]) -> None:
        """Takes the tokens that each row of the last `propose` gained."""
        spent_ms = _ms_since(self._began_s)
        if self._plan is None:
            self._speculation.rested(len(gained), spent_ms)
            return
        learning_s = time.perf_counter()
        forwards_ms = spent_ms - self._planned_ms
        self._speculation.observe(self._plan.shape, forwards_ms, drafted=self._plan.uses_drafter)
        for proposal, tokens in zip(self._proposals, gained, strict=True):
            if proposal.used is not None:
                self._record(proposal, proposal.used, proposal.tokens, tokens, used=True)
            for offer, draft in proposal.known:
                if proposal.used is None or offer.source != proposal.used.source:
                    self._record(proposal, offer, draft, tokens, used=False)
        self._rest = self._speculation.rest(self._planned_ms + _ms_since(learning_s))
        self._rested = self._rest

    def forget(self, row: Row) -> None:
        """Drops a row that has left."""
        self._speculation.forget(row.request.id)

    def stats(self) -> SpeculationStats:
        """What was chosen and what it gained."""
        return self._speculation.stats()

    def _views(self, rows: Sequence[Row]) -> tuple[list[Known], list[RowView]]:
        known = [_known_drafts(row) for row in rows]
        return known, [self._view(row, drafts) for row, drafts in zip(rows, known, strict=True)]

    def _view(self, row: Row, known: Known) -> RowView:
        offers = [offer for offer, _ in known]
        room = min(POSITIONS, row.left - 1)
        if self._drafter is not None and room > 0:
            offers.append(Offer("dflash", min(room, self._drafter.block - 1)))
            offers += [
                Offer("spliced", room, SURE if offer.source == "forced" else offer.match_length)
                for offer in offers[:1]
                if offer.source != "dflash" and offer.length < room
            ]
        context = len(row.prompt) + len(row.history.tokens)
        return RowView(row.request.id, row.task, context, tuple(offers))

    def _record(
        self,
        proposal: Proposal,
        offer: Offer,
        draft: list[int],
        gained: Sequence[int],
        *,
        used: bool,
    ) -> None:
        drafted, accepted = checked(draft, list(gained))
        view = proposal.view
        self._speculation.record(Outcome(view.row, view.task, offer, drafted, accepted, used=used))


def _ms_since(started_s: float) -> float:
    return (time.perf_counter() - started_s) * 1e3


def _has_likely(row: Row) -> bool:
    """Whether a row has a draft that costs nothing and should be right; takes microseconds."""
    return row.copier.match >= LIKELY or (row.matcher is not None and len(row.matcher.forced()) > 1)


def _known_drafts(row: Row) -> Known:
    """The drafts that cost nothing, the surest first."""
    room = min(POSITIONS, row.left - 1)
    if room <= 0:
        return ()
    found: list[tuple[Offer, list[int]]] = []
    forced = row.matcher.forced()[:room] if row.matcher else []
    if forced:
        found.append((Offer("forced", len(forced)), forced))
    copy = row.copier.propose(room)
    if copy.tokens:
        tokens = list(copy.tokens)
        found.append((Offer("copy", len(tokens), copy.match_length), tokens))
    return tuple(found)


def _begin(offer: Offer | None, known: Known) -> list[int]:
    """What a row's draft begins with, whatever the drafter says."""
    if offer is None:
        return []
    drafts = {o.source: tokens for o, tokens in known}
    if offer.source == "spliced":
        return drafts.get("forced", drafts.get("copy", []))[: offer.length]
    return drafts.get(offer.source, [])[: offer.length]


@dataclass(frozen=True, slots=True)
class _Blocks:
    """The drafter's tokens for every row, and its logits [B, T, V]."""

    tokens: list[list[int]]
    logits: mx.array


def _draft_blocks(
    drafter: Drafter, rows: Sequence[Row], begun: Sequence[list[int]], drafted: int
) -> _Blocks:
    known = [
        Beginning(begin, () if begin or row.matcher else row.history.banned())
        for row, begin in zip(rows, begun, strict=True)
    ]
    tokens, logits = drafter.draft([row.pending for row in rows], drafted, known)
    return _Blocks(tokens.tolist(), logits)


def _compose(
    rows: Sequence[Row],
    offers: Sequence[Offer | None],
    begun: Sequence[list[int]],
    blocks: _Blocks,
) -> list[list[int]]:
    """The tokens of the chosen drafts, as far as the rows' grammars let them be."""
    drafts: list[list[int]] = []
    guides: dict[int, Guide] = {}
    for b, (row, offer, begin) in enumerate(zip(rows, offers, begun, strict=True)):
        drafts.append(begin)
        if offer is not None and offer.source in NEEDS_DRAFTER:
            drafts[b] = (begin + blocks.tokens[b][len(begin) :])[: offer.length]
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
