"""Which drafts a step runs, and how wide: the plan with the most expected tokens per millisecond.

In: the running rows with the drafts they could use. Out: a `Plan`; then the step's time and what
was accepted, which the next plan is made from.

    plan = speculation.choose(views)  # before the drafter, which runs if plan.uses_drafter
    speculation.observe(plan.shape, ms, drafted=plan.uses_drafter)  # after the verify
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

from pipeline.engine.acceptance import POSITIONS, Acceptance, Offer, tokens_expected
from pipeline.engine.candidates import (
    NEEDS_DRAFTER,
    Candidate,
    Costs,
    Yields,
    candidates_of,
    holds,
    is_worth,
)
from pipeline.engine.cost import WIDTHS, Shape, StepCosts
from pipeline.engine.plan import Outcome, Plan, RowView
from pipeline.engine.retries import Arm, Retries
from pipeline.engine.speculation_counts import SpeculationCounts
from pipeline.engine.speculation_stats import SpeculationStats
from pipeline.engine.trust import Trust

MARGIN = 1.02  # how much better than the width in use another one must look
HOPE = tokens_expected([0.85] * POSITIONS)  # of a draft that goes well: what a retry hopes for
PLANNING = 0.01
"""The part of plain decoding's time that planning may take where no draft is worth running."""
LEAST_REST, MOST_REST = 2, 64  # steps without a plan, in which a forward begins before the next
LEAST_RESTED = 8  # steps that tell what that saves
REST_RATE = 0.4  # part of a seen error that is corrected at once
RECENT = 0.9  # weight of the past in the running mean of a plan's own time
_CUTS = tuple(width - 1 for width in WIDTHS)
_DRAFTED = [[min(length, cut) for cut in _CUTS] for length in range(POSITIONS + 1)]


class Speculation:
    """Chooses plans and learns from their steps.

    Args:
        costs: Of the model on this machine.
    """

    def __init__(self, costs: StepCosts) -> None:
        self._costs = costs
        self._acceptance = Acceptance()
        self._retries = Retries()
        self._trust = Trust()
        self._counts = SpeculationCounts()
        self._last: Plan | None = None
        self._held = (0, False)  # width and drafter of the best plan at the last step
        self._best_rate = 0.0  # its tokens per millisecond
        self._seen_ms: float | None = None
        self._drafted = False  # in the last step
        self._seen_tokens = 0
        self._planning_ms = 0.0
        self._at_rest = 1.0  # see `_rest_part`
        self._rested = (0, 0, 0.0)  # such steps since the last plan, their rows, their ms

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
        self._best_rate = best.tokens / best.ms
        self._last = Plan(
            shape=Shape(len(rows), WIDTHS[chosen.width], context),
            offers=tuple(self._assign(view, chosen, arm) for view in rows),
            uses_drafter=chosen.drafter,
            tokens=chosen.tokens,
            ms=chosen.ms,
            retry=arm,
        )
        self._counts.plan(self._last, candidates[0].ms)
        return self._last

    def goes_on(self) -> bool:
        """Whether the next plan, like the last, will run the drafter: nothing else is due.

        A drafter that began for a step that then is plain would count as a part of it, and plain
        decoding would look slow.
        """
        last = self._last
        others = set(self._retries.due(ahead=1)) - {"drafter"}
        return last is not None and last.uses_drafter and last.retry is None and not others

    def pays(self, rows: Sequence[RowView]) -> bool:
        """Whether a plan for these rows would run drafts, or meet a task; no plan comes of it."""
        if not all(self._acceptance.knows(view.task) for view in rows):
            return True
        costs = self._step_costs(rows, max(view.context for view in rows))
        plain, *others = candidates_of(self._yields(rows, hope=False), costs)
        return any(is_worth(candidate, plain) for candidate in others)

    def observe(self, shape: Shape, ms: float, *, drafted: bool, beside_ms: float = 0.0) -> None:
        """Takes a step's time, draft and verify together.

        Args:
            shape: What was run, in general the plan's.
            ms: From the plan to the end of the verify, without the planning.
            drafted: Whether the drafter's forward was run.
            beside_ms: Planning that was done while it ran: so much of it was not seen.
        """
        ms += min(beside_ms, self._draft_ms(shape.rows, shape.context)) if drafted else 0.0
        tried = self._last is not None and self._last.retry == "drafter"
        if tried and not self._drafted:  # it also put into its context what it had missed
            self._costs.meet(shape, drafted=drafted)
        else:
            self._costs.observe(shape, ms, drafted=drafted)
        self._drafted = drafted
        self._seen_ms = ms

    def _draft_ms(self, rows: int, context: int) -> float:
        return self._costs.draft.predict(rows, 1, context)

    def rest(self, planning_ms: float) -> int:
        """How many steps to decode plainly before the next plan: none after one with drafts.

        Args:
            planning_ms: What the last plan took, without forwards: to find the rows' drafts, to
                choose, and to learn.
        """
        mean = self._planning_ms or planning_ms
        # Plans are few where they take long: the first, which does, must not be remembered.
        self._planning_ms = min(planning_ms, RECENT * mean + (1 - RECENT) * planning_ms)
        last = self._last
        if last is None or last.shape.width > 1 or last.retry is not None:
            return 0
        if self._retries.due(ahead=1):  # one that has just won is tried again at once
            return 0
        steps = int(self._planning_ms / (PLANNING * last.ms))
        return min(max(LEAST_REST, steps), MOST_REST)

    def rested(self, rows: int, ms: float, *, ahead: bool = False) -> None:
        """Counts a step that was decoded plainly without a plan.

        Args:
            rows: That it had.
            ms: What it took.
            ahead: Whether its forward had begun before the last step's tokens were seen.
        """
        if ahead:
            steps, all_rows, all_ms = self._rested
            self._rested = steps + 1, all_rows + rows, all_ms + ms
        self._counts.rest(rows, ms)
        self._retries.rested(ms)
        self._drafted = False

    def record(self, outcome: Outcome) -> None:
        """Takes what became of a row's draft, run or not."""
        offer = outcome.offer
        if outcome.drafted > 0:
            checked = Offer(offer.source, outcome.drafted, offer.match_length)
            self._acceptance.record(outcome.row, outcome.task, checked, outcome.accepted)
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
        """Milliseconds of a step by width, without and with the drafter."""
        verify = self._costs.verify.predict_widths(len(rows), context)
        offered = any(offer.source in NEEDS_DRAFTER for view in rows for offer in view.offers)
        draft = self._draft_ms(len(rows), context) if offered else 0.0
        free, made = (self._trust.factor(drafter=drafter) for drafter in (False, True))
        planning = self._planning_ms  # while the drafter runs, if there is one
        plain = verify[0] * self._rest_part(context)
        return (
            [plain, *((ms + planning) / free for ms in verify[1:])],
            [plain, *((ms + max(draft, planning)) / made for ms in verify[1:])]
            if offered
            else None,
        )

    def _rest_part(self, context: int) -> float:
        """What a plain step costs at rest, where its forward begins early, of one with a plan."""
        steps, rows, ms = self._rested
        if steps >= LEAST_RESTED:
            whole_ms = steps * self._costs.verify.predict(round(rows / steps), 1, context)
            self._at_rest += REST_RATE * (min(1.0, ms / whole_ms) - self._at_rest)
            self._rested = 0, 0, 0.0
        return self._at_rest

    def _settle(self) -> None:
        """Closes the last step, if it came to its end: its time and tokens are known now."""
        last, seen_ms = self._last, self._seen_ms
        if last is None or seen_ms is None:
            return
        ms = seen_ms + self._planning_ms
        if last.uses_drafter:
            ms -= min(self._planning_ms, self._draft_ms(last.shape.rows, last.shape.context))
        tokens = last.shape.rows + self._seen_tokens
        self._counts.settle(tokens, ms)
        promised_ms = last.ms * self._trust.factor(drafter=last.uses_drafter)  # as of the plan
        self._trust.plan()
        if last.shape.width > 1 and last.retry is None:  # a retry promises what it hopes for
            self._trust.note(
                drafter=last.uses_drafter, tokens=tokens / last.tokens, ms=ms / promised_ms
            )
        if last.retry == "plain":
            ms = seen_ms  # where all steps are plain few are planned
        # A step that compiled says nothing of the next one of its shape.
        self._retries.settle(min(ms, 4 * last.ms), tokens / self._best_rate, last.retry)
        self._last, self._seen_ms, self._seen_tokens = None, None, 0

    def _yields(self, rows: Sequence[RowView], *, hope: bool) -> Yields:
        """Expected tokens of the batch by width, without and with the drafter."""
        without, whole = [0.0] * len(WIDTHS), [0.0] * len(WIDTHS)
        for view in rows:
            plain = every = [1.0] * len(WIDTHS)
            for offer in view.offers:
                curve = HOPE if hope else self._curve(view, offer)
                values = [curve[drafted] for drafted in _DRAFTED[offer.length]]
                every = list(map(max, every, values))
                if offer.source not in NEEDS_DRAFTER:
                    plain = list(map(max, plain, values))
            for i, value in enumerate(plain):
                without[i] += value
                whole[i] += every[i]
        return without, whole

    def _curve(self, view: RowView, offer: Offer) -> tuple[float, ...]:
        return self._acceptance.expected(view.row, view.task, offer)

    def _pick(self, candidates: list[Candidate]) -> Candidate:
        """The best rate; plain decoding, or the plan in use, unless another is better enough."""
        plain = candidates[0]
        best, best_score = plain, 0.0
        for candidate in candidates[1:]:
            rate = candidate.tokens / candidate.ms
            held = (candidate.width, candidate.drafter) == self._held
            score = rate * MARGIN if held else rate
            if is_worth(candidate, plain) and score > best_score * (1 + 1e-9):  # ties: narrower
                best, best_score = candidate, score
        self._held = (best.width, best.drafter)
        return best

    def _look_again(
        self,
        rows: Sequence[RowView],
        costs: Costs,
        plain: Candidate,
        best: Candidate,
    ) -> tuple[Candidate, Arm | None]:
        """The best plan, or in its place one that was left out and is due."""
        if self._costs.verify.doubts and best.width:
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
        if arm == "drafter":
            offers = [o for o in offers if o.source in NEEDS_DRAFTER] or offers
        if not offers:
            return None
        best = offers[0]
        if len(offers) > 1:
            best = max(offers, key=lambda o: self._curve(view, o)[min(o.length, cut)])
        return best.cut(cut)
