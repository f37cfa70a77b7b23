"""Where drafts come from. The seam of speculation: draft -> verify -> accept.

In: the running rows. Out: for each a proposal of its next tokens: what its grammar forces, a
verbatim copy of its prompt or answer, the drafter's block, or two of them joined, as the plan of
`Speculation` says. One forward of the target verifies them, and what it would not have chosen
itself is dropped, so a draft changes the speed and never the answer.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.engine.drafters.drafter import Blocks, Drafter
from pipeline.engine.drafters.drafter_loader import load_drafter
from pipeline.engine.drafting.attention import Attention
from pipeline.engine.drafting.calibrate import known_costs
from pipeline.engine.drafting.composing import compose
from pipeline.engine.drafting.every_draft import EverySpeculation
from pipeline.engine.drafting.looks import Looks
from pipeline.engine.drafting.offering import (
    SURE,
    Known,
    is_likely,
    known_drafts,
    start_of,
    view_of,
)
from pipeline.engine.drafting.proposals import Gained, Proposal
from pipeline.engine.interface import CoreOptions, ModelInfo
from pipeline.engine.planning.acceptance import Offer, checked
from pipeline.engine.planning.plan import Idle, Outcome, Plan, RowView
from pipeline.engine.planning.speculation import Speculation
from pipeline.engine.planning.speculation_stats import SpeculationStats
from pipeline.engine.row import Row
from pipeline.engine.targets.target import Target
from pipeline.engine.tree import MOST_TREES, USUAL, Tree, checked_tree, main_path

MOST_IDLE = 32
"""Steps at rest that are counted at once: to count one takes longer than the rest of it."""


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
        self._looks = Looks()
        always = drafter is None or speculation.always
        self._attention = Attention(always=always, hurry=speculation.hurry)
        self._idle: list[Idle] = []  # steps at rest that are not counted yet
        self._rows: Sequence[Row] = ()  # of the step
        self._watched: dict[str, tuple[RowView, Known]] = {}  # by row: what a look found
        self._plan: Plan | None = None
        self._proposals: list[Proposal] = []
        self._begun: Blocks | None = None  # before the plan
        self._ahead = False  # whether the step's forward had begun before the step
        self._largest = 0  # tokens of the trees that may be run, when rows were last looked at
        self._unlearnt: Gained | None = None
        self._left: list[str] = []  # rows to forget once that is learnt

    def propose(
        self, rows: Sequence[Row], *, begun: bool = False
    ) -> tuple[list[Sequence[int]], int]:
        """One proposal per row, empty for plain decoding.

        Args:
            rows: The running rows, in slot order.
            begun: Whether their forward has begun: then it is plain.

        Returns:
            The proposals, and the width of the verify: 1 + the longest, rounded up to few sizes.
        """
        self._began_s = time.perf_counter()
        self._rows, self._ahead = rows, begun
        if begun or self._is_resting:
            self._rest = max(0, self._rest - 1)
            self._attention.note(rows)
            self._plan = None
            return [[] for _ in rows], 1
        self._count_idle()
        self._begun = self._begin_blocks(rows)
        planning_s = time.perf_counter()
        known, views = self._views(rows)
        plan = self._plan = self._speculation.choose(views)
        self._attention.note(rows, plan)
        self._planned_ms = _ms_since(planning_s)
        if self._drafter is not None and plan.uses_drafter:
            blocks = self._begun
            if blocks is None or blocks.width < min(plan.shape.width, self._drafter.block) - 1:
                blocks = self._drafter.begin(_anchors(rows), plan.shape.width - 1)
            drafts = compose(self._drafter, blocks, rows, plan.offers, known, self._largest)
        else:
            drafts = list(map(start_of, plan.offers, known))
        self._proposals = []
        for view, mine, tokens, offer in zip(views, known, drafts, plan.offers, strict=True):
            used = offer and Offer(offer.source, len(tokens), offer.match_length, offer.sure)
            self._proposals.append(Proposal(view, mine, tokens, used if tokens else None))
        return [proposal.tokens for proposal in self._proposals], plan.shape.width

    @property
    def _is_resting(self) -> bool:
        return self._rest > 0 and not self._looks.wanted

    @property
    def rests(self) -> bool:
        """Whether this step is plain and the next one, as far as is known, will be."""
        if self._plan is None:
            return self._is_resting
        return self._plan.shape.width == 1 and self._rested > 0 and self._plan.retry is None

    def looks_at(self, row: Row) -> bool:
        """Whether the drafter is to have the context of a new row."""
        return self._drafter is not None and self._attention.wants(row)

    def look(self, rows: Sequence[Row]) -> None:
        """What is learnt and looked for while a step's forward runs.

        That is what became of the last drafts; and in plain steps whether a plan would be worth
        making.
        """
        self._take_in()
        if self._plan is not None:
            if self._plan.shape.width == 1:
                self._looks.plan(rows)
            return
        early = self._rest > 1
        if not self._looks.due(rows, early=early):
            return
        began_s = time.perf_counter()
        known, views = self._views(rows)
        self._watched = {view.row: (view, mine) for view, mine in zip(views, known, strict=True)}
        pays = self._speculation.pays(views)
        if not pays:
            self._rest = min(self._rest, 1) + self._rested
        self._looks.found(_ms_since(began_s), early=early, pays=pays)

    def learn(self, gained: Sequence[Sequence[int]], waited_s: float = 0.0) -> None:
        """Takes the tokens that each row of the last `propose` gained.

        Args:
            gained: They.
            waited_s: What the step waited for a prompt: no part of what it costs.
        """
        spent_ms = _ms_since(self._began_s) - waited_s * 1e3
        if self._plan is None:
            self._idle.append(Idle(len(gained), spent_ms, self._ahead and not waited_s))
            self._looks.earn(spent_ms)
            if len(self._idle) == MOST_IDLE:
                self._count_idle()
            if self._watched:
                self._take_in_watched(gained)
            return
        self._unlearnt = Gained(
            plan=self._plan,
            proposals=self._proposals,
            largest=self._largest,
            gained=gained,
            forwards_ms=spent_ms - self._planned_ms,
            drafted=self._plan.uses_drafter or self._begun is not None,
            beside_ms=self._planned_ms if self._begun is not None else 0.0,
            tells=not waited_s,
        )
        if not self._unlearnt.can_wait:
            learning_s = time.perf_counter()
            self._take_in()
            self._planned_ms += _ms_since(learning_s)
        self._rest = self._rested = self._speculation.rest(self._planned_ms)

    def _count_idle(self) -> None:
        if self._idle:
            self._speculation.rested(self._idle)
            self._idle = []

    def _take_in_watched(self, gained: Sequence[Sequence[int]]) -> None:
        watched, self._watched = self._watched, {}
        for row, tokens in zip(self._rows, gained, strict=True):
            if tokens and (seen := watched.get(row.request.id)):
                for offer, draft in seen[1]:
                    self._record(seen[0], offer, draft, tokens, used=False)

    def _take_in(self) -> None:
        if self._unlearnt is None:
            return
        last, self._unlearnt = self._unlearnt, None
        self._speculation.observe(
            last.plan,
            last.forwards_ms,
            drafted=last.drafted,
            beside_ms=last.beside_ms,
            tells=last.tells,
        )
        for proposal, tokens in zip(last.proposals, last.gained, strict=True):
            if isinstance(proposal.tokens, Tree):
                self._record_tree(proposal, proposal.tokens, tokens, last.largest)
            elif proposal.used is not None:
                self._record(proposal.view, proposal.used, proposal.tokens, tokens, used=True)
            for offer, draft in proposal.known:
                if proposal.used is None or offer.source != proposal.used.source:
                    self._record(proposal.view, offer, draft, tokens, used=False)
        left, self._left = self._left, []
        for row in left:
            self._speculation.forget(row)

    def forget(self, row: Row) -> None:
        """Drops a row that has left."""
        if self._unlearnt is None:
            self._speculation.forget(row.request.id)
        else:
            self._left.append(row.request.id)

    def stats(self) -> SpeculationStats:
        """What was chosen and what it gained."""
        self._take_in()
        self._count_idle()
        return self._speculation.stats()

    def _begin_blocks(self, rows: Sequence[Row]) -> Blocks | None:
        """Has the drafter begin before there is a plan, if the next one will use it."""
        last = self._plan
        if self._drafter is None or last is None or not self._speculation.goes_on():
            return None
        return self._drafter.begin(_anchors(rows), last.shape.width - 1)

    def _views(self, rows: Sequence[Row]) -> tuple[list[Known], list[RowView]]:
        known = [known_drafts(row) for row in rows]
        for row, drafts in zip(rows, known, strict=True):
            row.likely = is_likely(drafts)
        block = 0 if self._drafter is None else self._drafter.block
        largest = self._largest = self._largest_tree(rows)
        views = [
            view_of(row, drafts, block * row.tapped, largest * row.branches)
            for row, drafts in zip(rows, known, strict=True)
        ]
        return known, views

    def _largest_tree(self, rows: Sequence[Row]) -> int:
        """The most tokens that a row's tree may have; 0 if there are to be none."""
        if self._drafter is None or not rows or len(rows) > MOST_TREES:
            return 0
        if self._drafter.largest_tree <= USUAL:
            return self._drafter.largest_tree
        return self._speculation.largest_tree(len(rows), max(row.length for row in rows))

    def _record(
        self,
        view: RowView,
        offer: Offer,
        draft: Sequence[int],
        gained: Sequence[int],
        *,
        used: bool,
    ) -> None:
        drafted, accepted = checked(draft, gained)
        self._speculation.record(Outcome(view.row, view.task, offer, drafted, accepted, used=used))

    def _record_tree(
        self, proposal: Proposal, tree: Tree, gained: Sequence[int], largest: int
    ) -> None:
        """Of a tree also those of other sizes are known, and the chain that it holds."""
        view, sure = proposal.view, proposal.used.sure if proposal.used else 0
        found = checked_tree(tree, gained, largest)
        run = min(size for size, *_ in found if size >= len(tree))
        for size, accepted, failed in found:
            used = size == run
            offer = Offer("tree", len(tree) if used else size, size, min(size, sure))
            self._speculation.record(
                Outcome(view.row, view.task, offer, accepted + failed, accepted, used=used)
            )
        if not any(offer.source == "copy" for offer, _ in proposal.known):  # else it is grafted
            chain = main_path(tree.whole)
            offer = Offer("spliced", len(chain), SURE) if sure else Offer("dflash", len(chain))
            self._record(view, offer, chain, gained, used=False)


def make_drafts(
    model: ModelInfo,
    options: CoreOptions,
    target: Target,
    progress: Callable[[str, float], None],
) -> Drafts | None:
    """The drafts that a core was asked for, with the drafter loaded and its costs known.

    Raises:
        InputError: The drafter can't be loaded, or does not fit the target.
    """
    if not options.speculate:
        return None
    drafter = load_drafter(Path(options.drafter), target) if options.drafter else None
    if options.draft_always:
        return Drafts(EverySpeculation(), drafter)
    return Drafts(Speculation(known_costs(model, options, target, drafter, progress)), drafter)


def _anchors(rows: Sequence[Row]) -> list[int]:
    return [row.pending for row in rows]


def _ms_since(started_s: float) -> float:
    return (time.perf_counter() - started_s) * 1e3
