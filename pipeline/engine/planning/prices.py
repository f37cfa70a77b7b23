"""What a step would cost, by what it does: a width, with the drafter or without, chains or trees.

In: the machine's cost tables, and what steps took. Out: milliseconds for each candidate plan. What
the tables don't know is learnt here: that a plain step at rest is cheaper than one with a plan,
that trees cost more than chains, how long planning takes, and how far promises are kept.
"""

from collections.abc import Sequence
from statistics import median

from pipeline.engine.planning.candidates import Costs
from pipeline.engine.planning.cost import Shape, StepCosts
from pipeline.engine.planning.plan import Idle, Plan
from pipeline.engine.planning.trust import Trust
from pipeline.engine.planning.widths import CHAIN_WIDTHS, WIDTHS

LEAST_RESTED = 9
"""Steps whose median tells what a rest saves: a forward that has run while a prompt was read, say,
seems to take no time."""
REST_RATE = 0.4  # part of a seen error that is corrected at once
TREE_RATE = 0.1
MOST_OF_TREES = 2.0
"""A step with trees that took more times its chain's price counts as this: it was compiled, say."""
FORGOTTEN = 400
"""In so many plans without trees, or without large ones, what they cost more is forgotten."""
MOST_GAIN = 1.25
"""How many times the tokens of a usual tree a large one may be hoped to yield (measured: 1.09):
where a step with large ones costs more than that, they are not worth growing."""
RECENT = 0.9  # weight of the past in the running mean of a plan's own time


class Prices:
    """The costs of plans.

    Args:
        costs: Of the model on this machine.

    Attributes:
        trust: How far the promises of plans with drafts are kept.
        planning_ms: The time of a plan, without forwards.
        late_ms: What drafts were last taken to cost in the step behind them.
    """

    def __init__(self, costs: StepCosts) -> None:
        self._costs = costs
        self.trust = Trust()
        self.planning_ms = self.late_ms = 0.0
        self._at_rest = 1.0  # what a plain step costs at rest, of one with a plan
        self._rested: list[float] = []  # so much did such steps cost, since that was corrected
        self._trees = 1.0  # what a step with trees costs, of one with chains
        self._large = 1.0  # what one with large trees costs, of that
        self._context = 0

    def of(
        self, rows: int, context: int, *, drafter: bool, trees: int, rested: bool = False
    ) -> Costs:
        """Milliseconds of a step by width: without the drafter, with its chains, with its trees.

        The widths that are for large trees are there only for those, and if they were measured.

        Args:
            rows: Of the step.
            context: The longest of their contexts.
            drafter: Whether any row could use it.
            trees: The most tokens of any row's tree; 0 without trees.
            rested: Whether the best plan of the step before was plain: then another plan follows
                that would else not be made, and a forward begins late, see `late_ms`.
        """
        self._context = context
        verify = self._costs.verify.predict_widths(rows, context)
        free, made = (self.trust.factor(rows, drafter=drafter) for drafter in (False, True))
        plain = verify[0] * self._at_rest
        late = self.late_ms = self.planning_ms + (verify[0] - plain) if rested else 0.0
        beside = max(self.draft_ms(rows, context), self.planning_ms) if drafter else 0.0
        chains = [plain, *((ms + late + beside) / made for ms in verify[1:])] if drafter else []
        most = len(CHAIN_WIDTHS)
        branched = [ms * self._trees for ms in chains] if trees else []
        if trees < CHAIN_WIDTHS[-1] or not self._knows_wide:
            branched = branched[:most]
        branched[most:] = [ms * self._large for ms in branched[most:]]
        return (
            [plain, *((ms + late + self.planning_ms) / free for ms in verify[1:most])],
            chains[:most] or None,
            branched or None,
        )

    @property
    def _knows_wide(self) -> bool:
        return self._costs.verify.widest == WIDTHS[-1]

    def large_trees_may_pay(self, rows: int, context: int) -> bool:
        """Whether steps with large trees cost so little more that these are worth growing."""
        if not self._knows_wide:
            return False
        *_, branched = self.of(rows, context, drafter=True, trees=WIDTHS[-1] - 1)
        return branched is not None and branched[-1] < MOST_GAIN * branched[-2]

    def draft_ms(self, rows: int, context: int) -> float:
        """What the drafter's forward takes."""
        return self._costs.draft.predict(rows, 1, context)

    @property
    def doubts(self) -> bool:
        """Whether the tables want to see a plain step again."""
        return self._costs.verify.doubts

    def plan(self, planning_ms: float) -> None:
        """Takes what the last plan took, without forwards."""
        mean = self.planning_ms or planning_ms
        # Plans are few where they take long: the first, which does, must not be remembered.
        self.planning_ms = min(planning_ms, RECENT * mean + (1 - RECENT) * planning_ms)

    def meet(self, shape: Shape, *, drafted: bool) -> None:
        """Notes a shape whose time tells nothing."""
        self._costs.meet(shape, drafted=drafted)

    def observe(self, shape: Shape, ms: float, *, drafted: bool, trees: bool) -> None:
        """Takes a step's time, without the planning."""
        large = shape.width > CHAIN_WIDTHS[-1]
        if not large:
            self._large += (1 - self._large) / FORGOTTEN
        if not trees:
            self._trees += (1 - self._trees) / FORGOTTEN
            self._costs.observe(shape, ms, drafted=drafted)
            return
        chains = self._costs.verify.predict(*shape) + self.draft_ms(shape.rows, shape.context)
        more = min(ms / chains, MOST_OF_TREES)
        if large:
            self._large += TREE_RATE * (more / self._trees - self._large)
        else:
            self._trees += TREE_RATE * (more - self._trees)

    def settle(self, plan: Plan, tokens: int, ms: float | None) -> None:
        """Notes what a plan's step gave, and took if that tells anything."""
        rows, drafter = plan.shape.rows, plan.uses_drafter
        promised_ms = plan.ms * self.trust.factor(rows, drafter=drafter) - plan.late_ms
        self.trust.plan(rows)
        if plan.shape.width > 1 and plan.retry is None and ms:  # a retry promises what it hopes for
            gained = tokens / plan.tokens
            self.trust.note(rows, drafter=drafter, tokens=gained, ms=ms / promised_ms)

    def rested(self, steps: Sequence[Idle]) -> None:
        """Takes the times of plain steps whose forwards had begun before the step."""
        foretold = {rows: self._costs.verify.predict(rows, 1, self._context)
                    for rows in {step.rows for step in steps}}  # fmt: skip
        self._rested += [step.ms / foretold[step.rows] for step in steps]
        if len(self._rested) >= LEAST_RESTED:
            self._at_rest += REST_RATE * (min(1.0, median(self._rested)) - self._at_rest)
            self._rested.clear()
