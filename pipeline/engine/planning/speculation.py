"""Which drafts a step runs, and how wide: the plan with the most expected tokens per millisecond.

In: the running rows with the drafts they could use. Out: a `Plan`; then the step's time and what
was accepted, which the next plan is made from.

    plan = speculation.choose(views)  # before the drafter, which runs if plan.uses_drafter
    speculation.observe(plan, ms, drafted=plan.uses_drafter)  # after the verify
    speculation.record(Outcome(...))  # per row and draft
    for _ in range(speculation.rest(planning_ms)): ...  # steps that are plain, without a plan

A plan is a width for the whole batch (the verify costs by the widest row) and each row's best
draft cut to it. The drafter's forward serves all rows and is paid once. Speculation is used only
where its expected rate is better enough, see `candidates`.

What a plan leaves out is tried again, as acceptance and times change: see `Retries`. Whether the
plans' promises are kept is learnt, too: see `Trust`.

To plan takes time, too: on a fast GPU a third of a plain step. It is part of what a plan with
drafts costs, but for what is done while the drafter runs, which begins first where plans use it.
After a plan without any drafts, some steps are decoded without planning.
"""

from collections.abc import Sequence
from operator import add

from pipeline.engine.planning.acceptance import (
    LARGEST_TREE,
    POSITIONS,
    Acceptance,
    Offer,
    tokens_expected,
)
from pipeline.engine.planning.candidates import (
    NEEDS_DRAFTER,
    WAY_OF,
    WAYS,
    Candidate,
    Costs,
    Yields,
    candidates_of,
    holds,
    is_worth,
)
from pipeline.engine.planning.cost import Shape, StepCosts
from pipeline.engine.planning.plan import Idle, Outcome, Plan, RowView
from pipeline.engine.planning.prices import Prices
from pipeline.engine.planning.retries import Arm, Retries
from pipeline.engine.planning.speculation_counts import SpeculationCounts
from pipeline.engine.planning.speculation_stats import SpeculationStats
from pipeline.engine.planning.widths import WIDTHS

MARGIN = 1.02  # how much better than the width in use another one must look
HOPE = tokens_expected([0.85] * POSITIONS + [0.0] * (LARGEST_TREE - POSITIONS))
"""Of a draft that goes well: what a retry hopes for. A large tree is no deeper than a usual one."""
PLANNING = 0.01
"""The part of plain decoding's time that planning may take where no draft is worth running."""
STOPS, STOPS_RATE = 0.1, 0.05
"""How often a drafter that began early is not used, at first, and how fast that is learnt."""
LEAST_REST, MOST_REST = 2, 128  # steps without a plan, in which a forward begins before the next
_CUTS = tuple(width - 1 for width in WIDTHS)
_DRAFTED = [[min(length, cut) for cut in _CUTS] for length in range(LARGEST_TREE + 1)]


class Speculation:
    """Chooses plans and learns from their steps.

    Args:
        costs: Of the model on this machine.

    Attributes:
        always: Whether drafts are wanted whatever they cost.
    """

    always = False

    def __init__(self, costs: StepCosts) -> None:
        self._prices = Prices(costs)
        self._acceptance = Acceptance()
        self._retries = Retries()
        self._counts = SpeculationCounts()
        self._last: Plan | None = None
        self._held = (0, False, False)  # width, drafter and trees of the best plan at the last step
        self._seen: tuple[Plan, float, bool] | None = None  # its step's time, and if that tells
        self._drafted = self._used = False  # the drafter: in the last step, by the last plan
        self._stops = STOPS  # in so many plans behind one that used it, it is not used
        self._seen_tokens = 0

    def choose(self, rows: Sequence[RowView]) -> Plan:
        """The plan for the next step.

        Args:
            rows: The running rows, at least one.
        """
        self._settle()
        context = max(view.context for view in rows)
        costs = self._step_costs(rows, context)
        candidates = candidates_of(self._yields(rows, hope=False), costs)
        best = self._pick(candidates)
        if sum(self._acceptance.meet(task) for task in {view.task for view in rows}):
            self._retries.hurry("drafter")
        chosen, arm = self._look_again(rows, costs, candidates[0], best)
        if self._used:
            self._stops += STOPS_RATE * ((not chosen.drafter) - self._stops)
        self._used = chosen.drafter
        self._last = Plan(
            shape=Shape(len(rows), WIDTHS[chosen.width], context),
            offers=tuple(self._assign(view, chosen, arm) for view in rows),
            uses_drafter=chosen.drafter,
            tokens=chosen.tokens,
            ms=chosen.ms,
            retry=arm,
            best_rate=best.tokens / best.ms,
            late_ms=self._prices.late_ms if chosen.width else 0.0,
        )
        self._counts.plan(self._last, candidates[0].ms)
        return self._last

    def goes_on(self) -> bool:
        """Whether the drafter should begin before there is a plan: the next will likely use it.

        Nothing else may be due: a drafter that began for a step that then is plain would count as a
        part of it, and plain decoding would look slow. And planning must take longer than what is
        lost where the drafter is not used.
        """
        last = self._last
        others = set(self._retries.due(ahead=1)) - {"drafter"}
        if last is None or not last.uses_drafter or last.retry is not None or others:
            return False
        lost_ms = self._stops * self._prices.draft_ms(last.shape.rows, last.shape.context)
        return self._prices.planning_ms > lost_ms

    def largest_tree(self, rows: int, context: int) -> int:
        """The most tokens that a row's tree may be worth growing to: `Target` may take fewer."""
        pays = self._prices.large_trees_may_pay(rows, context)
        return LARGEST_TREE if pays else POSITIONS

    def hurry(self) -> None:
        """Has the drafter tried again soon: rows are on their way that it looks at."""
        self._retries.hurry("drafter")

    def pays(self, rows: Sequence[RowView]) -> bool:
        """Whether a plan for these rows would run drafts, or meet a task; no plan comes of it."""
        if not all(self._acceptance.knows(view.task) for view in rows):
            return True
        costs = self._step_costs(rows, max(view.context for view in rows))
        plain, *others = candidates_of(self._yields(rows, hope=False), costs)
        return any(is_worth(candidate, plain) for candidate in others)

    def observe(
        self, plan: Plan, ms: float, *, drafted: bool, beside_ms: float = 0.0, tells: bool = True
    ) -> None:
        """Takes a step's time, draft and verify together; what it gained is recorded next.

        Args:
            plan: What was run.
            ms: From the plan to the end of the verify, without the planning.
            drafted: Whether the drafter's forward was run.
            beside_ms: Planning that was done while it ran: so much of it was not seen.
            tells: Whether other such steps take as long, as those behind a prompt don't.
        """
        self._settle()  # another may have been observed since the last plan
        shape = plan.shape
        ms += min(beside_ms, self._prices.draft_ms(shape.rows, shape.context)) if drafted else 0.0
        late = plan.retry == "drafter" and not self._drafted  # its context got what it had missed
        if late or not tells:
            self._prices.meet(shape, drafted=drafted)
        else:
            self._prices.observe(shape, ms, drafted=drafted, trees=plan.trees)
        self._drafted = drafted
        self._seen = plan, ms, tells

    def rest(self, planning_ms: float) -> int:
        """How many steps to decode plainly before the next plan: none after one with drafts.

        Args:
            planning_ms: What the last plan took, without forwards: to find the rows' drafts, to
                choose, and to learn.
        """
        self._prices.plan(planning_ms)
        last = self._last
        if last is None or last.shape.width > 1 or last.retry is not None:
            return 0
        if self._retries.due(ahead=1):  # one that has just won is tried again at once
            return 0
        steps = int(self._prices.planning_ms / (PLANNING * last.ms))
        return min(max(LEAST_REST, steps), MOST_REST)

    def rested(self, steps: Sequence[Idle]) -> None:
        """Counts steps that were decoded plainly without a plan."""
        self._prices.rested([step for step in steps if step.ahead])
        ms = sum(step.ms for step in steps)
        self._counts.rest(len(steps), sum(step.rows for step in steps), ms)
        self._retries.rested(len(steps), ms)
        self._drafted = False

    def record(self, outcome: Outcome) -> None:
        """Takes what became of a row's draft, run or not."""
        offer, sure = outcome.offer, outcome.offer.sure
        if outcome.drafted > sure <= outcome.accepted:  # of what is behind that
            checked = Offer(offer.source, outcome.drafted - sure, offer.match_length - sure)
            self._acceptance.record(outcome.row, outcome.task, checked, outcome.accepted - sure)
        if outcome.used:
            self._seen_tokens += outcome.accepted
            self._counts.draft(offer.source, offer.length, outcome.accepted)

    def forget(self, row: str) -> None:
        """Drops a row that has left."""
        self._acceptance.forget(row)

    def stats(self) -> SpeculationStats:
        """What was chosen and what it gained."""
        return self._counts.stats()

    def _step_costs(self, rows: Sequence[RowView], context: int) -> Costs:
        offers = [offer for view in rows for offer in view.offers]
        drafter = any(offer.source in NEEDS_DRAFTER for offer in offers)
        trees = max((offer.length for offer in offers if offer.source == "tree"), default=0)
        return self._prices.of(
            len(rows), context, drafter=drafter, trees=trees, rested=not self._held[0]
        )

    def _settle(self) -> None:
        """Closes the step that was observed last: its time and tokens are known now."""
        if self._seen is None:
            return
        last, seen_ms, tells = self._seen
        prices, planning_ms = self._prices, self._prices.planning_ms
        ms = seen_ms + planning_ms
        if last.uses_drafter:
            ms -= min(planning_ms, prices.draft_ms(last.shape.rows, last.shape.context))
        tokens = last.shape.rows + self._seen_tokens
        self._counts.settle(tokens, ms)
        prices.settle(last, tokens, ms if tells else None)
        if last.retry == "plain":
            ms = seen_ms  # where all steps are plain few are planned
        # A step that compiled says nothing of the next one of its shape.
        self._retries.settle(min(ms, 4 * last.ms), tokens / last.best_rate, last.retry)
        self._seen, self._seen_tokens = None, 0

    def _yields(self, rows: Sequence[RowView], *, hope: bool) -> Yields:
        """Expected tokens of the batch by width: without the drafter, with chains, with trees."""
        sums = [[0.0] * len(WIDTHS) for _ in WAYS]
        for view in rows:
            bests: list[list[float] | None] = [[1.0] * len(WIDTHS), None, None]
            for offer in view.offers:
                curve = HOPE if hope else self._curve(view, offer)
                values = [curve[drafted] for drafted in _DRAFTED[offer.length]]
                best = bests[way := WAY_OF[offer.source]]
                bests[way] = list(map(max, best, values)) if best else values
            every = [0.0] * len(WIDTHS)
            for way, best in enumerate(bests):
                every = list(map(max, every, best)) if best else every
                sums[way] = list(map(add, sums[way], every))
        return sums[0], sums[1], sums[2]

    def _curve(self, view: RowView, offer: Offer) -> tuple[float, ...]:
        return self._acceptance.expected(view.row, view.task, offer)

    def _pick(self, candidates: list[Candidate]) -> Candidate:
        """The best rate; plain decoding, or the plan in use, unless another is better enough."""
        plain = candidates[0]
        best, best_score = plain, 0.0
        for candidate in candidates[1:]:
            rate = candidate.tokens / candidate.ms
            held = (candidate.width, candidate.drafter, candidate.trees) == self._held
            score = rate * MARGIN if held else rate
            if is_worth(candidate, plain) and score > best_score * (1 + 1e-9):  # ties: narrower
                best, best_score = candidate, score
        self._held = (best.width, best.drafter, best.trees)
        return best

    def _look_again(
        self,
        rows: Sequence[RowView],
        costs: Costs,
        plain: Candidate,
        best: Candidate,
    ) -> tuple[Candidate, Arm | None]:
        """The best plan, or in its place one that was left out and is due."""
        if self._prices.doubts and best.width:
            return plain, "plain"
        rate = best.tokens / best.ms
        for arm in self._retries.due():
            hoped = plain if arm == "plain" else self._hope(rows, costs, arm)
            if hoped is None:  # no row has such a draft
                self._retries.postpone(arm)
                continue
            if holds(best, hoped, arm):
                self._retries.in_use(arm)
                continue
            loses = arm != "plain" and hoped.tokens / hoped.ms <= rate * MARGIN
            if loses and self._retries.hopeless(arm):
                continue
            if self._retries.affords(arm, hoped.ms - len(rows) / rate, plain.ms):
                return hoped, arm
        return best, None

    def _hope(self, rows: Sequence[RowView], costs: Costs, arm: Arm) -> Candidate | None:
        """The arm's best plan if its drafts went well, the one to try."""
        hopes = candidates_of(self._yields(rows, hope=True), costs)
        wanted = [c for c in hopes if c.drafter == (arm == "drafter") and c.tokens > len(rows)]
        return max(wanted, key=lambda c: c.tokens / c.ms, default=None)

    def _assign(self, view: RowView, chosen: Candidate, arm: Arm | None) -> Offer | None:
        """The row's best draft under a plan; in a retry of the drafter that is the drafter's."""
        if not (cut := _CUTS[chosen.width]):
            return None
        offers = [o for o in view.offers if chosen.drafter or o.source not in NEEDS_DRAFTER]
        if not chosen.trees:
            offers = [o for o in offers if o.source != "tree"]
        if arm == "drafter":
            offers = [o for o in offers if o.source in NEEDS_DRAFTER] or offers
        if not offers:
            return None
        best = offers[0]
        if len(offers) > 1:
            best = max(offers, key=lambda o: self._curve(view, o)[min(o.length, cut)])
        return best.cut(cut)
